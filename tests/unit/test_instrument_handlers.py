"""Use cases of instruments over a fake store."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from interchange.instrument.v1.instrument_events_pb2 import InstrumentChanged

from services.common import errors
from services.common.clock import ManualClock
from services.common.outbox import Outbox
from services.common.requests import Answer, KeyTaken, RequestKey, Requests
from services.common.work import Work, WorkUnits
from services.instrument import handlers
from services.instrument.domain import Instrument, Status
from services.instrument.repository import Instruments
from services.instrument.rules import Details
from tests.unit.test_instrument_rules import ibm

NOW = datetime(2026, 1, 5, 15, tzinfo=UTC)


class FakeRequests(Requests):
    """Request keys in memory; `rival` takes a key just before it is stored, once."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer] = {}
        self.rival: Answer | None = None

    async def find(
        self, tenant_id: str, requests: Sequence[RequestKey]
    ) -> dict[tuple[str, str], Answer]:
        return dict(self.answers)

    async def store(
        self, tenant_id: str, requests: Sequence[RequestKey], responses: Sequence[bytes]
    ) -> None:
        for request, response in zip(requests, responses, strict=True):
            place = request.rpc, request.key
            if self.rival is not None:
                self.answers[place], self.rival = self.rival, None
            if place in self.answers:
                raise KeyTaken
            if request.key:
                self.answers[place] = Answer(request.body_hash, response)


class FakeInstruments(Instruments):
    """Instruments of one tenant in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, Instrument] = {}
        self.terms: dict[str, list[tuple[int, str]]] = {}
        self.locked: list[str] = []
        self.keys = FakeRequests()

    @property
    def requests(self) -> FakeRequests:
        return self.keys

    async def lock(self, tenant_id: str, instrument_id: str) -> None:
        self.locked.append(instrument_id)

    async def find(self, tenant_id: str, instrument_id: str) -> Instrument | None:
        return self.rows.get(instrument_id)

    async def list_page(
        self, tenant_id: str, status: Status | None, after: str, limit: int
    ) -> list[Instrument]:
        rows = [self.rows[name] for name in sorted(self.rows) if name > after]
        return [row for row in rows if status in (None, row.status)][:limit]

    async def search(self, tenant_id: str, prefix: str, limit: int) -> list[Instrument]:
        found = [
            name
            for name, terms in self.terms.items()
            if any(term.startswith(prefix) for _, term in terms)
        ]
        return [self.rows[name] for name in found][:limit]

    async def insert(
        self, tenant_id: str, instrument: Instrument, terms: Sequence[tuple[int, str]]
    ) -> None:
        self.rows[instrument.terms.instrument_id] = instrument
        self.terms[instrument.terms.instrument_id] = list(terms)

    async def update(
        self, tenant_id: str, instrument: Instrument, terms: Sequence[tuple[int, str]] | None
    ) -> None:
        self.rows[instrument.terms.instrument_id] = instrument
        if terms is not None:
            self.terms[instrument.terms.instrument_id] = list(terms)


class FakeUnits(WorkUnits[Instruments]):
    """Units of work over one fake; what a failed one wrote is forgotten."""

    def __init__(self) -> None:
        self.repository = FakeInstruments()
        self.committed: list[InstrumentChanged] = []
        self.sequences: list[int] = []

    @asynccontextmanager
    async def tenant(self, tenant_id: str) -> AsyncIterator[Work[Instruments]]:
        rows, outbox = dict(self.repository.rows), Outbox("instrument", 1)
        try:
            yield Work(self.repository, outbox)
        except BaseException:
            self.repository.rows = rows
            raise
        for columns in outbox.columns:
            assert columns.topic == "instrument-events"
            self.sequences += columns.sequences
            self.committed += map(InstrumentChanged.FromString, columns.payloads)

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[Instruments]:
        yield self.repository


class Desk:
    """The use cases over a fake."""

    def __init__(self) -> None:
        self.uow = FakeUnits()
        self.clock = ManualClock(NOW)

    @property
    def tools(self) -> dict[str, Any]:
        return {"uow": self.uow, "clock": self.clock}

    async def create(
        self, details: Details | None = None, key: str = "", body: bytes = b"1"
    ) -> Any:
        request = RequestKey("CreateInstrument", key, body)
        command = handlers.CreateInstrument("demo", details or ibm(), request)
        return await handlers.create_instrument(command, **self.tools)

    async def update(self, paths: list[str], expected_version: int = 0, **changes: Any) -> Any:
        details = replace(ibm(), **changes)
        command = handlers.UpdateInstrument("demo", "IBM", details, paths, expected_version)
        return await handlers.update_instrument(command, **self.tools)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("paths", [[], ["*"], ["mic"], ["name", "version"], ["lot_size.value"]])
async def test_mask_of_an_unknown_path_is_refused(desk: Desk, paths: list[str]) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await desk.update(paths)
    assert caught.value.reason == "INVALID_UPDATE_MASK"
    assert {violation.field for violation in caught.value.violations} == {"update_mask"}


async def test_created_instrument_has_an_event_and_search_terms(desk: Desk) -> None:
    message = await desk.create()

    assert desk.uow.committed == [InstrumentChanged(instrument=message)]
    assert desk.uow.sequences == [1]
    assert desk.uow.repository.locked == ["IBM"]
    assert (0, "ibm") in desk.uow.repository.terms["IBM"]
    assert (2, "business machines") in desk.uow.repository.terms["IBM"]


async def test_repeated_request_returns_the_first_answer_without_an_event(desk: Desk) -> None:
    first = await desk.create(key="k")
    await handlers.halt_instrument("demo", "IBM", **desk.tools)

    assert await desk.create(key="k") == first
    assert desk.uow.sequences == [1, 2]
    with pytest.raises(errors.AlreadyExists) as caught:
        await desk.create(key="k", body=b"2")
    assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_key_taken_by_a_rival_is_refused_and_nothing_stays(desk: Desk) -> None:
    desk.uow.repository.keys.rival = Answer(b"other", b"")

    with pytest.raises(errors.AlreadyExists) as caught:
        await desk.create(key="k")

    assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"
    assert desk.uow.repository.rows == {}
    assert desk.uow.committed == []


async def test_existing_instrument_is_refused(desk: Desk) -> None:
    await desk.create()
    with pytest.raises(errors.AlreadyExists) as caught:
        await desk.create()
    assert caught.value.reason == "INSTRUMENT_EXISTS"


async def test_update_makes_the_next_version(desk: Desk) -> None:
    created = await desk.create()
    desk.clock.advance(timedelta(hours=1))

    updated = await desk.update(["name"], expected_version=1, name="Big Blue", symbol="X")

    assert (updated.name, updated.symbol, updated.version) == ("Big Blue", "IBM", 2)
    assert updated.create_time == created.create_time
    assert updated.update_time.ToDatetime(UTC) == NOW + timedelta(hours=1)
    assert desk.uow.sequences == [1, 2]


async def test_update_that_changes_nothing_makes_no_version(desk: Desk) -> None:
    created = await desk.create()

    assert await desk.update(["name", "tick_size"], tick_size="0.00010") == created
    assert desk.uow.sequences == [1]


async def test_update_from_an_old_version_is_refused(desk: Desk) -> None:
    await desk.create()
    with pytest.raises(errors.Aborted) as caught:
        await desk.update(["name"], expected_version=7, name="x")
    assert caught.value.reason == "VERSION_MISMATCH"


async def test_update_may_not_take_the_last_identifier(desk: Desk) -> None:
    await desk.create()
    with pytest.raises(errors.InvalidArgument) as caught:
        await desk.update(["isin", "cusip", "figi"], isin="", cusip="", figi="")
    assert caught.value.reason == "IDENTIFIER_MISSING"


async def test_rule_that_came_later_does_not_forbid_other_changes(desk: Desk) -> None:
    """A market that is no longer supported leaves its instruments changeable."""
    await desk.create()
    rows = desk.uow.repository.rows
    rows["IBM"] = replace(rows["IBM"], terms=replace(rows["IBM"].terms, mic="XGON"))

    assert (await desk.update(["name"], name="x")).name == "x"


async def test_halt_and_resume_are_repeatable(desk: Desk) -> None:
    await desk.create()

    halted = [await handlers.halt_instrument("demo", "IBM", **desk.tools) for _ in range(2)]
    resumed = [await handlers.resume_instrument("demo", "IBM", **desk.tools) for _ in range(2)]

    assert [one.version for one in halted + resumed] == [2, 2, 3, 3]
    assert desk.uow.sequences == [1, 2, 3]


async def test_missing_instrument_is_not_found(desk: Desk) -> None:
    for calling in (
        handlers.get_instrument("demo", "IBM", uow=desk.uow),
        handlers.get_instrument("demo", "I\x00", uow=desk.uow),
        handlers.halt_instrument("demo", "IBM", **desk.tools),
        desk.update(["name"]),
    ):
        with pytest.raises(errors.NotFound):
            await calling


async def test_pages_go_on_where_the_last_ended(desk: Desk) -> None:
    for number in range(3):
        await desk.create(ibm(instrument_id=f"I-{number}"))

    first, token = await handlers.list_instruments("demo", None, 2, "", uow=desk.uow)
    second, end = await handlers.list_instruments("demo", None, 2, token, uow=desk.uow)

    assert [one.instrument_id for one in first + second] == ["I-0", "I-1", "I-2"]
    assert (bool(token), end) == (True, "")
    with pytest.raises(errors.InvalidArgument):
        await handlers.list_instruments("other", None, 2, token, uow=desk.uow)
