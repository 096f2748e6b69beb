"""REST through the door: what is transcoded, what is refused, and how it is told."""

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.test_edge_scene import Edge, bearer, edge


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with edge(tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_seen(door: Edge) -> None:
    door.seen.calls.clear()


def told(problem: Any) -> tuple[str, str]:
    """Return reason and field of a refusal."""
    info, *rest = problem["details"]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["domain"] == "interchange"
    return info["reason"], rest[0]["fieldViolations"][0]["field"] if rest else ""


async def test_a_trade_is_booked_with_all_that_json_can_say(door: Edge) -> None:
    body = {
        "accountId": "A",
        "instrument_id": "XYZ",
        "side": "SIDE_BUY",
        "quantity": {"value": "10"},
        "fees": {"currencyCode": "USD", "units": "1", "nanos": 5},
        "tradeTime": "2024-02-29T12:00:00.5Z",
        "venue": 'caf\u00e9 "\\/\b\f\n\r\t \U0001f600',
        "externalId": None,
    }

    status, trade = await door.call("POST", "/v1/trades", json=body)

    _, _, request = door.seen.calls[-1]
    assert status == 200
    assert (trade["tradeId"], trade["side"], trade["version"]) == ("t-1", "SIDE_BUY", 0)
    assert request.venue == body["venue"]
    assert request.trade_time.ToJsonString() == "2024-02-29T12:00:00.500Z"
    assert (request.instrument_id, request.fees.units) == ("XYZ", 1)


@pytest.mark.parametrize("body", ["", "{}", " {\n} "])
async def test_an_empty_body_is_an_empty_request(door: Edge, body: str) -> None:
    status, instrument = await door.call("POST", "/v1/instruments/XYZ:halt", data=body)

    assert (status, instrument["instrumentId"]) == (200, "XYZ")


async def test_a_mask_names_fields_in_one_string(door: Edge) -> None:
    body = {"instrument": {"name": "New"}, "updateMask": "name,lotSize"}

    status, _ = await door.call("PATCH", "/v1/instruments/XYZ", json=body)

    assert status == 200
    assert list(door.seen.calls[-1][2].update_mask.paths) == ["name", "lot_size"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"accountID": "A"}', ("UNKNOWN_FIELD", "accountID")),
        ('{"quantity": {"amount": "1"}}', ("UNKNOWN_FIELD", "quantity.amount")),
        (r'{"a\"b\\": 1}', ("UNKNOWN_FIELD", 'a"b\\')),
        (r'{"\\u0061ccountId": 1}', ("UNKNOWN_FIELD", r"\u0061ccountId")),
        ('{"venue": "X", "venue": "Y"}', ("DUPLICATE_FIELD", "venue")),
        ('{"accountId": "A", "account_id": "B"}', ("DUPLICATE_FIELD", "account_id")),
        (r'{"venue": "X", "\u0076enue": "Y"}', ("DUPLICATE_FIELD", "venue")),
        ('{"fees": {"units": 1, "units": 2}}', ("DUPLICATE_FIELD", "fees.units")),
        ('{"quantity": "1"}', ("WRONG_TYPE", "quantity")),
        ('{"venue": {}}', ("WRONG_TYPE", "venue")),
        ('{"venue": ["X"]}', ("WRONG_TYPE", "venue")),
        ('{"tradeTime": {"seconds": 1}}', ("WRONG_TYPE", "tradeTime")),
    ],
)
async def test_a_field_that_means_nothing_is_named(
    door: Edge, body: str, expected: tuple[str, str]
) -> None:
    status, problem = await door.call("POST", "/v1/trades", data=body)

    assert (status, problem["code"], told(problem)) == (400, 3, expected)
    assert door.seen.calls == []


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        '"text"',
        "null",
        "{'venue': 'X'}",
        '{venue: "X"}',
        '{"venue": "X",}',
        '{"venue" "X"}',
        '{"venue": }',
        '{"venue": "X"} {}',
        '{"venue": "X',
        '{"venue": "a\nb"}',
        r'{"venue": "\x41"}',
        '{"venue": 01}',
        '{"venue": 1.}',
        '{"venue": +1}',
        '{"venue": NaN}',
        '{"venue": tru}',
        '\ufeff{"venue": "X"}',
        '{"fees": {"units": ' + "[" * 5000,
    ],
)
async def test_what_is_not_quite_json_is_refused(door: Edge, body: str) -> None:
    status, problem = await door.call("POST", "/v1/trades", data=body.encode())

    assert (status, problem["code"]) == (400, 3)
    assert told(problem)[0] in ("MALFORMED_JSON", "WRONG_TYPE")
    assert door.seen.calls == []


async def test_an_element_of_a_list_is_named_by_its_index(door: Edge) -> None:
    body = {"requests": [{"accountId": "A"}, {"price": {"cents": 1}}]}

    _, problem = await door.call("POST", "/v1/trades:batchCreate", json=body)

    assert told(problem) == ("UNKNOWN_FIELD", "requests.1.price.cents")


async def test_a_list_is_a_list(door: Edge) -> None:
    _, problem = await door.call("POST", "/v1/trades:batchCreate", json={"requests": {}})

    assert told(problem) == ("WRONG_TYPE", "requests")


async def test_what_the_path_says_the_body_must_not(door: Edge) -> None:
    body = {"instrumentId": "ABC", "instrument": {"name": "x"}, "updateMask": "name"}

    _, problem = await door.call("PATCH", "/v1/instruments/XYZ", json=body)

    assert told(problem) == ("DUPLICATE_FIELD", "instrumentId")


@pytest.mark.parametrize(
    ("verb", "target", "expected"),
    [
        ("GET", "/v1/trades?account=A", ("UNKNOWN_FIELD", "account")),
        ("GET", "/v1/trades?trade_date.hour=1", ("UNKNOWN_FIELD", "trade_date.hour")),
        ("GET", "/v1/trades?trade_date=2024", ("WRONG_TYPE", "trade_date")),
        ("GET", "/v1/trades?pageSize=1&page_size=2", ("DUPLICATE_FIELD", "page_size")),
        ("GET", "/v1/trades/1?trade_id=2", ("DUPLICATE_FIELD", "trade_id")),
        ("POST", "/v1/trades?account_id=A", ("UNKNOWN_FIELD", "account_id")),
        ("GET", "/v1/trades?page_size=many", ("BAD_REQUEST", "")),
    ],
)
async def test_a_parameter_that_means_nothing_is_named(
    door: Edge, verb: str, target: str, expected: tuple[str, str]
) -> None:
    status, problem = await door.call(verb, target)

    assert (status, told(problem)) == (400, expected)
    assert door.seen.calls == []


async def test_parameters_reach_the_service(door: Edge) -> None:
    status, _ = await door.call(
        "GET", "/v1/trades?accountId=A%2B1&trade_date.year=2024&page_size=5"
    )

    _, _, request = door.seen.calls[-1]
    assert status == 200
    assert (request.account_id, request.trade_date.year, request.page_size) == ("A+1", 2024, 5)


@pytest.mark.parametrize("megabytes", [2, 20])
async def test_a_body_above_a_megabyte_is_refused(door: Edge, megabytes: int) -> None:
    body = b'{"venue": "' + b"x" * (megabytes * 1_000_000) + b'"}'

    status, problem = await door.call("POST", "/v1/trades", data=io.BytesIO(body))

    assert (status, told(problem)[0]) == (413, "BODY_TOO_LARGE")
    assert door.seen.calls == []


async def test_a_body_of_almost_a_megabyte_passes(door: Edge) -> None:
    trade = {"accountId": "A", "quantity": {"value": "1"}, "venue": "x" * 900}
    body = json.dumps({"requests": [trade] * 1000})
    assert len(body) > 900_000

    status, answer = await door.call("POST", "/v1/trades:batchCreate", data=body)

    assert (status, len(answer["results"])) == (200, 1000)


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("DELETE", "/v1/trades", "GET, POST"),
        ("OPTIONS", "/v1/trades", "GET, POST"),
        ("PUT", "/v1/instruments/XYZ", "GET, PATCH"),
        ("GET", "/v1/instruments/XYZ:halt", "POST"),
    ],
)
async def test_a_wrong_verb_is_told_the_right_ones(
    door: Edge, verb: str, path: str, allowed: str
) -> None:
    async with door.http.request(verb, path, headers=bearer()) as answer:
        problem = await answer.json()

    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert told(problem)[0] == "METHOD_NOT_ALLOWED"


async def test_a_services_refusal_keeps_its_details(door: Edge) -> None:
    body = {"accountId": "A", "quantity": {"value": "-1"}}

    status, problem = await door.call("POST", "/v1/trades", json=body)

    assert (status, problem["message"]) == (400, "quantity: was -1")
    assert told(problem) == ("NOT_POSITIVE", "quantity")


async def test_refusals_inside_an_answer_keep_their_details(door: Edge) -> None:
    body = {"requests": [{"accountId": "A"}]}

    _, answer = await door.call("POST", "/v1/trades:batchCreate", json=body)

    assert told(answer["results"][0]["error"]) == ("NOT_POSITIVE", "price")


async def test_what_is_not_there_is_404(door: Edge) -> None:
    status, problem = await door.call("GET", "/v1/trades/1")

    assert (status, problem["code"], told(problem)[0]) == (404, 5, "TRADE_NOT_FOUND")


async def test_a_service_that_is_down_is_503(door: Edge) -> None:
    status, problem = await door.call("GET", "/v1/accounts")

    assert (status, problem["code"], told(problem)[0]) == (503, 14, "UPSTREAM_UNAVAILABLE")


async def test_a_late_answer_is_504(door: Edge) -> None:
    headers = {**bearer(), "grpc-timeout": "200m"}

    status, problem = await door.call(
        "POST", "/v1/trades", json={"instrumentId": "SLOW"}, headers=headers
    )

    # The service may say it before the edge does.
    assert (status, problem["code"]) == (504, 4)


async def test_a_stream_is_a_line_a_message(door: Edge) -> None:
    async with door.http.get("/v1/accounts/A/positions:watch", headers=bearer()) as answer:
        lines = [json.loads(line) async for line in answer.content]

    assert answer.status == 200
    assert lines == [{"positions": [], "end": False}] * 3


async def test_an_answer_of_megabytes_arrives_whole(door: Edge) -> None:
    status, answer = await door.call("GET", "/v1/trades?account_id=MANY")

    assert (status, len(answer["trades"])) == (200, 5000)


async def test_a_safe_call_is_repeated_once_its_service_failed(door: Edge) -> None:
    status, _ = await door.call("GET", "/v1/trades?account_id=FLAKY")

    assert (status, len(door.seen.calls)) == (200, 2)


async def test_a_write_is_never_repeated(door: Edge) -> None:
    body = {"requests": [{"accountId": "FLAKY"}]}

    status, _ = await door.call("POST", "/v1/trades:batchCreate", json=body)

    assert (status, len(door.seen.calls)) == (503, 1)
