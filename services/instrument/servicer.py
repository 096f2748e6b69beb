"""gRPC in: requests to commands, results to responses."""

from typing import Any

from interchange.instrument.v1 import instrument_pb2
from interchange.instrument.v1 import instrument_service_pb2 as pb
from interchange.instrument.v1.instrument_service_pb2_grpc import InstrumentServiceServicer

from services.common import identity
from services.common.clock import BusinessClock
from services.common.requests import RequestKey
from services.common.work import WorkUnits
from services.instrument import handlers
from services.instrument.events import STATUSES
from services.instrument.repository import Instruments
from services.instrument.rules import Details

OUTPUT_ONLY = ("status", "version", "create_time", "update_time")
_STATUS_OF = {number: status for status, number in STATUSES.items()}


class InstrumentServicer(InstrumentServiceServicer):
    """Keeps the instruments of a tenant."""

    def __init__(self, uow: WorkUnits[Instruments], clock: BusinessClock) -> None:
        self._uow = uow
        self._clock = clock

    async def CreateInstrument(
        self, request: pb.CreateInstrumentRequest, context: Any
    ) -> instrument_pb2.Instrument:
        """Create an instrument."""
        command = handlers.CreateInstrument(
            tenant_id=identity.current().tenant_id,
            details=_details(request.instrument),
            request=RequestKey.of("CreateInstrument", request),
        )
        return await handlers.create_instrument(command, uow=self._uow, clock=self._clock)

    async def GetInstrument(
        self, request: pb.GetInstrumentRequest, context: Any
    ) -> instrument_pb2.Instrument:
        """Return one instrument."""
        tenant_id = identity.current().tenant_id
        return await handlers.get_instrument(tenant_id, request.instrument_id, uow=self._uow)

    async def ListInstruments(
        self, request: pb.ListInstrumentsRequest, context: Any
    ) -> pb.ListInstrumentsResponse:
        """List instruments by id."""
        instruments, token = await handlers.list_instruments(
            identity.current().tenant_id,
            _STATUS_OF.get(request.status),
            request.page_size,
            request.page_token,
            uow=self._uow,
        )
        return pb.ListInstrumentsResponse(instruments=instruments, next_page_token=token)

    async def SearchInstruments(
        self, request: pb.SearchInstrumentsRequest, context: Any
    ) -> pb.SearchInstrumentsResponse:
        """Find instruments by the beginning of symbol, name or an identifier."""
        found = await handlers.search_instruments(
            identity.current().tenant_id, request.query, request.page_size, uow=self._uow
        )
        return pb.SearchInstrumentsResponse(instruments=found)

    async def UpdateInstrument(
        self, request: pb.UpdateInstrumentRequest, context: Any
    ) -> instrument_pb2.Instrument:
        """Change the named fields of an instrument."""
        command = handlers.UpdateInstrument(
            tenant_id=identity.current().tenant_id,
            instrument_id=request.instrument_id,
            details=_details(request.instrument),
            paths=list(request.update_mask.paths),
            expected_version=request.expected_version,
        )
        return await handlers.update_instrument(command, uow=self._uow, clock=self._clock)

    async def HaltInstrument(
        self, request: pb.HaltInstrumentRequest, context: Any
    ) -> instrument_pb2.Instrument:
        """Suspend trading in an instrument."""
        tenant_id = identity.current().tenant_id
        return await handlers.halt_instrument(
            tenant_id, request.instrument_id, uow=self._uow, clock=self._clock
        )

    async def ResumeInstrument(
        self, request: pb.ResumeInstrumentRequest, context: Any
    ) -> instrument_pb2.Instrument:
        """Resume trading in a halted instrument."""
        tenant_id = identity.current().tenant_id
        return await handlers.resume_instrument(
            tenant_id, request.instrument_id, uow=self._uow, clock=self._clock
        )


def _details(message: instrument_pb2.Instrument) -> Details:
    given = {descriptor.name for descriptor, _ in message.ListFields()}
    return Details(
        instrument_id=message.instrument_id,
        symbol=message.symbol,
        name=message.name,
        asset_class=message.asset_class,
        isin=message.isin,
        cusip=message.cusip,
        figi=message.figi,
        mic=message.mic,
        currency=message.currency,
        lot_size=message.lot_size.value,
        tick_size=message.tick_size.value,
        calendar=message.calendar,
        output_only=tuple(name for name in OUTPUT_ONLY if name in given),
    )
