"""Domain to protobuf: the resources and the events that carry them.

Both types of events share one numbering per account.
"""

from collections.abc import Sequence
from datetime import date, datetime

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.decimal_pb2 import Decimal
from google.type.money_pb2 import Money
from interchange.account.v1 import account_pb2
from interchange.account.v1.account_events_pb2 import AccountChanged, TransferRecorded

from native import money
from services.account.domain import Account, CostMethod, Kind, Status
from services.account.transfers import Transfer
from services.common import currencies
from services.common.events import EventColumns

TOPIC = "account-events"
KINDS = {
    Kind.CLIENT: account_pb2.ACCOUNT_KIND_CLIENT,
    Kind.HOUSE: account_pb2.ACCOUNT_KIND_HOUSE,
}
COST_METHODS = {
    CostMethod.AVERAGE: account_pb2.COST_METHOD_AVERAGE,
    CostMethod.FIFO: account_pb2.COST_METHOD_FIFO,
}
STATUSES = {
    Status.OPEN: account_pb2.ACCOUNT_STATUS_OPEN,
    Status.CLOSED: account_pb2.ACCOUNT_STATUS_CLOSED,
}

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def account_message(account: Account) -> account_pb2.Account:
    """Return an account as it is shown to callers and consumers."""
    return account_pb2.Account(
        account_id=account.account_id,
        display_name=account.display_name,
        kind=KINDS[account.kind],
        base_currency=account.base_currency,
        cost_method=COST_METHODS[account.cost_method],
        status=STATUSES[account.status],
        version=account.version,
        create_time=_timestamp(account.create_time),
    )


def transfer_message(transfer: Transfer) -> account_pb2.Transfer:
    """Return a transfer as it is shown to callers."""
    terms = transfer.terms
    deposit = terms.amount > 0
    message = account_pb2.Transfer(
        transfer_id=transfer.transfer_id,
        account_id=terms.account_id,
        direction=(
            account_pb2.TRANSFER_DIRECTION_DEPOSIT
            if deposit
            else account_pb2.TRANSFER_DIRECTION_WITHDRAWAL
        ),
        value_date=Date(
            year=terms.value_date.year, month=terms.value_date.month, day=terms.value_date.day
        ),
        description=terms.description,
        sequence=transfer.sequence,
        create_time=_timestamp(transfer.create_time),
    )
    if terms.is_cash:
        message.cash.CopyFrom(_money(terms.asset, abs(terms.amount)))
        return message
    quantity = np.array([abs(terms.amount)], np.int64)
    text = money.format_decimals(quantity, money.QUANTITY_SCALE)[0]
    message.security.instrument_id = terms.asset
    message.security.quantity.CopyFrom(Decimal(value=text))
    if terms.cost_currency:
        message.security.cost.CopyFrom(_money(terms.cost_currency, terms.cost_minor))
    return message


def accounts_created(
    tenant_id: str, event_ids: list[str], messages: Sequence[account_pb2.Account]
) -> EventColumns:
    """Return the first events of new accounts."""
    columns = EventColumns(tenant_id, TOPIC)
    columns.extend(
        AccountChanged.DESCRIPTOR.full_name,
        1,
        event_ids,
        [message.account_id for message in messages],
        [1] * len(messages),
        [AccountChanged(account=message).SerializeToString() for message in messages],
    )
    return columns


def transfers_recorded(tenant_id: str, transfers: Sequence[Transfer]) -> EventColumns:
    """Return the events of transfers; each has the id of its transfer."""
    columns = EventColumns(tenant_id, TOPIC)
    columns.extend(
        TransferRecorded.DESCRIPTOR.full_name,
        1,
        [transfer.transfer_id for transfer in transfers],
        [transfer.terms.account_id for transfer in transfers],
        [transfer.sequence for transfer in transfers],
        [_recorded(transfer).SerializeToString() for transfer in transfers],
    )
    return columns


def _recorded(transfer: Transfer) -> TransferRecorded:
    terms = transfer.terms
    since = transfer.create_time - _EPOCH
    return TransferRecorded(
        event_id=transfer.transfer_id,
        account_id=terms.account_id,
        asset=terms.asset,
        is_cash=terms.is_cash,
        amount=terms.amount,
        cost_currency=terms.cost_currency,
        cost_minor=terms.cost_minor,
        value_day=terms.value_date.toordinal() - _EPOCH_DAY,
        recorded_us=(since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds,
    )


def _money(currency: str, minor: int) -> Money:
    exponent = currencies.exponent(currency)
    assert exponent is not None, f"{currency} was stored, and is no currency"
    columns = np.array([minor], np.int64), np.array([exponent], np.uint8)
    units, nanos = money.minor_to_money(*columns)
    return Money(currency_code=currency, units=int(units[0]), nanos=int(nanos[0]))


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
