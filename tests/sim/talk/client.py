"""A client with a socket: it comes, breaks, comes back, and remembers what it saw."""

from dataclasses import dataclass, field

from services.common.identity import Caller
from services.gateway import frames_out
from services.gateway.codec import decode_answer
from services.gateway.subscription import Subscription
from tests.sim.chance import Chance
from tests.sim.talk.gateways import Gateway
from tests.sim.talk.laws import NOTES
from tests.sim.talk.told import AGENT, CUSTOMER, Item, Told, View

NOT_YET = {"CONVERSATION_NOT_YET_KNOWN", "CONVERSATION_NOT_FOUND"}
"""Refusals of a subscription that may pass: the copy is not there yet."""
NOTE_NAMES = {"queued": NOTES[1], "agent_joined": NOTES[2], "ended": NOTES[3], "reopened": NOTES[4]}


@dataclass(eq=False)
class Socket:
    """A connection: what was sent and not read yet is lost with it."""

    caller: Caller
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    unread: list[bytes] = field(default_factory=list)
    closed: bool = False

    def send(self, data: bytes) -> None:
        if not self.closed:
            self.unread.append(data)

    async def room(self) -> None:
        pass


class Client:
    """One customer or agent, over all his connections."""

    def __init__(self, caller: Caller, told: Told, chance: Chance) -> None:
        self.caller = caller
        self.kind = AGENT if "agent" in caller.roles else CUSTOMER
        self.views: dict[str, View] = {}
        """What he follows."""
        self.gateway: Gateway | None = None
        self._told, self._chance = told, chance
        self._socket: Socket | None = None
        self._epochs: dict[str, str] = {}

    def follow(self, name: str) -> None:
        """Want to see a conversation, from where he left it or from its beginning."""
        if name not in self.views:
            view = View(name, self.kind, self.caller.subject)
            self.views[name] = view
            self._told.views.append(view)

    def leave(self, name: str) -> None:
        """Want to see a conversation no longer."""
        view = self.views.pop(name, None)
        if view is not None:
            view.left = True
        if self._socket is not None and self.gateway is not None:
            self.gateway.feeds.unsubscribe(self._socket, name)

    def connect(self, gateway: Gateway) -> None:
        """Open a socket, anew where there is one."""
        self.drop()
        self.gateway, self._socket = gateway, Socket(self.caller)

    def drop(self) -> None:
        """Lose the socket, and what is on its way."""
        if self._socket is not None and self.gateway is not None:
            self._socket.closed = True
            for name in list(self._socket.subscriptions):
                self.gateway.feeds.unsubscribe(self._socket, name)
        self.gateway = self._socket = None

    def subscribe(self) -> None:
        """Ask for what he wants to see and does not follow."""
        if self._socket is None or self.gateway is None:
            return
        self.read()
        for name, view in self.views.items():
            if name not in self._socket.subscriptions:
                after = view.items[-1].sequence if view.items else 0
                epoch = self._epochs.get(name, "") if view.items else ""
                self.gateway.feeds.subscribe(self._socket, name, after, epoch, name)

    def read(self) -> None:
        """Read what came."""
        if self._socket is None:
            return
        unread, self._socket.unread = self._socket.unread, []
        for data in unread:
            self._take(decode_answer(data))

    @property
    def follows_all(self) -> bool:
        """True when he is told of everything that he wants to see."""
        if self._socket is None:
            return not self.views
        return all(
            (sub := self._socket.subscriptions.get(name)) is not None and sub.live
            for name in self.views
        )

    def _take(self, frame: frames_out.AnyServerFrame | None) -> None:
        who = f"{self.caller.tenant_id}:{self.caller.subject}"
        match frame:
            case frames_out.Subscribed():
                self._epochs[frame.conversation_id] = frame.epoch
                if not frame.recovered:
                    self._told.problems.append(f"{who} lost his place in {frame.conversation_id}")
            case frames_out.Message():
                self._see(frame)
            case frames_out.Unsubscribed():
                self._chance.note(who, "follows no more:", frame.conversation_id, frame.reason)
                if frame.reason == "NOT_YOURS":
                    self._lost(frame.conversation_id)
            case frames_out.Error():
                self._chance.note(who, "is refused", frame.ref, frame.reason)
                if frame.reason in NOT_YET:
                    self._refused(frame.ref)
                else:
                    self._told.problems.append(f"{who} was refused {frame.ref}: {frame}")
            case frames_out.Marks() | frames_out.Presence() | frames_out.Typing():
                pass
            case _:
                self._told.problems.append(f"{who} got {frame}")

    def _see(self, frame: frames_out.Message) -> None:
        view = self.views.get(frame.conversation_id)
        text = frame.text if frame.system is None else NOTE_NAMES[frame.system.kind]
        item = Item(frame.sequence, frame.message_id, text or "")
        if view is not None:
            view.items.append(item)

    def _refused(self, name: str) -> None:
        """Give a conversation up that went on; a customer's own is only not there yet."""
        if self.kind == AGENT and (view := self.views.pop(name, None)) is not None:
            view.left = True

    def _lost(self, name: str) -> None:
        view = self.views.pop(name, None)
        if view is None:
            return
        view.left = True
        if self.kind == CUSTOMER:
            self._told.problems.append(f"{self.caller.subject} was sent away from {name}")
