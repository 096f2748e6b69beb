"""Settings of a local stack, typed, from the environment."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

GATEWAY = "gateway"


def _shifted(port: int) -> Callable[[dict[str, Any]], int]:
    return lambda validated: port + int(validated.get("port_offset", 0))


def _port(default: int) -> Any:
    return Field(default_factory=_shifted(default), ge=1, le=65535)


class StackSettings(BaseSettings):
    """What the `interchange` command reads from `INTERCHANGE_*`.

    Each field is the variable of the same name in capitals. The default ports
    lie below 32768: above, Linux hands them to outgoing connections, and a
    server that restarts under load could find its own port taken by a client.
    """

    model_config = SettingsConfigDict(
        env_prefix="INTERCHANGE_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    data_dir: Path = Path(".interchange")
    """Folder of all data, logs and secrets of the stack."""
    hosts: str = (
        "instrument,account;trade;position;ledger;"
        "identity,session,conversation;message;gateway;agent;bot,nlu"
    )
    """Which services share a process: `;` parts processes, `,` services in one."""
    start_timeout_s: int = Field(default=120, ge=1, le=3600)
    """How long a server may take until it is ready."""
    stop_timeout_s: int = Field(default=35, ge=1, le=3600)
    """How long a service may drain before it is killed."""

    port_offset: int = Field(default=0, ge=0, le=40_000)
    """Added to every default port, so that two stacks run side by side; a port
    that is set by itself is not shifted."""
    edge_port: int = _port(8080)
    """Envoy's listener for callers from outside: REST, gRPC, gRPC-Web."""
    egress_port: int = _port(8081)
    """Envoy's listener through which services dial each other."""
    envoy_admin_port: int = _port(9901)
    """Envoy's admin page, on the loopback interface."""
    postgres_port: int = _port(15432)
    """Port of the local Postgres."""
    redis_port: int = _port(16379)
    """Port of the local Redis."""
    kafka_port: int = _port(19092)
    """Port of the local Kafka broker."""
    kafka_controller_port: int = _port(19093)
    """Port of the local Kafka controller."""
    trace_port: int = _port(4317)
    """OTLP gRPC port of the trace collector."""
    services_port_base: int = _port(9100)
    """gRPC port of the first service process; the next ones count up."""
    probes_port_base: int = _port(9200)
    """HTTP port of the first process' probes and metrics; the next ones count up."""
    websocket_port: int = _port(9300)
    """Port of the gateway's WebSocket server; callers come to it through the edge."""

    database_url: str = ""
    """Postgres to use in place of a local one, without user and password."""
    database_admin_url: SecretStr = SecretStr("")
    """The same Postgres with a user who may create roles and schemas. Where it is
    empty and `database_url` is not, somebody else migrates."""
    database_password: SecretStr = SecretStr("")
    """Password of the service roles of the given Postgres."""
    database_password_file: Path | None = None
    """File that holds this password; wins over the variable."""
    redis_url: SecretStr = SecretStr("")
    """Redis to use in place of a local one."""
    kafka_bootstrap: str = ""
    """Kafka brokers to use in place of a local one."""
    kafka_partitions: int = Field(default=4, ge=1, le=1000)
    """Partitions of a topic that is created. Few on one machine: a broker pays for
    each that a batch touches."""
    kafka_replication: int = Field(default=1, ge=1, le=5)
    """Replicas of a topic that is created."""
    kafka_topic_prefix: str = ""
    """Put before each topic name."""
    kafka_heap_mb: int = Field(default=512, ge=256, le=65536)
    """Heap of the local Kafka."""
    postgres_shared_buffers_mb: int = Field(default=256, ge=16, le=65536)
    """Page cache of the local Postgres."""
    postgres_connections_max: int = Field(default=400, ge=10, le=5000)
    """Connections that the local Postgres accepts."""
    postgres_user: str = "nobody"
    """Who runs Postgres when the command runs as root, which Postgres refuses."""
    redis_memory_max_mb: int = Field(default=512, ge=16, le=65536)
    """Memory of the local Redis; keys with a lifetime are evicted beyond it."""
    trace_ratio: float = Field(default=0.001, ge=0, le=1)
    """Share of the traces that are kept; a caller's decision wins."""
    trace_file_bytes_max: int = Field(default=32 * 1024 * 1024, ge=1024)
    """Size at which the file of spans is rotated; one older file is kept."""

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("hosts")
    @classmethod
    def _each_service_once(cls, value: str) -> str:
        names = [name.strip() for name in value.replace(";", ",").split(",")]
        if not all(names) or len(names) != len(set(names)):
            raise ValueError(f"hosts was {value!r}, expected each service once, as in 'a,b;c'")
        return value

    @cached_property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Services by process, in the order in which ports are given."""
        return tuple(
            tuple(name.strip() for name in group.split(",")) for group in self.hosts.split(";")
        )

    @cached_property
    def services(self) -> tuple[str, ...]:
        """Names of all services."""
        return tuple(name for group in self.groups for name in group)

    @cached_property
    def service_ports(self) -> dict[str, int]:
        """Return the gRPC port of each service; those in one process share it."""
        return {
            name: self.services_port_base + index
            for index, group in enumerate(self.groups)
            for name in group
        }

    @cached_property
    def door_ports(self) -> dict[str, int]:
        """Return the port at which Envoy finds each service: the gateway's is its WebSocket."""
        ports = dict(self.service_ports)
        if GATEWAY in ports:
            ports[GATEWAY] = self.websocket_port
        return ports

    @property
    def run_dir(self) -> Path:
        """Folder of the pid files."""
        return self.data_dir / "run"

    @property
    def logs_dir(self) -> Path:
        """Folder of the logs, one file a process."""
        return self.data_dir / "logs"

    @property
    def secrets_dir(self) -> Path:
        """Folder of passwords and the signing key."""
        return self.data_dir / "secrets"

    @property
    def jwks_path(self) -> Path:
        """Public keys by which Envoy verifies tokens."""
        return self.data_dir / "jwks.json"

    @property
    def traces_path(self) -> Path:
        """File of the spans, one JSON object a line."""
        return self.data_dir / "traces.jsonl"

    @property
    def archive_dir(self) -> Path:
        """Folder of archived event partitions."""
        return self.data_dir / "archive"
