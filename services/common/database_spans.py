"""Spans of database statements, for traces that are kept and no others.

The library builds its attributes before it asks whether anybody samples: a
fifth of the CPU of a call that nobody traces.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

Call = Callable[..., Awaitable[Any]]


class SampledStatements(AsyncPGInstrumentor):
    """The library's instrumentor, asked only within a sampled span."""

    async def _do_execute(
        self, func: Call, instance: object, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        if not trace.get_current_span().is_recording():
            return await func(*args, **kwargs)
        return await super()._do_execute(func, instance, args, kwargs)  # type: ignore[no-untyped-call]

    async def _do_prepared_execute(
        self, func: Call, instance: object, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        if not trace.get_current_span().is_recording():
            return await func(*args, **kwargs)
        return await super()._do_prepared_execute(  # type: ignore[no-untyped-call]
            func, instance, args, kwargs
        )
