"""What callers of one tenant say: sent, sent again, and never heard twice."""

from collections.abc import Callable

from interchange.message.v1 import message_service_pb2 as pb
from interchange.message.v1.message_pb2 import SENDER_KIND_CUSTOMER, Message, Sender

from services.gateway.refusals import of_status
from tests.sim.chance import Chance
from tests.sim.house import Crash
from tests.sim.talk.office import Office
from tests.sim.talk.told import Answer, Told, View, Wording

LATER = {"CONVERSATION_NOT_YET_KNOWN", "CONVERSATION_NOT_FOUND"}
"""Refusals of a customer's message that pass: the copy is not there yet."""
FINAL = {"CONVERSATION_ENDED"}
"""Refusals of a customer's message that are right, and stay."""
FINAL_FOR_AGENTS = FINAL | {"CONVERSATION_NOT_FOUND"}


Learn = Callable[[str, Message], None]
"""Tells an instance of the gateway what it sent itself."""


class Speech:
    """All messages of a tenant's customers and agents."""

    def __init__(
        self, tenant: str, office: Office, learn: Learn, told: Told, chance: Chance
    ) -> None:
        self.waiting: dict[Wording, pb.Submission] = {}
        """What was said and not answered yet, in its order."""
        self._tenant, self._office, self._learn = tenant, office, learn
        self._told, self._chance = told, chance
        self._all: list[tuple[Wording, pb.Submission]] = []

    def say(self, name: str, sender: Sender, client_id: str, text: str) -> None:
        """Say something; it is sent with the next batch."""
        request = pb.SendMessageRequest(
            conversation_id=name, client_message_id=client_id, text=text
        )
        wording = Wording(name, sender.kind, sender.id, client_id)
        submission = pb.Submission(sender=sender, request=request)
        self._told.tried[wording] = text
        self.waiting[wording] = submission
        self._all.append((wording, submission))

    async def send(self) -> None:
        """Send all that waits, and perhaps something that was answered once more."""
        again = []
        if self._all and self._chance.happens(0.3):
            wording, submission = self._chance.pick(self._all)
            again.append((wording, submission))
            if wording not in self._told.answers:
                # It was refused, and may be right by now.
                self._told.tried[wording] = submission.request.text
                self.waiting[wording] = submission
        batch = [*self.waiting.items(), *again]
        if not batch:
            return
        try:
            results = await self._office.submit(self._tenant, [one for _, one in batch])
        except Crash:
            self._chance.note("no answer to", len(batch), "messages")
            return
        for (wording, _), result in zip(batch, results, strict=True):
            self._take(wording, result)

    async def mark(self, view: View, number: int) -> None:
        """Say how far a reader has read."""
        reader = Sender(kind=view.kind, id=view.reader)  # type: ignore[arg-type]
        try:
            await self._office.mark(self._tenant, view.conversation, reader, number)
        except Crash:
            return
        # Who is not there any more moves nothing, and is not told so.
        if view.kind == SENDER_KIND_CUSTOMER:
            self._told.read(view.conversation, view.kind, view.reader, number)

    def _take(self, wording: Wording, result: pb.SendMessageResult) -> None:
        if result.HasField("message"):
            message = result.message
            self._learn(self._tenant, message)
            self._chance.note(wording.client_id, "is", wording.conversation, message.sequence)
            self._told.sent(wording, Answer(message.sequence, message.message_id))
            self.waiting.pop(wording, None)
            return
        reason = of_status(result.error).reason
        self._chance.note(wording.client_id, "is refused:", reason)
        if wording in self._told.answers:
            self._told.problems.append(f"{wording} was answered, then refused: {reason}")
        elif reason in (FINAL if wording.kind == SENDER_KIND_CUSTOMER else FINAL_FOR_AGENTS):
            self._told.tried.pop(wording, None)
            self.waiting.pop(wording, None)
        elif reason not in LATER:
            self._told.problems.append(f"{wording} was refused: {result.error}")
