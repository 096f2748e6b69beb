import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import InvalidArgument
from services.common.pagination import keyset, page_size, page_token, uuid

FILTERS = {"account_id": "ACC-1", "trade_date": None}


def test_first_page_has_no_key():
    assert keyset("", FILTERS, int, str) is None


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.text("abcXYZ019-_ é", max_size=32))
def test_token_returns_the_key_that_it_was_made_of(number, text):
    token = page_token((number, text), FILTERS)

    assert keyset(token, FILTERS, int, str) == (number, text)


def test_token_of_other_filters_is_refused():
    token = page_token((5, "a"), FILTERS)

    with pytest.raises(InvalidArgument) as caught:
        keyset(token, FILTERS | {"account_id": "ACC-2"}, int, str)

    assert caught.value.reason == "INVALID_PAGE_TOKEN"
    assert caught.value.violations[0].field == "page_token"


def test_token_of_other_columns_is_refused():
    with pytest.raises(InvalidArgument):
        keyset(page_token(("a", 5), FILTERS), FILTERS, int, str)


@given(st.text(max_size=600))
def test_garbage_is_refused_as_a_field_error(garbage):
    if not garbage:
        return
    with pytest.raises(InvalidArgument):
        keyset(garbage, FILTERS, int, str)


@pytest.mark.parametrize("value", [1 << 63, True, 1.5, None, {"a": 1}])
def test_forged_number_never_reaches_a_query(value):
    hashed = json.loads(base64.urlsafe_b64decode(page_token((1,), FILTERS) + "=="))[0]
    forged = base64.urlsafe_b64encode(json.dumps([hashed, value]).encode()).decode().rstrip("=")

    with pytest.raises(InvalidArgument):
        keyset(forged, FILTERS, int)


def test_forged_text_with_a_zero_byte_never_reaches_a_query():
    with pytest.raises(InvalidArgument):
        keyset(page_token(("a\x00b",), FILTERS), FILTERS, str)


@pytest.mark.parametrize(("requested", "expected"), [(0, 100), (1, 1), (1000, 1000), (5000, 1000)])
def test_page_size_has_a_default_and_a_limit(requested, expected):
    assert page_size(requested) == expected


def test_negative_page_size_is_refused():
    with pytest.raises(InvalidArgument):
        page_size(-1)


def test_key_that_is_no_id_is_refused_before_the_database_sees_it():
    with pytest.raises(InvalidArgument):
        uuid("not-an-id")
