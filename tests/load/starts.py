"""New conversations: started, answered by the bot, one in ten handed over and offered."""

import asyncio
import random
import time
from dataclasses import dataclass, field

import numpy as np
import uvloop

from services.gateway import frames_in
from services.stack import help_desk
from tests.load.floor import LIMIT, TENANT, Floor, until
from tests.load.line import Line
from tests.load.scene import Scene, Wrong
from tests.load.table import Figure, Limit, Report
from tests.load.usage import Usage

RATE = 500
CALM_RATE = 100
HAND_OVER_EVERY = 10
AGENTS = 100
CUSTOMERS = 250
TICK_S = 0.002
HELD = Limit(least=0.97 * RATE)
MATCH_P95 = Limit(most=50)

_HANDED_OVER = """
SELECT conversation_id::text, hand_off_us / 1e6::float8
FROM conversation.conversations WHERE tenant_id = $1 AND hand_off_count > 0
"""


@dataclass(slots=True)
class Started:
    """What was asked for, and what came of it."""

    sent: dict[str, float] = field(default_factory=dict)
    """Clock at which each conversation was asked for."""
    handed_over: set[str] = field(default_factory=set)
    """Conversations in which the customer asked for an agent."""


def run(scene: Scene) -> Report:
    """Measure."""
    scene.start()
    return uvloop.run(_run(scene))


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of one rate."""

    per_s: float
    replies_ms: list[float]
    matches_ms: list[float]


async def _run(scene: Scene) -> Report:
    on = Floor(scene.stack, stay=False)
    await on.open(AGENTS, CUSTOMERS)
    try:
        # The calm one first: the other one's hand-overs fill the agents.
        calm = await _measure(scene, on, CALM_RATE, 5 if scene.quick else 10)
        full = await _measure(scene, on, RATE, 5 if scene.quick else 18)
    finally:
        on.close()
    if on.errors:
        raise Wrong(f"frames were refused: {on.errors.most_common(3)}")
    return Report("starts", _figures(calm, full))


async def _measure(scene: Scene, on: Floor, rate: int, seconds: int) -> Measured:
    """Start conversations at a rate; return how fast they were answered and offered."""
    total = min(rate * seconds, AGENTS * LIMIT * HAND_OVER_EVERY)
    scene.say(f"{rate} conversations/s for {seconds} s, one in {HAND_OVER_EVERY} handed over")
    usage = Usage(scene.stack)
    began = time.perf_counter()
    started = await _start(on, rate, total)
    await until(lambda: started.sent.keys() <= on.answered.keys())
    took = time.perf_counter() - began
    await until(lambda: started.handed_over <= on.offered.keys())
    print(usage.table(usage.spent(), total, "conversation"), flush=True)
    replies = [1e3 * (on.answered[one] - at) for one, at in started.sent.items()]
    matches = await _matches(scene, on, started)
    scene.say(f"{total / took:,.0f}/s; first reply p95 {_p(replies, 95):.1f} ms; "
              f"match p50 {_p(matches, 50):.1f}, p95 {_p(matches, 95):.1f} ms")  # fmt: skip
    return Measured(total / took, replies, matches)


def _figures(calm: Measured, full: Measured) -> list[Figure]:
    how = (
        f"conversations at {RATE}/s over {CUSTOMERS} WebSockets through Envoy, each with a first "
        f"message that the bot answers; one in {HAND_OVER_EVERY} asks for an agent and is offered "
        f"to one of {AGENTS}"
    )
    offer = "from the commit of the hand-over to the offer in the agent's hand, the same run"
    same = f"as above, at {CALM_RATE}/s"
    return [
        Figure("conversations started and answered", full.per_s, "/s", how, HELD),
        Figure("start to the bot's reply, p50", _p(full.replies_ms, 50), "ms", how),
        Figure("start to the bot's reply, p95", _p(full.replies_ms, 95), "ms", how),
        Figure("hand-over to offer, p50", _p(full.matches_ms, 50), "ms", offer),
        Figure("hand-over to offer, p95", _p(full.matches_ms, 95), "ms", offer, MATCH_P95),
        Figure(f"bot's reply at {CALM_RATE}/s, p95", _p(calm.replies_ms, 95), "ms", same),
        Figure(f"hand-over to offer at {CALM_RATE}/s, p50", _p(calm.matches_ms, 50), "ms", same),
        Figure(f"hand-over to offer at {CALM_RATE}/s, p95", _p(calm.matches_ms, 95), "ms", same),
    ]


async def _start(on: Floor, rate: int, total: int) -> Started:
    """Start conversations at the rate, whatever comes back."""
    chance = random.Random(7)
    bots = [name for name in help_desk.TOPICS if name not in help_desk.HANDED_OVER]
    found = Started()
    asking: list[asyncio.Task[None]] = []

    async def one(line: Line, number: int) -> None:
        hands_over = number % HAND_OVER_EVERY == 0
        topic = help_desk.TOPICS[help_desk.PERSON if hands_over else chance.choice(bots)]
        at = time.perf_counter()
        # What a model learned by heart: this is about time, not about understanding.
        answer = await line.ask(frames_in.Start(text=chance.choice(topic.examples)))
        found.sent[answer.conversation_id] = at
        if hands_over:
            found.handed_over.add(answer.conversation_id)
        await line.ask(frames_in.Subscribe(conversation_id=answer.conversation_id))

    began, sent = time.perf_counter(), 0
    while sent < total:
        due = min(total, int((time.perf_counter() - began) * rate) + 1)
        for number in range(sent, due):
            line = on.customers[number % len(on.customers)]
            asking.append(asyncio.create_task(one(line, number)))
        sent = due
        await asyncio.sleep(TICK_S)
    await asyncio.gather(*asking)
    return found


async def _matches(scene: Scene, on: Floor, started: Started) -> list[float]:
    """Return milliseconds from the hand-over to the agent's hand."""
    rows = await scene.fetch(_HANDED_OVER, TENANT)
    handed_over = {name: at for name, at in rows if name in started.handed_over}
    if handed_over.keys() != started.handed_over:
        raise Wrong(f"{len(started.handed_over)} asked, {len(handed_over)} were handed over")
    return [1e3 * (on.offered[name] - at) for name, at in handed_over.items()]


def _p(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent))
