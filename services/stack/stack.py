"""A whole stack: which servers there are, in which order they start and stop."""

import json
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import psutil
from confluent_kafka import KafkaException

from services.common.config import Settings
from services.common.migrate import MigrationError, migrate
from services.stack import topics
from services.stack.envoy import EnvoyServer
from services.stack.errors import StackError
from services.stack.hosts import CollectorServer, HostServer
from services.stack.kafka import KafkaServer
from services.stack.lock import locked
from services.stack.order import Report, Step, perform
from services.stack.postgres import SUPERUSER, PostgresServer
from services.stack.process import Process
from services.stack.redis import RedisServer
from services.stack.secrets import Secrets
from services.stack.server import Server
from services.stack.settings import StackSettings
from services.stack.tokens import KEY_FILE, Issuer

MIGRATIONS = "migrations"
TOPICS = "topics"
OUTBOX_POLL_MAX_MS = 250
PERSONAL_KEY = "personal_key"
MARKER = "stack.json"
"""Says that a folder is a stack's."""
DATA: tuple[str, ...] = (
    "archive",
    "collector",
    "envoy",
    "jwks.json",
    "kafka",
    "logs",
    "postgres",
    "redis",
    "run",
    "secrets",
    "traces.jsonl",
    "traces.1.jsonl",
    MARKER,
)
"""What a wipe deletes, by name: the folder could be somebody's home by mistake."""


def ignore(name: str, state: str, seconds: float, note: str) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class Status:
    """What one server is doing."""

    name: str
    pid: int | None
    problem: str
    port: int
    memory_bytes: int
    created: float


class Stack:
    """The servers and services of one data folder.

    Every method may be called from any process at any time: the state is in the
    folder, not in this object.
    """

    def __init__(self, settings: StackSettings | None = None) -> None:
        self.settings = settings or StackSettings()
        self.secrets = Secrets(self.settings.secrets_dir)
        self.issuer = Issuer(self.settings)
        self.postgres = PostgresServer(self.settings)
        self.redis = RedisServer(self.settings)
        self.kafka = KafkaServer(self.settings)
        self.collector = CollectorServer(self.settings)
        self.envoy = EnvoyServer(self.settings)

    def up(self, only: Collection[str] | None = None, report: Report = ignore) -> None:
        """Start what does not run, in order, and wait until all is ready.

        `only` names servers or steps (`migrations`, `topics`). Raises
        `StackError` for the first that failed.
        """
        steps = self._steps()
        names = [step.name for step in steps]
        if unknown := sorted(set(only or ()) - set(names)):
            raise StackError(f"no such server: {', '.join(unknown)}; there are {', '.join(names)}")
        self._open_folder()
        with locked(self.settings.data_dir / "lock"):
            self._write_state()
            self.issuer.ensure_keys()
            # Here and not when it is first asked for: hosts start at the same time, and
            # would make two of it.
            self.secrets.key_path(PERSONAL_KEY)
            perform((step for step in steps if not only or step.name in only), report)

    def down(self, *, wipe: bool = False, report: Report = ignore) -> None:
        """Stop all, in the reverse order; with `wipe`, delete all data as well."""
        if not self.settings.data_dir.exists():
            return
        with locked(self.settings.data_dir / "lock"):
            known = {server.name for server in self.servers}
            for process in list(self._recorded_alive()):
                if process.name not in known:
                    process.stop(self.settings.stop_timeout_s)
                    report(process.name, "stopped", 0.0, "started by other settings")
            for stage in reversed(self._stages):
                with ThreadPoolExecutor(max_workers=len(stage)) as pool:
                    list(pool.map(lambda server: _stop(server, report), stage))
            if wipe:
                self._wipe()

    def kill(self, name: str) -> None:
        """End a server at once by SIGKILL, as a fault would."""
        process = self.server(name).process.find()
        if process is not None:
            process.kill()
            process.wait(10)

    def restart(self, name: str) -> None:
        """Stop one server and start it again."""
        with locked(self.settings.data_dir / "lock"):
            self.server(name).down()
        self.up(only=[name])

    def status(self) -> list[Status]:
        """Ask every server how it is."""
        servers = self.servers
        with ThreadPoolExecutor(max_workers=len(servers)) as pool:
            return list(pool.map(_status, servers))

    def server(self, name: str) -> Server:
        """Return a server by its name, or the host of a service by the service's."""
        for server in self.servers:
            hosted = server.services if isinstance(server, HostServer) else ()
            if name == server.name or name in hosted:
                return server
        names = ", ".join(server.name for server in self.servers)
        raise StackError(f"no such server: {name}; there are {names}")

    @cached_property
    def servers(self) -> list[Server]:
        """All servers that run here, in the order of their start."""
        return [server for stage in self._stages for server in stage]

    @property
    def edge_url(self) -> str:
        """Where callers reach the mesh."""
        return f"http://127.0.0.1:{self.settings.edge_port}"

    @property
    def egress(self) -> str:
        """Where services dial each other."""
        return f"127.0.0.1:{self.settings.egress_port}"

    @property
    def redis_url(self) -> str:
        """URL of Redis, with its password."""
        return self.settings.redis_url.get_secret_value() or self.redis.url

    @property
    def kafka_bootstrap(self) -> str:
        """Kafka brokers."""
        return self.settings.kafka_bootstrap or self.kafka.bootstrap

    def database_url(self, role: str = SUPERUSER) -> str:
        """Return the URL of Postgres for a role, such as `trade_api`, with its password."""
        if not self.settings.database_url:
            return self.postgres.url(role)
        if role == SUPERUSER:
            return self.settings.database_admin_url.get_secret_value()
        parts = urlsplit(self.settings.database_url)
        place = parts.netloc.rpartition("@")[2]
        return urlunsplit(
            parts._replace(netloc=f"{quote(role)}:{quote(self.database_password())}@{place}")
        )

    def database_password(self) -> str:
        """Return the password of the service roles."""
        if not self.settings.database_url:
            return self.secrets.password("database_password")
        if self.settings.database_password_file:
            return self.settings.database_password_file.read_text().strip()
        return self.settings.database_password.get_secret_value()

    def token(
        self, tenant: str, roles: Sequence[str], subject: str = "demo", ttl_minutes: int = 60
    ) -> str:
        """Return a signed token for a caller of the edge."""
        self._open_folder()
        return self.issuer.token(tenant, roles, subject, ttl_minutes)

    def migrate(self, services: Sequence[str] | None = None) -> str:
        """Apply the migrations of the services, or of all. Return a note."""
        admin_url = self.database_url()
        if not admin_url:
            return "left to others: no INTERCHANGE_DATABASE_ADMIN_URL"
        names = self.settings.services if services is None else services
        try:
            applied = migrate(admin_url, names, self.database_password())
        except (MigrationError, asyncpg.PostgresError, OSError) as error:
            raise StackError(
                f"migration failed: {error}", "Correct it, then run `interchange up` again."
            ) from error
        return f"{len(applied)} applied" if applied else "up to date"

    def create_topics(self) -> str:
        """Create the topics that are missing. Return a note."""
        wanted = topics.names(self.settings.services, self.settings.kafka_topic_prefix)
        try:
            count = topics.create(
                self.kafka_bootstrap,
                wanted,
                self.settings.kafka_partitions,
                self.settings.kafka_replication,
            )
        except KafkaException as error:
            raise StackError(
                f"Kafka at {self.kafka_bootstrap} did not answer: {error}",
                "Check INTERCHANGE_KAFKA_BOOTSTRAP, or unset it to start a local one.",
            ) from error
        return f"{count} created" if count else "up to date"

    @cached_property
    def _stages(self) -> list[list[Server]]:
        """Servers by stage; a stage stops before the one ahead of it."""
        base: list[Server] = [self.collector]
        if not self.settings.database_url:
            base.insert(0, self.postgres)
        if not self.settings.redis_url.get_secret_value():
            base.insert(0, self.redis)
        if not self.settings.kafka_bootstrap:
            base.insert(0, self.kafka)
        indices = range(len(self.settings.groups))
        hosts: list[Server] = [
            HostServer(self.settings, index, self.service_environment) for index in indices
        ]
        return [base, hosts, [self.envoy]]

    def _steps(self) -> list[Step]:
        base, hosts, last = self._stages
        steps = [Step(server.name, server.up) for server in base]
        steps += [
            Step(MIGRATIONS, lambda _: self.migrate(), frozenset({"postgres"})),
            Step(TOPICS, lambda _: self.create_topics(), frozenset({"kafka"})),
        ]
        needed = frozenset(step.name for step in steps)
        steps += [Step(server.name, server.up, needed) for server in hosts]
        # The door opens when there is somebody behind it.
        needed = frozenset(step.name for step in steps)
        return [*steps, *(Step(server.name, server.up, needed) for server in last)]

    def service_settings(self) -> Settings:
        """Return the settings of a service of this stack, for tools that act as one."""
        prefix = "INTERCHANGE_"
        known = self.service_environment().items()
        return Settings(**{key.removeprefix(prefix).lower(): value for key, value in known})  # type: ignore[arg-type]

    def service_environment(self) -> dict[str, str]:
        """Return the variables by which a service finds what it needs, but its own ports."""
        settings = self.settings
        addresses = {
            "INTERCHANGE_DATABASE_URL": settings.database_url
            or f"postgresql://{self.postgres.address}/interchange",
            "INTERCHANGE_REDIS_URL": self.redis_url,
            "INTERCHANGE_KAFKA_BOOTSTRAP": self.kafka_bootstrap,
            "INTERCHANGE_KAFKA_PARTITIONS": str(settings.kafka_partitions),
            "INTERCHANGE_KAFKA_REPLICATION": str(settings.kafka_replication),
            "INTERCHANGE_KAFKA_TOPIC_PREFIX": settings.kafka_topic_prefix,
            "INTERCHANGE_EGRESS": self.egress,
            # Each service is one process here: its own commits wake its relay.
            "INTERCHANGE_OUTBOX_POLL_MAX_MS": str(OUTBOX_POLL_MAX_MS),
            "INTERCHANGE_TRACE_RATIO": str(settings.trace_ratio),
            "INTERCHANGE_TRACE_ENDPOINT": self.collector.endpoint,
            "INTERCHANGE_ARCHIVE_DIR": str(settings.archive_dir),
            "INTERCHANGE_WEBSOCKET_LISTEN": f"127.0.0.1:{settings.websocket_port}",
            "INTERCHANGE_JWKS_FILE": str(settings.jwks_path),
            "INTERCHANGE_TOKEN_KEY_FILE": str(settings.secrets_dir / KEY_FILE),
            "INTERCHANGE_PERSONAL_KEY_FILE": str(settings.secrets_dir / PERSONAL_KEY),
        }
        if settings.database_url:
            addresses["INTERCHANGE_DATABASE_PASSWORD"] = self.database_password()
        else:
            path = self.secrets.path("database_password")
            addresses["INTERCHANGE_DATABASE_PASSWORD_FILE"] = str(path)
        return addresses

    def _open_folder(self) -> None:
        folder = self.settings.data_dir
        if not folder.exists():
            folder.mkdir(parents=True)
            # Whatever the umask, Postgres passes through it, perhaps as another user.
            folder.chmod(0o711)

    def _write_state(self) -> None:
        path = self.settings.data_dir / MARKER
        listening = {server.name: [port.number for port in server.ports] for server in self.servers}
        state = json.dumps(listening, indent=1) + "\n"
        if path.exists() and path.read_text() != state and any(self._recorded_alive()):
            raise StackError(
                f"the stack in {self.settings.data_dir} runs with other hosts, ports or URLs",
                "Run `interchange down` first, or go back to its settings; it was started as "
                f"{path} says.",
            )
        path.write_text(state)

    def _recorded_alive(self) -> Iterator[Process]:
        """Yield what runs of this folder, also if other settings started it."""
        for path in sorted(self.settings.run_dir.glob("*.json")):
            process = Process(path.stem, self.settings.data_dir)
            if process.find() is not None:
                yield process

    def _wipe(self) -> None:
        folder = self.settings.data_dir
        if not (folder / MARKER).exists():
            return
        self.postgres.wipe()
        for name in DATA:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if [path.name for path in folder.iterdir()] == ["lock"]:
            shutil.rmtree(folder)


def _stop(server: Server, report: Report) -> None:
    began = time.monotonic()
    if server.process.find() is not None:
        report(server.name, "stopping", 0.0, "")
    if server.down():
        report(server.name, "stopped", time.monotonic() - began, "")


def _status(server: Server) -> Status:
    port = server.ports[0].number
    process = server.process.find()
    if process is None:
        return Status(server.name, None, "not running", port, 0, 0.0)
    try:
        family = [process, *process.children(recursive=True)]
        # Shared pages count once: the proportional size needs slower reads.
        memory = sum(member.memory_info().rss - member.memory_info().shared for member in family)
        memory += process.memory_info().shared
        return Status(
            server.name, process.pid, server.problem(), port, memory, process.create_time()
        )
    except psutil.NoSuchProcess:
        return Status(server.name, None, "ended a moment ago", port, 0, 0.0)
