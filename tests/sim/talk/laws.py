"""The laws of talk: what must hold between what callers were told and what is stored.

Each law yields a sentence for every breach that it finds. They share no code with the
services. The laws about agents are in `laws_of_desks`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from interchange.bot.v1.bot_events_pb2 import BotReplied
from interchange.conversation.v1.conversation_events_pb2 import (
    ConversationAssigned,
    ConversationEnded,
    ConversationHandedOff,
    ConversationReopened,
    ConversationStarted,
)
from interchange.message.v1.message_events_pb2 import MessageSent

from tests.sim.talk import folds
from tests.sim.talk.folds import events
from tests.sim.talk.laws_of_desks import LAWS as LAWS_OF_DESKS
from tests.sim.talk.seen import FOLLOWED, Seen, Stored
from tests.sim.talk.told import AGENT, BOT, CUSTOMER, SYSTEM, Item, Told, View, Wording

Law: TypeAlias = Callable[[Told, Seen], Iterator[str]]

NOTES = ("", "QUEUED", "JOINED", "ENDED", "REOPENED")
"""Names of the platform's messages, by SystemKind."""
SHOWN = 5


def breaches(told: Told, seen: Seen) -> list[str]:
    """Return what breaks a law, a few of each."""
    found = list(told.problems)
    for law in LAWS:
        broken = list(law(told, seen))
        found += [f"{law.__name__}: {one}" for one in broken[:SHOWN]]
        if len(broken) > SHOWN:
            found.append(f"{law.__name__}: and {len(broken) - SHOWN} more")
    return found


def text_of(message: Stored) -> str:
    """Return what a reader must see of a stored message."""
    return NOTES[message.note] if message.kind == SYSTEM else message.text


def acknowledged_messages_are_stored_once(told: Told, seen: Seen) -> Iterator[str]:
    """What was answered is there, once, as it was answered and as it was said."""
    stored: dict[tuple[str, int, str, str], list[Stored]] = defaultdict(list)
    for one in seen.messages:
        if one.client_id:
            stored[one.conversation, one.kind, one.sender, one.client_id].append(one)
    for wording, answer in told.answers.items():
        found = stored.get(wording, [])
        if len(found) != 1:
            yield f"{wording} is stored {len(found)} times"
        elif (found[0].sequence, found[0].message_id) != answer:
            yield f"{wording} was answered with {answer}, stored as {found[0]}"
    for key, copies in stored.items():
        said = told.tried.get(Wording(*key))
        if [one.text for one in copies] != [said]:
            yield f"{copies} was said as {said}"


def nobody_else_speaks(told: Told, seen: Seen) -> Iterator[str]:
    """First messages are those of the starts, the bot's are its replies, each once."""
    messages = {one.message_id: one for one in seen.messages}
    if len(messages) != len(seen.messages):
        yield "an id of a message is there twice"
    first = {
        event.conversation_id: event.message_id
        for event in events(seen, ConversationStarted)
        if event.message_id
    }
    for name, begun in told.conversations.items():
        one = messages.get(first.get(name, ""))
        if begun.text and (one is None or (one.kind, one.text) != (CUSTOMER, begun.text)):
            yield f"{name} began with {begun}, stored is {one}"
    ended = {event.conversation_id for event in events(seen, ConversationEnded)}
    replies = {event.event_id: event for event in events(seen, BotReplied)}
    for one in seen.messages:
        if one.kind == BOT and one.message_id not in replies:
            yield f"the bot never said {one}"
        is_first = first.get(one.conversation) == one.message_id
        if one.kind in (CUSTOMER, AGENT) and not one.client_id and not is_first:
            yield f"nobody said {one}"
    for event_id, reply in replies.items():
        # What it said into an ended conversation is left out: nobody listens.
        if event_id not in messages and reply.conversation_id not in ended:
            yield f"a reply of the bot is not stored: {event_id} in {reply.conversation_id}"


def messages_are_numbered_without_gaps(told: Told, seen: Seen) -> Iterator[str]:
    """Each conversation counts its messages 1, 2, 3 …, and knows how many."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for one in seen.messages:
        numbers[one.conversation].append(one.sequence)
    for copy in seen.copies:
        found = numbers.pop(copy.conversation, [])
        if found != list(range(1, copy.last_sequence + 1)):
            yield f"{copy.conversation} counts {copy.last_sequence}, and has {found}"
    yield from (f"{name} is not known, and has {found}" for name, found in numbers.items())


def views_are_the_stored_sequence(told: Told, seen: Seen) -> Iterator[str]:
    """What a reader saw, over all connections, is what is stored, in order, once."""
    stored: dict[str, list[Item]] = defaultdict(list)
    for one in seen.messages:
        stored[one.conversation].append(Item(one.sequence, one.message_id, text_of(one)))
    for view in told.views:
        whole = stored[view.conversation]
        found = view.items
        if found != whole[: len(found)]:
            yield f"{_name(view)} saw {_differing(found, whole)}"
        elif not view.left and len(found) != len(whole):
            yield f"{_name(view)} saw {len(found)} of {len(whole)} messages"


def nobody_reads_what_went_on(told: Told, seen: Seen) -> Iterator[str]:
    """An agent sees nothing that was said after a conversation left him."""
    messages = folds.by_conversation(seen)
    for view in told.views:
        if view.kind == AGENT and view.items:
            last = folds.readable(view.reader, messages[view.conversation])
            if view.items[-1].sequence > last:
                yield f"{_name(view)} saw {view.items[-1]}, and was to see {last}"


def bot_answers_once(told: Told, seen: Seen) -> Iterator[str]:
    """What was the bot's to answer has one reply or hand-over, never two, never silence.

    Silence is right only for the last of what a customer said before it went on
    without the bot: the reply was the hand-over, or nobody waited for it any more.
    """
    replies = Counter(
        (reply.conversation_id, reply.answered_sequence) for reply in events(seen, BotReplied)
    )
    mine: set[tuple[str, int]] = set()
    for stay in folds.stays(seen):
        mine |= {(stay.conversation, number) for number in stay.asked}
        silent = [number for number in stay.asked if not replies[stay.conversation, number]]
        if silent and not stay.over:
            yield f"{stay.conversation} waits for an answer to {silent}"
        if silent != stay.asked[len(stay.asked) - len(silent) :]:
            yield f"{stay.conversation} has no answer to {silent} of {stay.asked}"
    for (name, number), count in replies.items():
        if count > 1:
            yield f"{name} has {count} answers to {number}"
        if number and (name, number) not in mine:
            yield f"{name} has an answer to {number}, which was not the bot's"


def copies_are_the_conversations(told: Told, seen: Seen) -> Iterator[str]:
    """The message service has each conversation as the conversation service has it."""
    handlers = {
        folds.WITH_BOT: folds.BY_BOT,
        folds.QUEUED: folds.BY_QUEUE,
        folds.WITH_AGENT: folds.BY_AGENT,
        folds.ENDED: folds.BY_NOBODY,
    }
    expected = {
        one.conversation: (
            *(one.customer, handlers[one.status], one.agent, one.hand_off),
            one.status == folds.ENDED,
        )
        for one in seen.conversations
    }
    found = {one.conversation: tuple(one[1:6]) for one in seen.copies}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            yield f"{name} is {expected.get(name)}, its copy {found.get(name)}"


def conversations_are_the_fold_of_their_events(told: Told, seen: Seen) -> Iterator[str]:
    """Status, agent and number of hand-overs follow from what was announced."""
    states = folds.states(seen)
    for one in seen.conversations:
        state = states[one.conversation]
        expected = (state.status, state.agent, state.hand_off, state.version)
        if expected != (one.status, one.agent, one.hand_off, one.version):
            yield f"{one} was announced as {expected}"
        yield from (f"{one.conversation}: {each}" for each in state.problems)
    known = {one.conversation for one in seen.conversations}
    for name in sorted({*told.conversations} ^ known):
        yield f"{name} was started by {told.conversations.get(name)}, stored: {name in known}"


def changes_are_noted_in_order(told: Told, seen: Seen) -> Iterator[str]:
    """Every change of state is a message of the platform, in its place."""
    kinds = {
        ConversationHandedOff: "QUEUED",
        ConversationAssigned: "JOINED",
        ConversationEnded: "ENDED",
        ConversationReopened: "REOPENED",
    }
    expected: dict[str, list[str]] = defaultdict(list)
    for topic, event in seen.events:
        if topic == "conversation-events" and type(event) in kinds:
            expected[event.conversation_id].append(kinds[type(event)])  # type: ignore[attr-defined]
    found: dict[str, list[str]] = defaultdict(list)
    for one in seen.messages:
        if one.kind == SYSTEM:
            found[one.conversation].append(NOTES[one.note])
    for name in sorted({*expected, *found}):
        if expected[name] != found[name]:
            yield f"{name} went {expected[name]}, noted is {found[name]}"


def marks_are_where_readers_put_them(told: Told, seen: Seen) -> Iterator[str]:
    """Nobody's mark goes back, or beyond the last message."""
    last = {copy.conversation: copy.last_sequence for copy in seen.copies}
    found = {(one.conversation, one.kind, one.reader): one for one in seen.marks}
    for key, mark in found.items():
        if not mark.read <= mark.delivered <= last.get(mark.conversation, 0):
            yield f"{mark} is beyond {last.get(mark.conversation)}"
        if mark.read < told.marks.get(key, 0):
            yield f"{mark} is behind {told.marks[key]}"
    yield from (f"{key} is lost" for key in told.marks if key not in found)


def sealed_bodies_open_to_the_stored_text(told: Told, seen: Seen) -> Iterator[str]:
    """Every message has one event, whose body says what is stored."""
    messages = {one.message_id: one for one in seen.messages}
    announced = Counter(event.event_id for event in events(seen, MessageSent))
    for message_id in sorted({*messages, *announced}):
        if announced[message_id] != 1 or message_id not in messages:
            yield f"{messages.get(message_id)} has {announced[message_id]} events"
            continue
        one = messages[message_id]
        opened = seen.opened.get(message_id, "")
        if one.kind != SYSTEM and opened != one.text:
            yield f"{one} says {opened!r} in its event"


def events_are_numbered_without_gaps(told: Told, seen: Seen) -> Iterator[str]:
    """Each key's events leave in the order 1, 2, 3 …, over all transactions."""
    for (topic, key), numbers in seen.numbers.items():
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{topic} of {key} are numbered {numbers}"


def followers_have_applied_everything(told: Told, seen: Seen) -> Iterator[str]:
    """Watermarks stand at the last number of each key."""
    for service, topics in FOLLOWED.items():
        for (topic, key), numbers in seen.numbers.items():
            mark = seen.applied.get((service, topic, key), 0)
            if topic in topics and mark != numbers[-1]:
                yield f"{service} stands at {mark} of {numbers[-1]} {topic} of {key}"


def nothing_is_parked(told: Told, seen: Seen) -> Iterator[str]:
    """No key waits, and no event of a key that is free."""
    yield from map(str, seen.parked)


def tenants_are_apart(told: Told, seen: Seen) -> Iterator[str]:
    """Whatever is stored of a tenant was said in it: its texts bear its name."""
    mark = f"[{told.tenant}]"
    for one in seen.messages:
        if one.kind in (CUSTOMER, AGENT) and mark not in one.text:
            yield f"{told.tenant} holds {one}"
    for view in told.views:
        for item in view.items:
            if item.text.startswith("[") and not item.text.startswith(mark):
                yield f"{_name(view)} of {told.tenant} saw {item}"


LAWS: tuple[Law, ...] = (
    acknowledged_messages_are_stored_once,
    nobody_else_speaks,
    messages_are_numbered_without_gaps,
    views_are_the_stored_sequence,
    nobody_reads_what_went_on,
    bot_answers_once,
    copies_are_the_conversations,
    conversations_are_the_fold_of_their_events,
    changes_are_noted_in_order,
    marks_are_where_readers_put_them,
    sealed_bodies_open_to_the_stored_text,
    events_are_numbered_without_gaps,
    followers_have_applied_everything,
    nothing_is_parked,
    tenants_are_apart,
    *LAWS_OF_DESKS,
)


def _name(view: View) -> str:
    return f"{view.reader} of {view.conversation}"


def _differing(found: Sequence[Item], whole: Sequence[Item]) -> str:
    for number, item in enumerate(found):
        expected = whole[number] if number < len(whole) else None
        if item != expected:
            return f"{item}, expected {expected}"
    return "what is stored"
