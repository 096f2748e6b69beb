"""Events from commit to application, on real Postgres and Kafka."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
from confluent_kafka import Consumer

from services.common.db import Database
from services.common.inbox import LostPartition
from services.stack.stack import Stack
from tests.integration.echo import (
    Echo,
    create_database,
    create_topics,
    nothing,
    running,
    service_settings,
)


@pytest.fixture
async def echo(servers: Stack) -> AsyncIterator[Echo]:
    await create_database(servers)
    settings = service_settings(servers)
    database = await Database.open(settings, "echo")
    topic = f"echo-{uuid4().hex[:8]}-events"
    await asyncio.to_thread(create_topics, settings, topic)
    yield Echo(settings, database, topic)
    await database.close()


def dead_letters(echo: Echo, count: int) -> list[dict[str, str]]:
    """Read the headers of dead letters from Kafka."""
    consumer = Consumer(
        {
            "bootstrap.servers": echo.settings.kafka_bootstrap,
            "group.id": uuid4().hex,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([echo.topic + ".dead"])
    found: list[dict[str, str]] = []
    for _ in range(200):
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            headers = dict(message.headers() or ())
            found.append({name: value.decode() for name, value in headers.items()})
        if len(found) >= count:
            break
    consumer.close()
    return found


async def test_committed_events_are_applied_once_and_in_order(echo: Echo) -> None:
    async with running(echo.relay, echo.consumer):
        for start in range(1, 100, 10):
            await echo.write("demo", "K1", range(start, start + 10))

        assert await echo.until("K1", range(1, 101)) == list(range(1, 101))


async def test_events_of_a_rolled_back_transaction_are_never_seen(echo: Echo) -> None:
    with pytest.raises(RuntimeError):
        async with echo.units.tenant("demo") as work:
            await echo.write("demo", "K2", [1])
            await work.repository.note([echo.event(1, "lost")])
            raise RuntimeError

    async with running(echo.relay, echo.consumer):
        assert await echo.until("K2", [1]) == [1]
    assert await echo.notes("lost") == []


async def test_concurrent_writers_of_a_key_publish_in_the_order_of_their_sequences(
    echo: Echo,
) -> None:
    """Sequences are given under the key's lock; the relay must keep their order."""
    last = 0

    async def writer() -> None:
        nonlocal last
        for _ in range(10):
            async with echo.units.tenant("demo") as work:
                from services.common.outbox import lock_keys

                await lock_keys(work.repository.connection, "echo", "demo", ["K1"])
                last += 1
                mine = last
                await asyncio.sleep(0.001)
                columns = echo_columns(echo, mine)
                work.outbox.add(columns)

    async with running(echo.relay, echo.consumer):
        await asyncio.gather(*(writer() for _ in range(5)))
        found = await echo.until("K1", range(1, 51))

    assert found == list(range(1, 51))
    assert await echo.parked() == []


def echo_columns(echo: Echo, sequence: int):  # type: ignore[no-untyped-def]
    from services.common.events import EventColumns
    from tests.integration.echo import TYPE, payload

    columns = EventColumns("demo", echo.topic)
    columns.extend(TYPE, 1, [str(uuid4())], ["K1"], [sequence], [payload(sequence)])
    return columns


async def test_relay_killed_after_publishing_repeats_and_nothing_is_applied_twice(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forgets(*_: object) -> None:
        raise OSError("killed before the cursor was stored")

    await echo.write("demo", "K1", range(1, 6))
    with monkeypatch.context() as patch:
        patch.setattr(type(echo.relay), "_store", forgets)
        async with running(echo.relay):
            await asyncio.sleep(1.5)
    async with running(echo.relay, echo.consumer):
        await echo.write("demo", "K1", [6])
        found = await echo.until("K1", range(1, 7))

    assert found == [1, 2, 3, 4, 5, 6]


async def test_repeated_and_late_events_are_put_in_order(echo: Echo) -> None:
    for batch in ([3, 1], [1, 2], [5], [4, 3]):
        await echo.applier.apply([echo.event(n) for n in batch], [], nothing)
        await echo.applier.tend()

    assert await echo.notes() == [1, 2, 3, 4, 5]
    assert await echo.parked() == []


async def test_missing_event_is_fetched_from_the_store(echo: Echo) -> None:
    echo.topic = "echo-events"
    await echo.write("demo", "K1", [1, 2, 3])

    await echo.applier.apply([echo.event(3)], [], nothing)
    await asyncio.sleep(0.3)
    await echo.applier.tend()

    assert await echo.notes() == [1, 2, 3]
    assert await echo.parked() == []


async def test_event_that_is_nowhere_stops_its_key_with_the_reason(echo: Echo) -> None:
    echo.topic = "echo-events"
    await echo.applier.apply([echo.event(2), echo.event(1, "K2")], [], nothing)
    await asyncio.sleep(0.3)
    await echo.applier.tend()

    assert await echo.notes() == []
    assert await echo.notes("K2") == [1]
    [parked] = await echo.parked()
    assert parked["key"] == "K1"
    assert parked["reason"] == "events 1 to 1 are not in the event store"


async def test_poisoned_event_blocks_its_key_alone_and_goes_to_dead(echo: Echo) -> None:
    async with running(echo.relay, echo.consumer):
        await echo.write("demo", "K1", [1, -2, 3])
        await echo.write("demo", "K2", [1, 2, 3])
        assert await echo.until("K2", [1, 2, 3]) == [1, 2, 3]
        [dead] = await asyncio.to_thread(dead_letters, echo, 1)

    assert await echo.notes("K1") == [1]
    assert dead["ce_reason"] == "ValueError: version was -1"
    assert dead["ce_sequence"] == "2"
    [parked] = await echo.parked()
    assert (parked["key"], parked["state"]) == ("K1", "POISONED")


async def test_message_that_is_no_event_is_dead_lettered_and_stops_nobody(echo: Echo) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": echo.settings.kafka_bootstrap})
    producer.produce(echo.topic, b"garbage", b"no colon")
    producer.flush(10)
    async with running(echo.relay, echo.consumer):
        await echo.write("demo", "K1", [1])
        assert await echo.until("K1", [1]) == [1]
        [dead] = await asyncio.to_thread(dead_letters, echo, 1)

    assert "no event" in dead["ce_reason"]


async def test_released_key_goes_on_once_the_handler_can_apply_it(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tests.integration.echo as module

    await echo.applier.apply([echo.event(n) for n in (1, -2, 3)], [], nothing)
    assert await echo.notes() == [1]

    monkeypatch.setattr(module, "POISON", -99)
    async with echo.database.pipeline() as connection:
        await connection.execute("UPDATE echo.parked_keys SET state = 'RELEASED'")
    await echo.applier.tend()
    await echo.applier.tend()

    assert await echo.notes() == [1, 2, 3]
    assert await echo.parked() == []


async def test_skipped_event_is_left_out_and_the_rest_goes_on(echo: Echo) -> None:
    await echo.applier.apply([echo.event(n) for n in (1, -2, 3)], [], nothing)

    async with echo.database.pipeline() as connection:
        await connection.execute("UPDATE echo.parked_keys SET state = 'SKIP'")
    await echo.applier.tend()
    await echo.applier.tend()

    assert await echo.notes() == [1, 3]
    assert await echo.parked() == []


async def test_consumer_that_lost_its_partition_applies_nothing(echo: Echo) -> None:
    from services.common.inbox import Inbox

    inbox = Inbox("echo")
    async with echo.database.pipeline() as connection:
        await inbox.offsets(connection, [(echo.topic, 0)])
        await inbox.advance(connection, {(echo.topic, 0): 0}, {(echo.topic, 0): 10})

    async def stale(connection: asyncpg.Connection) -> None:  # type: ignore[type-arg]
        await inbox.advance(connection, {(echo.topic, 0): 0}, {(echo.topic, 0): 5})

    with pytest.raises((LostPartition, OSError)):
        await echo.applier.apply([echo.event(1)], [], stale)

    assert await echo.notes() == []


async def test_tenants_cannot_see_each_others_outbox_or_inbox(echo: Echo) -> None:
    await echo.applier.apply([echo.event(1, tenant_id="acme")], [], nothing)

    async with echo.database.tenant("demo") as connection:
        assert await connection.fetch("SELECT * FROM echo.inbox_sequences") == []
    async with echo.database.tenant("acme") as connection:
        assert len(await connection.fetch("SELECT * FROM echo.inbox_sequences")) == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with echo.database.tenant("acme") as connection:
            await connection.fetch("SELECT * FROM echo.outbox")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with echo.database.tenant("demo") as connection:
            await connection.execute(
                "INSERT INTO echo.outbox (tenant_id, shard, topic, event_ids, types, versions, "
                "keys, sequences, payloads) VALUES ('acme', 0, 't', '{}', '{}', '{}', '{}', "
                "'{}', '{}')"
            )
