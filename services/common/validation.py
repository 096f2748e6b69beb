"""Field rules: what buf.validate options in the protos ask of a request.

Whether a message type has rules at all is found once per type, so a type
without them, as on the bulk path, costs nothing.
"""

from collections.abc import Callable
from typing import Any

import protovalidate
from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.common.errors import InvalidArgument, Violation

REASON = "INVALID_FIELD"
VIOLATIONS_MAX = 32
"""Violations named in one error: a large batch must not make a larger answer."""

_validator = protovalidate.Validator()


def rules_of(descriptor: Descriptor) -> Callable[[Message], None] | None:
    """Return the check of messages of this type, or None when it has no rules."""
    return check if _has_rules(descriptor, set()) else None


def check(message: Message) -> None:
    """Raise InvalidArgument with every field that breaks a rule."""
    found = _validator.collect_violations(message)
    if not found:
        return
    violations = [_violation(one.proto) for one in found[:VIOLATIONS_MAX]]
    first = violations[0]
    text = f"{first.field}: {first.description}" if first.field else first.description
    raise InvalidArgument(REASON, text, violations=violations)


def _violation(violation: Any) -> Violation:
    rule = violation.rule_id.upper().replace(".", "_").replace("-", "_")
    elements = violation.field.elements if violation.field is not None else ()
    path = ".".join(element.field_name + _subscript(element) for element in elements)
    return Violation(path, violation.message or violation.rule_id, rule or REASON)


def _subscript(element: Any) -> str:
    """Return `[3]` or `["key"]` of an element of a list or a map, else nothing."""
    if element.subscript is None:
        return ""
    key = element.subscript.value
    return f'["{key}"]' if isinstance(key, str) else f"[{key}]"


def _has_rules(descriptor: Descriptor, seen: set[str]) -> bool:
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    if descriptor.GetOptions().HasExtension(validate_pb2.message):
        return True
    if any(one.GetOptions().HasExtension(validate_pb2.oneof) for one in descriptor.oneofs):
        return True
    return any(_field_has_rules(field, seen) for field in descriptor.fields)


def _field_has_rules(field: FieldDescriptor, seen: set[str]) -> bool:
    if field.GetOptions().HasExtension(validate_pb2.field):
        return True
    return field.message_type is not None and _has_rules(field.message_type, seen)
