"""The whole stack: services behind the door, and back again after a crash."""

import urllib.error
import urllib.request

import pytest

from services.stack.stack import Stack

URL = "/v1/instruments"


def get(stack: Stack, token: str) -> int:
    request = urllib.request.Request(stack.edge_url + URL)
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_everything_is_ready(stack: Stack) -> None:
    assert {row.name: row.problem for row in stack.status() if row.problem} == {}


def test_door_opens_for_a_token_of_the_stack_alone(stack: Stack) -> None:
    token = stack.token("acme", ["auditor"])
    assert get(stack, token) == 200
    assert get(stack, "") == 401
    assert get(stack, token[:-4] + "AAAA") == 401


@pytest.mark.parametrize("name", ["instrument", "envoy", "collector"])
def test_killed_process_is_started_again(stack: Stack, name: str) -> None:
    stack.kill(name)
    assert stack.server(name).process.find() is None
    stack.up()
    assert not stack.server(name).problem()
    assert get(stack, stack.token("acme", ["auditor"])) == 200
