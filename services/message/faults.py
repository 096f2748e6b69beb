"""Refusals of the message service, each said the same wherever it is met."""

from services.common.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    Violation,
)


class NotYetKnown(Aborted):
    """A conversation so young that its copy may be on its way.

    Not UNAVAILABLE: Envoy would repeat a read by itself, and each waits for seconds.
    """


class NotYetAssigned(NotFound):
    """A conversation that waits for an agent: the caller may just have become that."""


def not_found() -> NotFound:
    """Return the error of a conversation that isn't there, or isn't the caller's."""
    return NotFound("CONVERSATION_NOT_FOUND", "there is no such conversation")


def not_yet_assigned() -> NotYetAssigned:
    """Return the error of a conversation that isn't the caller's, yet perhaps."""
    return NotYetAssigned("CONVERSATION_NOT_FOUND", "there is no such conversation")


def not_yet_known() -> NotYetKnown:
    """Return the error of a conversation that may be on its way."""
    return NotYetKnown(
        "CONVERSATION_NOT_YET_KNOWN", "the conversation is not known here yet; try again"
    )


def ended() -> FailedPrecondition:
    """Return the error of a message to an ended conversation."""
    return FailedPrecondition(
        "CONVERSATION_ENDED", "the conversation has ended; reopen it or start another one"
    )


def erased() -> FailedPrecondition:
    """Return the error of a message to a customer whose data was destroyed."""
    return FailedPrecondition("CUSTOMER_ERASED", "the customer's data was erased")


def client_id_reused() -> AlreadyExists:
    """Return the error of an id that came with another content before."""
    field, reason = "client_message_id", "CLIENT_MESSAGE_ID_REUSED"
    text = "was used for another message"
    return AlreadyExists(reason, f"{field}: {text}", violations=[Violation(field, text, reason)])
