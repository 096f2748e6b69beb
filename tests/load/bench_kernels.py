"""Time every kernel against its Python twin: `python -m tests.load.bench_kernels`.

Both sides get 10,000 elements of the same seeded data in the form they take:
arrays for the kernel, lists for the twin. The best of several runs counts, for
the machine's other work only ever adds to a time.

money.format_decimals stays below the limit: it must return a list of str, and
CPython creates and frees one object for each. A loop in C that does nothing
else (PyUnicode_New of 11 characters into a list, then the list freed) took 8.3
ns a string on the machine of 2026-11, so not even that reaches the limit: the
twin takes 286 ns, which is 34 times as long. The rest of the kernel's 22 ns is
digits and copying. The bench measures what it can from Python, str.split of
the same texts (which also searches for the commas), and prints it in the row.
"""

import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from native import journal, lots, match, money, pgcopy
from tests.native.reference import journal as journal_twin
from tests.native.reference import lots as lots_twin
from tests.native.reference import match as match_twin
from tests.native.reference import money as money_twin
from tests.native.reference import pgcopy as pgcopy_twin

ELEMENTS = 10_000
POSITIONS = 500
RATIO_MIN = 50
SECONDS_A_SIDE = 0.4
MATCH = "match.best, 32 skills"
MATCH_US_MAX, MATCH_US_AIM = 100, 20
"""For all of the agents."""


class Row(NamedTuple):
    """Nanoseconds an element on both sides, and what bounds the kernel below the limit."""

    name: str
    kernel_ns: float
    twin_ns: float
    bound: str = ""

    @property
    def ratio(self) -> float:
        """How many times faster the kernel is."""
        return self.twin_ns / self.kernel_ns


def best_ns(call: Callable[[], Any]) -> float:
    """Return the fastest of the runs that fit in the time, a nanosecond count an element."""
    best, until = float("inf"), time.perf_counter() + SECONDS_A_SIDE
    while time.perf_counter() < until:
        start = time.perf_counter_ns()
        call()
        best = min(best, time.perf_counter_ns() - start)
    return best / ELEMENTS


def compare(name: str, kernel: Callable[..., Any], twin: Callable[..., Any], *columns: Any) -> Row:
    """Time a kernel on columns against its twin on the same ones as lists."""
    plain = [c.tolist() if isinstance(c, np.ndarray) else c for c in columns]
    return Row(name, best_ns(lambda: kernel(*columns)), best_ns(lambda: twin(*plain)))


def bench() -> list[Row]:
    """Time all kernels on prices of about 150, lots of 100 and cents."""
    random = np.random.default_rng(20_240_102)
    n = ELEMENTS
    quantity = random.integers(1, 5_000, n) * random.choice([-1, 1], n) * 10**6
    price = random.integers(100_00, 200_00, n) * 10**6
    cents = np.full(n, 2, np.uint8)
    amount, _ = money.notional(quantity, price, cents)
    return [
        *bench_money(quantity, price, amount, cents),
        *bench_lots(random, quantity, amount),
        *bench_journal(random, quantity, amount),
        bench_pgcopy(random, amount),
        bench_match(random),
    ]


def bench_money(quantity: Any, price: Any, amount: Any, cents: Any) -> list[Row]:
    """Time the conversions of numbers."""
    texts = money.format_decimals(price, money.PRICE_SCALE)
    units, nanos = money.minor_to_money(amount, cents)
    tick = np.full(ELEMENTS, 10**6)
    kernel, twin = money, money_twin
    joined = ",".join(texts)
    objects = f"bound by object creation: str.split {best_ns(lambda: joined.split(',')):.1f} ns"
    return [
        compare("money.parse_decimals", kernel.parse_decimals, twin.parse_decimals, texts, 8),
        compare(
            "money.format_decimals", kernel.format_decimals, twin.format_decimals, price, 8
        )._replace(bound=objects),
        compare("money.notional", kernel.notional, twin.notional, quantity, price, cents),
        compare(
            "money.money_to_minor", kernel.money_to_minor, twin.money_to_minor, units, nanos, cents
        ),
        compare("money.minor_to_money", kernel.minor_to_money, twin.minor_to_money, amount, cents),
        compare("money.is_multiple", kernel.is_multiple, twin.is_multiple, price, tick),
    ]


def bench_lots(random: np.random.Generator, quantity: Any, amount: Any) -> list[Row]:
    """Time fills that open, close and cross, spread over the positions."""
    position = random.integers(0, POSITIONS, ELEMENTS)
    fills = position, quantity, amount, np.zeros(ELEMENTS, np.uint8)
    flat, none = np.zeros(POSITIONS, np.int64), np.zeros(0, np.int64)
    no_lots = np.zeros(POSITIONS + 1, np.int64), none, none, none
    ids = np.arange(ELEMENTS)
    return [
        compare(
            "lots.apply_average", lots.apply_average, lots_twin.apply_average,
            *fills, flat, flat, flat,
        ),
        compare(
            "lots.apply_fifo", lots.apply_fifo, lots_twin.apply_fifo,
            *fills, ids, *no_lots, flat,
        ),
    ]  # fmt: skip


def bench_journal(random: np.random.Generator, quantity: Any, amount: Any) -> list[Row]:
    """Time journals; an element is a trade for trade_entries, else an entry."""
    n = ELEMENTS
    security, cash = random.integers(100, 1_000, n), random.integers(0, 5, n)
    fee = random.integers(0, 2, n)
    trade = security, cash, quantity, amount, fee
    entries = journal.trade_entries(*trade)
    first = journal.Entries(*(column[:n].copy() for column in entries))  # type: ignore[arg-type]
    plain = tuple(column.tolist() for column in first)
    check = first.journal, first.asset, first.amount, n
    mixed = random.permutation(n)
    shuffled = (*(column[mixed] for column in check[:3]), n)
    kernel, twin = journal, journal_twin
    return [
        compare("journal.trade_entries", kernel.trade_entries, twin.trade_entries, *trade),
        compare(
            "journal.transfer_entries", kernel.transfer_entries, twin.transfer_entries, cash, amount
        ),
        Row(
            "journal.reverse",
            best_ns(lambda: kernel.reverse(first)),
            best_ns(lambda: twin.reverse(plain)),
        ),
        compare("journal.unbalanced", kernel.unbalanced, twin.unbalanced, *check),
        compare("journal.unbalanced, shuffled", kernel.unbalanced, twin.unbalanced, *shuffled),
        compare("journal.totals", kernel.totals, twin.totals, first.asset, first.amount, 1_000),
    ]


def bench_pgcopy(random: np.random.Generator, amount: Any) -> Row:
    """Time rows of the ledger's shape: keys, a sub-account, an amount, a moment."""
    n = ELEMENTS
    keys, label = random.bytes(16 * n), random.integers(0, 3, n)
    names, leg = [b"XYZ", b"USD", b"EURUSD"], random.integers(0, 6, n).astype(np.uint8)
    kinds = ["uuid", "text", "int2", "int8", "timestamptz"]
    split = [struct.unpack_from("16s", keys, 16 * at)[0] for at in range(n)]
    labels = [names[at] for at in label]
    columns = split, labels, leg.tolist(), amount.tolist(), amount.tolist()

    def kernel() -> bytes:
        made = [
            pgcopy.uuid(keys),
            pgcopy.text(label, names),
            pgcopy.int2(leg),
            pgcopy.int8(amount),
            pgcopy.timestamptz(amount),
        ]
        return pgcopy.encode_copy(made, n)

    def twin() -> bytes:
        return pgcopy_twin.encode_copy(kinds, list(zip(*columns, strict=True)))

    return Row("pgcopy.encode_copy, 5 columns", best_ns(kernel), best_ns(twin))


def bench_match(random: np.random.Generator) -> Row:
    """Time the choice of 8 of so many agents with 32 skills, of which 5 are asked for."""
    n = ELEMENTS
    limit = random.integers(4, 12, n).astype(np.int32)
    return compare(
        MATCH,
        match.best,
        match_twin.best,
        random.integers(0, 11, (32, n)).astype(np.uint8),
        np.ones(n, np.uint8),
        (random.random(n) * limit).astype(np.int32),
        limit,
        random.integers(0, 120_000, n).astype(np.int32),
        random.integers(0, 900_000, n).astype(np.int32),
        random.integers(0, 256, n).astype(np.uint8),
        np.array([3, 5], np.int32),
        np.array([2, 2], np.uint8),
        np.array([7, 9, 11], np.int32),
        np.array([8, 8, 4], np.uint8),
        np.array([1, 2, 3], np.int32),
        np.array([400, 300, 200, 200, 200], np.int32),
        8,
    )


def main() -> None:
    """Print the table."""
    print(f"{ELEMENTS:,} elements, best run; the limit is {RATIO_MIN}x")
    print(f"{'kernel':<30}{'kernel ns':>12}{'Python ns':>12}{'ratio':>9}{'limit':>7}")
    for row in bench():
        mark = "" if row.ratio >= RATIO_MIN else f"  below, {row.bound or 'for no known bound'}"
        print(
            f"{row.name:<30}{row.kernel_ns:>12.1f}{row.twin_ns:>12.0f}"
            f"{row.ratio:>8.0f}x{RATIO_MIN:>6}x{mark}"
        )
        if row.name == MATCH:
            print(
                f"  all {ELEMENTS:,} agents in {row.kernel_ns * ELEMENTS / 1_000:.1f} us, "
                f"limit {MATCH_US_MAX}, aim {MATCH_US_AIM}"
            )


if __name__ == "__main__":
    main()
