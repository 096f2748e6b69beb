"""Reading of collected spans: which traces there are, and the tree of one."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.stack.collector import Span


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace in a line: where it began and how long it took, first span to last."""

    trace_id: str
    name: str
    spans: int
    start_ns: int
    duration_ms: float
    error: bool


def summaries(spans: Iterable[Span]) -> list[Trace]:
    """Return all traces, the latest first."""
    groups: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        groups[span["trace_id"]].append(span)
    traces = []
    for trace_id, members in groups.items():
        first = min(members, key=lambda span: int(span["start_ns"]))
        end_ns = max(int(span["end_ns"]) for span in members)
        traces.append(
            Trace(
                trace_id,
                f"{first['service']}: {first['name']}",
                len(members),
                int(first["start_ns"]),
                (end_ns - int(first["start_ns"])) / 1e6,
                any(span["error"] for span in members),
            )
        )
    return sorted(traces, key=lambda trace: trace.start_ns, reverse=True)


def tree(spans: Iterable[Span], trace_id: str) -> Iterator[tuple[int, Span]]:
    """Yield the spans of a trace with their depth, parents first, in order of start.

    A span whose parent is not kept, such as a caller's outside, stands at the root.
    """
    members = [span for span in spans if span["trace_id"] == trace_id]
    members.sort(key=lambda span: int(span["start_ns"]))
    known = {span["span_id"] for span in members}
    children: dict[str, list[Span]] = defaultdict(list)
    for span in members:
        children[span["parent_id"] if span["parent_id"] in known else ""].append(span)
    stack = [(0, span) for span in reversed(children[""])]
    while stack:
        depth, span = stack.pop()
        yield depth, span
        stack.extend((depth + 1, child) for child in reversed(children[span["span_id"]]))
