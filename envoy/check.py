"""What `envoy --mode validate` does not see."""

import base64
import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from . import jwt, lua, query_token, reserved, transcoder
from .config import Config
from .descriptors import Descriptors, Rpc
from .listener import OWN_PREFIXES
from .routes import BUFFER

ORDER = (
    "envoy.filters.http.grpc_web",
    query_token.FILTER,
    jwt.FILTER,
    reserved.FILTER,
    BUFFER,
    lua.FILTER,
    transcoder.FILTER,
    "envoy.filters.http.router",
)
HARMLESS_RETRIES = frozenset({"connect-failure", "refused-stream"})
SOCKET = {"path": jwt.WEBSOCKET_PATH}
"""The only path that may bring its token later."""
GRPC = {"content-type": "application/grpc"}
VERBS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


def check(config: Config) -> list[str]:
    """Return what is wrong with a configuration, a sentence each; nothing when it is sound."""
    return list(_problems(config))


def _problems(config: Config) -> Iterator[str]:
    resources = config["static_resources"]
    clusters = {cluster["name"] for cluster in resources["clusters"]}
    for listener in resources["listeners"]:
        name = listener["name"]
        for cluster in sorted(set(_named_clusters(listener)) - clusters):
            yield f"{name}: cluster {cluster} is named and does not exist"
        for manager in _managers(listener):
            filters = {each["name"]: each for each in manager["http_filters"]}
            routes = [r for h in manager["route_config"]["virtual_hosts"] for r in h["routes"]]
            yield from (f"{name}: {problem}" for problem in _chain(manager))
            yield from (f"{name}: {problem}" for problem in _hosts(manager))
            yield from (f"{name}: {problem}" for problem in _deadlines(routes))
            if jwt.FILTER in filters:
                yield from (f"{name}: {p}" for p in _tokens(filters[jwt.FILTER], routes))
                yield from (f"{name}: {p}" for p in _stripping(manager))
                if reserved.FILTER not in filters:
                    yield f"{name}: tokens may give the roles of services"
            elif not _is_loopback(listener):
                yield f"{name}: asks for no token and is not on loopback"
            if transcoder.FILTER in filters:
                yield from (f"{name}: {p}" for p in _rpcs(filters[transcoder.FILTER], routes))


def _named_clusters(node: Any) -> Iterator[str]:
    """Yield clusters named anywhere, inside filters too, where validation does not look."""
    if isinstance(node, list):
        for each in node:
            yield from _named_clusters(each)
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("cluster", "cluster_name") and isinstance(value, str):
                yield value
            else:
                yield from _named_clusters(value)


def _managers(listener: Config) -> Iterator[Config]:
    for chain in listener["filter_chains"]:
        for each in chain["filters"]:
            if "http_filters" in each["typed_config"]:
                yield each["typed_config"]


def _is_loopback(listener: Config) -> bool:
    return ip_address(listener["address"]["socket_address"]["address"]).is_loopback


def _chain(manager: Config) -> Iterator[str]:
    names = [each["name"] for each in manager["http_filters"]]
    known = [ORDER.index(name) for name in names if name in ORDER]
    if known != sorted(known):
        yield "the filters are out of order"
    if names[-1] != ORDER[-1]:
        yield "the router is not the last filter"


def _hosts(manager: Config) -> Iterator[str]:
    for host in manager["route_config"]["virtual_hosts"]:
        last = host["routes"][-1]
        if last["match"] != {"prefix": "/"} or "direct_response" not in last:
            yield f"virtual host {host['name']} has no catch-all (trap 1)"


def _deadlines(routes: list[Config]) -> Iterator[str]:
    for route in routes:
        action = route.get("route", {})
        if "timeout" in action and "max_stream_duration" in action:
            yield f"{_name(route)}: max_stream_duration turns its timeout off (trap 4)"


def _tokens(jwt_filter: Config, routes: list[Config]) -> Iterator[str]:
    """Find paths that need no token and are not known to be open."""
    rules = jwt_filter["typed_config"]["rules"]
    for rule in rules:
        match = rule["match"]
        opened = match.get("path") == jwt.HEALTH_PATH or match.get("prefix") in jwt.OPEN_PREFIXES
        later = "allow_missing" in str(rule.get("requires")) and match != SOCKET
        if not opened and ("requires" not in rule or later):
            yield f"{match} needs no token"
    for route in routes:
        path = _sample(route["match"])
        first = next((rule for rule in rules if _matches(rule["match"], path, {})), None)
        if first is None:
            yield f"{_name(route)}: no rule asks for a token"


def _stripping(manager: Config) -> Iterator[str]:
    text = str(manager.get("early_header_mutation_extensions"))
    for prefix in OWN_PREFIXES:
        if f"'prefix': '{prefix}'" not in text:
            yield f"headers {prefix}* of callers are not removed (traps 5 and 9)"


def _rpcs(transcoder_filter: Config, routes: list[Config]) -> Iterator[str]:
    fields = transcoder_filter["typed_config"]
    descriptors = Descriptors(base64.b64decode(fields["proto_descriptor_bin"]))
    for rpc in descriptors.rpcs:
        if rpc.service not in fields["services"]:
            yield f"{rpc.service} is not transcoded"
        by_grpc = _first(routes, rpc.path, {":method": "POST", **GRPC})
        if rpc.internal:
            yield from _hidden(rpc, by_grpc)
            continue
        yield from _leads(rpc, by_grpc, rpc.path)
        for binding in rpc.bindings:
            path = _anonymous(binding.template)
            face = f"{binding.verb} {binding.template}"
            route = _first(routes, path, {":method": binding.verb})
            yield from _leads(rpc, route, face)
            missing = {BUFFER, lua.FILTER, transcoder.FILTER} - set(
                route.get("typed_per_filter_config", {})
            )
            if missing:
                yield f"{face}: {', '.join(sorted(missing))} is off"
    yield from _other_verbs(descriptors, routes)


def _hidden(rpc: Rpc, route: Config) -> Iterator[str]:
    """Find internal rpcs that callers from outside could reach."""
    if "route" in route:
        yield f"{rpc.path}: is internal and has a route"
    if rpc.bindings:
        yield f"{rpc.path}: is internal and has a REST face"


def _leads(rpc: Rpc, route: Config, face: str) -> Iterator[str]:
    """Find calls that don't reach their service, or are repeated though unsafe."""
    action = route.get("route", {})
    if action.get("cluster") != rpc.cluster:
        yield f"{face}: has no route to {rpc.cluster}"
    reasons = set(action.get("retry_policy", {}).get("retry_on", "connect-failure").split(","))
    if not rpc.safe and not reasons <= HARMLESS_RETRIES:
        yield f"{face}: is not safe and is retried on {', '.join(sorted(reasons))}"


def _other_verbs(descriptors: Descriptors, routes: list[Config]) -> Iterator[str]:
    """Find verbs without a binding that are forwarded all the same."""
    bound = {(b.verb, _anonymous(b.template)) for rpc in descriptors.public for b in rpc.bindings}
    for path in sorted({path for _, path in bound}):
        for verb in sorted(VERBS - {verb for verb, each in bound if each == path}):
            if "route" in _first(routes, path, {":method": verb}):
                yield f"{verb} {path}: is forwarded and means nothing"


def _anonymous(template: str) -> str:
    return re.sub(r"{[^}]*}", "x", template)


def _first(routes: list[Config], path: str, headers: dict[str, str]) -> Config:
    return next((route for route in routes if _matches(route["match"], path, headers)), {})


def _matches(match: Config, path: str, headers: dict[str, str]) -> bool:
    if "path" in match:
        fits = path == match["path"]
    elif "prefix" in match:
        fits = path.startswith(match["prefix"])
    else:
        fits = re.fullmatch(match["safe_regex"]["regex"], path) is not None
    return fits and all(_header_fits(each, headers) for each in match.get("headers", ()))


def _header_fits(matcher: Config, headers: dict[str, str]) -> bool:
    value = headers.get(matcher["name"])
    text = matcher["string_match"]
    if value is None:
        return False
    return value == text["exact"] if "exact" in text else value.startswith(text["prefix"])


def _sample(match: Config) -> str:
    if "safe_regex" in match:
        return str(match["safe_regex"]["regex"]).replace("[^/]+", "x").replace(".+", "x")
    return str(match.get("path") or match["prefix"])


def _name(route: Config) -> str:
    return str(route.get("name") or route["match"])
