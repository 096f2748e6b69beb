"""Keys of customers on a real Postgres: made once, per tenant, and unreadable when gone."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from services.common.config import Settings
from services.common.db import Database
from services.common.personal import PersonalKeys, Seal, Unreadable
from services.stack.stack import Stack
from tests.integration.echo import create_database, service_settings

PLACE = "a-conversation"


@pytest.fixture
async def database(servers: Stack) -> AsyncIterator[Database]:
    await create_database(servers)
    owner = await asyncpg.connect(servers.database_url().rpartition("/")[0] + "/mesh_tests")
    await owner.execute("SELECT mesh.use_personal_keys('echo')")
    await owner.close()
    opened = await Database.open(service_settings(servers), "echo")
    yield opened
    await opened.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "personal_key"
    path.write_text(secrets.token_hex(32))
    return Settings(personal_key_file=path)


async def test_a_key_is_made_once_and_found_by_every_process(
    database: Database, settings: Settings
) -> None:
    processes = [PersonalKeys(database, settings) for _ in range(8)]
    found = await asyncio.gather(*(keys.of("acme", ["ann", "bob"]) for keys in processes))
    sealed = found[0]["ann"].seal(b"hello", PLACE)
    assert all(seals["ann"].open(sealed, PLACE) == b"hello" for seals in found)
    with pytest.raises(Unreadable):
        found[1]["bob"].open(sealed, PLACE)


async def test_two_tenants_with_the_same_customer_have_two_keys(
    database: Database, settings: Settings
) -> None:
    keys = PersonalKeys(database, settings)
    acme, globex = await keys.of("acme", ["ann"]), await keys.of("globex", ["ann"])
    with pytest.raises(Unreadable):
        globex["ann"].open(acme["ann"].seal(b"secret", PLACE), PLACE)


async def test_what_is_sealed_opens_in_its_place_only(
    database: Database, settings: Settings
) -> None:
    seal = (await PersonalKeys(database, settings).of("acme", ["ann"]))["ann"]
    sealed = seal.seal(b"", PLACE)
    assert seal.open(sealed, PLACE) == b""
    for wrong, place in ((sealed, "elsewhere"), (sealed[:-1], PLACE), (b"", PLACE), (b"\x01", "")):
        with pytest.raises(Unreadable):
            seal.open(wrong, place)


async def test_a_destroyed_key_stays_destroyed(
    servers: Stack, database: Database, settings: Settings
) -> None:
    await PersonalKeys(database, settings).of("acme", ["ann", "bob"])
    owner = await asyncpg.connect(servers.database_url().rpartition("/")[0] + "/mesh_tests")
    await owner.execute("UPDATE mesh.personal_keys SET wrapped = NULL WHERE customer_id = 'ann'")
    await owner.close()
    found = await PersonalKeys(database, settings).of("acme", ["ann", "bob"])
    assert set(found) == {"bob"}


async def test_another_master_key_reads_nothing(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    await PersonalKeys(database, settings).of("acme", ["ann"])
    other = tmp_path / "other"
    other.write_text(secrets.token_hex(32))
    found = await PersonalKeys(database, Settings(personal_key_file=other)).of(
        "acme", ["ann", "bob"]
    )
    # One row that can't be read stops nobody else.
    assert set(found) == {"bob"}


@pytest.mark.parametrize("content", ["", "zz", "00" * 31])
def test_a_bad_master_key_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(ValueError, match="INTERCHANGE_PERSONAL_KEY_FILE"):
        PersonalKeys(None, Settings(personal_key_file=path))  # type: ignore[arg-type]


def test_the_same_is_never_sealed_alike() -> None:
    seal = Seal(secrets.token_bytes(32))
    assert seal.seal(b"yes", PLACE) != seal.seal(b"yes", PLACE)
