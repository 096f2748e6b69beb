"""Redis: what is fast and may be lost."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.common.config import Settings

TIMEOUT_S = 1.0
"""A Redis that takes longer is as good as none: nothing waits for it."""
CONNECTIONS_MAX = 32


def connect(settings: Settings) -> Redis:
    """Return a client of the configured Redis; it speaks bytes and connects when used.

    Nothing is tried again here: who calls knows what to do without an answer.
    """
    return Redis.from_url(
        settings.redis_url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        max_connections=CONNECTIONS_MAX,
        health_check_interval=15,
        retry=Retry(NoBackoff(), 0),
    )
