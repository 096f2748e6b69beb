"""Migrations: once each, whole or not at all, whoever else is migrating."""

import threading
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from services.common import migrate as module
from services.common.migrate import MigrationError, migrate
from services.stack.stack import Stack

COMMON = "CREATE SCHEMA mesh; CREATE TABLE mesh.facts (fact text);"
ROLE = """
CREATE SCHEMA demo;
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'demo_api') THEN
        CREATE ROLE demo_api LOGIN;
    END IF;
END $$;
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a migration of a service, in a tree of its own."""
    monkeypatch.setattr(module, "ROOT", tmp_path)

    def one(name: str, sql: str) -> Path:
        path = tmp_path / name.partition("_")[0] / "migrations" / f"{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sql)
        return path

    return one


@pytest.fixture
async def url(servers: Stack, request: pytest.FixtureRequest) -> str:
    """URL of a database that does not exist yet."""
    name = request.node.name
    connection = await asyncpg.connect(servers.postgres.url(database="postgres"))
    await connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
    await connection.close()
    return servers.postgres.url(database=name)


async def fetch(url: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_files_are_applied_in_order_and_once(url: str, write: Write) -> None:
    write("demo_0002_more", "INSERT INTO mesh.facts SELECT fact || '!' FROM mesh.facts;")
    write("demo_0001_first", "INSERT INTO mesh.facts VALUES ('first');")
    write("common_0001_mesh", COMMON)
    ids = ["common_0001_mesh", "demo_0001_first", "demo_0002_more"]
    assert migrate(url, ["demo"], "") == ids
    assert migrate(url, ["demo"], "") == []
    write("demo_0003_last", "DELETE FROM mesh.facts WHERE fact = 'first';")
    assert migrate(url, ["demo"], "") == ["demo_0003_last"]
    assert await fetch(url, "SELECT fact FROM mesh.facts") == [("first!",)]


async def test_file_that_fails_leaves_nothing_and_says_where(url: str, write: Write) -> None:
    write("common_0001_mesh", COMMON)
    bad = write("demo_0001_bad", "INSERT INTO mesh.facts VALUES ('lost');\nSELECT nonsense;\n")
    with pytest.raises(MigrationError, match=r"demo_0001_bad.sql: .*nonsense.*line 2"):
        migrate(url, ["demo"], "")
    assert await fetch(url, "SELECT fact FROM mesh.facts") == []
    bad.write_text("INSERT INTO mesh.facts VALUES ('kept');")
    assert migrate(url, ["demo"], "") == ["demo_0001_bad"]


def test_file_that_changed_after_it_was_applied_is_refused(url: str, write: Write) -> None:
    write("common_0001_mesh", COMMON)
    migrate(url, [], "")
    write("common_0001_mesh", COMMON + " -- more")
    with pytest.raises(MigrationError, match="was changed after it was applied"):
        migrate(url, [], "")


def test_migrators_at_once_apply_each_file_once(url: str, write: Write) -> None:
    write("common_0001_mesh", COMMON + " SELECT pg_sleep(0.2);")
    applied: list[str] = []
    threads = [
        threading.Thread(target=lambda: applied.extend(migrate(url, [], ""))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert applied == ["common_0001_mesh"]


async def test_roles_log_in_with_the_password_and_no_other(url: str, write: Write) -> None:
    write("demo_0001_role", ROLE)
    migrate(url, ["demo"], "sésame'1")
    place = url.rpartition("@")[2]
    connection = await asyncpg.connect(f"postgresql://demo_api@{place}", password="sésame'1")
    await connection.close()
    migrate(url, ["demo"], "second")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://demo_api@{place}", password="sésame'1")
    await fetch(url, "DROP SCHEMA demo")
    await fetch(url, "DROP ROLE demo_api")
