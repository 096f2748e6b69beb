"""Path templates as route matches."""

import re

import pytest
from interchange_envoy.rest import path_match, specificity


@pytest.mark.parametrize(
    ("template", "path", "matches"),
    [
        ("/v1/trades", "/v1/trades", True),
        ("/v1/trades:batchCreate", "/v1/trades:batchCreate", True),
        ("/v1/trades/{trade_id}", "/v1/trades/42", True),
        ("/v1/trades/{trade_id}", "/v1/trades/", False),
        ("/v1/trades/{trade_id}", "/v1/trades/4/2", False),
        ("/v1/trades/{trade_id}:cancel", "/v1/trades/42:cancel", True),
        ("/v1/{name=accounts/*}", "/v1/accounts/7", True),
        ("/v1/{name=accounts/*}", "/v1/trades/7", False),
        ("/v1/{name=files/**}", "/v1/files/a/b", True),
    ],
)
def test_a_template_matches_its_paths(template: str, path: str, matches: bool) -> None:
    match = path_match(template)

    if "path" in match:
        assert (match["path"] == path) == matches
    else:
        assert bool(re.fullmatch(match["safe_regex"]["regex"], path)) == matches


def test_verbs_and_literals_come_before_variables() -> None:
    templates = ["/v1/a/{b}", "/v1/a/{b}:halt", "/v1/a/{b}/c/{d}", "/v1/a"]

    ordered = sorted(templates, key=specificity)

    assert ordered == ["/v1/a/{b}:halt", "/v1/a", "/v1/a/{b}", "/v1/a/{b}/c/{d}"]
