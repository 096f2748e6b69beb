"""The help desk of the demo: what its bot was taught, and what its customers say.

Examples are what a tenant would write down; what customers say is put in other words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interchange.bot.v1.bot_pb2 import Bot, Intent
from interchange.nlu.v1.nlu_pb2 import Example

BOT_ID = "default"
PERSON = "person"


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing that customers come for."""

    examples: Sequence[str]
    """What the model learns from."""
    said: Sequence[str]
    """What customers say."""
    reply: str
    """What the bot says; empty where it hands over."""


TOPICS: Mapping[str, Topic] = {
    "order_status": Topic(
        (
            "where is my order",
            "has my order been filled",
            "what is the status of my order",
            "did my buy order go through",
            "is my trade done yet",
            "has the sell order executed",
            "check my order status please",
            "why is my order still open",
            "when will my order be filled",
            "track my order",
        ),
        (
            "did my order go through already?",
            "what's the status of the order",
            "is my order filled",
        ),
        "Orders and their fills are under Activity; an open order stays until the close.",
    ),
    "opening_hours": Topic(
        (
            "when do markets open",
            "what are your opening hours",
            "when does the market close today",
            "is the exchange open on monday",
            "at what time can i trade",
            "are you open on holidays",
            "trading hours please",
            "when does pre market trading start",
            "until when can i trade today",
            "is there trading on saturday",
        ),
        ("at what time does the market open?", "are you open on saturday", "trading hours today"),
        "US equities trade from 9:30 to 16:00 New York time on exchange days.",
    ),
    "fees": Topic(
        (
            "how much does a trade cost",
            "what are your fees",
            "is there a commission on stocks",
            "what do you charge per share",
            "how expensive is it to trade",
            "do you charge for withdrawals",
            "fee schedule please",
            "what is the minimum commission",
            "are there any hidden costs",
            "what does keeping an account cost",
        ),
        ("what do you charge for a trade?", "is there a commission", "what are the fees per share"),
        "One dollar a trade, nothing for the account; the schedule is under Fees.",
    ),
    "password": Topic(
        (
            "i forgot my password",
            "reset my password",
            "i can not log in",
            "how do i change my password",
            "my login does not work",
            "i am locked out of my account",
            "send me a new password",
            "the password is not accepted",
            "sign in fails every time",
            "need a password reset link",
        ),
        ("my password does not work", "how can i reset the password?", "i am locked out"),
        "Choose Forgot password on the sign-in page; a link arrives within a minute.",
    ),
    "deposit": Topic(
        (
            "how do i deposit money",
            "my deposit has not arrived",
            "transfer money to my account",
            "how long does a deposit take",
            "what is the iban for deposits",
            "can i deposit by card",
            "add funds to my account",
            "i want to pay in cash",
            "where do i wire the money to",
            "fund my trading account",
        ),
        ("how can i add funds?", "how long does my deposit take", "where do i wire money to"),
        "Wire details are under Funding; deposits count on the day on which they arrive.",
    ),
    "complaint": Topic(
        (
            "i want to complain",
            "this is unacceptable",
            "you executed the wrong order",
            "i lost money because of your mistake",
            "i am very unhappy with your service",
            "my trade was booked twice",
            "there is an error on my statement",
            "i demand my money back",
            "the price of my fill is wrong",
            "you charged me twice",
        ),
        ("my statement is wrong and i want to complain", "you charged me twice for one trade"),
        "",
    ),
    PERSON: Topic(
        (
            "i want to talk to a person",
            "give me a human",
            "connect me with an agent",
            "let me speak to somebody",
            "can i talk to a real person please",
            "agent please",
            "stop i want a human being",
            "put me through to support staff",
            "speak to a representative",
            "no more bots",
        ),
        ("let me talk to a human please", "i want to speak to an agent", "a real person please"),
        "",
    ),
}

HANDED_OVER = ("complaint", PERSON)
"""Topics that an agent answers."""


def examples() -> list[Example]:
    """Return what the model of the bot learns from."""
    return [
        Example(text=text, intent=name) for name, topic in TOPICS.items() for text in topic.examples
    ]


def bot() -> Bot:
    """Return the bot."""
    intents = [
        Intent(
            name=name,
            replies=[topic.reply] if topic.reply else [],
            hand_off=name in HANDED_OVER,
        )
        for name, topic in TOPICS.items()
    ]
    return Bot(
        bot_id=BOT_ID,
        fallback_reply="I did not understand that. Could you put it in other words?",
        hand_off_reply="One moment, a colleague will be with you.",
        threshold_millis=300,
        misses_max=2,
        hand_off_intent=PERSON,
        intents=intents,
    )
