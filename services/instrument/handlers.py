"""Use cases of instruments, each in one transaction.

Reference data changes some times a day, so commands come one by one here and
are not gathered into batches.
"""

from collections.abc import Callable
from dataclasses import dataclass

from interchange.instrument.v1 import instrument_pb2

from services.common import ids, pagination, requests
from services.common.clock import BusinessClock
from services.common.errors import AlreadyExists, InvalidArgument, NotFound
from services.common.requests import RequestKey
from services.common.work import Work, WorkUnits
from services.instrument import domain, events, rules
from services.instrument.domain import Instrument, Status
from services.instrument.repository import Instruments
from services.instrument.rules import Details, Terms

SEARCH_SIZE_DEFAULT = 20
SEARCH_SIZE_MAX = 100


@dataclass(frozen=True, slots=True)
class CreateInstrument:
    """An instrument to create, with its idempotency key."""

    tenant_id: str
    details: Details
    request: RequestKey


@dataclass(frozen=True, slots=True)
class UpdateInstrument:
    """New values of the fields in `paths`; expected version 0 expects none."""

    tenant_id: str
    instrument_id: str
    details: Details
    paths: list[str]
    expected_version: int


async def create_instrument(
    command: CreateInstrument, *, uow: WorkUnits[Instruments], clock: BusinessClock
) -> instrument_pb2.Instrument:
    """Create an instrument and return it; a repeated request returns the first answer."""
    terms = rules.checked(command.details)
    return await requests.settled(lambda: _create(command, terms, uow=uow, clock=clock))


async def _create(
    command: CreateInstrument, terms: Terms, *, uow: WorkUnits[Instruments], clock: BusinessClock
) -> instrument_pb2.Instrument:
    tenant_id, request = command.tenant_id, command.request
    async with uow.tenant(tenant_id) as work:
        await work.repository.lock(tenant_id, terms.instrument_id)
        answers = await work.repository.requests.find(tenant_id, [request])
        first = requests.first_answer(request, answers)
        if first is not None:
            return instrument_pb2.Instrument.FromString(first)
        if await work.repository.find(tenant_id, terms.instrument_id) is not None:
            raise AlreadyExists(
                "INSTRUMENT_EXISTS",
                f"instrument {terms.instrument_id} exists",
                metadata={"instrument_id": terms.instrument_id},
            )
        instrument = domain.create(terms, clock.now())
        message = events.instrument_message(instrument)
        await work.repository.requests.store(tenant_id, [request], [message.SerializeToString()])
        await work.repository.insert(tenant_id, instrument, domain.search_terms(terms))
        _announce(work, tenant_id, message, clock)
        return message


async def update_instrument(
    command: UpdateInstrument, *, uow: WorkUnits[Instruments], clock: BusinessClock
) -> instrument_pb2.Instrument:
    """Change the named fields; what changes nothing makes no new version."""
    domain.check_mask(command.paths)
    now = clock.now()

    def change(instrument: Instrument) -> Instrument:
        return domain.updated(
            instrument, command.details, command.paths, command.expected_version, now
        )

    return await _change(command.tenant_id, command.instrument_id, change, uow=uow, clock=clock)


async def halt_instrument(
    tenant_id: str, instrument_id: str, *, uow: WorkUnits[Instruments], clock: BusinessClock
) -> instrument_pb2.Instrument:
    """Suspend trading; a halted instrument is returned as it is."""
    now = clock.now()
    return await _change(
        tenant_id, instrument_id, lambda one: domain.halted(one, now), uow=uow, clock=clock
    )


async def resume_instrument(
    tenant_id: str, instrument_id: str, *, uow: WorkUnits[Instruments], clock: BusinessClock
) -> instrument_pb2.Instrument:
    """Resume trading; an active instrument is returned as it is."""
    now = clock.now()
    return await _change(
        tenant_id, instrument_id, lambda one: domain.resumed(one, now), uow=uow, clock=clock
    )


async def get_instrument(
    tenant_id: str, instrument_id: str, *, uow: WorkUnits[Instruments]
) -> instrument_pb2.Instrument:
    """Return one instrument or raise NotFound."""
    async with uow.reading(tenant_id) as repository:
        instrument = await _found(repository, tenant_id, instrument_id)
    return events.instrument_message(instrument)


async def list_instruments(
    tenant_id: str,
    status: Status | None,
    page_size: int,
    page_token: str,
    *,
    uow: WorkUnits[Instruments],
) -> tuple[list[instrument_pb2.Instrument], str]:
    """Return a page of instruments by id and the token of the next, empty on the last."""
    filters = {"list": "instruments", "tenant": tenant_id, "status": status}
    size = pagination.page_size(page_size)
    last = pagination.keyset(page_token, filters, str)
    after = "" if last is None else str(last[0])
    async with uow.reading(tenant_id) as repository:
        found = await repository.list_page(tenant_id, status, after, size + 1)
    page = found[:size]
    more = len(found) > size
    token = pagination.page_token([page[-1].terms.instrument_id], filters) if more else ""
    return [events.instrument_message(one) for one in page], token


async def search_instruments(
    tenant_id: str, query: str, page_size: int, *, uow: WorkUnits[Instruments]
) -> list[instrument_pb2.Instrument]:
    """Return the best matches of the beginning of a symbol, identifier or word of a name."""
    prefix = domain.search_key(query)
    if not prefix or "\x00" in prefix:
        raise InvalidArgument.of("query", "INVALID_QUERY", "expected the beginning of a name")
    limit = pagination.page_size(page_size, SEARCH_SIZE_DEFAULT, SEARCH_SIZE_MAX)
    async with uow.reading(tenant_id) as repository:
        found = await repository.search(tenant_id, prefix, limit)
    return [events.instrument_message(one) for one in found]


async def _change(
    tenant_id: str,
    instrument_id: str,
    change: Callable[[Instrument], Instrument],
    *,
    uow: WorkUnits[Instruments],
    clock: BusinessClock,
) -> instrument_pb2.Instrument:
    async with uow.tenant(tenant_id) as work:
        await work.repository.lock(tenant_id, instrument_id)
        before = await _found(work.repository, tenant_id, instrument_id)
        after = change(before)
        message = events.instrument_message(after)
        if after is not before:
            terms = None if after.terms == before.terms else domain.search_terms(after.terms)
            await work.repository.update(tenant_id, after, terms)
            _announce(work, tenant_id, message, clock)
        return message


async def _found(repository: Instruments, tenant_id: str, instrument_id: str) -> Instrument:
    # An id that breaks its rule names nothing, and could be one that Postgres can't hold.
    found = None
    if rules.is_instrument_id(instrument_id):
        found = await repository.find(tenant_id, instrument_id)
    if found is None:
        raise NotFound("INSTRUMENT_NOT_FOUND", "there is no such instrument")
    return found


def _announce(
    work: Work[Instruments],
    tenant_id: str,
    message: instrument_pb2.Instrument,
    clock: BusinessClock,
) -> None:
    event_id = ids.uuid7_batch(1, clock.now_us())[0]
    work.outbox.add(events.instrument_changed(tenant_id, event_id, message))
