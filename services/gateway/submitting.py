"""What clients bring is submitted together with what others of the tenant bring.

A batch is on its way a tenant at a time, which keeps the order of each client; each
of its clients is answered by his own result.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from google.protobuf.message import Message

from services.common.errors import ResourceExhausted
from services.gateway.codec import encode
from services.gateway.frames_out import ServerFrame
from services.gateway.gathering import Gatherer
from services.gateway.refusals import of_status, refusal
from services.gateway.subscription import Reader

BATCH_MAX = 500
BATCH_BYTES_MAX = 2 * 1024 * 1024
"""Well below what a message of gRPC may have."""


class Result(Protocol):
    """What became of a submission: `error` says why nothing did."""

    @property
    def error(self) -> Any:
        """A google.rpc.Status; only when it was refused."""

    def HasField(self, field_name: Any) -> bool:  # noqa: N802
        """Tell whether a field is set, as messages do."""


S = TypeVar("S", bound=Message)
R = TypeVar("R", bound=Result)


class _Brought(NamedTuple, Generic[S]):
    reader: Reader
    ref: str
    submission: S


def _nothing(tenant_id: str, results: Sequence[Any]) -> None:
    """Do nothing more once clients are answered."""


class Submitter(Generic[S, R]):
    """Gathers submissions of clients and answers each.

    `submit` returns one result each; `answer(result, ref)` makes the frame of one that
    is no error; `answered` hears of all results once their clients have been told.
    """

    def __init__(
        self,
        submit: Callable[[str, Sequence[S]], Awaitable[Sequence[R]]],
        answer: Callable[[R, str], ServerFrame],
        what: str,
        answered: Callable[[str, Sequence[R]], None] = _nothing,
    ) -> None:
        self._submit = submit
        self._answer = answer
        self._what = what
        self._answered = answered
        self._gatherer: Gatherer[_Brought[S]] = Gatherer(
            self._handle,
            BATCH_MAX,
            weigh=lambda each: each.submission.ByteSize(),
            weight_max=BATCH_BYTES_MAX,
        )

    def add(self, reader: Reader, ref: str, submission: S) -> None:
        """Take a submission; raises ResourceExhausted when too many wait."""
        if not self._gatherer.add(reader.caller.tenant_id, _Brought(reader, ref, submission)):
            raise ResourceExhausted(
                "TOO_MANY_WAITING", f"too many {self._what} of this tenant are waiting"
            )

    async def settled(self, timeout_s: float) -> None:
        """Wait until nothing is on its way, or until the time is over."""
        await self._gatherer.settled(timeout_s)

    async def _handle(self, tenant_id: str, batch: list[_Brought[S]]) -> None:
        try:
            results = await self._submit(tenant_id, [each.submission for each in batch])
        except Exception as error:
            for each in batch:
                each.reader.send(encode(refusal(error, each.ref)))
            return
        for each, result in zip(batch, results, strict=True):
            refused = result.HasField("error")
            frame = of_status(result.error, each.ref) if refused else self._answer(result, each.ref)
            each.reader.send(encode(frame))
        self._answered(tenant_id, results)
