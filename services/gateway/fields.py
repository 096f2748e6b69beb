"""Fields that frames share: types with their bounds, which the decoder enforces."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

Ref: TypeAlias = Annotated[
    str, Meta(max_length=64, description="Given by the client; the answer repeats it.")
]
Uuid: TypeAlias = Annotated[
    # Both bounds, since `$` also fits before a line break.
    str,
    Meta(pattern=_UUID, min_length=36, max_length=36, description="A UUID in lower case."),
]
Sequence: TypeAlias = Annotated[
    int, Meta(ge=0, le=2**53 - 1, description="Number of a message in its conversation.")
]
Key: TypeAlias = Annotated[
    str, Meta(max_length=64, description="Idempotency key, at most 64 printable characters.")
]
Name: TypeAlias = Annotated[str, Meta(max_length=100)]
Subject: TypeAlias = Annotated[str, Meta(max_length=128)]

ChannelName: TypeAlias = Literal["web", "mobile", "email", "sms", "voice", "messaging"]
RouteName: TypeAlias = Literal["bot", "queue"]
StatusName: TypeAlias = Literal["online", "away", "offline"]
EndReasonName: TypeAlias = Literal["resolved", "customer_left", "inactive", "spam"]


class Attachment(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A reference to a file that is kept elsewhere."""

    uri: Annotated[str, Meta(max_length=2048, description="An https URL.")]
    media_type: Annotated[str, Meta(max_length=255)] = ""
    name: Annotated[str, Meta(max_length=255)] = ""
    size_bytes: Annotated[int, Meta(ge=0, le=2**53 - 1)] = 0


class Skill(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A skill at a level from 1 to 10."""

    name: Annotated[str, Meta(max_length=32)]
    level: Annotated[int, Meta(ge=0, le=10)] = 0


class Needs(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a conversation needs of its agent."""

    pool_id: Annotated[str, Meta(max_length=32)] = ""
    required_skills: Annotated[tuple[Skill, ...], Meta(max_length=16)] = ()
    wished_skills: Annotated[tuple[Skill, ...], Meta(max_length=16)] = ()
    priority: Annotated[int, Meta(ge=0, le=9)] = 0
    preferred_agent_id: Annotated[str, Meta(max_length=64)] = ""
    preferred_only: bool = False
    excluded_agent_ids: Annotated[
        tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=16)
    ] = ()
