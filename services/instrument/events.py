"""Domain to protobuf: the resource and the event that carries it."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal
from interchange.instrument.v1 import instrument_pb2
from interchange.instrument.v1.instrument_events_pb2 import InstrumentChanged

from services.common.events import EventColumns
from services.instrument import rules
from services.instrument.domain import Instrument, Status

TOPIC = "instrument-events"
STATUSES = {
    Status.ACTIVE: instrument_pb2.INSTRUMENT_STATUS_ACTIVE,
    Status.HALTED: instrument_pb2.INSTRUMENT_STATUS_HALTED,
    Status.EXPIRED: instrument_pb2.INSTRUMENT_STATUS_EXPIRED,
}


def instrument_message(instrument: Instrument) -> instrument_pb2.Instrument:
    """Return an instrument as it is shown to callers and consumers."""
    terms = instrument.terms
    return instrument_pb2.Instrument(
        instrument_id=terms.instrument_id,
        symbol=terms.symbol,
        name=terms.name,
        asset_class=instrument_pb2.ASSET_CLASS_EQUITY,
        isin=terms.isin,
        cusip=terms.cusip,
        figi=terms.figi,
        mic=terms.mic,
        currency=terms.currency,
        lot_size=Decimal(value=rules.lot_size_text(terms)),
        tick_size=Decimal(value=rules.tick_size_text(terms)),
        calendar=terms.calendar,
        status=STATUSES[instrument.status],
        version=instrument.version,
        create_time=_timestamp(instrument.create_time),
        update_time=_timestamp(instrument.update_time),
    )


def instrument_changed(
    tenant_id: str, event_id: str, message: instrument_pb2.Instrument
) -> EventColumns:
    """Return the event of one change; its sequence is the version."""
    columns = EventColumns(tenant_id, TOPIC)
    columns.extend(
        InstrumentChanged.DESCRIPTOR.full_name,
        1,
        [event_id],
        [message.instrument_id],
        [message.version],
        [InstrumentChanged(instrument=message).SerializeToString()],
    )
    return columns


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
