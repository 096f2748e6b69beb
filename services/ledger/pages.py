"""Where the pages of entries and balances begin: tokens that a caller may have made up."""

from collections.abc import Mapping

from services.common import pagination
from services.common.errors import InvalidArgument
from services.ledger.rows import NEWEST, BalanceKey, EntryKey

SMALLINT_MAX = 32_767


def entries_after(token: str, filters: Mapping[str, object]) -> EntryKey:
    """Return the key after which a page of entries begins.

    Raises InvalidArgument for what is no token of these filters.
    """
    last = pagination.keyset(token, filters, str, int)
    if last is None:
        return NEWEST
    try:
        return EntryKey(pagination.uuid(last[0]), _smallint(last[1]))
    except ValueError:
        raise _refused() from None


def balances_after(token: str, filters: Mapping[str, object]) -> BalanceKey | None:
    """Return the key after which a page of balances begins, None for the first.

    Raises InvalidArgument for what is no token of these filters.
    """
    last = pagination.keyset(token, filters, str, str, int, int)
    if last is None:
        return None
    account_id, asset, asset_kind, sub_account = last
    try:
        return BalanceKey(
            str(account_id), str(asset), _smallint(asset_kind), _smallint(sub_account)
        )
    except ValueError:
        raise _refused() from None


def _smallint(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= SMALLINT_MAX:
        raise ValueError
    return value


def _refused() -> InvalidArgument:
    return InvalidArgument.of("page_token", "INVALID_PAGE_TOKEN", "is not a page token")
