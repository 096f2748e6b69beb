"""The small parts of the gateway, each by itself."""

import asyncio
import time

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from interchange.agent.v1 import agent_pb2
from interchange.conversation.v1 import conversation_pb2
from interchange.message.v1 import message_pb2

from services.common import errors, tokens
from services.common.identity import Caller
from services.gateway import fields, translation
from services.gateway.allowance import Allowance
from services.gateway.codec import BadFrame, decode
from services.gateway.gathering import WAITING_MAX, Gatherer
from services.gateway.refusals import is_missing, of_status, refusal
from services.gateway.tokens import Verifier, from_headers, protocols
from services.gateway.wheel import TICK_S, Wheel

KEY = tokens.private_key(tokens.new_key())


def test_an_allowance_takes_a_burst_and_then_the_pace():
    allowance = Allowance(10, 20)
    assert sum(allowance.take(100.0) for _ in range(50)) == 20
    assert not allowance.take(100.05)
    assert allowance.take(100.1)
    assert not allowance.take(100.1)
    # However long it was quiet, no more than the burst is saved.
    assert sum(allowance.take(1_000.0) for _ in range(50)) == 20


def test_a_wheel_looks_when_it_is_due_and_as_often_as_it_is_told():
    looked: list[tuple[str, float]] = []
    start = time.monotonic()

    def look(thing: str, now: float) -> float | None:
        looked.append((thing, now))
        return now + 1 if thing == "again" else None

    wheel: Wheel[str] = Wheel(look)
    for thing, after in (("again", 1.0), ("once", 2.0), ("moved", 1.0), ("dropped", 1.0)):
        wheel.plan(thing, start + after)
    wheel.plan("moved", start + 3.0)
    wheel.drop("dropped")
    wheel.drop("unknown")
    for step in range(60):
        wheel.turn(start + step * TICK_S)
    assert [thing for thing, _ in looked].count("once") == 1
    assert all(now >= start + 1.0 for _, now in looked)
    assert [thing for thing, _ in looked].count("again") in (4, 5)
    [moved] = [now for thing, now in looked if thing == "moved"]
    assert moved >= start + 3.0
    assert "dropped" not in dict(looked)
    assert list(wheel._of) == ["again"]


def test_a_look_that_fails_stops_no_other():
    looked = []

    def look(thing: int, now: float) -> None:
        looked.append(thing)
        raise ValueError(thing)

    wheel: Wheel[int] = Wheel(look)
    for thing in range(3):
        wheel.plan(thing, time.monotonic())
    wheel.turn(time.monotonic() + 1)
    assert sorted(looked) == [0, 1, 2]


async def test_what_comes_while_a_batch_is_on_its_way_is_the_next_batch():
    batches: list[tuple[str, list[int]]] = []
    gate = asyncio.Event()

    async def handle(tenant_id: str, items: list[int]) -> None:
        batches.append((tenant_id, items))
        await gate.wait()
        if items == [1]:
            raise ValueError("the next batch must go on")

    gatherer: Gatherer[int] = Gatherer(handle, 3)
    gatherer.add("a", 1)
    await asyncio.sleep(0.01)
    for item in range(2, 7):
        assert gatherer.add("a", item)
    gatherer.add("b", 9)
    gate.set()
    await gatherer.settled(1)
    assert [items for tenant, items in batches if tenant == "a"] == [[1], [2, 3, 4], [5, 6]]
    assert ("b", [9]) in batches
    assert not gatherer._queues


async def test_a_batch_ends_before_it_weighs_too_much():
    batches: list[list[int]] = []

    async def handle(tenant_id: str, items: list[int]) -> None:
        batches.append(items)

    gatherer = Gatherer(handle, 10, weigh=lambda item: item, weight_max=10)
    for item in (4, 6, 1, 99, 2):
        gatherer.add("a", item)
    await gatherer.settled(1)
    assert batches == [[4, 6], [1], [99], [2]]


async def test_where_order_does_not_matter_one_batch_waits_for_no_other():
    gates: dict[int, asyncio.Event] = {item: asyncio.Event() for item in range(3)}
    done: list[int] = []

    async def handle(tenant_id: str, items: list[int]) -> None:
        for item in items:
            await gates[item].wait()
            done.append(item)

    gatherer: Gatherer[int] = Gatherer(handle, 10, batches_max=2)
    for item in range(3):
        gatherer.add("a", item)
        await asyncio.sleep(0.01)
    gates[1].set()
    await asyncio.sleep(0.01)
    assert done == [1]
    gates[2].set()
    await asyncio.sleep(0.01)
    assert done == [1, 2]
    gates[0].set()
    await gatherer.settled(1)
    assert done == [1, 2, 0]
    assert not gatherer._queues


async def test_a_gatherer_takes_no_more_than_it_can_hold():
    async def never(tenant_id: str, items: list[int]) -> None:
        await asyncio.Event().wait()

    gatherer: Gatherer[int] = Gatherer(never, 1)
    assert all(gatherer.add("a", item) for item in range(WAITING_MAX))
    assert not gatherer.add("a", 0)
    assert gatherer.add("b", 0)
    for queue in gatherer._queues.values():
        for task in queue.tasks:
            task.cancel()


HEADERS = {
    "x-interchange-tenant": "acme",
    "x-interchange-subject": "cara",
    "x-interchange-roles": "customer agent",
    "x-interchange-expires": "123",
}


def test_the_edge_says_who_comes():
    assert from_headers({}) is None
    claims = from_headers(HEADERS)
    assert claims is not None
    assert claims.caller == Caller("acme", "cara", ("customer", "agent"))
    assert claims.expire_s == 123


@pytest.mark.parametrize(
    "wrong",
    [
        {"x-interchange-tenant": "Acme!"},
        {"x-interchange-subject": ""},
        {"x-interchange-roles": ""},
        {"x-interchange-roles": "mesh"},
        {"x-interchange-expires": ""},
        {"x-interchange-expires": "-1"},
    ],
)
def test_what_the_edge_would_not_say_is_refused(wrong):
    with pytest.raises(errors.Unauthenticated):
        from_headers(HEADERS | wrong)


def test_sub_protocols_may_bring_a_token():
    assert protocols({}) == (False, "")
    assert protocols({"sec-websocket-protocol": "interchange.v1"}) == (True, "")
    assert protocols({"sec-websocket-protocol": "interchange.v1,bearer.a.b.c"}) == (True, "a.b.c")
    assert protocols({"sec-websocket-protocol": "other, bearer.x"}) == (False, "x")


def test_a_verifier_without_keys_says_try_again(tmp_path):
    verifier = Verifier(tmp_path / "jwks.json")
    token = tokens.issue(KEY, "acme", ["customer"], "cara", 60)
    with pytest.raises(errors.Unavailable, match="try again"):
        verifier.verify(token)
    (tmp_path / "jwks.json").write_text("{half a fi")
    verifier._looked_at -= 10
    with pytest.raises(errors.Unavailable):
        verifier.verify(token)
    (tmp_path / "jwks.json").write_text(tokens.key_set(KEY))
    verifier._looked_at -= 10
    assert verifier.verify(token).caller.subject == "cara"


def test_a_token_that_is_known_still_runs_out(tmp_path, monkeypatch):
    (tmp_path / "jwks.json").write_text(tokens.key_set(KEY))
    verifier = Verifier(tmp_path / "jwks.json")
    token = tokens.issue(KEY, "acme", ["customer"], "cara", 60)
    assert verifier.verify(token) is verifier.verify(token)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100)
    with pytest.raises(errors.Unauthenticated) as refused:
        verifier.verify(token)
    assert refused.value.reason == "TOKEN_EXPIRED"


def call_error(code: grpc.StatusCode, details: bytes | None = None) -> grpc.aio.AioRpcError:
    trailers = [("grpc-status-details-bin", details)] if details is not None else []
    metadata = grpc.aio.Metadata(*trailers)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, "secret")


def test_an_error_of_a_service_keeps_reason_and_field():
    status = errors.InvalidArgument.of("text", "TEXT_TOO_LONG", "was long").to_status()
    frame = refusal(call_error(grpc.StatusCode.INVALID_ARGUMENT, status.SerializeToString()), "r")
    assert (frame.code, frame.reason, frame.field, frame.ref) == (
        "INVALID_ARGUMENT",
        "TEXT_TOO_LONG",
        "text",
        "r",
    )
    assert of_status(status).reason == "TEXT_TOO_LONG"


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (call_error(grpc.StatusCode.UNAVAILABLE), "UNAVAILABLE", "DEPENDENCY_UNAVAILABLE"),
        (call_error(grpc.StatusCode.CANCELLED), "UNAVAILABLE", "DEPENDENCY_UNAVAILABLE"),
        (call_error(grpc.StatusCode.DEADLINE_EXCEEDED), "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        (call_error(grpc.StatusCode.UNKNOWN, b"\xff\xff"), "INTERNAL", "INTERNAL"),
        (ValueError("secret"), "INTERNAL", "INTERNAL"),
        (BadFrame("NOT_JSON", "no"), "INVALID_ARGUMENT", "NOT_JSON"),
        (errors.NotFound("X", "no"), "NOT_FOUND", "X"),
    ],
)
def test_every_failure_has_a_reason_and_no_secret(error, code, reason):
    frame = refusal(error)
    assert (frame.code, frame.reason) == (code, reason)
    assert "secret" not in frame.message


def test_a_status_without_details_has_its_code_as_reason():
    frame = of_status(status_pb2.Status(code=99, message="odd"))
    assert (frame.code, frame.reason) == ("UNKNOWN", "UNKNOWN")
    strange = status_pb2.Status(code=5)
    strange.details.add().Pack(error_details_pb2.DebugInfo(detail="x"))
    assert of_status(strange).reason == "NOT_FOUND"


def test_missing_is_told_from_away():
    assert is_missing(call_error(grpc.StatusCode.NOT_FOUND))
    assert not is_missing(call_error(grpc.StatusCode.UNAVAILABLE))
    assert not is_missing(ValueError())


def test_a_message_becomes_a_frame_with_its_one_content():
    message = message_pb2.Message(conversation_id="c", sequence=3, message_id="m", text="")
    message.sender.kind = message_pb2.SENDER_KIND_BOT
    message.create_time.FromMicroseconds(1_700_000_000_123_456)
    frame = translation.message(message)
    assert (frame.text, frame.attachment, frame.system) == ("", None, None)
    assert frame.time.isoformat() == "2023-11-14T22:13:20.123456+00:00"
    message.attachment.CopyFrom(message_pb2.Attachment(uri="https://a.example/b", size_bytes=7))
    frame = translation.message(message)
    assert frame.text is None
    assert frame.attachment == fields.Attachment("https://a.example/b", "", "", 7)
    message.system.kind = message_pb2.SYSTEM_KIND_ENDED
    message.system.reason = "RESOLVED"
    frame = translation.message(message)
    assert frame.system.kind == "ended"
    assert frame.sender.kind == "bot"


def test_a_desk_becomes_a_frame():
    desk = agent_pb2.Desk(agent_id="ana", status=agent_pb2.AGENT_STATUS_NOT_RESPONDING, version=3)
    desk.offers.add(
        offer_id="o",
        conversation_id="c",
        channel=conversation_pb2.CHANNEL_WEB,
        reason=conversation_pb2.HAND_OFF_REASON_REQUESTED,
    )
    frame = translation.desk(desk)
    assert frame.status == "not_responding"
    assert (frame.offers[0].channel, frame.offers[0].reason) == ("web", "requested")
    assert frame.offers[0].expire_time is None


def test_needs_and_enums_become_messages():
    assert translation.needs(None) is None
    needs = translation.needs(
        fields.Needs(pool_id="p", required_skills=(fields.Skill("lang:en", 3),), priority=2)
    )
    assert needs is not None
    assert (needs.required_skills[0].name, needs.required_skills[0].level) == ("lang:en", 3)
    assert translation.channel("sms") == conversation_pb2.CHANNEL_SMS
    assert translation.end_reason("spam") == conversation_pb2.END_REASON_SPAM
    assert translation.agent_status("away") == agent_pb2.AGENT_STATUS_AWAY


def test_who_is_both_is_what_he_is_in_the_conversation():
    both = Caller("acme", "ana", ("agent", "customer"))
    assert translation.as_sender(both, "ana").kind == message_pb2.SENDER_KIND_CUSTOMER
    assert translation.as_sender(both, "cara").kind == message_pb2.SENDER_KIND_AGENT
    customer = Caller("acme", "cara", ("customer",))
    assert translation.as_sender(customer).kind == message_pb2.SENDER_KIND_CUSTOMER


@pytest.mark.parametrize(
    ("payload", "reason", "field"),
    [
        (b'{"type":"ping","ref":1}', "INVALID_FIELD", "ref"),
        (b'{"type":"transfer","conversation_id":"x"}', "INVALID_FIELD", "conversation_id"),
        (
            b'{"type":"start","needs":{"required_skills":[{"level":3}]}}',
            "MISSING_FIELD",
            "needs.required_skills[0].name",
        ),
        (b'{"type":"start","channel":"pigeon"}', "INVALID_FIELD", "channel"),
        (b'{"type":"ping","type":"bye","x":1}', "UNKNOWN_TYPE", "type"),
        (b"", "NOT_JSON", ""),
    ],
)
def test_what_is_wrong_in_a_frame_is_named(payload, reason, field):
    with pytest.raises(BadFrame) as bad:
        decode(payload)
    assert (bad.value.reason, bad.value.field) == (reason, field)
