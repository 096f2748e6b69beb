"""Use cases of conversations: a batch of one tenant's commands is one transaction.

Each command has its own outcome, so one that is refused fails nobody else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from interchange.conversation.v1 import conversation_pb2 as pb

from services.common import access, ids, pagination, requests
from services.common.clock import BusinessClock
from services.common.errors import FailedPrecondition, InterchangeError, NotFound
from services.common.identity import AGENT, CUSTOMER, Caller
from services.common.personal import Keys, Seal
from services.common.requests import Answered, RequestKey
from services.common.work import WorkUnits
from services.conversation import domain, events, inputs
from services.conversation.commands import Change, Start
from services.conversation.domain import Conversation, Step
from services.conversation.events import NOTHING_SEALED, Sealed
from services.conversation.news import News
from services.conversation.repository import Conversations, Filter

Outcome: TypeAlias = pb.Conversation | InterchangeError

PAGE_SIZE_MAX = 500


@dataclass(slots=True)
class _Batch:
    """A batch being decided: what was answered before, and what is new so far."""

    answered: Answered[pb.Conversation]
    steps: list[Step] = field(default_factory=list)

    def take(self, request: RequestKey, steps: Sequence[Step]) -> pb.Conversation:
        """Take steps on and return what their caller is answered."""
        self.steps += steps
        return self.answered.give(request, events.resource(domain.last(steps)))


@dataclass(frozen=True, slots=True)
class _New:
    """What is given to the conversations of a batch of starts, one each."""

    now_us: int
    conversation_ids: list[str]
    message_ids: list[str]
    seals: Mapping[str, Seal]


async def start_conversations(
    tenant_id: str,
    commands: Sequence[Start],
    *,
    uow: WorkUnits[Conversations],
    clock: BusinessClock,
    keys: Keys,
) -> list[Outcome]:
    """Start conversations; each outcome is the conversation or why there is none."""
    now_us, count = clock.now_us(), len(commands)
    seals = await keys.of(tenant_id, {command.customer_id for command in commands})
    given = _New(now_us, ids.uuid7_batch(count, now_us), ids.uuid7_batch(count, now_us), seals)
    return await requests.settled(lambda: _start(tenant_id, commands, given, uow))


async def _start(
    tenant_id: str, commands: Sequence[Start], given: _New, uow: WorkUnits[Conversations]
) -> list[Outcome]:
    # Without locks: nobody else knows these keys before the commit.
    async with uow.tenant(tenant_id) as work:
        keys = [command.request for command in commands]
        known_answers = await work.repository.requests.find(tenant_id, keys)
        batch = _Batch(Answered(pb.Conversation, known_answers))
        sealed: list[Sealed] = []
        outcomes = [
            _started(batch, command, given, number, sealed)
            for number, command in enumerate(commands)
        ]
        await batch.answered.store(tenant_id, work.repository.requests)
        newest = {step.after.conversation_id: step.after for step in batch.steps}
        await work.repository.insert(tenant_id, list(newest.values()))
        event_ids = ids.uuid7_batch(len(batch.steps), given.now_us)
        work.outbox.add(events.columns(tenant_id, batch.steps, event_ids, sealed))
    return outcomes


def _started(
    batch: _Batch, command: Start, given: _New, number: int, sealed: list[Sealed]
) -> Outcome:
    try:
        first = batch.answered.first(command.request)
        if first is not None:
            return first
        seal = given.seals.get(command.customer_id)
        if seal is None:
            raise FailedPrecondition("CUSTOMER_ERASED", "the customer's data was erased")
    except InterchangeError as error:
        return error
    new = _conversation(command, given.conversation_ids[number], given.now_us)
    sealed.append(_sealed(command, seal, new.conversation_id, given.message_ids[number]))
    return batch.take(command.request, domain.start(new, command.caller.subject))


def _conversation(command: Start, conversation_id: str, now_us: int) -> Conversation:
    return Conversation(
        conversation_id=conversation_id,
        customer_id=command.customer_id,
        customer_name=command.customer_name,
        channel=command.channel,
        status=command.status,
        bot_id=command.bot_id,
        agent_id="",
        hand_off_count=0,
        hand_off_reason=pb.HAND_OFF_REASON_UNSPECIFIED,
        needs=b"",
        start_needs=command.needs,
        end_reason=pb.END_REASON_UNSPECIFIED,
        start_us=now_us,
        hand_off_us=0,
        end_us=0,
        version=0,
    )


def _sealed(command: Start, seal: Seal, conversation_id: str, message_id: str) -> Sealed:
    if not command.customer_name and not command.text:
        return NOTHING_SEALED
    name, text = (
        seal.seal(clear.encode(), conversation_id) if clear else b""
        for clear in (command.customer_name, command.text)
    )
    return Sealed(name, text, message_id if text else "")


async def change_conversations(
    tenant_id: str,
    commands: Sequence[Change],
    *,
    uow: WorkUnits[Conversations],
    clock: BusinessClock,
    news: News,
) -> list[Outcome]:
    """Hand over, transfer, end and reopen; each outcome is the conversation or why not."""
    outcomes, changed = await requests.settled(lambda: _change(tenant_id, commands, uow, clock))
    news.changed((tenant_id, one.conversation_id, one.version) for one in changed)
    return outcomes


async def _change(
    tenant_id: str, commands: Sequence[Change], uow: WorkUnits[Conversations], clock: BusinessClock
) -> tuple[list[Outcome], list[Conversation]]:
    named = sorted({command.conversation_id for command in commands})
    async with uow.tenant(tenant_id, named) as work:
        keys = [command.request for command in commands]
        known_answers = await work.repository.requests.find(tenant_id, keys)
        batch = _Batch(Answered(pb.Conversation, known_answers))
        known = dict(await work.repository.load({(tenant_id, one) for one in named}))
        now_us = clock.now_us()
        outcomes = [_changed(batch, tenant_id, command, known, now_us) for command in commands]
        await batch.answered.store(tenant_id, work.repository.requests)
        moved = {(tenant_id, step.after.conversation_id): step.after for step in batch.steps}
        await work.repository.update(moved)
        event_ids = ids.uuid7_batch(len(batch.steps), now_us)
        work.outbox.add(events.columns(tenant_id, batch.steps, event_ids))
    return outcomes, list(moved.values())


def _changed(
    batch: _Batch,
    tenant_id: str,
    command: Change,
    known: dict[tuple[str, str], Conversation],
    now_us: int,
) -> Outcome:
    key = (tenant_id, command.conversation_id)
    try:
        # First: who transferred a conversation sees it no more, and may ask again.
        first = batch.answered.first(command.request)
        if first is not None:
            return first
        conversation = seen(command.caller, known.get(key))
        steps = command.verb.steps(conversation, command.caller, now_us)
    except InterchangeError as error:
        return error
    known[key] = domain.last(steps)
    return batch.take(command.request, steps)


async def get_conversation(
    caller: Caller, conversation_id: str, *, uow: WorkUnits[Conversations]
) -> pb.Conversation:
    """Return one conversation or raise NotFound."""
    key = (caller.tenant_id, conversation_id.lower())
    async with uow.reading(caller.tenant_id) as repository:
        found = await repository.load({key})
    return events.resource(seen(caller, found.get(key)))


def seen(caller: Caller, conversation: Conversation | None) -> Conversation:
    """Return a conversation that the caller may see or raise NotFound: the two look alike."""
    if conversation is None or not access.may_see(
        caller, conversation.customer_id, conversation.agent_id
    ):
        raise NotFound("CONVERSATION_NOT_FOUND", "there is no such conversation")
    return conversation


async def list_conversations(
    caller: Caller,
    wanted: Filter,
    page_size: int,
    page_token: str,
    *,
    uow: WorkUnits[Conversations],
) -> tuple[list[pb.Conversation], str]:
    """Return a page, newest first, of what the caller may see, and the token of the next."""
    filters = {
        "customer": wanted.customer_id,
        "agent": wanted.agent_id,
        "status": wanted.status,
        "channel": wanted.channel,
    }
    size = pagination.page_size(page_size, max=PAGE_SIZE_MAX)
    last = pagination.keyset(page_token, filters, str)
    before = None if last is None else pagination.uuid(last[0])
    for name in (wanted.customer_id, wanted.agent_id):
        if name and inputs.CUSTOMER_ID.fullmatch(name) is None:
            return [], ""  # names nobody, and could be one that Postgres can't hold
    async with uow.reading(caller.tenant_id) as repository:
        rows = await repository.page(caller.tenant_id, narrowed(wanted, caller), before, size + 1)
    token = ""
    if len(rows) > size:
        token = pagination.page_token([rows[size - 1].conversation_id], filters)
    return [events.resource(one) for one in rows[:size]], token


def narrowed(wanted: Filter, caller: Caller) -> Filter:
    """Return a filter that shows no more than the caller may see."""
    if not caller.narrow:
        return wanted
    return Filter(
        wanted.customer_id,
        wanted.agent_id,
        wanted.status,
        wanted.channel,
        own_customer_id=caller.subject if CUSTOMER in caller.roles else "",
        own_agent_id=caller.subject if AGENT in caller.roles else "",
    )
