"""A synthetic day of trades: the same for the same seed, on any machine."""

import random
import time
from collections.abc import Iterator

from interchange.account.v1.account_pb2 import ACCOUNT_KIND_CLIENT, Account
from interchange.trade.v1.trade_service_pb2 import CreateTradeRequest, StreamTradesRequest

from services.instrument import seed
from services.stack.booking import CHUNK_SIZE, Chunk, add_trade

ACCOUNTS = [f"BENCH{number:03}" for number in range(500)]
INSTRUMENTS = [(symbol, mic, currency) for symbol, *_, mic, currency in seed.EQUITIES]
SEED = 20_260_105
DAY_S = 86_400


def accounts() -> list[Account]:
    """Return the accounts of the day."""
    return [
        Account(account_id=name, display_name=name, kind=ACCOUNT_KIND_CLIENT, base_currency="USD")
        for name in ACCOUNTS
    ]


def chunks(source: str, count: int) -> Iterator[Chunk[str]]:
    """Yield the day in chunks of a thousand; the notes are the accounts."""
    rng = random.Random(f"{SEED} {source}")
    start_us = _yesterday_us()
    for first in range(0, count, CHUNK_SIZE):
        chunk: Chunk[str] = Chunk()
        for number in range(first, min(first + CHUNK_SIZE, count)):
            account = rng.choice(ACCOUNTS)
            _add(chunk.request, rng, source, number, account, start_us + number * 40_000)
            chunk.notes.append(account)
        yield chunk


def trade(source: str, number: int) -> CreateTradeRequest:
    """Return one trade, by its number."""
    rng = random.Random(f"{SEED} {source} {number}")
    request = StreamTradesRequest()
    time_us = _yesterday_us() + number % DAY_S * 1_000
    _add(request, rng, source, number, rng.choice(ACCOUNTS), time_us)
    made = request.requests[0]
    # An interactive caller brings a request_id of its own; a blotter names its trades.
    made.request_id, made.external_id, made.external_source = made.external_id, "", ""
    return made


def _add(
    request: StreamTradesRequest,
    rng: random.Random,
    source: str,
    number: int,
    account: str,
    time_us: int,
) -> None:
    at = int(rng.random() * len(INSTRUMENTS))
    symbol, mic, currency = INSTRUMENTS[at]
    cents = 2_000 + 1_500 * at + int(rng.random() * 500)
    add_trade(
        request,
        source,
        f"{source}-{number}",
        account,
        symbol,
        1 if rng.random() < 0.5 else 2,
        str(1 + int(rng.random() * 1_000)),
        f"{cents // 100}.{cents % 100:02}",
        currency,
        time_us,
        mic,
    )


def _yesterday_us() -> int:
    """Return when yesterday began: no trade may be in the future."""
    return (int(time.time()) // DAY_S - 1) * DAY_S * 1_000_000
