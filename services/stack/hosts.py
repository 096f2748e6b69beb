"""Processes of this project: the trace collector, and the hosts of the services."""

import http.client
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from services.stack.secrets import private_folder
from services.stack.server import NotReady, Port, Server
from services.stack.settings import GATEWAY, StackSettings

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PROBE_TIMEOUT_S = 3
ADMIN_URL = "INTERCHANGE_DATABASE_ADMIN_URL"
"""Holds a superuser's password: no service needs it."""


class PythonServer(Server):
    """A server written in Python, run by the interpreter that runs us."""

    def prepare(self) -> None:
        """Make its folder."""
        private_folder(self.folder)

    def environment(self) -> Mapping[str, str]:
        """Return our own, and where the code is: it runs in another folder."""
        known = os.environ.get("PYTHONPATH", "")
        paths = [str(CHECKOUT), str(CHECKOUT / "gen"), *([known] if known else [])]
        inherited = {key: value for key, value in os.environ.items() if key != ADMIN_URL}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
        }


class CollectorServer(PythonServer):
    """The trace collector."""

    name = "collector"
    stop_timeout_s = 5

    @property
    def ports(self) -> Sequence[Port]:
        """Ports that it listens on."""
        return [Port(self.settings.trace_port, "trace_port")]

    @property
    def endpoint(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.settings.trace_port}"

    def command(self) -> Sequence[str]:
        """Return the command line."""
        limits = ["--bytes-max", str(self.settings.trace_file_bytes_max)]
        target = ["--listen", self.endpoint, "--file", str(self.settings.traces_path)]
        return [sys.executable, "-m", "services.stack.collector", *target, *limits]

    def check(self) -> None:
        """Connect."""
        try:
            address = ("127.0.0.1", self.settings.trace_port)
            socket.create_connection(address, timeout=PROBE_TIMEOUT_S).close()
        except OSError as error:
            raise NotReady(f"no connection: {error}") from None


class HostServer(PythonServer):
    """One process that hosts one or more services."""

    def __init__(
        self, settings: StackSettings, index: int, addresses: Callable[[], Mapping[str, str]]
    ) -> None:
        self.services = settings.groups[index]
        self.name = "-".join(self.services)
        self.index = index
        self.addresses = addresses
        super().__init__(settings)
        self.stop_timeout_s = settings.stop_timeout_s

    @property
    def ports(self) -> Sequence[Port]:
        """Ports that it listens on: gRPC, then probes, then the WebSocket of a gateway."""
        ports = [
            Port(self.settings.services_port_base + self.index, "services_port_base"),
            Port(self.settings.probes_port_base + self.index, "probes_port_base"),
        ]
        if GATEWAY in self.services:
            ports.append(Port(self.settings.websocket_port, "websocket_port"))
        return ports

    @property
    def folder(self) -> Path:
        """Folder that it runs in."""
        return self.settings.run_dir / self.name

    def command(self) -> Sequence[str]:
        """Return the command line."""
        return [sys.executable, "-m", "services", ",".join(self.services)]

    def environment(self) -> Mapping[str, str]:
        """Return our own, with its addresses and those of what it needs."""
        grpc_port, probe_port, *_ = self.ports
        return {
            **super().environment(),
            **self.addresses(),
            "INTERCHANGE_LISTEN": f"127.0.0.1:{grpc_port.number}",
            "INTERCHANGE_PROBE_LISTEN": f"127.0.0.1:{probe_port.number}",
        }

    def check(self) -> None:
        """Ask the readiness probe, which asks what the services need."""
        port = self.ports[1].number
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", "/health/readiness")
            response = connection.getresponse()
            body = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise NotReady(f"readiness probe failed: {error}") from None
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise NotReady(_failing(body))


def _failing(body: str) -> str:
    try:
        return f"not ready: {json.dumps(json.loads(body))}"
    except ValueError:
        return f"not ready: {body[:200]}"
