"""Events of the ledger as protobuf."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from interchange.ledger.v1.ledger_events_pb2 import JournalsPosted
from interchange.ledger.v1.ledger_pb2 import JournalKind

from services.common.events import EventColumns
from services.ledger.domain import AccountId, Journals

TOPIC = "ledger-events"
_JOURNALS_POSTED = JournalsPosted.DESCRIPTOR.full_name


class Notice(NamedTuple):
    """What an account is told: the journals of one kind that were posted to it together."""

    account: AccountId
    kind: int
    journal_ids: list[str]
    source_sequence: int


def notices(journals: Journals) -> Iterator[Notice]:
    """Yield one notice for each account of the journals."""
    headers = journals.headers
    journal_ids: list[list[str]] = [[] for _ in journals.accounts]
    for account, journal_id in zip(headers.account.tolist(), headers.event_ids, strict=True):
        journal_ids[account].append(journal_id)
    last = dict(zip(headers.account.tolist(), headers.source_sequence.tolist(), strict=True))
    for number, account_id in enumerate(journals.accounts):
        yield Notice(account_id, headers.kind, journal_ids[number], last[number])


def journals_posted(
    posted: Sequence[Notice], last: Mapping[AccountId, int], event_ids: Iterable[str]
) -> list[EventColumns]:
    """Return the events by tenant, numbered up to the `last` number of each account."""
    left: dict[AccountId, int] = {}
    for notice in posted:
        left[notice.account] = left.get(notice.account, 0) + 1
    tenants: dict[str, EventColumns] = {}
    for notice, event_id in zip(posted, event_ids, strict=True):
        tenant_id, account_id = notice.account
        left[notice.account] -= 1
        message = JournalsPosted(
            account_id=account_id,
            journal_ids=notice.journal_ids,
            kind=JournalKind.ValueType(notice.kind),
            source_sequence=notice.source_sequence,
        )
        tenants.setdefault(tenant_id, EventColumns(tenant_id, TOPIC)).extend(
            _JOURNALS_POSTED,
            1,
            [event_id],
            [account_id],
            [last[notice.account] - left[notice.account]],
            [message.SerializeToString()],
        )
    return list(tenants.values())
