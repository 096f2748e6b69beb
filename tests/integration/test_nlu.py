"""The NLU service on real Postgres, called over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from interchange.nlu.v1 import nlu_pb2
from interchange.nlu.v1 import nlu_service_pb2 as pb

from services.common.config import Settings
from services.nlu import __main__ as nlu
from services.stack.stack import Stack
from tests.integration.nlu_scene import (
    FAILED,
    READY,
    Caller,
    described,
    examples,
    instance,
    learn_here,
    refused,
    tenant,
)


@pytest.fixture(scope="module")
def settings(servers: Stack) -> Settings:
    servers.migrate(["nlu"])
    return Settings(
        listen="127.0.0.1:0",
        database_url=f"postgresql://{servers.postgres.address}/interchange",
        database_password=servers.database_password(),
        drain_notice_ms=0,
        nlu_watch_ms=50,
    )


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nlu, "learn", learn_here)
        yield


@pytest.fixture(scope="module")
async def stub(settings: Settings, quick: None) -> AsyncIterator[Any]:
    async with instance(settings) as stub:
        yield stub


@pytest.fixture
def call(stub: Any) -> Caller:
    return Caller(stub, tenant())


@pytest.fixture(scope="module")
async def shop(stub: Any) -> Caller:
    """A tenant with a model, for tests that only ask."""
    caller = Caller(stub, tenant())
    assert (await caller.trained()).state == READY
    return caller


@pytest.fixture
async def api(servers: Stack, settings: Settings) -> AsyncIterator[Any]:
    """A connection as the role that serves requests."""
    connection = await asyncpg.connect(servers.database_url("nlu_api"))
    yield connection
    await connection.close()


async def test_trained_model_says_what_utterances_mean(call: Caller) -> None:
    asked = await call.train()
    assert (asked.version, asked.state) == (1, nlu_pb2.MODEL_STATE_TRAINING)
    assert (asked.example_count, asked.intent_count) == (20, 4)

    model = await call.ended(asked)

    assert model.state == READY
    assert model.accuracy_millis > 0
    assert model.finish_time.ToMicroseconds() >= model.create_time.ToMicroseconds()
    found = await call.detect("Somebody  STOLE my card!")
    assert found.intent == "card_lost"
    assert found.confidence_millis == found.alternatives[0].confidence_millis > 500
    assert len(found.alternatives) == 3
    assert (found.provider, found.model_version) == ("local", 1)


async def test_new_version_replaces_the_one_before_without_a_pause(
    call: Caller, settings: Settings
) -> None:
    """Two instances answer all the time, and both go over to the new version."""
    await call.trained()
    async with instance(settings) as other:
        callers = [call, call.at(other)]
        seen: list[list[int]] = [[], []]
        leaving = asyncio.Event()

        async def ask(caller: Caller, versions: list[int]) -> None:
            while not leaving.is_set():
                versions.append((await caller.detect("where is my parcel")).model_version)

        async with asyncio.TaskGroup() as tasks:
            for caller, versions in zip(callers, seen, strict=True):
                tasks.create_task(ask(caller, versions))
            second = await call.trained(parcel=["where is my parcel"], other=["hello you"])
            for caller in callers:
                await caller.serves(2)
            leaving.set()

    assert second.version == 2
    for versions in seen:
        assert versions == sorted(versions)
        assert set(versions) == {1, 2}


async def test_batch_has_a_result_for_each(shop: Caller) -> None:
    def ask(text: str, model_id: str = "shop") -> pb.DetectIntentRequest:
        return pb.DetectIntentRequest(text=text, model_id=model_id)

    requests = [ask("hi"), ask("hi", "none"), ask("what is my balance"), ask("x", "Not an id")]
    answer = await shop("BatchDetectIntents", pb.BatchDetectIntentsRequest(requests=requests))

    first, missing, third, wrong = answer.results
    assert (first.detection.intent, third.detection.intent) == ("greeting", "balance")
    assert described(missing.error) == described(wrong.error) == ("MODEL_NOT_FOUND", [])


async def test_batch_may_have_500_utterances(shop: Caller) -> None:
    one = pb.DetectIntentRequest(text="i lost my card", model_id="shop")
    answer = await shop("BatchDetectIntents", pb.BatchDetectIntentsRequest(requests=[one] * 500))
    assert {result.detection.intent for result in answer.results} == {"card_lost"}

    larger = pb.BatchDetectIntentsRequest(requests=[one] * 501)
    assert await refused(shop("BatchDetectIntents", larger)) == (
        "INVALID_ARGUMENT",
        "TOO_MANY_REQUESTS",
        ["requests"],
    )
    assert not (await shop("BatchDetectIntents", pb.BatchDetectIntentsRequest())).results


@pytest.mark.parametrize(
    "text",
    ["🎉🎉🎉", "\x00\x01\x02\ufffd", "   \n\t ", "x" * 8_000, "🎉" * 2_000, "\ufdfa" * 1_000, "!?",
     "\u202e\u200b", "ⵣⵣ ⴰⴰⴰ"],
)  # fmt: skip
async def test_what_says_nothing_is_out_of_scope(shop: Caller, text: str) -> None:
    found = await shop.detect(text)
    assert found.intent == ""
    assert found.confidence_millis > 500
    assert len(found.alternatives) == 3


async def test_utterance_that_is_too_long_is_refused(shop: Caller) -> None:
    assert (await refused(shop.detect("x" * 8_001)))[:2] == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert (await refused(shop.detect("")))[:2] == ("INVALID_ARGUMENT", "INVALID_FIELD")


async def test_model_that_is_missing_or_in_training_is_told_apart(call: Caller) -> None:
    missing = ("NOT_FOUND", "MODEL_NOT_FOUND", [])
    assert await refused(call.detect("hello")) == missing
    assert await refused(call.detect("hello", "No Id")) == missing
    assert await refused(call("GetModel", pb.GetModelRequest(model_id="shop"))) == missing
    assert await refused(call("GetModel", pb.GetModelRequest(model_id="a\x00"))) == missing

    model = await call.train()
    outcome = await asyncio.gather(call.detect("hello"), return_exceptions=True)
    if isinstance(outcome[0], BaseException):  # else the training was faster
        assert await refused(_raise(outcome[0])) == ("FAILED_PRECONDITION", "MODEL_NOT_READY", [])
    await call.ended(model)

    later = pb.GetModelRequest(model_id="shop", version=2)
    assert await refused(call("GetModel", later)) == missing
    assert (await call.detect("hello")).model_version == 1


async def _raise(error: BaseException) -> None:
    raise error


async def test_examples_that_teach_nothing_fail_and_the_version_before_serves(
    call: Caller,
) -> None:
    await call.trained()

    # Their lines of one letter have no runs of two but with the space around them.
    model = await call.trained(a=["\u200b"], b=["\u200c"])

    assert model.version == 2
    assert (model.state, bool(model.failure)) in ((FAILED, True), (READY, False))
    await call.serves(2 if model.state == READY else 1)


@pytest.mark.parametrize(
    ("given", "reason", "fields"),
    [
        ([("a", "x")], "TOO_FEW_EXAMPLES", ["examples"]),
        ([("a", "x"), ("b", "x")], "TOO_FEW_INTENTS", ["examples"]),
        ([("a", "x"), ("b", "")], "TOO_FEW_INTENTS", ["examples"]),
        ([("a", "x"), (" \n", "y")], "EMPTY_TEXT", ["examples[1].text"]),
        ([("a" * 1_001, "x"), ("b", "y")], "TEXT_TOO_LONG", ["examples[0].text"]),
        ([("a", "x" * 65), ("b", "y")], "INVALID_INTENT", ["examples[0].intent"]),
        ([("a", "x\n"), ("b", "y")], "INVALID_INTENT", ["examples[0].intent"]),
        ([("a", "x"), ("b", "y"), ("A ", "y")], "CONFLICTING_INTENTS", ["examples[2].text"]),
        ([(f"text {n}", f"x{n}") for n in range(501)], "TOO_MANY_INTENTS", ["examples"]),
        ([("a", "x")] * 50_001, "TOO_MANY_EXAMPLES", ["examples"]),
    ],
)
async def test_examples_that_are_wrong_are_named(
    call: Caller, given: list[tuple[str, str]], reason: str, fields: list[str]
) -> None:
    rows = [nlu_pb2.Example(text=text, intent=intent) for text, intent in given]
    request = pb.TrainModelRequest(model_id="shop", examples=rows, request_id="r")
    assert await refused(call("TrainModel", request)) == ("INVALID_ARGUMENT", reason, fields)
    assert not (await call("ListModels", pb.ListModelsRequest())).models


async def test_names_that_are_wrong_are_named(call: Caller) -> None:
    request = pb.TrainModelRequest(model_id="Shop!", examples=examples(), request_id="a\x00")
    assert await refused(call("TrainModel", request)) == (
        "INVALID_ARGUMENT",
        "INVALID_MODEL_ID",
        ["model_id", "request_id"],
    )


async def test_repeated_request_trains_once(call: Caller) -> None:
    first, again = await asyncio.gather(call.train(request_id="r"), call.train(request_id="r"))

    assert first == again
    assert await refused(call.train("other", request_id="r")) == (
        "ALREADY_EXISTS",
        "IDEMPOTENCY_KEY_REUSED",
        ["request_id"],
    )
    await call.ended(first)
    assert await call.train(request_id="r") == first  # the answer, as it was then
    assert (await call("GetModel", pb.GetModelRequest(model_id="shop"))).version == 1


async def test_models_are_listed_by_id_with_their_newest_version(call: Caller) -> None:
    for model_id in ("b", "a", "c", "a"):
        await call.trained(model_id)

    found, token = [], ""
    while True:
        request = pb.ListModelsRequest(page_size=2, page_token=token)
        page = await call("ListModels", request)
        found += [(one.model_id, one.version) for one in page.models]
        if not (token := page.next_page_token):
            break

    assert found == [("a", 2), ("b", 1), ("c", 1)]


async def test_two_tenants_have_models_of_the_same_id(call: Caller, stub: Any) -> None:
    other = Caller(stub, tenant())
    await call.trained(ours=["where is my parcel"], both=["hello"])
    assert (await refused(other.detect("hello")))[1] == "MODEL_NOT_FOUND"
    assert not (await other("ListModels", pb.ListModelsRequest())).models

    await other.trained(theirs=["where is my parcel"], both=["hello"])

    names = {
        caller.tenant: {
            score.intent for score in (await caller.detect("where is my parcel")).alternatives
        }
        for caller in (call, other)
    }
    assert names == {call.tenant: {"ours", "both"}, other.tenant: {"theirs", "both"}}


@pytest.mark.parametrize("table", ["models", "contents", "active", "request_keys"])
async def test_role_of_requests_sees_no_row_without_its_tenant(
    call: Caller, api: Any, table: str
) -> None:
    await call.ended(await call.train(request_id="r"))

    async def visible(name: str) -> int:
        async with api.transaction():
            await api.execute("SELECT set_config('app.tenant_id', $1, true)", name)
            return int(await api.fetchval(f"SELECT count(*) FROM nlu.{table}"))

    assert await visible("nobody") == 0
    assert await visible(call.tenant) == 1


async def test_role_of_requests_cannot_rewrite_a_model(call: Caller, api: Any) -> None:
    for statement in (
        "UPDATE nlu.models SET version = 9",
        "DELETE FROM nlu.models",
        "INSERT INTO nlu.contents VALUES ('t', 'm', 1, '', '')",
        "UPDATE nlu.active SET version = 1",
        "SELECT examples FROM nlu.trainings",
        "TRUNCATE nlu.models",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.execute(statement)


@pytest.mark.parametrize("roles", ["customer", "agent", "trader"])
async def test_who_may_not_ask_is_refused(shop: Caller, roles: str) -> None:
    caller = Caller(shop.stub, shop.tenant, roles)
    assert (await refused(caller.detect("hello")))[0] == "PERMISSION_DENIED"
    assert (await refused(caller.train()))[0] == "PERMISSION_DENIED"


async def test_mesh_asks_for_a_tenant(shop: Caller) -> None:
    assert (await Caller(shop.stub, shop.tenant, "mesh").detect("hello")).intent == "greeting"
