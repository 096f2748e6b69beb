"""Domain to protobuf: sessions, their events, and who has come or gone."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from interchange.gateway.v1 import gateway_pb2
from interchange.session.v1 import session_pb2
from interchange.session.v1.session_events_pb2 import SessionEnded, SessionOpened

from services.common.events import EventColumns
from services.session.domain import End, Kind, Session, Timings
from services.session.register import Happening, Register, Subject

TOPIC = "session-events"
KINDS = {
    Kind.CUSTOMER: session_pb2.SUBJECT_KIND_CUSTOMER,
    Kind.AGENT: session_pb2.SUBJECT_KIND_AGENT,
}
ENDS = {
    End.CLOSED: session_pb2.SESSION_END_CLOSED,
    End.EXPIRED: session_pb2.SESSION_END_EXPIRED,
    End.VANISHED: session_pb2.SESSION_END_VANISHED,
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Return microseconds since 1970-01-01 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def session_message(session: Session, timings: Timings) -> session_pb2.Session:
    """Return a session as it is shown to callers."""
    return session_pb2.Session(
        session_id=session.session_id,
        subject=session.subject,
        subject_kind=KINDS[session.kind],
        instance_id=session.instance_id,
        client=session.client,
        open_time=_timestamp(session.open_time),
        expire_time=_timestamp(session.lives_until(timings)),
        end_time=_timestamp(session.end_time),
        end_reason=(ENDS[session.end] if session.end else session_pb2.SESSION_END_UNSPECIFIED),
        resume_count=session.resume_count,
    )


def columns(register: Register) -> list[EventColumns]:
    """Return the events of what happened, in its order, a set of columns a tenant."""
    recorded_us = microseconds(register.now)
    by_tenant: dict[str, EventColumns] = {}
    for happening in register.happenings:
        tenant_id = happening.session.tenant_id
        known = by_tenant.setdefault(tenant_id, EventColumns(tenant_id, TOPIC))
        event = _event(happening, recorded_us)
        known.extend(
            event.DESCRIPTOR.full_name,
            1,
            [happening.event_id],
            [happening.session.subject],
            [happening.sequence],
            [event.SerializeToString()],
        )
    return list(by_tenant.values())


def presences(moves: Iterable[tuple[Subject, bool]]) -> list[gateway_pb2.Push]:
    """Return what those are told who follow subjects that came or went."""
    return [
        gateway_pb2.Push(
            tenant_id=tenant_id,
            subject=subject,
            presence=gateway_pb2.Presence(subject=subject, online=online),
        )
        for (tenant_id, subject), online in moves
    ]


def _event(happening: Happening, recorded_us: int) -> SessionOpened | SessionEnded:
    session = happening.session
    if session.end is None:
        return SessionOpened(
            event_id=happening.event_id,
            subject=session.subject,
            subject_kind=KINDS[session.kind],
            open_count=happening.open_count,
            recorded_us=recorded_us,
        )
    return SessionEnded(
        event_id=happening.event_id,
        session_id=session.session_id,
        subject=session.subject,
        subject_kind=KINDS[session.kind],
        reason=ENDS[session.end],
        open_count=happening.open_count,
        recorded_us=recorded_us,
    )


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
