"""Metrics that every process has: its calls and its event loop.

Label values come from the descriptors and the status codes alone, so their
number is bounded.
"""

import asyncio

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("interchange_rpc_requests_total", "Calls served.", ["method", "code"])
SECONDS = Histogram(
    "interchange_rpc_duration_seconds",
    "Time from the first byte handled to the answer; streams until their end.",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
)
IN_FLIGHT = Gauge("interchange_rpc_in_flight", "Calls being served.", ["method"])
LOOP_LAG = Histogram(
    "interchange_event_loop_lag_seconds",
    "How much later than asked the event loop woke a timer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
LAG_PERIOD = 0.25
"""Seconds between two samples of the event loop's lag."""


class CallMetrics:
    """The metrics of one rpc, with their label lookups done."""

    __slots__ = ("_by_code", "_method", "in_flight", "seconds")

    def __init__(self, method: str) -> None:
        self._method = method
        self._by_code: dict[str, Counter] = {}
        self.seconds = SECONDS.labels(method)
        self.in_flight = IN_FLIGHT.labels(method)

    def done(self, code: str, seconds: float) -> None:
        """Count one call that ended."""
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = CALLS.labels(self._method, code)
        counter.inc()
        self.seconds.observe(seconds)
        self.in_flight.dec()


async def watch_loop() -> None:
    """Sample the lag of the running event loop until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_PERIOD
        await asyncio.sleep(LAG_PERIOD)
        LOOP_LAG.observe(max(0.0, loop.time() - due))
