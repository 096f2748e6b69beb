"""A stack survives what happens to it: crashes, repeats, strangers."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import asyncpg
import psutil
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition

from services.stack import topics
from services.stack.errors import PortTaken, StackError
from services.stack.process import MARK
from services.stack.settings import StackSettings
from services.stack.stack import Stack

SERVERS = ["postgres", "redis", "kafka"]
TOPIC = "stack-test"


@pytest.fixture
def scratch(stack_settings: StackSettings) -> Iterator[Stack]:
    """A second stack beside the tests' own, to be broken."""
    settings = StackSettings(
        data_dir=stack_settings.data_dir.with_name(f"{stack_settings.data_dir.name}-scratch"),
        port_offset=stack_settings.port_offset + 500,
    )
    stack = Stack(settings)
    stack.down(wipe=True)
    yield stack
    stack.down(wipe=True)
    assert not settings.data_dir.exists()


def pids(stack: Stack) -> dict[str, int]:
    return {row.name: row.pid for row in stack.status() if row.name in SERVERS and row.pid}


def test_up_twice_keeps_the_processes(servers: Stack) -> None:
    before = pids(servers)
    servers.up(only=SERVERS)
    assert sorted(before) == sorted(SERVERS)
    assert pids(servers) == before


def test_two_ups_at_once_start_one_server(servers: Stack) -> None:
    servers.kill("redis")
    threads = [
        threading.Thread(target=Stack(servers.settings).up, args=(["redis"],)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(servers.redis.process.strays()) == 1
    assert not servers.redis.problem()


async def test_postgres_killed_keeps_what_was_committed(servers: Stack) -> None:
    connection = await asyncpg.connect(servers.postgres.url(database="postgres"))
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (id int)")
    await connection.execute("INSERT INTO kept VALUES (1)")

    servers.kill("postgres")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.execute("SELECT 1")
    servers.up(only=SERVERS)

    connection.terminate()
    connection = await asyncpg.connect(servers.postgres.url(database="postgres"))
    assert await connection.fetchval("SELECT count(*) FROM kept") == 1
    await connection.execute("DROP TABLE kept")
    await connection.close()


async def test_postgres_killed_while_a_backend_is_busy(servers: Stack) -> None:
    connection = await asyncpg.connect(servers.postgres.url(database="postgres"))
    backend = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
    # A stopped backend outlives its postmaster and holds the shared memory.
    backend.suspend()
    servers.kill("postgres")
    servers.up(only=SERVERS)
    assert not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE
    assert not servers.postgres.problem()
    connection.terminate()
    await asyncio.sleep(0)


def test_postgres_starts_over_a_postmaster_pid_that_was_recycled(servers: Stack) -> None:
    servers.kill("postgres")
    pid_file = servers.postgres.cluster / "postmaster.pid"
    _, *rest = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *rest]) + "\n")
    servers.up(only=SERVERS)
    assert not servers.postgres.problem()


def test_redis_killed_keeps_what_was_written(servers: Stack) -> None:
    with redis.Redis.from_url(servers.redis_url) as client:
        client.set("kept", "1")
    servers.kill("redis")
    servers.up(only=SERVERS)
    with redis.Redis.from_url(servers.redis_url) as client:
        assert client.get("kept") == b"1"


def test_kafka_killed_keeps_what_was_acknowledged(servers: Stack) -> None:
    topics.create(servers.kafka_bootstrap, [TOPIC], 1, 1)
    producer = Producer({"bootstrap.servers": servers.kafka_bootstrap, "acks": "all"})
    producer.produce(TOPIC, b"kept", partition=0)
    assert producer.flush(10) == 0

    servers.kill("kafka")
    servers.up(only=SERVERS)

    consumer = Consumer({"bootstrap.servers": servers.kafka_bootstrap, "group.id": "stack-test"})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    message = consumer.poll(20)
    consumer.close()
    assert message is not None
    assert message.value() == b"kept"


def test_topics_are_created_once_and_never_repartitioned(servers: Stack) -> None:
    names = ["stacktest-events", "stacktest-events.dead"]
    assert names == ["stacktest-events", "stacktest-events.dead"]
    assert topics.create(servers.kafka_bootstrap, names, 2, 1) == 2
    assert topics.create(servers.kafka_bootstrap, names, 2, 1) == 0
    with pytest.raises(StackError, match="has 2 partitions, expected 3"):
        topics.create(servers.kafka_bootstrap, names, 3, 1)


def test_recycled_pid_is_never_taken_for_ours(scratch: Stack) -> None:
    scratch.up(only=["redis"])
    scratch.kill("redis")
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        created = psutil.Process(stranger.pid).create_time() - 60
        path = scratch.redis.process.pid_path
        path.write_text(json.dumps({"pid": stranger.pid, "created": created}))
        assert scratch.redis.process.find() is None
        scratch.up(only=["redis"])
        scratch.down()
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n")


def test_process_without_a_pid_file_is_found_again(scratch: Stack) -> None:
    scratch.up(only=["redis", "postgres"])
    before = {name: scratch.server(name).process.find() for name in ("redis", "postgres")}
    for name in before:
        scratch.server(name).process.pid_path.unlink()
    scratch.up(only=["redis", "postgres"])
    assert {name: scratch.server(name).process.find() for name in before} == before


def test_taken_port_names_its_setting(scratch: Stack) -> None:
    address = ("127.0.0.1", scratch.settings.redis_port)
    with socket.create_server(address), pytest.raises(PortTaken) as caught:
        scratch.up(only=["redis"])
    assert str(scratch.settings.redis_port) in caught.value.message
    assert f"pid {os.getpid()}" in caught.value.message
    assert "INTERCHANGE_REDIS_PORT" in caught.value.hint
    scratch.up(only=["redis"])


def test_half_finished_preparations_are_made_anew(scratch: Stack) -> None:
    for server in (scratch.postgres, scratch.kafka):
        draft = server.folder / "data.draft"
        draft.mkdir(parents=True)
        (draft / "PG_VERSION").write_text("16\n")
    scratch.settings.data_dir.chmod(0o711)
    scratch.postgres.folder.chmod(0o711)
    scratch.up(only=["postgres"])
    scratch.kafka.prepare()
    assert (scratch.kafka.folder / "data" / "meta.properties").exists()
    assert not (scratch.kafka.folder / "data.draft").exists()


def test_start_that_was_interrupted_goes_on(scratch: Stack) -> None:
    settings = scratch.settings
    environment = {
        **os.environ,
        "INTERCHANGE_DATA_DIR": str(settings.data_dir),
        "INTERCHANGE_PORT_OFFSET": str(settings.port_offset),
    }
    command = [sys.executable, "-m", "services.stack.cli", "up", "--only", "kafka,redis"]
    codes = []
    for number in (signal.SIGINT, signal.SIGKILL):
        start = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        # Redis is quick: once it runs, Kafka is being formatted or is starting.
        while start.poll() is None and not scratch.redis.process.pid_path.exists():
            time.sleep(0.02)
        scratch.redis.process.pid_path.unlink()
        start.send_signal(number)
        codes.append(start.wait(30))
    assert codes == [130, -signal.SIGKILL]
    scratch.up(only=["kafka", "redis"])
    assert len(scratch.kafka.process.strays()) == 1
    assert not scratch.kafka.problem()


def test_other_settings_do_not_start_a_second_set(scratch: Stack) -> None:
    scratch.up(only=["redis"])
    other = Stack(scratch.settings.model_copy(update={"hosts": "trade", "redis_port": 7}))
    with pytest.raises(StackError, match="other hosts, ports or URLs"):
        other.up(only=["redis"])
    other.down()
    assert scratch.redis.process.find() is None


def test_server_that_dies_shows_the_end_of_its_log(scratch: Stack) -> None:
    scratch.up(only=["redis"])
    scratch.kill("redis")
    aof = scratch.redis.folder / "data" / "appendonly.aof"
    aof.write_bytes(b"this is no append-only file\r\n")
    with pytest.raises(StackError, match="redis ended with code 1") as caught:
        scratch.up(only=["redis"])
    assert "Bad file format" in getattr(caught.value, "log_tail", "")
    assert str(scratch.redis.process.log_path) in caught.value.hint


def test_secrets_stay_off_command_lines_and_out_of_logs(servers: Stack) -> None:
    kinds = ("postgres_password", "redis_password", "database_password")
    secrets = [servers.secrets.password(kind) for kind in kinds]
    running = psutil.process_iter(["cmdline"])
    commands = [" ".join(process.info["cmdline"] or ()) for process in running]
    logs = [path.read_text(errors="replace") for path in servers.settings.logs_dir.iterdir()]
    assert not [text for text in (*commands, *logs) if any(secret in text for secret in secrets)]
    for path in servers.settings.secrets_dir.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_processes_carry_the_mark_of_their_stack(servers: Stack) -> None:
    process = servers.kafka.process.find()
    assert process is not None
    assert process.environ()[MARK] == f"{servers.settings.data_dir}:kafka"


def test_wipe_leaves_what_is_not_the_stacks(scratch: Stack) -> None:
    scratch.up(only=["redis"])
    letter = scratch.settings.data_dir / "letter.txt"
    letter.write_text("mine")
    scratch.down(wipe=True)
    assert [path.name for path in scratch.settings.data_dir.iterdir() if path != letter] == ["lock"]
    assert letter.read_text() == "mine"
    letter.unlink()
    (scratch.settings.data_dir / "lock").unlink()
    scratch.settings.data_dir.rmdir()
