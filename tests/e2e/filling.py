"""Fills the request of any rpc, by the names of its fields, with what a tenant owns.

A field that nobody thought of yet fails the test: its name belongs into one of
the tables here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.type.decimal_pb2 import Decimal
from google.type.money_pb2 import Money
from interchange.instrument.v1.instrument_pb2 import ASSET_CLASS_EQUITY

from tests.e2e.catalog import Rpc
from tests.e2e.talk_world import EXAMPLES, SKILL
from tests.e2e.world import World

ALL_ACCOUNTS = "-"
VARIANTS = 3
"""Plain; with what narrows it and makes it wait; and of all accounts."""

EMPTY: Sequence[Any] = (None,)
MONEY = Money(currency_code="USD", units=3)

ORDINARY: Mapping[str, Sequence[Any]] = {
    "after_sequence": EMPTY,
    "asset_class": (ASSET_CLASS_EQUITY,),
    "base_currency": ("USD",),
    "before_sequence": EMPTY,
    "calendar": EMPTY,
    "cash": (MONEY,),
    "channel": (1,),
    "client": ("of its own",),
    "cost": (MONEY,),
    "cost_method": (1,),
    "currency": ("USD",),
    "customer_name": ("of its own",),
    "cusip": EMPTY,
    "delivered_sequence": EMPTY,
    "description": ("of its own",),
    "direction": (1,),
    "display_name": ("of its own",),
    "epoch": EMPTY,
    "examples": (EXAMPLES,),
    "excluded_agent_ids": EMPTY,
    "expected_version": (0,),
    "fallback_reply": ("of its own",),
    "fees": (MONEY,),
    "figi": EMPTY,
    "greeting": EMPTY,
    "hand_off": EMPTY,
    "hand_off_intent": EMPTY,
    "hand_off_reply": EMPTY,
    "isin": ("US5949181045",),
    "kind": (1,),
    "level": (3,),
    "limit": (3,),
    "lot_size": (Decimal(value="1"),),
    "media_type": ("image/png",),
    "mic": ("XNAS",),
    "misses_max": (2,),
    "name": ("of its own",),
    "page_size": EMPTY,
    "page_token": EMPTY,  # put in by whoever calls: it depends on the rest
    "pool_id": ("default",),
    "preferred_agent_id": EMPTY,
    "preferred_only": EMPTY,
    "price": (Decimal(value="10"),),
    "priority": (3,),
    "quantity": (Decimal(value="3"),),
    "read_sequence": EMPTY,
    "reason": (1,),
    "replies": ("of its own",),
    "required_skills": EMPTY,
    "route": EMPTY,
    "side": (1,),
    "size_bytes": (1,),
    "sub_account": (1, 2),
    "symbol": ("OWN",),
    "text": ("of its own",),
    "threshold_millis": (500,),
    "tick_size": (Decimal(value="0.01"),),
    "trade_time": EMPTY,
    "uri": ("https://files.example/of-its-own.png",),
    "update_mask": (FieldMask(paths=["name"]),),
    "value_date": EMPTY,
    "venue": ("XNAS",),
    "wait_for": EMPTY,
    "wished_skills": EMPTY,
    "interchange.agent.v1.SetAgentStatusRequest.status": (3,),
    "interchange.conversation.v1.ListConversationsRequest.agent_id": EMPTY,
    "interchange.conversation.v1.Skill.name": (SKILL,),
    "interchange.nlu.v1.GetModelRequest.version": EMPTY,
    "interchange.session.v1.ListSessionsRequest.subject": EMPTY,
    # Set by the server.
    "average_response_ms": EMPTY,
    "idle_since": EMPTY,
    "loads": EMPTY,
    "create_time": EMPTY,
    "sequence": EMPTY,
    "status": EMPTY,
    "update_time": EMPTY,
    "version": EMPTY,
    "interchange.account.v1.Transfer.transfer_id": EMPTY,
    "interchange.account.v1.Transfer.account_id": EMPTY,
}
"""Values by name or full name of the field; a variant beyond the last value takes the last."""


def owned(world: World) -> Mapping[str, Sequence[Any]]:
    """Return what names things of a tenant, by name of the field."""
    trade, transfer = world.trades[0], world.transfers[0]
    return {
        "account_id": (trade.account_id,),
        "agent_id": world.agents,
        "asset": (trade.instrument_id, "USD"),
        "bot_id": world.bots,
        "client_message_id": (f"{world.mark}-c1",),
        "conversation_id": world.conversations,
        "customer_id": (None, f"clerk-{world.mark}", None),
        "external_id": (trade.external_id,),
        "external_source": (trade.external_source,),
        "instrument_id": (trade.instrument_id,),
        "journal_id": world.journals,
        "min_sequence": (0, trade.sequence, 0),
        "min_transfer_sequence": (0, transfer.sequence, 0),
        "model_id": world.models,
        "offer_id": world.offers,
        "query": (world.mark,),
        "request_id": (f"{world.mark}-t0",),
        "secret": [secret for _, secret in world.sessions],
        "session_id": [session for session, _ in world.sessions],
        "trade_date": (None, trade.trade_date, None),
        "trade_id": (trade.trade_id,),
        "transfer_id": (transfer.transfer_id,),
    }


def requests(rpc: Rpc, world: World) -> list[Message]:
    """Return different requests of an rpc that name what a tenant owns."""
    known = {**ORDINARY, **owned(world)}
    found: list[Message] = []
    for variant in range(VARIANTS):
        request = _filled(rpc.request.DESCRIPTOR, known, variant)
        if (
            variant == VARIANTS - 1
            and rpc.safe
            and "account_id" in request.DESCRIPTOR.fields_by_name
        ):
            request.account_id = ALL_ACCOUNTS
        if request not in found:
            found.append(request)
    return found


def _filled(descriptor: Descriptor, known: Mapping[str, Sequence[Any]], variant: int) -> Any:
    message = GetMessageClass(descriptor)()
    chosen = {oneof.fields[min(variant, len(oneof.fields) - 1)].name for oneof in descriptor.oneofs}
    for field in descriptor.fields:
        if field.containing_oneof is None or field.name in chosen:
            _fill(message, field, known, variant)
    return message


def _fill(
    message: Message, field: FieldDescriptor, known: Mapping[str, Sequence[Any]], variant: int
) -> None:
    values = known.get(field.full_name, known.get(field.name))
    inner = field.message_type
    if values is None and inner is not None and inner.full_name.startswith("interchange."):
        value = _filled(inner, known, variant)
    elif values is None:
        pytest.fail(
            f"{field.full_name} is new to the tests of isolation: add `{field.name}` in "
            f"{__name__}, to `owned` when it names something of a tenant, else to `ORDINARY`"
        )
    else:
        value = values[min(variant, len(values) - 1)]
    if value is None:
        return
    if isinstance(value, tuple):
        getattr(message, field.name).extend(value)
    elif field.is_repeated:
        getattr(message, field.name).append(value)
    elif inner is not None:
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)
