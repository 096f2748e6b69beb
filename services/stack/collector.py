"""Trace collector: takes spans over OTLP gRPC, keeps them in a bounded file."""

import argparse
import asyncio
import json
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2 as messages,
)
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2_grpc as stubs,
)

Span: TypeAlias = dict[str, Any]
"""trace_id, span_id, parent_id, service, name, start_ns, end_ns, error, attributes."""

ERROR = 2
"""Status code of a failed span."""


class SpanFile:
    """Spans, one JSON object a line; at `bytes_max` the file is moved aside once."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self.path = path
        self.bytes_max = bytes_max

    @property
    def older(self) -> Path:
        """The file before the current one."""
        return self.path.with_suffix(".1.jsonl")

    def append(self, spans: Iterable[Span]) -> None:
        """Add spans."""
        with self.path.open("a") as file:
            file.writelines(json.dumps(span, separators=(",", ":")) + "\n" for span in spans)
            full = file.tell() > self.bytes_max
        if full:
            self.path.replace(self.older)

    def read(self) -> Iterator[Span]:
        """Yield all spans that are kept, oldest first."""
        for path in (self.older, self.path):
            if path.exists():
                with path.open() as file:
                    # The last line may be half written at this moment.
                    yield from (json.loads(line) for line in file if line.endswith("\n"))


class Collector(stubs.TraceServiceServicer):
    """OTLP's TraceService."""

    def __init__(self, file: SpanFile) -> None:
        self.file = file

    async def Export(  # noqa: N802
        self, request: messages.ExportTraceServiceRequest, context: Any
    ) -> messages.ExportTraceServiceResponse:
        """Keep the spans of one process."""
        self.file.append(spans(request))
        return messages.ExportTraceServiceResponse()


def spans(request: messages.ExportTraceServiceRequest) -> Iterator[Span]:
    """Yield the spans of a request in the form of the file."""
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes).get("service.name", "")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "parent_id": span.parent_span_id.hex(),
                    "service": service,
                    "name": span.name,
                    "start_ns": span.start_time_unix_nano,
                    "end_ns": span.end_time_unix_nano,
                    "error": span.status.code == ERROR,
                    "attributes": _attributes(span.attributes),
                }


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, kind)
        for pair in pairs
        if (kind := pair.value.WhichOneof("value")) not in (None, "array_value", "kvlist_value")
    }


async def serve(listen: str, file: SpanFile) -> None:
    """Take spans until SIGTERM."""
    server = grpc.aio.server()
    stubs.add_TraceServiceServicer_to_server(Collector(file), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(listen)
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(1)


def main() -> None:
    """Run the collector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--bytes-max", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.listen, SpanFile(arguments.file, arguments.bytes_max)))


if __name__ == "__main__":
    main()
