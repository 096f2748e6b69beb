"""The generated configuration: what Envoy and our own checks say of it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interchange_envoy import binary, lua, routes
from interchange_envoy.check import check
from interchange_envoy.descriptors import Descriptors
from interchange_envoy.edge import EdgeSettings, bootstrap
from joserfc.jwk import ECKey, KeySet

DESCRIPTORS = Path("gen/interchange/descriptors.binpb")
SERVICES = ("instrument", "account", "trade", "position", "ledger")


def settings(**changes: Any) -> EdgeSettings:
    key = ECKey.generate_key("P-256", {"kid": "one", "use": "sig", "alg": "ES256"})
    values = {
        "descriptors": DESCRIPTORS,
        "jwks": json.dumps(KeySet([key]).as_dict(private=False)),
        "endpoints": {name: [("127.0.0.1", 9000)] for name in SERVICES},
    }
    return EdgeSettings(**{**values, **changes})


@pytest.fixture(scope="module")
def sound() -> dict[str, Any]:
    return bootstrap(settings())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"endpoints": {}},
        {"endpoints": {"trade": [("127.0.0.1", 1), ("127.0.0.1", 2)]}},
        {"endpoints": {"gateway": [("127.0.0.1", 1)]}},
        {"collector": ("127.0.0.1", 4317), "trace_ratio": 1.0},
    ],
    ids=["all", "no service", "two processes", "gateway", "traced"],
)
def test_envoy_accepts_every_shape_of_the_mesh(changes: dict[str, Any], tmp_path: Path) -> None:
    config = bootstrap(settings(access_log=tmp_path / "access.log", **changes))

    assert binary.validate(config, tmp_path) is None
    assert check(config) == []


def test_envoy_refuses_what_it_does_not_know(sound: dict[str, Any], tmp_path: Path) -> None:
    refused = binary.validate({**sound, "surprise": 1}, tmp_path)

    assert refused is not None
    assert "surprise" in refused


def test_a_process_of_several_services_is_one_endpoint_of_the_mesh(sound: dict[str, Any]) -> None:
    clusters = {each["name"]: each for each in sound["static_resources"]["clusters"]}

    (locality,) = clusters[routes.MESH]["load_assignment"]["endpoints"]
    assert len(locality["lb_endpoints"]) == 1


def test_endpoints_of_no_service_are_refused() -> None:
    with pytest.raises(ValueError, match="trades"):
        bootstrap(settings(endpoints={"trades": [("127.0.0.1", 1)]}))


def test_the_websocket_is_there_only_with_a_gateway() -> None:
    without = json.dumps(bootstrap(settings()))
    with_gateway = json.dumps(bootstrap(settings(endpoints={"gateway": [("127.0.0.1", 1)]})))

    assert "/v1/ws" not in without
    assert "/v1/ws" in with_gateway


def manager(config: dict[str, Any], listener: int = 0) -> Any:
    chain = config["static_resources"]["listeners"][listener]["filter_chains"][0]
    return chain["filters"][0]["typed_config"]


def edge_routes(config: dict[str, Any]) -> Any:
    return manager(config)["route_config"]["virtual_hosts"][0]["routes"]


def route(config: dict[str, Any], name: str) -> Any:
    return next(each for each in edge_routes(config) if each.get("name") == name)


def http_filter(config: dict[str, Any], name: str) -> Any:
    return next(each for each in manager(config)["http_filters"] if each["name"] == name)


def retry_writes(config: dict[str, Any]) -> None:
    route(config, "POST /v1/trades")["route"]["retry_policy"]["retry_on"] += ",unavailable"


def forget_a_route(config: dict[str, Any]) -> None:
    edge_routes(config).remove(route(config, "GET /v1/trades"))


def drop_the_catch_all(config: dict[str, Any]) -> None:
    edge_routes(config).pop()


def open_the_trades(config: dict[str, Any]) -> None:
    rules = http_filter(config, "envoy.filters.http.jwt_authn")["typed_config"]["rules"]
    rules.insert(0, {"match": {"prefix": "/v1/trades"}})


def drop_the_last_rule(config: dict[str, Any]) -> None:
    http_filter(config, "envoy.filters.http.jwt_authn")["typed_config"]["rules"].pop()


def name_an_unknown_cluster(config: dict[str, Any]) -> None:
    grpc = {"envoy_grpc": {"cluster_name": "nowhere"}}
    manager(config)["http_filters"].insert(0, {"name": "x", "typed_config": {"service": grpc}})


def authenticate_last(config: dict[str, Any]) -> None:
    filters = manager(config)["http_filters"]
    filters.insert(-1, filters.pop(1))


def open_the_egress(config: dict[str, Any]) -> None:
    address = config["static_resources"]["listeners"][1]["address"]
    address["socket_address"]["address"] = "0.0.0.0"


def believe_the_caller(config: dict[str, Any]) -> None:
    del manager(config)["early_header_mutation_extensions"]


def add_a_timeout(config: dict[str, Any]) -> None:
    route(config, "GET /v1/trades")["route"]["timeout"] = "1s"


def let_unknown_fields_pass(config: dict[str, Any]) -> None:
    del route(config, "POST /v1/trades")["typed_per_filter_config"][lua.FILTER]


def forward_any_verb(config: dict[str, Any]) -> None:
    del route(config, "GET /v1/trades")["match"]["headers"]


def let_tokens_give_any_role(config: dict[str, Any]) -> None:
    manager(config)["http_filters"].remove(http_filter(config, "envoy.filters.http.rbac"))


def let_trades_come_without_a_token(config: dict[str, Any]) -> None:
    rules = http_filter(config, "envoy.filters.http.jwt_authn")["typed_config"]["rules"]
    either = {"requirements": [{"provider_name": "bearer"}, {"allow_missing": {}}]}
    rules.insert(0, {"match": {"path": "/v1/trades"}, "requires": {"requires_any": either}})


def show_an_internal_rpc(config: dict[str, Any]) -> None:
    internal = next(rpc for rpc in Descriptors.read(DESCRIPTORS).rpcs if rpc.internal)
    shown = {"match": {"path": internal.path}, "route": {"cluster": internal.cluster}}
    edge_routes(config).insert(0, shown)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (retry_writes, "POST /v1/trades: is not safe and is retried on"),
        (forget_a_route, "GET /v1/trades: has no route to trade"),
        (drop_the_catch_all, "no catch-all"),
        (open_the_trades, "'/v1/trades'} needs no token"),
        (drop_the_last_rule, "no rule asks for a token"),
        (name_an_unknown_cluster, "cluster nowhere is named"),
        (authenticate_last, "out of order"),
        (open_the_egress, "not on loopback"),
        (believe_the_caller, "x-interchange-* of callers are not removed"),
        (add_a_timeout, "turns its timeout off"),
        (let_unknown_fields_pass, "lua is off"),
        (forward_any_verb, "DELETE /v1/trades: is forwarded"),
        (let_tokens_give_any_role, "tokens may give the roles of services"),
        (let_trades_come_without_a_token, "'/v1/trades'} needs no token"),
        (show_an_internal_rpc, "is internal and has a route"),
    ],
)
def test_a_fault_that_envoy_would_accept_is_found(
    sound: dict[str, Any], fault: Callable[[dict[str, Any]], None], problem: str
) -> None:
    config = copy.deepcopy(sound)

    fault(config)

    assert any(problem in each for each in check(config)), check(config)


def test_only_safe_methods_are_repeated_after_a_failure(sound: dict[str, Any]) -> None:
    by_path = {each["match"].get("path"): each for each in edge_routes(sound)}

    for rpc in Descriptors.read(DESCRIPTORS).public:
        retried = by_path[rpc.path]["route"]["retry_policy"]["retry_on"].split(",")
        assert ("unavailable" in retried) == rpc.safe, rpc.path
