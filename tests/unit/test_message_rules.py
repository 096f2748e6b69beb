"""The rules of messages: fields, pace, marks, and who comes back."""

import pytest
from interchange.message.v1.message_events_pb2 import MessageBody
from interchange.message.v1.message_pb2 import Attachment
from interchange.message.v1.message_pb2 import Sender as SenderMessage
from interchange.message.v1.message_service_pb2 import SendMessageRequest

from services.common.errors import InvalidArgument
from services.common.identity import Caller
from services.message import domain, inputs
from services.message.domain import Draft, Sender
from services.message.marks import MarkRow, Move, moved
from services.message.rates import SenderRates
from tests.unit.test_message_scene import ANA, ANN, TENANT, conversation

NAME = "019c0000-0000-7000-8000-000000000000"
GOOD = {
    "uri": "https://files.example/a/b.png?size=large#top",
    "media_type": "image/svg+xml",
    "name": "a picture.svg",
    "size_bytes": 12,
}


def request_of(**changes: object) -> SendMessageRequest:
    values = {"conversation_id": NAME, "client_message_id": "c-1", "text": "hello"} | changes
    return SendMessageRequest(**values)  # type: ignore[arg-type]


def fields(request: SendMessageRequest) -> list[tuple[str, str]]:
    refused = inputs.draft(request, ANN)
    assert isinstance(refused, InvalidArgument)
    return [(violation.field, violation.reason) for violation in refused.violations]


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "👩\u200d👩\u200d👧",
        "🎉" * 8_000,
        "a\tb\r\nc",
        "نص",
        "\u200b",
        "'; DROP TABLE messages; --",
    ],
)
def test_text_is_taken_as_it_is(text: str) -> None:
    draft = inputs.draft(request_of(text=text), ANN)

    assert isinstance(draft, Draft)
    assert (draft.body, draft.detail) == (text, None)
    assert MessageBody.FromString(draft.clear).text == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "TEXT_EMPTY"),
        (" \r\n\t", "TEXT_EMPTY"),
        ("x" * 8_001, "TEXT_TOO_LONG"),
        ("x" * 100_000, "TEXT_TOO_LONG"),
        ("a\0b", "TEXT_BINARY"),
        ("\x89PNG\x1a", "TEXT_BINARY"),
        ("\x1b[31m", "TEXT_BINARY"),
    ],
)
def test_text_that_is_none_is_refused(text: str, reason: str) -> None:
    assert fields(request_of(text=text)) == [("text", reason)]


@pytest.mark.parametrize("client_id", ["", "x" * 65, "a\nb", "a\0"])
def test_id_of_the_sender_must_be_printable(client_id: str) -> None:
    found = fields(request_of(client_message_id=client_id))
    assert found == [("client_message_id", "CLIENT_MESSAGE_ID_INVALID")]


@pytest.mark.parametrize("name", ["", "x", NAME + "0", NAME[:-1] + "g", f"{{{NAME}}}"])
def test_id_of_the_conversation_must_be_a_uuid(name: str) -> None:
    found = fields(request_of(conversation_id=name))
    assert found == [("conversation_id", "CONVERSATION_ID_INVALID")]


def test_id_of_the_conversation_has_one_form() -> None:
    draft = inputs.draft(request_of(conversation_id=NAME.upper()), ANN)
    assert isinstance(draft, Draft)
    assert draft.conversation_id == NAME


def test_all_wrong_fields_are_named_at_once() -> None:
    request = SendMessageRequest(conversation_id="x")
    assert [field for field, _ in fields(request)] == [
        "conversation_id",
        "client_message_id",
        "content",
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uri", ""),
        ("uri", "http://files.example/a"),
        ("uri", "https://"),
        ("uri", "https:///a"),
        ("uri", "https://user:secret@files.example/a"),
        ("uri", "https://files.example/a b"),
        ("uri", "https://files.example/\n"),
        ("uri", "javascript:alert(1)"),
        ("uri", "https://files.example/" + "x" * 2_048),
        ("media_type", ""),
        ("media_type", "image"),
        ("media_type", "image/png; charset=utf-8"),
        ("media_type", "image/" + "x" * 128),
        ("name", "x" * 256),
        ("name", "a\0b"),
        ("size_bytes", -1),
        ("size_bytes", (1 << 40) + 1),
    ],
)
def test_attachment_that_is_none_is_refused(field: str, value: object) -> None:
    attachment = Attachment(**(GOOD | {field: value}))  # type: ignore[arg-type]
    request = SendMessageRequest(
        conversation_id=NAME, client_message_id="c-1", attachment=attachment
    )

    assert fields(request) == [
        (f"attachment.{field}", f"ATTACHMENT_{field.removesuffix('_bytes').upper()}_INVALID")
    ]


def test_attachment_is_kept_as_json() -> None:
    request = SendMessageRequest(
        conversation_id=NAME,
        client_message_id="c-1",
        attachment=Attachment(**GOOD),  # type: ignore[arg-type]
    )

    draft = inputs.draft(request, ANN)

    assert isinstance(draft, Draft)
    assert draft.body is None
    assert draft.detail == (
        '{"uri":"https://files.example/a/b.png?size=large#top",'
        '"media_type":"image/svg+xml","name":"a picture.svg","size_bytes":12}'
    )


def test_only_customers_and_agents_are_senders() -> None:
    assert inputs.sender_of(SenderMessage(kind=2, id="ana")) == ANA
    for kind, name in ((0, "x"), (3, "default"), (4, ""), (1, ""), (1, "x" * 129), (1, "a b")):
        message = SenderMessage(kind=kind, id=name)  # type: ignore[arg-type]
        assert isinstance(inputs.sender_of(message), InvalidArgument)


def test_pace_is_a_burst_and_then_a_rate() -> None:
    rates = SenderRates(rate_per_s=16, burst=32)

    taken = [rates.take(TENANT, ANN, 100.0) for _ in range(37)]

    assert [refusal is None for refusal in taken] == [True] * 32 + [False] * 5
    refusal = taken[-1]
    assert refusal is not None
    assert refusal.reason == "MESSAGE_RATE"
    assert refusal.metadata == {"retry_after_ms": "63"}
    assert rates.take(TENANT, ANN, 100.063) is None
    assert rates.take(TENANT, ANN, 100.063) is not None
    assert rates.take(TENANT, ANA, 100.0) is None
    assert rates.take("other", ANN, 100.0) is None


def test_marks_move_forward_only() -> None:
    talk = conversation(NAME, last_sequence=9)

    def move(mark: MarkRow | None, delivered: int, read: int) -> tuple[int, int]:
        row = moved(mark, Move(NAME, ANN, delivered, read), talk)
        assert row.key == (NAME, *ANN)
        return row.delivered_sequence, row.read_sequence

    mark = MarkRow(NAME, *ANN, 5, 3)
    assert move(None, 0, 0) == (0, 0)
    assert move(None, 0, 4) == (4, 4)
    assert move(mark, 4, 2) == (5, 3)
    assert move(mark, 9, 0) == (9, 3)
    assert move(mark, 0, 9) == (9, 9)
    for delivered, read in ((10, 0), (0, 10)):
        with pytest.raises(InvalidArgument, match="the last message is 9"):
            move(mark, delivered, read)


def test_who_comes_back_is_continued_only_without_a_hole() -> None:
    talk = conversation(NAME, epoch="e", first_sequence=4, last_sequence=9)

    assert [n for n in range(12) if talk.continues(n, "e")] == list(range(3, 10))
    assert not any(talk.continues(n, epoch) for n in range(12) for epoch in ("", "other"))
    talk.first_sequence = 1
    assert talk.continues(0, "")
    assert not talk.continues(0, "other")


def test_caller_takes_part_as_what_he_is_there() -> None:
    talk = conversation(NAME, agent_id="ana")

    def part(subject: str, *roles: str) -> Sender | None:
        return domain.participant(Caller(TENANT, subject, roles), talk)

    assert part("ann", "customer") == ANN
    assert part("ana", "agent") == ANA
    assert part("ana", "supervisor", "agent") == ANA
    assert part("ann", "agent") is None
    assert part("ana", "customer") is None
    assert part("sue", "supervisor") is None
    talk.agent_id = ""
    assert part("", "agent") is None


def test_only_new_ids_of_our_making_are_young() -> None:
    made_us = 1_769_000_000_000_000
    name = f"{made_us // 1000:012x}"
    name = f"{name[:8]}-{name[8:]}-7000-8000-000000000000"
    assert domain.is_young(name, made_us + 9_000_000)
    assert domain.is_young(name, made_us - 9_000_000)
    assert not domain.is_young(name, made_us + 10_000_000)
    assert not domain.is_young(name.replace("-7000", "-4000"), made_us)
