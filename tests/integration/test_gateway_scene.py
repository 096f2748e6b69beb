"""A gateway in this process, over doubles of the services behind it.

The doubles are real gRPC servicers, called through a real channel; pushes go from
hand to hand in place of Redis. A test drops pushes, kills the gateway or answers
with errors by the attributes here.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import msgspec
from interchange.agent.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc
from interchange.conversation.v1 import (
    conversation_pb2,
    conversation_service_pb2,
    conversation_service_pb2_grpc,
)
from interchange.gateway.v1 import gateway_pb2
from interchange.message.v1 import message_pb2, message_service_pb2, message_service_pb2_grpc
from interchange.session.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc
from joserfc.jwk import ECKey
from picows import WSFrame, WSListener, WSMsgType, ws_connect

from services.common import access, clients, errors, identity, tokens
from services.common.config import Settings
from services.common.ids import uuid7_batch
from services.common.interceptors import Guard
from services.common.push import follow_key
from services.gateway.client import Backoff, Client
from services.gateway.door import Door
from services.gateway.gateway import Gateway
from services.gateway.upstream import Upstream

KEY: ECKey = tokens.private_key(tokens.new_key())


def new_id() -> str:
    return uuid7_batch(1, time.time_ns() // 1000)[0]


def token(
    subject: str = "cara", *roles: str, tenant: str = "acme", ttl_s: int = 3600, key: Any = KEY
) -> str:
    return tokens.issue(key, tenant, roles or ("customer",), subject, ttl_s)


@dataclass
class Talk:
    """One conversation of the doubles."""

    conversation_id: str
    customer_id: str
    agent_id: str = ""
    ended: bool = False
    epoch: str = "e1"
    messages: list[message_pb2.Message] = field(default_factory=list)
    forgotten: int = 0
    """Messages up to this number are gone."""
    marks: dict[str, message_pb2.Mark] = field(default_factory=dict)
    marks_version: int = 0


class Mesh:
    """The state of the doubles, all tenants."""

    def __init__(self) -> None:
        self.talks: dict[tuple[str, str], Talk] = {}
        self.sessions: dict[str, session_pb2.Session] = {}
        self.secrets: dict[str, str] = {}
        self.given: dict[str, tuple[str, float]] = {}
        """Tenant of each session, and when an instance was given it last."""
        self.silence_s = 60.0
        """How long an instance may leave a session unnamed that it was given."""
        self.confirmed: defaultdict[str, list[set[str]]] = defaultdict(list)
        """What was named of each tenant, in order."""
        self.desks: dict[tuple[str, str], agent_pb2.Desk] = {}
        self.lost: defaultdict[str, list[str]] = defaultdict(list)
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.batches: list[int] = []
        self.followers: dict[str, list[tuple[str, Callable[[gateway_pb2.Push], None]]]] = {}
        self.drop: Callable[[gateway_pb2.Push], bool] = lambda push: False
        self.fail: dict[str, errors.InterchangeError] = {}
        self.pause: dict[str, asyncio.Event] = {}
        """Calls of this name wait until the event is set."""
        self.page_max = 500
        self.refuse_once: dict[str, errors.InterchangeError] = {}
        """Messages of this text are refused the first time."""

    async def called(self, name: str) -> None:
        self.calls[name] += 1
        if name in self.pause:
            await self.pause[name].wait()
        if name in self.fail:
            raise self.fail[name]

    def talk(self, customer: str = "cara", agent: str = "", tenant: str = "acme") -> Talk:
        talk = Talk(new_id(), customer, agent)
        self.talks[tenant, talk.conversation_id] = talk
        return talk

    def seen(self, conversation_id: str, caller: identity.Caller | None = None) -> Talk:
        """Return a conversation that the caller may see, or raise as the service does."""
        caller = caller or identity.current()
        talk = self.talks.get((caller.tenant_id, conversation_id))
        if talk is None or not access.may_see(caller, talk.customer_id, talk.agent_id):
            raise errors.NotFound("CONVERSATION_NOT_FOUND", "there is no such conversation")
        return talk

    def say(
        self,
        talk: Talk,
        text: str = "",
        *,
        tenant: str = "acme",
        kind: int = message_pb2.SENDER_KIND_BOT,
        sender: str = "default",
        key: str = "",
        system: message_pb2.SystemNote | None = None,
        attachment: message_pb2.Attachment | None = None,
    ) -> message_pb2.Message:
        """Commit a message, then push it."""
        message = message_pb2.Message(
            conversation_id=talk.conversation_id,
            sequence=len(talk.messages) + 1,
            message_id=new_id(),
            client_message_id=key,
            sender=message_pb2.Sender(kind=kind, id=sender),
            text=text,
        )
        if system is not None:
            message.sender.kind = message_pb2.SENDER_KIND_SYSTEM
            message.system.CopyFrom(system)
        if attachment is not None:
            message.attachment.CopyFrom(attachment)
        message.create_time.GetCurrentTime()
        talk.messages.append(message)
        self.push(tenant, conversation_id=talk.conversation_id, message=message)
        return message

    def hand_to(self, talk: Talk, agent: str, tenant: str = "acme") -> None:
        """Let another agent, or none, answer."""
        talk.agent_id = agent
        kind = message_pb2.SYSTEM_KIND_AGENT_JOINED if agent else message_pb2.SYSTEM_KIND_QUEUED
        self.say(talk, system=message_pb2.SystemNote(kind=kind, agent_id=agent), tenant=tenant)

    def show(self, agent: str, tenant: str = "acme", **changes: Any) -> agent_pb2.Desk:
        """Change a desk, then push it."""
        before = self.desks.get((tenant, agent), agent_pb2.Desk())
        desk = agent_pb2.Desk(agent_id=agent, version=before.version + 1, **changes)
        self.desks[tenant, agent] = desk
        self.push(tenant, subject=agent, desk=desk)
        return desk

    def push(self, tenant: str, **fields: Any) -> None:
        self.hand_over(gateway_pb2.Push(tenant_id=tenant, **fields))

    def hand_over(self, push: gateway_pb2.Push) -> None:
        if self.drop(push):
            return
        key = follow_key(push.tenant_id, push.conversation_id, push.subject)
        for _, receive in list(self.followers.get(key, ())):
            asyncio.get_running_loop().call_soon(receive, push)


class Pushes:
    """Pusher and Followers of one instance, without Redis."""

    def __init__(self, mesh: Mesh, instance_id: str) -> None:
        self.mesh, self.instance_id = mesh, instance_id
        self.receive: Callable[[gateway_pb2.Push], None] = lambda push: None
        self.counts: defaultdict[str, int] = defaultdict(int)

    def push(self, pushes: Any) -> None:
        for push in pushes:
            self.mesh.hand_over(push)

    async def follow(self, tenant_id: str, *, conversation_id: str = "", subject: str = "") -> None:
        key = follow_key(tenant_id, conversation_id, subject)
        self.counts[key] += 1
        await asyncio.sleep(0)
        if self.counts[key] == 1:
            entry = (self.instance_id, lambda push: self.receive(push))
            self.mesh.followers.setdefault(key, []).append(entry)

    def unfollow(self, tenant_id: str, *, conversation_id: str = "", subject: str = "") -> None:
        key = follow_key(tenant_id, conversation_id, subject)
        self.counts[key] -= 1
        assert self.counts[key] >= 0
        if not self.counts[key]:
            self.leave(key)

    def leave(self, key: str) -> None:
        entries = self.mesh.followers.get(key, [])
        self.mesh.followers[key] = [each for each in entries if each[0] != self.instance_id]


class Messages(message_service_pb2_grpc.MessageServiceServicer):
    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    async def ResumeMessages(self, request, context):  # noqa: N802
        await self.mesh.called("ResumeMessages")
        answer = self._resumed(identity.current(), request, request.page_size or 200)
        await self.mesh.called("ResumeMessages answered")
        return answer

    async def SubmitResumes(self, request, context):  # noqa: N802
        await self.mesh.called("SubmitResumes")
        results = [self._together(each) for each in request.submissions]
        return message_service_pb2.SubmitResumesResponse(results=results)

    def _together(self, submission) -> message_service_pb2.ResumeResult:
        """Answer as the service does: what is not simple is left to a call of its own."""
        alone = message_service_pb2.ResumeResult()
        names = {"ResumeMessages", "ResumeMessages answered"}
        if names & (self.mesh.pause.keys() | self.mesh.fail.keys()):
            return alone
        tenant = identity.current().tenant_id
        caller = identity.Caller(tenant, submission.subject, tuple(submission.roles))
        try:
            answer = self._resumed(caller, submission, 50)
        except errors.InterchangeError:
            return alone
        if not answer.recovered:
            return alone
        self.mesh.calls.update(names)
        return message_service_pb2.ResumeResult(response=answer)

    def _resumed(self, caller, request, page_size) -> message_service_pb2.ResumeMessagesResponse:
        talk = self.mesh.seen(request.conversation_id, caller)
        last = len(talk.messages)
        after, size = request.after_sequence, min(page_size, self.mesh.page_max)
        recovered = after <= last and after >= talk.forgotten and request.epoch in ("", talk.epoch)
        if not recovered:
            after = max(talk.forgotten, last - size)
        page = talk.messages[after : after + size]
        return message_service_pb2.ResumeMessagesResponse(
            recovered=recovered,
            epoch=talk.epoch,
            messages=page,
            last_sequence=last,
            more=after + size < last,
            marks=talk.marks.values(),
            customer_id=talk.customer_id,
            agent_id=talk.agent_id,
            ended=talk.ended,
        )

    async def ListMessages(self, request, context):  # noqa: N802
        await self.mesh.called("ListMessages")
        talk = self.mesh.seen(request.conversation_id)
        page = talk.messages[request.after_sequence :][: request.page_size]
        return message_service_pb2.ListMessagesResponse(messages=page)

    async def SubmitMessages(self, request, context):  # noqa: N802
        await self.mesh.called("SubmitMessages")
        self.mesh.batches.append(len(request.submissions))
        results = [self._result(each) for each in request.submissions]
        await self.mesh.called("SubmitMessages answered")
        return message_service_pb2.BatchSendMessagesResponse(results=results)

    def _result(self, submission) -> message_service_pb2.SendMessageResult:
        try:
            return message_service_pb2.SendMessageResult(message=self._send(submission))
        except errors.InterchangeError as error:
            return message_service_pb2.SendMessageResult(error=error.to_status())

    def _send(self, submission) -> message_pb2.Message:
        tenant, request = identity.current().tenant_id, submission.request
        talk = self.mesh.talks.get((tenant, request.conversation_id))
        if talk is None or submission.sender.id not in (talk.customer_id, talk.agent_id):
            raise errors.NotFound("CONVERSATION_NOT_FOUND", "there is no such conversation")
        if request.text in self.mesh.refuse_once:
            raise self.mesh.refuse_once.pop(request.text)
        if talk.ended:
            raise errors.FailedPrecondition("CONVERSATION_ENDED", "the conversation has ended")
        if request.WhichOneof("content") is None or (
            not request.text and not request.attachment.uri
        ):
            raise errors.InvalidArgument.of("text", "TEXT_EMPTY", "was empty")
        for message in talk.messages:
            same = message.client_message_id == request.client_message_id
            if same and message.sender.id == submission.sender.id:
                return message
        attachment = request.attachment if request.HasField("attachment") else None
        return self.mesh.say(
            talk,
            request.text,
            tenant=tenant,
            kind=submission.sender.kind,
            sender=submission.sender.id,
            key=request.client_message_id,
            attachment=attachment,
        )

    async def SubmitMarks(self, request, context):  # noqa: N802
        await self.mesh.called("SubmitMarks")
        tenant = identity.current().tenant_id
        for each in request.marks:
            talk, mark = self.mesh.talks[tenant, each.conversation_id], each.mark
            known = talk.marks.get(mark.reader.id, message_pb2.Mark())
            moved = message_pb2.Mark(
                reader=mark.reader,
                delivered_sequence=max(known.delivered_sequence, mark.delivered_sequence),
                read_sequence=max(known.read_sequence, mark.read_sequence),
            )
            if moved != known:
                talk.marks[mark.reader.id] = moved
                talk.marks_version += 1
                self.mesh.push(tenant, conversation_id=talk.conversation_id, mark=moved)
        return message_service_pb2.SubmitMarksResponse()

    async def ListTails(self, request, context):  # noqa: N802
        await self.mesh.called("ListTails")
        tenant = identity.current().tenant_id
        answer = message_service_pb2.ListTailsResponse(
            tails=[
                message_service_pb2.Tail(
                    conversation_id=each,
                    last_sequence=len(talk.messages),
                    marks_version=talk.marks_version,
                    customer_id=talk.customer_id,
                    agent_id=talk.agent_id,
                )
                for each in request.conversation_ids
                if (talk := self.mesh.talks.get((tenant, each)))
            ]
        )
        await self.mesh.called("ListTails answered")
        return answer


class Sessions(session_service_pb2_grpc.SessionServiceServicer):
    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    async def AttachSessions(self, request, context):  # noqa: N802
        await self.mesh.called("AttachSessions")
        answer = session_service_pb2.AttachSessionsResponse(
            results=[self._attach(request.instance_id, each) for each in request.attachments]
        )
        await self.mesh.called("AttachSessions answered")
        return answer

    def _attach(self, instance_id: str, attachment) -> session_service_pb2.AttachResult:
        known = self.mesh.sessions.get(attachment.session_id)
        resumed = (
            known is not None
            and known.subject == attachment.subject
            and self.mesh.secrets[attachment.session_id] == attachment.secret
        )
        if resumed:
            session = known
            if session.instance_id not in ("", instance_id):
                self.mesh.lost[session.instance_id].append(session.session_id)
        else:
            session = session_pb2.Session(session_id=new_id(), subject=attachment.subject)
            self.mesh.sessions[session.session_id] = session
            self.mesh.secrets[session.session_id] = f"secret-{session.session_id}"
        session.instance_id = instance_id
        self.mesh.given[session.session_id] = identity.current().tenant_id, time.monotonic()
        secret = self.mesh.secrets[session.session_id]
        return session_service_pb2.AttachResult(session=session, secret=secret, resumed=resumed)

    async def DetachSessions(self, request, context):  # noqa: N802
        await self.mesh.called("DetachSessions")
        mine = self._held(request.instance_id)
        for each in mine.intersection(request.ended_session_ids):
            del self.mesh.sessions[each]
        for each in mine.intersection(request.broken_session_ids):
            self.mesh.sessions[each].instance_id = ""
        return session_service_pb2.DetachSessionsResponse()

    async def HeartbeatInstance(self, request, context):  # noqa: N802
        await self.mesh.called("HeartbeatInstance")
        answer = session_service_pb2.HeartbeatInstanceResponse(
            lost_session_ids=self.mesh.lost.pop(request.instance_id, []), interval_ms=50
        )
        await self.mesh.called("HeartbeatInstance answered")
        return answer

    async def ConfirmSessions(self, request, context):  # noqa: N802
        await self.mesh.called("ConfirmSessions")
        named, held = set(request.session_ids), self._held(request.instance_id)
        self.mesh.confirmed[identity.current().tenant_id].append(named)
        for each in held - named:
            if time.monotonic() - self.mesh.given[each][1] >= self.mesh.silence_s:
                self.mesh.sessions[each].instance_id = ""
        await self.mesh.called("ConfirmSessions answered")
        return session_service_pb2.ConfirmSessionsResponse(lost_session_ids=sorted(named - held))

    def _held(self, instance_id: str) -> set[str]:
        """Return what an instance holds of the caller's tenant."""
        return {
            each.session_id
            for each in self.mesh.sessions.values()
            if each.instance_id == instance_id
            and self.mesh.given[each.session_id][0] == identity.current().tenant_id
        }

    async def ListPresence(self, request, context):  # noqa: N802
        await self.mesh.called("ListPresence")
        there = {each.subject for each in self.mesh.sessions.values()}
        return session_service_pb2.ListPresenceResponse(
            online_subjects=sorted(there & set(request.subjects))
        )


class Conversations(conversation_service_pb2_grpc.ConversationServiceServicer):
    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    async def SubmitStarts(self, request, context):  # noqa: N802
        await self.mesh.called("SubmitStarts")
        results = [self._start(each) for each in request.submissions]
        return conversation_service_pb2.SubmitStartsResponse(results=results)

    def _start(self, submission) -> conversation_service_pb2.StartResult:
        tenant, customer = identity.current().tenant_id, submission.customer_id
        if submission.request.text in self.mesh.refuse_once:
            error = self.mesh.refuse_once.pop(submission.request.text)
            return conversation_service_pb2.StartResult(error=error.to_status())
        talk = self.mesh.talk(customer, tenant=tenant)
        if submission.request.text:
            kind = message_pb2.SENDER_KIND_CUSTOMER
            text = submission.request.text
            self.mesh.say(talk, text, tenant=tenant, kind=kind, sender=customer)
        return conversation_service_pb2.StartResult(
            conversation=conversation_pb2.Conversation(
                conversation_id=talk.conversation_id, status=conversation_pb2.STATUS_WITH_BOT
            )
        )

    async def EndConversation(self, request, context):  # noqa: N802
        await self.mesh.called("EndConversation")
        talk = self.mesh.seen(request.conversation_id)
        talk.ended = True
        note = message_pb2.SystemNote(kind=message_pb2.SYSTEM_KIND_ENDED, reason="RESOLVED")
        self.mesh.say(talk, system=note, tenant=identity.current().tenant_id)
        return conversation_pb2.Conversation()

    async def HandOffConversation(self, request, context):  # noqa: N802
        await self.mesh.called("HandOffConversation")
        self.mesh.hand_to(self.mesh.seen(request.conversation_id), "")
        return conversation_pb2.Conversation()

    async def TransferConversation(self, request, context):  # noqa: N802
        await self.mesh.called("TransferConversation")
        talk = self.mesh.seen(request.conversation_id)
        self.mesh.hand_to(talk, request.needs.preferred_agent_id)
        return conversation_pb2.Conversation()


class Agents(agent_service_pb2_grpc.AgentServiceServicer):
    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    async def SetAgentStatus(self, request, context):  # noqa: N802
        await self.mesh.called("SetAgentStatus")
        caller = identity.current()
        if (caller.tenant_id, request.agent_id) not in self.mesh.desks:
            raise errors.NotFound("AGENT_NOT_FOUND", "there is no such agent")
        self.mesh.show(request.agent_id, caller.tenant_id, status=request.status)
        return agent_pb2.Agent(agent_id=request.agent_id, status=request.status)

    async def AcceptOffer(self, request, context):  # noqa: N802
        await self.mesh.called("AcceptOffer")
        tenant = identity.current().tenant_id
        desk = self.mesh.desks[tenant, request.agent_id]
        offer = next((each for each in desk.offers if each.offer_id == request.offer_id), None)
        if offer is None:
            raise errors.FailedPrecondition("OFFER_EXPIRED", "the offer has run out")
        self.mesh.hand_to(self.mesh.talks[tenant, offer.conversation_id], request.agent_id, tenant)
        return self.mesh.show(
            request.agent_id,
            tenant,
            status=desk.status,
            conversation_ids=[*desk.conversation_ids, offer.conversation_id],
        )

    async def DeclineOffer(self, request, context):  # noqa: N802
        await self.mesh.called("DeclineOffer")
        tenant = identity.current().tenant_id
        return self.mesh.show(request.agent_id, tenant)

    async def ListDesks(self, request, context):  # noqa: N802
        await self.mesh.called("ListDesks")
        tenant = identity.current().tenant_id
        desks = [
            desk
            for each in request.known
            if (desk := self.mesh.desks.get((tenant, each.agent_id)))
            and desk.version > each.version
        ]
        return agent_service_pb2.ListDesksResponse(desks=desks)


@asynccontextmanager
async def serving(mesh: Mesh, settings: Settings):
    """Serve the doubles on a free port; yield settings that lead there."""
    server = grpc.aio.server()
    for add, servicer, services, name in (
        (
            message_service_pb2_grpc.add_MessageServiceServicer_to_server,
            Messages(mesh),
            message_service_pb2,
            "MessageService",
        ),
        (
            session_service_pb2_grpc.add_SessionServiceServicer_to_server,
            Sessions(mesh),
            session_service_pb2,
            "SessionService",
        ),
        (
            conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server,
            Conversations(mesh),
            conversation_service_pb2,
            "ConversationService",
        ),
        (
            agent_service_pb2_grpc.add_AgentServiceServicer_to_server,
            Agents(mesh),
            agent_service_pb2,
            "AgentService",
        ),
    ):
        guard: Any = Guard(server, services.DESCRIPTOR.services_by_name[name], settings)
        add(servicer, guard)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield settings.model_copy(update={"egress": f"127.0.0.1:{port}"})
    finally:
        await server.stop(None)


@dataclass
class Running:
    """A gateway that listens."""

    gateway: Gateway
    door: Door
    pushes: Pushes
    tasks: list[asyncio.Task[None]]
    channel: clients.Channel

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.door.port}/v1/ws"

    async def kill(self) -> None:
        """Vanish: no close frame, nothing said to anybody."""
        await self.door.close()
        for task in self.tasks:
            task.cancel()
        for key in list(self.pushes.counts):
            self.pushes.leave(key)
        self.pushes.receive = lambda push: None
        for socket in tuple(self.gateway.sockets):
            socket._transport.disconnect(graceful=False)
        await self.channel.close()

    async def stop(self) -> None:
        """Leave as a process does that was told to."""
        await self.door.close()
        await self.gateway.drain()
        for task in self.tasks:
            task.cancel()
        await self.gateway.close()
        await self.channel.close()


async def running(settings: Settings, mesh: Mesh) -> Running:
    instance_id = f"gateway-{new_id()}"
    channel = clients.channel(settings)
    pushes = Pushes(mesh, instance_id)
    gateway = Gateway(settings, Upstream(channel, instance_id), pushes, pushes)
    pushes.receive = gateway.receive
    door = Door(gateway)
    runs = (
        gateway.sessions.run(),
        gateway.tails.run(),
        gateway.desks.run(),
        gateway.presences.run(gateway.feeds),
        gateway.wheel.run(),
    )
    tasks = [asyncio.create_task(run) for run in runs]
    await door.open()
    return Running(gateway, door, pushes, tasks, channel)


@asynccontextmanager
async def gateway_over(mesh: Mesh, folder: Any, **changes: Any):
    """Run doubles and one gateway; yield it and the settings for others."""
    jwks = folder / "jwks.json"
    jwks.write_text(tokens.key_set(KEY))
    settings = Settings(
        websocket_listen="127.0.0.1:0",
        jwks_file=jwks,
        gateway_tails_ms=changes.pop("gateway_tails_ms", 50),
        gateway_presence_ms=changes.pop("gateway_presence_ms", 100),
        gateway_marks_flush_ms=changes.pop("gateway_marks_flush_ms", 10),
        **changes,
    )
    async with serving(mesh, settings) as led:
        one = await running(led, mesh)
        try:
            yield one, led
        finally:
            with suppress(Exception):
                await one.kill()


class Raw(WSListener):
    """A client without manners: bytes in, frames out as dicts."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.transport: Any = None
        self.raw = bytearray()

    @classmethod
    async def open(cls, url: str, **headers: str) -> "Raw":
        raw = cls()
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        await ws_connect(lambda: raw, url, extra_headers=named)
        return raw

    @classmethod
    async def greeted(cls, url: str, bearer: str, **hello: Any) -> "Raw":
        raw = await cls.open(url)
        raw.say(type="hello", token=bearer, **hello)
        raw.welcome = await raw.next("welcome")
        return raw

    def on_ws_connected(self, transport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.frames.put_nowait(msgspec.json.decode(frame.get_payload_as_bytes()))
        elif frame.msg_type == WSMsgType.CLOSE:
            data = frame.get_payload_as_bytes()
            self._end(int.from_bytes(data[:2], "big"), data[2:].decode())
            transport.disconnect()

    def on_ws_disconnected(self, transport) -> None:
        self._end(1006, "")

    def _end(self, code: int, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result((code, reason))

    def say(self, **frame: Any) -> None:
        self.bytes(msgspec.json.encode(frame))

    def bytes(self, data: bytes, kind: WSMsgType = WSMsgType.TEXT, fin: bool = True) -> None:
        self.transport.send(kind, data, fin)

    async def next(self, kind: str = "", timeout_s: float = 5.0) -> dict[str, Any]:
        """Return the next frame, or the next of a kind, skipping others."""
        async with asyncio.timeout(timeout_s):
            while True:
                frame = await self.frames.get()
                if not kind or frame["type"] == kind:
                    return frame

    async def end(self, timeout_s: float = 5.0) -> tuple[int, str]:
        return await asyncio.wait_for(asyncio.shield(self.closed), timeout_s)


def client(running: Running, subject: str = "cara", *roles: str, **options: Any) -> Client:
    tenant = options.pop("tenant", "acme")
    url = options.pop("url", running.url)
    bearer = options.pop("token", token(subject, *roles, tenant=tenant))
    options.setdefault("backoff", Backoff(first_s=0.02, most_s=0.1))
    return Client(url, bearer, token_in="hello", **options)


async def until(condition: Callable[[], Any], timeout_s: float = 5.0) -> None:
    """Wait until something holds that no event tells."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
