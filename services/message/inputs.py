"""The first layer of checking: each field of a message by itself, without a database."""

import json
import re
from collections.abc import Iterator
from functools import lru_cache

from interchange.message.v1.message_events_pb2 import MessageBody
from interchange.message.v1.message_pb2 import (
    SENDER_KIND_AGENT,
    SENDER_KIND_CUSTOMER,
    Attachment,
)
from interchange.message.v1.message_pb2 import Sender as SenderMessage
from interchange.message.v1.message_service_pb2 import SendMessageRequest

from services.common.errors import InvalidArgument, Violation
from services.common.texts import text_violation
from services.message.domain import Draft, Sender

CLIENT_ID_LENGTH_MAX = 64
URI_LENGTH_MAX = 2_048
NAME_LENGTH_MAX = 255
ATTACHMENT_BYTES_MAX = 1 << 40

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SUBJECT = re.compile(r"[!-~]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_URI = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?([/?#][!-~]*)?")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}", re.I)
"""RFC 6838, section 4.2."""


def draft(request: SendMessageRequest, sender: Sender) -> Draft | InvalidArgument:
    """Return the message that is to be sent, or what is wrong with the request."""
    conversation_id = canonical_id(request.conversation_id)
    client_message_id = request.client_message_id
    kind = request.WhichOneof("content")
    if (
        conversation_id is None
        or not is_client_id(client_message_id)
        or (kind == "text" and text_violation(request.text) is not None)
        or kind != "text"
    ):
        violations = list(_violations(request))
        if violations:
            return refusal(violations)
        assert conversation_id is not None
    if kind == "text":
        text = request.text
        clear = MessageBody(text=text).SerializeToString()
        return Draft(conversation_id, client_message_id, sender, text, None, clear)
    clear = MessageBody(attachment=request.attachment).SerializeToString()
    detail = attachment_detail(request.attachment)
    return Draft(conversation_id, client_message_id, sender, None, detail, clear)


def sender_of(message: SenderMessage) -> Sender | InvalidArgument:
    """Return the sender or reader that another service verified."""
    if message.kind not in (SENDER_KIND_CUSTOMER, SENDER_KIND_AGENT):
        return InvalidArgument.of("sender.kind", "SENDER_INVALID", "expected customer or agent")
    if not _SUBJECT.fullmatch(message.id):
        return InvalidArgument.of("sender.id", "SENDER_INVALID", f"expected {_SUBJECT.pattern}")
    return Sender(message.kind, message.id)


@lru_cache(maxsize=10_000)
def canonical_id(text: str) -> str | None:
    """Return the id of a conversation as it is stored; None for what is no id."""
    return text.lower() if _UUID.fullmatch(text) else None


def is_client_id(text: str) -> bool:
    """Tell whether it can be the id that a sender gives a message."""
    return 1 <= len(text) <= CLIENT_ID_LENGTH_MAX and text.isprintable()


def attachment_detail(attachment: Attachment) -> str:
    """Return an attachment as it is stored."""
    fields = {
        "uri": attachment.uri,
        "media_type": attachment.media_type,
        "name": attachment.name,
        "size_bytes": attachment.size_bytes,
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def refusal(violations: list[Violation]) -> InvalidArgument:
    """Return the error of wrong fields, at least one."""
    message = "; ".join(f"{one.field}: {one.description}" for one in violations)
    return InvalidArgument(violations[0].reason, message, violations=violations)


def _violations(request: SendMessageRequest) -> Iterator[Violation]:
    if canonical_id(request.conversation_id) is None:
        yield Violation("conversation_id", "expected a UUID", "CONVERSATION_ID_INVALID")
    if not is_client_id(request.client_message_id):
        expected = f"expected 1 to {CLIENT_ID_LENGTH_MAX} printable characters"
        yield Violation("client_message_id", expected, "CLIENT_MESSAGE_ID_INVALID")
    match request.WhichOneof("content"):
        case "text":
            violation = text_violation(request.text)
            if violation is not None:
                yield violation
        case "attachment":
            yield from _attachment_violations(request.attachment)
        case _:
            yield Violation("content", "expected a text or an attachment", "CONTENT_MISSING")


def _attachment_violations(attachment: Attachment) -> Iterator[Violation]:
    uri = attachment.uri
    if len(uri) > URI_LENGTH_MAX or not _URI.fullmatch(uri):
        expected = f"expected an https URL of at most {URI_LENGTH_MAX} ASCII characters"
        yield Violation("attachment.uri", expected, "ATTACHMENT_URI_INVALID")
    if not _MEDIA_TYPE.fullmatch(attachment.media_type):
        expected = "expected a media type, as in image/png"
        yield Violation("attachment.media_type", expected, "ATTACHMENT_MEDIA_TYPE_INVALID")
    if len(attachment.name) > NAME_LENGTH_MAX or _CONTROL.search(attachment.name):
        expected = f"expected at most {NAME_LENGTH_MAX} characters, none of them control characters"
        yield Violation("attachment.name", expected, "ATTACHMENT_NAME_INVALID")
    if not 0 <= attachment.size_bytes <= ATTACHMENT_BYTES_MAX:
        expected = f"expected 0 to {ATTACHMENT_BYTES_MAX}"
        yield Violation("attachment.size_bytes", expected, "ATTACHMENT_SIZE_INVALID")
