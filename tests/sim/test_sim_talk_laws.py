"""The laws of talk themselves: each breach that is planted into a good talk is found."""

from collections.abc import Callable

import pytest
from interchange.agent.v1.agent_events_pb2 import AgentMatched
from interchange.bot.v1.bot_events_pb2 import BotReplied
from interchange.conversation.v1 import conversation_events_pb2 as pb
from interchange.conversation.v1.conversation_pb2 import Needs
from interchange.message.v1.message_events_pb2 import MessageSent

from tests.sim.talk.laws import LAWS, breaches
from tests.sim.talk.seen import (
    Agent,
    Assignment,
    Conversation,
    Copy,
    Mark,
    Parked,
    Request,
    Seen,
    Slots,
    Stored,
)
from tests.sim.talk.told import (
    AGENT,
    BOT,
    CUSTOMER,
    SYSTEM,
    Answer,
    Begun,
    Item,
    Told,
    View,
    Wording,
)

TENANT, NAME, QUEUED = "north", "conversation-1", "conversation-2"
MESSAGES = (
    Stored(NAME, 1, "m1", "", CUSTOMER, "c1", "[north] orders", 0, ""),
    Stored(NAME, 2, "m2", "", BOT, "default", "it is on its way", 0, ""),
    Stored(NAME, 3, "m3", "k3", CUSTOMER, "c1", "[north] person", 0, ""),
    Stored(NAME, 4, "m4", "", SYSTEM, "", "", 1, ""),
    Stored(NAME, 5, "m5", "", SYSTEM, "", "", 2, "a1"),
    Stored(NAME, 6, "m6", "k6", AGENT, "a1", "[north] answer", 0, ""),
    Stored(QUEUED, 1, "m7", "", SYSTEM, "", "", 1, ""),
)
SEEN_TEXTS = ("", "QUEUED", "JOINED")
BY_BOT, BY_QUEUE, BY_AGENT = 1, 2, 3
HANDLERS = (BY_BOT, BY_BOT, BY_BOT, BY_QUEUE, BY_AGENT, BY_AGENT, BY_QUEUE)


def view(kind: int, reader: str) -> View:
    """Return the first conversation as somebody saw it."""
    items = [
        Item(one.sequence, one.message_id, one.text or SEEN_TEXTS[one.note])
        for one in MESSAGES
        if one.conversation == NAME
    ]
    return View(NAME, kind, reader, items)


def told() -> Told:
    """Return two conversations: one went from the bot to an agent, one waits in vain."""
    by_customer = Wording(NAME, CUSTOMER, "c1", "k3")
    by_agent = Wording(NAME, AGENT, "a1", "k6")
    return Told(
        TENANT,
        conversations={NAME: Begun("c1", "", "[north] orders"), QUEUED: Begun("c2", "", "")},
        tried={by_customer: "[north] person", by_agent: "[north] answer"},
        answers={by_customer: Answer(3, "m3"), by_agent: Answer(6, "m6")},
        views=[view(CUSTOMER, "c1"), view(AGENT, "a1")],
        marks={(NAME, CUSTOMER, "c1"): 2},
        accepted={("a1", "offer")},
    )


def seen() -> Seen:
    """Return what is stored of them."""
    sent = [
        MessageSent(
            event_id=one.message_id,
            conversation_id=one.conversation,
            sequence=one.sequence,
            sender={"kind": one.kind, "id": one.sender},  # type: ignore[arg-type]
            handler=handler,  # type: ignore[arg-type]
        )
        for one, handler in zip(MESSAGES, HANDLERS, strict=True)
    ]
    steps = [
        pb.ConversationStarted(conversation_id=NAME, customer_id="c1", status=1, message_id="m1"),
        pb.ConversationHandedOff(conversation_id=NAME, hand_off=1),
        pb.ConversationAssigned(conversation_id=NAME, hand_off=1, agent_id="a1"),
        pb.ConversationStarted(conversation_id=QUEUED, customer_id="c2", status=2),
        pb.ConversationHandedOff(conversation_id=QUEUED, hand_off=1),
    ]
    reply = BotReplied(event_id="m2", conversation_id=NAME, answered_sequence=1)
    matched = AgentMatched(agent_id="a1", conversation_id=NAME, hand_off=1, offer_id="offer")
    return Seen(
        conversations=[
            Conversation(NAME, "c1", 3, "a1", 1, 1, 3),
            Conversation(QUEUED, "c2", 2, "", 1, 1, 2),
        ],
        copies=[
            Copy(NAME, "c1", BY_AGENT, "a1", 1, False, 6),
            Copy(QUEUED, "c2", BY_QUEUE, "", 1, False, 1),
        ],
        messages=list(MESSAGES),
        marks=[Mark(NAME, CUSTOMER, "c1", 3, 2)],
        agents=[
            Agent("a1", "default", "ONLINE", {"lang:en": 5}),
            Agent("a2", "default", "ONLINE", {"lang:en": 1}),
        ],
        slots=[Slots("a1", 1, 1, 1, 0, 1), Slots("a2", 1, 2, 0, 0, 0)],
        assignments=[Assignment(NAME, 1, "a1")],
        requests=[
            Request(NAME, 1, 1, "MATCHED", Needs()),
            Request(QUEUED, 1, 1, "WAITING", skilled(3)),
        ],
        numbers={("conversation-events", NAME): [1, 2, 3], ("agent-events", "a1"): [1]},
        applied={
            ("message", "conversation-events", NAME): 3,
            ("bot", "conversation-events", NAME): 3,
            ("agent", "conversation-events", NAME): 3,
            ("conversation", "agent-events", "a1"): 1,
        },
        parked=[],
        events=[
            *(("conversation-events", one) for one in steps),
            *(("message-events", one) for one in sent),
            ("bot-events", reply),
            ("agent-events", matched),
        ],
        opened={one.message_id: one.text for one in MESSAGES if one.kind != SYSTEM},
    )


def skilled(level: int) -> Needs:
    """Return needs of a language at a level."""
    needs = Needs()
    needs.required_skills.add(name="lang:en", level=level)
    return needs


def _replace(name: str, place: int, **changes: object) -> Callable[[Told, Seen], None]:
    def plant(told: Told, seen: Seen) -> None:
        rows = getattr(seen, name)
        rows[place] = rows[place]._replace(**changes)

    return plant


def _see_more(told: Told, seen: Seen) -> None:
    """Let the conversation go on without the agent, who goes on reading."""
    seen.messages.append(MESSAGES[3]._replace(sequence=7, message_id="m8"))
    seen.messages.append(MESSAGES[2]._replace(sequence=8, message_id="m9"))
    told.views[1].items += [Item(7, "m8", "QUEUED"), Item(8, "m9", "[north] person")]


def _answer_again(told: Told, seen: Seen) -> None:
    again = BotReplied(event_id="m10", conversation_id=NAME, answered_sequence=1)
    seen.events.append(("bot-events", again))


def _note_out_of_order(told: Told, seen: Seen) -> None:
    seen.messages[3] = seen.messages[3]._replace(note=3)


PLANTED: dict[str, Callable[[Told, Seen], object]] = {
    "acknowledged_messages_are_stored_once": lambda told, seen: seen.messages.append(MESSAGES[2]),
    "nobody_else_speaks": _replace("messages", 0, text="[north] other words"),
    "messages_are_numbered_without_gaps": lambda told, seen: seen.messages.pop(4),
    "views_are_the_stored_sequence": lambda told, seen: told.views[0].items.pop(2),
    "nobody_reads_what_went_on": _see_more,
    "bot_answers_once": _answer_again,
    "copies_are_the_conversations": _replace("copies", 0, agent="a2"),
    "conversations_are_the_fold_of_their_events": _replace("conversations", 0, status=4),
    "changes_are_noted_in_order": _note_out_of_order,
    "marks_are_where_readers_put_them": _replace("marks", 0, read=1),
    "sealed_bodies_open_to_the_stored_text": lambda told, seen: seen.opened.update(m3="no"),
    "events_are_numbered_without_gaps": lambda told, seen: seen.numbers[
        "conversation-events", NAME
    ].append(5),
    "followers_have_applied_everything": lambda told, seen: seen.applied.popitem(),
    "nothing_is_parked": lambda told, seen: seen.parked.append(
        Parked("bot", "message-events", NAME, "GAP", "")
    ),
    "tenants_are_apart": _replace("messages", 2, text="[south] person"),
    "loads_are_what_agents_have": _replace("slots", 0, load=2),
    "agents_have_what_is_theirs": _replace("assignments", 0, hand_off=2),
    "requests_are_the_last_hand_overs": _replace("requests", 1, hand_off=2),
    "nobody_waits_while_a_fit_agent_is_free": _replace("requests", 1, needs=skilled(1)),
    "each_hand_over_has_one_match": lambda told, seen: seen.events.append(
        ("agent-events", AgentMatched(agent_id="a2", conversation_id=NAME, hand_off=1))
    ),
    "accepted_offers_are_matched": lambda told, seen: told.accepted.add(("a2", "other")),
}


def test_good_talk_breaks_no_law() -> None:
    assert breaches(told(), seen()) == []


def test_every_law_has_a_breach_planted() -> None:
    assert set(PLANTED) == {law.__name__ for law in LAWS}


@pytest.mark.parametrize("law", PLANTED)
def test_breach_of_a_law_is_found(law: str) -> None:
    knows, stored = told(), seen()
    PLANTED[law](knows, stored)

    assert law in {one.partition(":")[0] for one in breaches(knows, stored)}


def test_silence_of_the_bot_is_found() -> None:
    """Right is the silence to what was said last, before it went to an agent."""
    stored = seen()
    stored.events = [one for one in stored.events if not isinstance(one[1], BotReplied)]
    last_in_stay = [MESSAGES[0], MESSAGES[2]]
    assert "bot_answers_once" not in " ".join(breaches(told(), stored)), last_in_stay

    reply = BotReplied(event_id="m2", conversation_id=NAME, answered_sequence=3)
    stored.events.append(("bot-events", reply))

    assert f"bot_answers_once: {NAME} has no answer to [1] of [1, 3]" in breaches(told(), stored)


def test_bot_that_still_owes_an_answer_is_found() -> None:
    stored = seen()
    stored.events = [
        one
        for one in stored.events
        if not (isinstance(one[1], MessageSent) and one[1].sequence > 3)
    ]

    assert f"bot_answers_once: {NAME} waits for an answer to [3]" in breaches(told(), stored)


def test_message_seen_twice_is_found() -> None:
    knows = told()
    knows.views[0].items.insert(2, knows.views[0].items[1])

    assert "views_are_the_stored_sequence" in breaches(knows, seen())[0]


def test_answers_that_contradict_each_other_are_found() -> None:
    knows = told()
    knows.sent(Wording(NAME, CUSTOMER, "c1", "k3"), Answer(4, "m4"))

    assert "was answered with" in breaches(knows, seen())[0]
