"""Instances of the agent service on real Postgres and Redis, fed by hand in place of Kafka."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
from google.protobuf.message import Message
from interchange.agent.v1 import agent_events_pb2 as agent_events
from interchange.conversation.v1 import conversation_events_pb2 as events_pb
from interchange.conversation.v1 import conversation_pb2 as talk
from interchange.session.v1 import session_events_pb2, session_pb2

from services.agent import checks, consumer, handlers, working
from services.agent.desk import Desk
from services.agent.domain import Status
from services.agent.handlers import CreateAgent
from services.agent.matching import Matching
from services.agent.profile import Details
from services.agent.repository import PostgresAgents
from services.common import ids, redis
from services.common.applier import Applier
from services.common.clock import BusinessClock, SystemClock
from services.common.config import Settings
from services.common.db import Database
from services.common.errors import InterchangeError
from services.common.event_store import EventStore
from services.common.events import Event, EventTypes
from services.common.migrate import migrate
from services.common.push import Pusher
from services.common.requests import RequestKey
from services.common.work import UnitOfWork
from services.stack.stack import Stack
from tests.integration.echo import nothing

NAME = "agent_tests"
WEB, MAIL = talk.CHANNEL_WEB, talk.CHANNEL_EMAIL
SETTINGS = {"agent_repair_ms": 600_000, "database_pool_size": 4, "database_pipeline_pool_size": 2}

_prepared: set[str] = set()


class Instance:
    """One instance of the service, whose tasks run when they are started."""

    def __init__(self, settings: Settings, database: Database, clock: BusinessClock) -> None:
        self.settings = settings
        self.database = database
        self.client = redis.connect(settings)
        self.clock = clock
        self.units = UnitOfWork(database, settings, PostgresAgents, [])
        self.matching = Matching(
            self.units, database, self.client, Pusher(self.client, settings), clock, settings
        )
        self.tools = self.matching.tools
        self.noted = consumer.Noted()
        self.applier = Applier(
            database,
            self.units,
            EventTypes(consumer.MESSAGES, {}, {}),
            consumer.on_events(clock, settings, self.noted),
            EventStore(settings),
            1_000,
            lambda: self.noted.tell(self.matching.agenda),
        )
        self._running: list[asyncio.Task[None]] = []

    def start(self, *names: str) -> None:
        """Run tasks of the instance, all when none is named."""
        for name, run in self.matching.tasks().items():
            if not names or name in names:
                self._running.append(asyncio.create_task(run()))

    async def stop(self) -> None:
        """Cancel the tasks, as a kill would."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()

    async def close(self) -> None:
        """Stop and disconnect."""
        await self.stop()
        await self.client.aclose()
        await self.database.close()

    async def match(self) -> None:
        """Do what is on the agenda."""
        busy = True
        while busy:
            await self.matching.news.flush()
            busy = await self.matching.matcher.step()

    async def sweep(self) -> None:
        """Do what is due, and what follows from it."""
        await self.matching.timers.sweep()
        await self.match()


class Scene:
    """A tenant, instances that serve it, and the events that they are fed."""

    def __init__(self, settings: Settings, admin_url: str, clock: BusinessClock) -> None:
        self.settings = settings
        self.admin_url = admin_url
        self.clock = clock
        self.tenant = f"t{uuid4().hex[:12]}"
        self.instances: list[Instance] = []
        self._sequences: dict[tuple[str, str, str], int] = {}

    @property
    def one(self) -> Instance:
        """The first instance."""
        return self.instances[0]

    async def instance(self, **changes: Any) -> Instance:
        """Add an instance."""
        settings = self.settings.model_copy(update=changes)
        database = await Database.open(settings, "agent")
        found = Instance(settings, database, self.clock)
        self.instances.append(found)
        return found

    async def create(
        self,
        agent_id: str,
        *,
        skills: dict[str, int] | None = None,
        slots: dict[int, int] | None = None,
        pool: str = "",
        online: bool = True,
        tenant: str = "",
    ) -> None:
        """Create an agent and let him come."""
        details = Details(
            agent_id,
            agent_id.title(),
            pool,
            list((skills or {}).items()),
            list(({WEB: 1} if slots is None else slots).items()),
        )
        tenant = tenant or self.tenant
        command = CreateAgent(details, RequestKey("CreateAgent", "", b""))
        [outcome] = await handlers.create_agents(tenant, [command], tools=self.one.tools)
        assert not isinstance(outcome, InterchangeError), outcome
        if online:
            await self.status(agent_id, Status.ONLINE, tenant=tenant)

    async def do(
        self, command: working.Command, *, tenant: str = "", instance: Instance | None = None
    ) -> Desk:
        """Do what an agent says; raises why nothing was done."""
        tools = (instance or self.one).tools
        [outcome] = await working.work(tenant or self.tenant, [command], tools=tools)
        if isinstance(outcome, InterchangeError):
            raise outcome
        return outcome

    async def status(self, agent_id: str, status: Status, *, tenant: str = "") -> Desk:
        """Let an agent come or go."""
        return await self.do(working.SetStatus(agent_id, status), tenant=tenant)

    async def accept(self, agent_id: str, offer_id: str = "") -> Desk:
        """Let an agent accept an offer, by default his first."""
        offer_id = offer_id or next(iter((await self.desk(agent_id)).offers))
        return await self.do(working.AcceptOffer(agent_id, offer_id))

    async def decline(self, agent_id: str, offer_id: str = "") -> Desk:
        """Let an agent decline an offer, by default his first."""
        offer_id = offer_id or next(iter((await self.desk(agent_id)).offers))
        return await self.do(working.DeclineOffer(agent_id, offer_id))

    async def desk(self, agent_id: str, *, tenant: str = "") -> Desk:
        """Return a desk as the tables have it."""
        async with self.one.units.reading(tenant or self.tenant) as repository:
            return (await repository.desks(tenant or self.tenant, [agent_id]))[agent_id]

    async def offered(self, agent_id: str, *, tenant: str = "") -> list[str]:
        """Return the conversations that an agent is offered."""
        desk = await self.desk(agent_id, tenant=tenant)
        return [offer.conversation_id for offer in desk.offers.values()]

    def handed_off(
        self, conversation_id: str = "", hand_off: int = 1, *, tenant: str = "", **asked: Any
    ) -> Event:
        """Return the event of a hand-over."""
        conversation_id = conversation_id or self.conversation()
        message = events_pb.ConversationHandedOff(
            conversation_id=conversation_id,
            customer_id="carl",
            channel=asked.pop("channel", WEB),
            hand_off=hand_off,
            reason=talk.HAND_OFF_REASON_REQUESTED,
            previous_agent_id=asked.pop("previous_agent_id", ""),
            needs=talk.Needs(**asked),
            recorded_us=self.clock.now_us(),
        )
        return self._event("conversation-events", conversation_id, message, tenant)

    def ended(self, conversation_id: str, hand_off: int = 1) -> Event:
        """Return the event of an end."""
        message = events_pb.ConversationEnded(conversation_id=conversation_id, hand_off=hand_off)
        return self._event("conversation-events", conversation_id, message)

    def session_opened(self, subject: str) -> Event:
        """Return the event of a session that an agent opened."""
        message = session_events_pb2.SessionOpened(
            subject=subject, subject_kind=session_pb2.SUBJECT_KIND_AGENT, open_count=1
        )
        return self._event("session-events", subject, message)

    def session_ended(self, subject: str, open_count: int = 0) -> Event:
        """Return the event of a session of an agent that ended."""
        message = session_events_pb2.SessionEnded(
            subject=subject, subject_kind=session_pb2.SUBJECT_KIND_AGENT, open_count=open_count
        )
        return self._event("session-events", subject, message)

    def conversation(self) -> str:
        """Return the id of a new conversation."""
        return ids.uuid7_batch(1, self.clock.now_us())[0]

    async def hand_over(self, conversation_id: str = "", hand_off: int = 1, **asked: Any) -> str:
        """Hand a conversation over, and match it; return its id."""
        event = self.handed_off(conversation_id, hand_off, **asked)
        await self.apply([event])
        await self.one.match()
        return event.key

    async def apply(self, events: Sequence[Event], instance: Instance | None = None) -> None:
        """Feed events to the consumer of an instance."""
        await (instance or self.one).applier.apply(events, [], nothing)

    async def admin(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a query that no role of the service may."""
        connection = await asyncpg.connect(self.admin_url)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def told(self, agent_id: str) -> list[Any]:
        """Return the events of an agent in the outbox, in order; their numbers have no gap."""
        rows = await self.admin(
            "SELECT e.type, e.sequence, e.payload FROM agent.outbox, "
            "unnest(types, keys, sequences, payloads) AS e(type, key, sequence, payload) "
            "WHERE tenant_id = $1 AND e.key = $2 ORDER BY transaction_id, id, e.sequence",
            self.tenant,
            agent_id,
        )
        assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
        return [
            getattr(agent_events, row["type"].rpartition(".")[2]).FromString(row["payload"])
            for row in rows
        ]

    async def violations(self) -> list[str]:
        """Return what does not hold."""
        connection = await asyncpg.connect(self.admin_url)
        try:
            pause = timedelta(milliseconds=self.settings.agent_decline_pause_ms)
            return await checks.violations(connection, self.tenant, self.clock.now(), pause)
        finally:
            await connection.close()

    def _event(self, topic: str, key: str, message: Message, tenant: str = "") -> Event:
        number = (tenant or self.tenant, topic, key)
        self._sequences[number] = self._sequences.get(number, 0) + 1
        return Event(
            tenant or self.tenant,
            topic,
            key,
            self._sequences[number],
            str(uuid4()),
            message.DESCRIPTOR.full_name,
            1,
            message.SerializeToString(),
        )


@asynccontextmanager
async def opened(
    stack: Stack, clock: BusinessClock | None = None, **changes: Any
) -> AsyncIterator[Scene]:
    """Open a scene with one instance: a tenant of its own, in a database that tests share."""
    server = stack.database_url().rpartition("/")[0]
    if server not in _prepared:
        await _replace(server)
        await asyncio.to_thread(migrate, f"{server}/{NAME}", ["agent"], stack.database_password())
        _prepared.add(server)
    settings = Settings.model_validate(
        {
            "database_url": f"postgresql://{server.rpartition('@')[2]}/{NAME}",
            "database_password": stack.database_password(),
            "redis_url": stack.redis_url,
            **SETTINGS,
            **changes,
        }
    )
    scene = Scene(settings, f"{server}/{NAME}", clock or SystemClock())
    await scene.instance()
    try:
        yield scene
    finally:
        for instance in scene.instances:
            await instance.close()


async def _replace(server: str) -> None:
    connection = await asyncpg.connect(f"{server}/postgres")
    await connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
    await connection.execute(f"CREATE DATABASE {NAME}")
    await connection.close()
