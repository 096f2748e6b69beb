"""Frames and their bytes."""

import re
from typing import Final

import msgspec

from services.gateway.frames_in import AnyClientFrame
from services.gateway.frames_out import AnyServerFrame

encode: Final = msgspec.json.Encoder().encode
"""Returns the bytes of a frame."""
_decoder: Final[msgspec.json.Decoder[AnyClientFrame]] = msgspec.json.Decoder(AnyClientFrame)
_server_decoder: Final[msgspec.json.Decoder[AnyServerFrame]] = msgspec.json.Decoder(AnyServerFrame)

_AT = re.compile(r" - at `\$\.?(?:\[\.\.\.\])?([^`]*)`")
_NAMED = re.compile(r"(?:unknown|required) field `([^`]*)`")
MESSAGE_LENGTH_MAX = 300


class _Ref(msgspec.Struct):
    """What is read of a frame that is wrong elsewhere."""

    ref: str = ""


_ref_decoder: Final = msgspec.json.Decoder(_Ref)


class BadFrame(Exception):
    """Bytes that are no frame: why, where and, if it could be read, the frame's `ref`."""

    def __init__(self, reason: str, message: str, field: str = "", ref: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.ref = ref


def decode(payload: bytes | memoryview) -> AnyClientFrame:
    """Return the frame of a client; raises BadFrame."""
    try:
        return _decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), payload) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadFrame("NOT_JSON", "the frame is not JSON in UTF-8") from None


def decode_answer(payload: bytes | memoryview) -> AnyServerFrame | None:
    """Return the frame of a server, or None for one of a type that is newer than this client.

    Raises msgspec.DecodeError for what is no JSON.
    """
    try:
        return _server_decoder.decode(payload)
    except msgspec.ValidationError:
        return None


def _invalid(text: str, payload: bytes | memoryview) -> BadFrame:
    """Return what is wrong by the decoder's sentence, which names the place."""
    place = _AT.search(text)
    field = place[1] if place else ""
    named = _NAMED.search(text)
    if named:
        field = f"{field}.{named[1]}" if field else named[1]
        reason = "UNKNOWN_FIELD" if "unknown field" in text else "MISSING_FIELD"
        if named[1] == "type" and reason == "MISSING_FIELD":
            reason = "MISSING_TYPE"
    elif field == "type":
        reason = "UNKNOWN_TYPE"
    else:
        reason = "INVALID_FIELD" if field else "NOT_AN_OBJECT"
    return BadFrame(reason, text[:MESSAGE_LENGTH_MAX], field, ref_of(payload))


def ref_of(payload: bytes | memoryview) -> str:
    """Return the `ref` of a frame that may be wrong elsewhere."""
    try:
        return _ref_decoder.decode(payload).ref[:64]
    except msgspec.DecodeError:
        return ""
