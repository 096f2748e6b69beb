"""Personal data in events: sealed under a key per customer.

Events are kept for years and copied to archives, where nothing can be deleted.
Destroying the key of a customer makes all of it unreadable at once. Keys are rows,
wrapped by a master key that is no part of the database. AES-GCM (NIST SP 800-38D)
with 96-bit random nonces.
"""

import os
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.config import Settings
from services.common.db import Database

log = structlog.get_logger()

NONCE_BYTES = 12
KEY_BYTES = 32
VERSION = b"\x01"
CACHE_S = 60.0
"""How long a process still reads after a key was destroyed."""
CACHED_MAX = 50_000


class Unreadable(Exception):
    """Sealed data can't be opened: another key, another place, or damaged."""


class Seal:
    """The key of one customer."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, clear: bytes, bound_to: str) -> bytes:
        """Return `clear` sealed; it opens only with the same `bound_to`."""
        nonce = os.urandom(NONCE_BYTES)
        return VERSION + nonce + self._cipher.encrypt(nonce, clear, bound_to.encode())

    def open(self, sealed: bytes, bound_to: str) -> bytes:
        """Return what was sealed, or raise Unreadable."""
        start = len(VERSION)
        nonce, body = sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :]
        if sealed[:start] != VERSION or len(nonce) != NONCE_BYTES:
            raise Unreadable("not sealed by this version")
        try:
            return self._cipher.decrypt(nonce, body, bound_to.encode())
        except InvalidTag:
            raise Unreadable("another key, another place, or damaged") from None


class Keys(Protocol):
    """Keys of customers; the fake of the unit tests has them in a dict."""

    async def of(self, tenant_id: str, customer_ids: Collection[str]) -> Mapping[str, Seal]:
        """Return the keys of customers, made where they are missing.

        One whose key was destroyed, or is wrapped by another master key, is left out.
        """
        ...


class PersonalKeys(Keys):
    """Keys in the table mesh.personal_keys; call it before a transaction begins."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._master = AESGCM(_master_key(settings))
        self._cache: dict[tuple[str, str], tuple[float, Seal | None]] = {}

    async def of(self, tenant_id: str, customer_ids: Collection[str]) -> Mapping[str, Seal]:
        """Return the keys of customers, made where they are missing."""
        found: dict[str, Seal] = {}
        missing = []
        now = time.monotonic()
        for customer in set(customer_ids):
            until, seal = self._cache.get((tenant_id, customer), (0.0, None))
            if until < now:
                missing.append(customer)
            elif seal is not None:
                found[customer] = seal
        if missing:
            found.update(self._remember(tenant_id, await self._load(tenant_id, sorted(missing))))
        return found

    async def _load(self, tenant_id: str, customers: list[str]) -> dict[str, bytes | None]:
        async with self._database.tenant(tenant_id, read_only=True) as connection:
            rows = await connection.fetch(_SELECT, tenant_id, customers)
        known: dict[str, bytes | None] = dict(map(tuple, rows))
        new = [customer for customer in customers if customer not in known]
        if new:
            wrapped = [self._wrap(tenant_id, one, os.urandom(KEY_BYTES)) for one in new]
            async with self._database.tenant(tenant_id) as connection:
                await connection.execute(_INSERT, tenant_id, new, wrapped)
                # Another process may have made one at the same moment: the row decides.
                rows = await connection.fetch(_SELECT, tenant_id, new)
            known.update(map(tuple, rows))
        return known

    def _remember(
        self, tenant_id: str, rows: Mapping[str, bytes | None]
    ) -> Iterable[tuple[str, Seal]]:
        until = time.monotonic() + CACHE_S
        while len(self._cache) + len(rows) > CACHED_MAX and self._cache:
            del self._cache[next(iter(self._cache))]
        for customer, wrapped in rows.items():
            seal = None if wrapped is None else self._seal(tenant_id, customer, wrapped)
            # Taken out first, so that the oldest stay ahead.
            self._cache.pop((tenant_id, customer), None)
            self._cache[tenant_id, customer] = until, seal
            if seal is not None:
                yield customer, seal

    def _seal(self, tenant_id: str, customer: str, wrapped: bytes) -> Seal | None:
        try:
            return Seal(self._unwrap(tenant_id, customer, wrapped))
        except Unreadable as error:
            # As if it were destroyed: one row must not stop what others wait for.
            log.error("key is unreadable", tenant=tenant_id, customer=customer, error=str(error))
            return None

    def _wrap(self, tenant_id: str, customer: str, key: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._master.encrypt(nonce, key, _owner(tenant_id, customer))

    def _unwrap(self, tenant_id: str, customer: str, wrapped: bytes) -> bytes:
        nonce, body = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            return self._master.decrypt(nonce, body, _owner(tenant_id, customer))
        except InvalidTag:
            raise Unreadable("a customer's key was wrapped by another master key") from None


_SELECT = """
SELECT customer_id, wrapped FROM mesh.personal_keys
WHERE tenant_id = $1 AND customer_id = ANY ($2::text[])
"""
_INSERT = """
INSERT INTO mesh.personal_keys (tenant_id, customer_id, wrapped)
SELECT $1, * FROM unnest($2::text[], $3::bytea[]) ON CONFLICT DO NOTHING
"""


def _owner(tenant_id: str, customer: str) -> bytes:
    return f"{tenant_id}\0{customer}".encode()


def _master_key(settings: Settings) -> bytes:
    path = settings.personal_key_file
    try:
        key = bytes.fromhex(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"INTERCHANGE_PERSONAL_KEY_FILE {path} is no key: {error}") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"INTERCHANGE_PERSONAL_KEY_FILE {path} has {len(key)} bytes, expected 32")
    return key
