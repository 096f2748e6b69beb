"""Migrations: ordered SQL files, each applied once, whole or not at all.

A file and the note that it was applied are one transaction, and the lock is an
advisory one that ends with its connection: a migrator may be killed at any
moment and simply started again. The address must be a direct one, since a pooler
in transaction mode would lose the lock.

`python -m services.common.migrate` applies all to INTERCHANGE_DATABASE_ADMIN_URL.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import secrets
import sys
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from services.common.config import Settings

Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parent.parent
LOCK_KEY = 0x696E7465726368
"""Of the advisory lock: one migrator at a time."""
LOCK_WAIT_S = 300
TABLE_LOCK_TIMEOUT_MS = 3_000
"""A file that waits longer for a table gives way to the traffic behind it."""
ATTEMPTS = 5
SCRAM_ITERATIONS = 4096

HISTORY = """
CREATE SCHEMA IF NOT EXISTS migrations;
CREATE TABLE IF NOT EXISTS migrations.applied (
    id text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""


class MigrationError(Exception):
    """A migration could not be applied; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file; its name, such as `trade_0001_trades`, is its identity."""

    path: Path

    @property
    def id(self) -> str:
        """Name without ending."""
        return self.path.stem

    def sql(self) -> str:
        """Return the statements."""
        return self.path.read_text()

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def known_services() -> list[str]:
    """Return the services that have migrations."""
    return sorted(
        path.parent.name for path in ROOT.glob("*/migrations") if path.parent.name != "common"
    )


def migrations(services: Sequence[str]) -> list[Migration]:
    """Return the files of `common`, then those of each service, in their order."""
    return [
        Migration(path)
        for name in ("common", *services)
        for path in sorted((ROOT / name / "migrations").glob("*.sql"))
    ]


def migrate(admin_url: str, services: Sequence[str], password: str) -> list[str]:
    """Create the database if it is missing, apply what is new, set role passwords.

    Return the names of what was applied. An empty password leaves the roles'
    alone. Raises `MigrationError` or asyncpg's and network errors.
    """
    return blocking(_migrate(admin_url, services, password))


def blocking(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, also where this thread runs an event loop already."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _migrate(admin_url: str, services: Sequence[str], password: str) -> list[str]:
    await _ensure_database(admin_url)
    connection = await asyncpg.connect(admin_url)
    try:
        # Released by the end of the connection, however it comes.
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY, timeout=LOCK_WAIT_S)
        await connection.execute(f"SET lock_timeout = {TABLE_LOCK_TIMEOUT_MS}")
        await connection.execute("SET client_min_messages = warning")
        await connection.execute(HISTORY)
        applied = await _apply_new(connection, migrations(services))
        if password:
            await _set_passwords(connection, services, password)
        return applied
    finally:
        await connection.close()


async def _ensure_database(admin_url: str) -> None:
    parts = urlsplit(admin_url)
    name = parts.path.lstrip("/")
    connection = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")))
    try:
        exists = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
        if not await connection.fetchval(exists, name):
            quoted = name.replace('"', '""')
            await connection.execute(f'CREATE DATABASE "{quoted}"')
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        pass  # another migrator was faster
    finally:
        await connection.close()


async def _apply_new(connection: asyncpg.Connection, files: Sequence[Migration]) -> list[str]:
    rows = await connection.fetch("SELECT id, sha256 FROM migrations.applied")
    known = {row["id"]: row["sha256"] for row in rows}
    for file in files:
        if known.get(file.id, file.digest()) != file.digest():
            raise MigrationError(
                f"{file.path.name} was changed after it was applied: put the change into a "
                "new file, or, on a laptop, run `interchange down --wipe`"
            )
    new = [file for file in files if file.id not in known]
    for file in new:
        await _apply(connection, file)
    return [file.id for file in new]


async def _apply(connection: asyncpg.Connection, file: Migration) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with connection.transaction():
                # Files name the schema of all they touch, so that none depends on another's SET.
                await connection.execute("SET LOCAL search_path = pg_catalog")
                await connection.execute(file.sql())
                await connection.execute(
                    "INSERT INTO migrations.applied (id, sha256) VALUES ($1, $2)",
                    file.id,
                    file.digest(),
                )
            return
        except asyncpg.LockNotAvailableError:
            if attempt == ATTEMPTS:
                raise MigrationError(
                    f"{file.path.name} waited {TABLE_LOCK_TIMEOUT_MS} ms for a table, {ATTEMPTS} "
                    "times: run it when there is less traffic"
                ) from None
            await asyncio.sleep(attempt)
        except asyncpg.PostgresError as error:
            raise MigrationError(f"{file.path.name}: {_where(error, file.sql())}") from error


def _where(error: asyncpg.PostgresError, sql: str) -> str:
    parts = [str(error)]
    if position := getattr(error, "position", None):
        parts.append(f"line {sql.count(chr(10), 0, int(position)) + 1}")
    parts += [text for text in (error.detail, error.context, error.hint) if text]
    return "; ".join(parts)


async def _set_passwords(
    connection: asyncpg.Connection, services: Sequence[str], password: str
) -> None:
    wanted = [f"{name}_{kind}" for name in services for kind in ("api", "pipeline")]
    roles = await connection.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY($1)", [*wanted, "event_reader"]
    )
    for row in roles:
        # The verifier, not the password: statements can end up in the server's log.
        await connection.execute(f"ALTER ROLE \"{row['rolname']}\" PASSWORD '{_scram(password)}'")


def _scram(password: str) -> str:
    """Return the SCRAM-SHA-256 verifier that Postgres stores (RFC 5803)."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encode = base64.b64encode
    return (
        f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encode(salt).decode()}"
        f"${encode(stored).decode()}:{encode(server).decode()}"
    )


def main(services: Sequence[str]) -> None:
    """Migrate the services, or all, at INTERCHANGE_DATABASE_ADMIN_URL."""
    url = os.environ.get("INTERCHANGE_DATABASE_ADMIN_URL", "")
    if not url:
        sys.exit("set INTERCHANGE_DATABASE_ADMIN_URL to postgresql://user:password@host/database")
    try:
        applied = migrate(url, services or known_services(), Settings().password)
    except (MigrationError, asyncpg.PostgresError, OSError) as error:
        sys.exit(f"migration failed: {error}")
    print("\n".join(applied) or "nothing new")


if __name__ == "__main__":
    main(sys.argv[1:])
