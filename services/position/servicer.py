"""gRPC in: requests to queries, rows to responses."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

from grpc.aio import ServicerContext
from interchange.position.v1 import position_service_pb2 as pb
from interchange.position.v1.position_pb2 import Position, PositionWatermark
from interchange.position.v1.position_service_pb2_grpc import PositionServiceServicer

from services.common import identity, pagination
from services.position import responses
from services.position.fills import TRADES, TRANSFERS
from services.position.queries import Queries
from services.position.watch import Watches

Context: TypeAlias = ServicerContext[Any, Any]


class PositionServicer(PositionServiceServicer):
    """Shows positions."""

    def __init__(self, queries: Queries, watches: Watches) -> None:
        self._queries = queries
        self._watches = watches

    async def GetPosition(self, request: pb.GetPositionRequest, context: Context) -> Position:
        """Return one position."""
        row = await self._queries.position(
            identity.current().tenant_id,
            request.account_id,
            request.instrument_id,
            request.min_sequence,
        )
        return responses.positions([row])[0]

    async def ListPositions(
        self, request: pb.ListPositionsRequest, context: Context
    ) -> pb.ListPositionsResponse:
        """List positions by account and instrument."""
        filters = {"a": request.account_id}
        size = pagination.page_size(request.page_size)
        last = pagination.keyset(request.page_token, filters, str, str)
        rows = await self._queries.positions(
            identity.current().tenant_id,
            request.account_id,
            request.min_sequence,
            (str(last[0]), str(last[1])) if last else None,
            size + 1,
        )
        token = ""
        if len(rows) > size:
            last_row = rows[size - 1]
            token = pagination.page_token([last_row.account_id, last_row.instrument_id], filters)
        return pb.ListPositionsResponse(
            positions=responses.positions(rows[:size]), next_page_token=token
        )

    async def WatchPositions(
        self, request: pb.WatchPositionsRequest, context: Context
    ) -> AsyncIterator[pb.WatchPositionsResponse]:
        """Send the positions of an account, then each change."""
        watching = self._watches.watch(identity.current().tenant_id, request.account_id)
        async with aclosing(watching) as states:
            async for rows in states:
                yield pb.WatchPositionsResponse(positions=responses.positions(rows))
        yield pb.WatchPositionsResponse(end=True)

    async def ListPositionChanges(
        self, request: pb.ListPositionChangesRequest, context: Context
    ) -> pb.ListPositionChangesResponse:
        """List the changes of one position, newest first."""
        filters = {"a": request.account_id, "i": request.instrument_id}
        size = pagination.page_size(request.page_size)
        last = pagination.keyset(request.page_token, filters, int)
        rows = await self._queries.changes(
            identity.current().tenant_id,
            request.account_id,
            request.instrument_id,
            int(last[0]) if last else None,
            size + 1,
        )
        token = ""
        if len(rows) > size:
            token = pagination.page_token([rows[size - 1].position.sequence], filters)
        return pb.ListPositionChangesResponse(
            changes=responses.changes(rows[:size]), next_page_token=token
        )

    async def GetPositionWatermark(
        self, request: pb.GetPositionWatermarkRequest, context: Context
    ) -> PositionWatermark:
        """Return how far the account's events have been applied."""
        wanted = {TRADES: request.min_sequence, TRANSFERS: request.min_transfer_sequence}
        reached = await self._queries.watermark(
            identity.current().tenant_id, request.account_id, wanted
        )
        return PositionWatermark(
            account_id=request.account_id,
            trade_sequence=reached.get(TRADES, 0),
            transfer_sequence=reached.get(TRANSFERS, 0),
        )
