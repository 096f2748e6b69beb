"""Who takes part: two tenants with the same names, and what they have in common."""

from typing import NamedTuple

from interchange.bot.v1.bot_pb2 import Bot, Intent
from interchange.conversation.v1.conversation_pb2 import CHANNEL_MOBILE, CHANNEL_WEB, Needs, Skill

from services.common.identity import Caller
from tests.sim.chance import Chance

TENANTS = ("north", "south")
CUSTOMERS = ("c1", "c2", "c3", "c4")
CHANNELS = (CHANNEL_WEB, CHANNEL_MOBILE)


class Profile(NamedTuple):
    """An agent: his pool, his skills, and how many he takes over each channel."""

    pool: str
    skills: dict[str, int]
    web: int
    mobile: int


AGENTS = {
    "a1": Profile("default", {"lang:en": 5}, 3, 1),
    "a2": Profile("default", {"lang:en": 9, "tax": 3}, 1, 1),
    "a3": Profile("default", {"lang:fr": 5}, 2, 0),
    "a4": Profile("vip", {"lang:en": 5}, 2, 1),
}
POOLS = ("default", "vip")

BOTS = ("default", "silent")
"""`silent` is asked for, and does not exist: what it is to answer goes to agents."""
GREETING = "hello"
ORDERS, MUMBLE, PERSON, COMPLAINT, ODD = "orders", "mumble", "person", "complaint", "odd"
TOPICS = (ORDERS, ORDERS, ORDERS, MUMBLE, PERSON, COMPLAINT, ODD)
"""What customers say, by their first word; most of it the bot can answer."""


def bot() -> Bot:
    """Return the bot of a tenant."""
    return Bot(
        bot_id="default",
        greeting=GREETING,
        fallback_reply="in other words?",
        hand_off_reply="one moment",
        misses_max=2,
        hand_off_intent=PERSON,
        intents=[
            Intent(name=ORDERS, replies=["it is on its way", "it is still on its way"]),
            Intent(
                name=COMPLAINT,
                hand_off=True,
                needs=Needs(required_skills=[Skill(name="tax", level=2)]),
            ),
        ],
    )


def customer(tenant: str, name: str) -> Caller:
    """Return a customer as he calls."""
    return Caller(tenant, name, ("customer",))


def agent(tenant: str, name: str) -> Caller:
    """Return an agent as he calls."""
    return Caller(tenant, name, ("agent",))


def supervisor(tenant: str) -> Caller:
    """Return who may do everything in a tenant's conversations."""
    return Caller(tenant, "boss", ("supervisor",))


def utterance(chance: Chance, tenant: str, number: int) -> str:
    """Draw what a customer says: the name of his tenant, a topic and a number."""
    return f"[{tenant}] {chance.pick(TOPICS)} {number}"


def needs(chance: Chance) -> Needs:
    """Draw what a conversation needs of its agent: mostly nothing."""
    drawn = Needs()
    if chance.happens(0.2):
        drawn.pool_id = "vip"
    elif chance.happens(0.4):
        skill, level = chance.pick((("lang:en", 3), ("lang:fr", 1), ("tax", 3), ("lang:en", 7)))
        drawn.required_skills.add(name=skill, level=level)
    if chance.happens(0.2):
        drawn.wished_skills.add(name="tax", level=1)
    if chance.happens(0.2):
        drawn.preferred_agent_id = chance.pick(list(AGENTS))
        drawn.preferred_only = chance.happens(0.2)
    elif chance.happens(0.15):
        drawn.excluded_agent_ids.append(chance.pick(list(AGENTS)))
    drawn.priority = chance.pick((0, 0, 0, 5))
    return drawn


def modest(needs: Needs) -> Needs:
    """Return needs without what a customer, or an agent, may not ask for."""
    needs.ClearField("priority")
    needs.ClearField("preferred_only")
    return needs
