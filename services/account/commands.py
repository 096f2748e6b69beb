"""Requests to commands."""

from google.protobuf.message import Message
from google.type.money_pb2 import Money
from interchange.account.v1 import account_service_pb2 as pb
from interchange.account.v1.account_pb2 import SecurityAmount

from services.account.domain import Details
from services.account.handlers import CreateAccount
from services.account.transfer_handlers import CreateTransfer
from services.account.transfers import Amount, Security, TransferDetails
from services.common.requests import RequestKey

ACCOUNT_OUTPUT_ONLY = ("status", "version", "create_time")
TRANSFER_OUTPUT_ONLY = ("transfer_id", "sequence", "create_time")


def create_account(request: pb.CreateAccountRequest) -> CreateAccount:
    """Return the command of a request, alone or one of a batch: they share their keys."""
    account = request.account
    details = Details(
        account_id=account.account_id,
        display_name=account.display_name,
        kind=account.kind,
        base_currency=account.base_currency,
        cost_method=account.cost_method,
        output_only=_given(account, ACCOUNT_OUTPUT_ONLY),
    )
    return CreateAccount(details, RequestKey.of("CreateAccount", request))


def create_transfer(request: pb.CreateTransferRequest) -> CreateTransfer:
    """Return the command of a request."""
    transfer = request.transfer
    asset: Amount | Security | None = None
    if transfer.HasField("cash"):
        asset = _amount(transfer.cash)
    elif transfer.HasField("security"):
        asset = _security(transfer.security)
    day = transfer.value_date
    details = TransferDetails(
        account_id=request.account_id,
        repeated_account_id=transfer.account_id,
        direction=transfer.direction,
        asset=asset,
        value_date=(day.year, day.month, day.day) if transfer.HasField("value_date") else None,
        description=transfer.description,
        output_only=_given(transfer, TRANSFER_OUTPUT_ONLY),
    )
    return CreateTransfer(details, RequestKey.of("CreateTransfer", request))


def _security(message: SecurityAmount) -> Security:
    cost = _amount(message.cost) if message.HasField("cost") else None
    return Security(message.instrument_id, message.quantity.value, cost)


def _amount(message: Money) -> Amount:
    return Amount(message.currency_code, message.units, message.nanos)


def _given(message: Message, names: tuple[str, ...]) -> tuple[str, ...]:
    given = {descriptor.name for descriptor, _ in message.ListFields()}
    return tuple(name for name in names if name in given)
