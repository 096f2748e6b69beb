"""`python -m tests.load [NAME…] [--quick]`: measure, and print one table.

A stack of its own is started, on other ports, with empty data in
`.interchange-bench`, and stopped in the end. No time makes it fail: the exit
code is 1 only when something could not be measured, because it did not work.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.load import (
    kernels,
    ledger,
    lone,
    memory,
    nlu,
    reads,
    sockets,
    starts,
    table,
    talk,
    trades,
    unary,
)
from tests.load.scene import PORT_OFFSET, ROOT, Scene, scene
from tests.load.table import Report

BENCHMARKS: dict[str, Callable[[Scene], Report]] = {
    "kernels": kernels.run,
    "nlu": nlu.run,
    "ledger": ledger.run,
    "lone": lone.run,
    "unary": unary.run,
    "trades": trades.run,
    "talk": talk.run,
    "starts": starts.run,
    "sockets": sockets.run,
    "memory": memory.run,
    "reads": reads.run,
}
"""In this order: each finds the tables as the ones before have left them."""
RESULT = ROOT / "build" / "bench.json"


def measure(name: str, on: Scene) -> Report:
    """Run one benchmark; what it could not do becomes part of its report."""
    print(f"{name}", flush=True)
    began = time.monotonic()
    try:
        report = BENCHMARKS[name](on)
    except Exception as error:
        traceback.print_exc()
        report = Report(name, failure=f"{type(error).__name__}: {error}")
    report.seconds = round(time.monotonic() - began, 1)
    print(f"  {report.seconds:.0f} s\n", flush=True)
    return report


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="less of everything, in minutes")
    parser.add_argument("--json", type=Path, default=RESULT, help=f"default {RESULT}")
    parser.add_argument(
        "--port-offset", type=int, default=PORT_OFFSET, help=f"of its stack, default {PORT_OFFSET}"
    )
    parser.add_argument("--data", type=Path, help="folder of what `nlu` learns from")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(BENCHMARKS)):
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    names = [name for name in BENCHMARKS if not options.names or name in options.names]
    began, at_start = time.monotonic(), table.machine()
    with scene(options.quick, options.port_offset) as on:
        on.data = options.data
        reports = [measure(name, on) for name in names]
    print(table.table(reports))
    seconds = time.monotonic() - began
    print(f"\n{at_start['cores']} cores, load {at_start['load_average']:.1f} at the start, "
          f"{seconds:.0f} s in all{', --quick' if options.quick else ''}; "
          f"as JSON in {options.json}")  # fmt: skip
    table.write(options.json, reports, options.quick, at_start)
    return 1 if any(report.failure for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
