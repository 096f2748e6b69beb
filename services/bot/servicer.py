"""gRPC in: requests to use cases, results to responses."""

from typing import Any

from interchange.bot.v1 import bot_pb2
from interchange.bot.v1 import bot_service_pb2 as pb
from interchange.bot.v1.bot_service_pb2_grpc import BotServiceServicer

from services.bot import handlers
from services.bot.repository import Bots
from services.common import identity
from services.common.work import WorkUnits


class BotServicer(BotServiceServicer):
    """Keeps the bots of a tenant."""

    def __init__(self, uow: WorkUnits[Bots]) -> None:
        self._uow = uow

    async def PutBot(self, request: pb.PutBotRequest, context: Any) -> bot_pb2.Bot:
        """Create a bot, or replace it."""
        return await handlers.put_bot(identity.current().tenant_id, request.bot, uow=self._uow)

    async def GetBot(self, request: pb.GetBotRequest, context: Any) -> bot_pb2.Bot:
        """Return one bot."""
        return await handlers.get_bot(identity.current().tenant_id, request.bot_id, uow=self._uow)

    async def ListBots(self, request: pb.ListBotsRequest, context: Any) -> pb.ListBotsResponse:
        """List bots by id."""
        bots, token = await handlers.list_bots(
            identity.current().tenant_id, request.page_size, request.page_token, uow=self._uow
        )
        return pb.ListBotsResponse(bots=bots, next_page_token=token)

    async def GetBotContext(
        self, request: pb.GetBotContextRequest, context: Any
    ) -> bot_pb2.BotContext:
        """Return what the bot knows of a conversation."""
        return await handlers.get_context(
            identity.current().tenant_id, request.conversation_id, uow=self._uow
        )
