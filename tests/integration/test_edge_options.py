"""What the door has only when it is asked for: traces."""

from pathlib import Path

from tests.integration.test_edge_scene import Edge, bearer, edge, free_ports

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"


async def test_the_edge_joins_its_callers_trace(tmp_path: Path) -> None:
    collector = ("127.0.0.1", free_ports(1)[0])  # nobody listens: calls go on all the same

    async with edge(tmp_path, collector=collector, trace_ratio=0.0) as door:
        kept = await traced(door, flags="01")
        dropped = await traced(door, flags="00")
        own = await traced(door)

    assert kept[1] == dropped[1] == TRACE_ID
    assert PARENT_ID not in (kept[2], dropped[2])
    assert [kept[3], dropped[3], own[3]] == ["01", "00", "00"]


async def traced(door: Edge, flags: str | None = None) -> list[str]:
    """Call with a trace decided as `flags` say; return the parts of what the service saw."""
    trace = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-{flags}"} if flags else {}
    await door.call("GET", "/v1/trades", headers={**bearer(), **trace})
    return door.seen.metadata["traceparent"].split("-")
