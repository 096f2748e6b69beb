"""`interchange parked` and `interchange events`, as an operator types them."""

from collections.abc import Callable, Iterator

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from services.common.migrate import blocking
from services.stack import commands_events, commands_parked
from services.stack.cli import app
from services.stack.errors import StackError
from services.stack.stack import Stack

KEY = ("position", "parking", "trade-events", "A1")
MONTH = "outbox_2026_01"


def execute(stack: Stack, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(stack.database_url())
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    blocking(run())


def state(stack: Stack) -> str:
    async def run() -> str:
        connection = await asyncpg.connect(stack.database_url())
        found = await connection.fetchval(
            "SELECT state FROM position.parked_keys WHERE tenant_id = 'parking'"
        )
        await connection.close()
        return str(found)

    return blocking(run())


@pytest.fixture
def migrated(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    servers.up(only=["migrations"])
    for module in (commands_parked, commands_events):
        monkeypatch.setattr(module, "Stack", lambda: servers)
    yield servers
    execute(
        servers,
        "DELETE FROM position.parked_events WHERE tenant_id = 'parking'",
        "DELETE FROM position.parked_keys WHERE tenant_id = 'parking'",
    )


@pytest.fixture
def run(migrated: Stack) -> Callable[..., Result]:
    return lambda *words, **options: CliRunner().invoke(app, words, **options)


@pytest.fixture
def parked(migrated: Stack) -> Stack:
    execute(
        migrated,
        "INSERT INTO position.parked_keys VALUES "
        "('parking', 'trade-events', 'A1', 'POISONED', 'ValueError: [odd] price')",
        "INSERT INTO position.parked_events SELECT 'parking', 'trade-events', 'A1', number, "
        "gen_random_uuid(), 'x.TradeBooked', 2, '' FROM generate_series(1, 3) AS number",
    )
    return migrated


def test_list_shows_a_key_with_its_reason(run: Callable[..., Result], parked: Stack) -> None:
    shown = run("parked", "list", "--service", "position").output

    [line] = [line for line in shown.splitlines() if "parking" in line]
    assert line.split()[:5] == ["position", "parking", "trade-events", "A1", "POISONED"]
    assert line.split()[-5:] == ["3", "1", "ValueError:", "[odd]", "price"]


def test_list_without_keys_says_so(run: Callable[..., Result]) -> None:
    assert run("parked", "list", "--service", "trade").output == "nothing is parked\n"


def test_release_sets_the_key_free(run: Callable[..., Result], parked: Stack) -> None:
    result = run("parked", "release", *KEY)

    assert result.exit_code == 0
    assert "will be tried again" in result.output
    assert state(parked) == "RELEASED"


def test_skip_asks_first_and_names_the_event(run: Callable[..., Result], parked: Stack) -> None:
    refused = run("parked", "release", *KEY, "--skip", input="n\n")
    assert refused.exit_code == 1
    assert "Drop event 1 (x.TradeBooked) of parking trade-events A1 for ever?" in refused.output
    assert state(parked) == "POISONED"

    assert run("parked", "release", *KEY, "--skip", "--yes").exit_code == 0
    assert state(parked) == "SKIP"


def test_release_of_a_key_that_is_not_parked_says_so(run: Callable[..., Result]) -> None:
    result = run("parked", "release", *KEY[:3], "nobody")

    assert isinstance(result.exception, StackError)
    assert result.exception.message == (
        "position has no parked key nobody of tenant parking on trade-events"
    )


def test_unknown_service_is_named_with_the_known_ones(run: Callable[..., Result]) -> None:
    result = run("parked", "release", "nobody", *KEY[1:])

    assert isinstance(result.exception, StackError)
    assert result.exception.message.startswith("no such service: nobody; there are account, ")


def test_archive_drops_a_month_and_verify_finds_damage(
    run: Callable[..., Result], migrated: Stack
) -> None:
    execute(
        migrated,
        "SELECT mesh.ensure_partition('position.outbox', 'time', '2026-01-01Z')",
    )
    words = ("events", "archive", "--service", "position", "--before", "2026-02")

    kept, dropped, nothing = run(*words, "--keep"), run(*words), run(*words)

    assert kept.output.startswith(f"position 2026-01 kept: {MONTH}.parquet, 0 events, ")
    assert dropped.output.startswith("position 2026-01 dropped: ")
    assert nothing.output == "no closed month is left to archive\n"
    verified = run("events", "verify")
    assert verified.exit_code == 0
    assert verified.output.endswith("1 files with 0 events are as they were written\n")

    path = migrated.settings.archive_dir / "position" / f"{MONTH}.parquet"
    path.write_bytes(path.read_bytes() + b"\0")
    damaged = run("events", "verify")
    assert damaged.exit_code == 1
    assert f"wrong: {path}: SHA-256 was" in damaged.output
    for left in path.parent.iterdir():
        left.unlink()


@pytest.mark.parametrize("before", ["2026", "2026-13", "yesterday"])
def test_month_that_is_none_is_refused(run: Callable[..., Result], before: str) -> None:
    result = run("events", "archive", "--before", before)

    assert isinstance(result.exception, StackError)
    assert result.exception.message == (
        f"--before was {before!r}, expected a month such as 2026-10"
    )
