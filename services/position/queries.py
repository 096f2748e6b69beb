"""What callers may ask of positions; a read waits for what it must include."""

from collections.abc import Mapping

from services.common import deadline
from services.common.errors import InvalidArgument, NotFound
from services.common.watermarks import Watermarks
from services.common.work import WorkUnits
from services.position.fills import TRADES
from services.position.reads import ALL_ACCOUNTS, ChangeRow, PositionReads, PositionRow

WAIT_DEFAULT_S = 10.0
NEWEST = (1 << 63) - 1


class Queries:
    """The reads of one service."""

    def __init__(self, uow: WorkUnits[PositionReads], watermarks: Watermarks) -> None:
        self._uow = uow
        self._watermarks = watermarks

    async def position(
        self, tenant_id: str, account_id: str, instrument_id: str, min_sequence: int
    ) -> PositionRow:
        """Return one position; raises NotFound when it was never traded."""
        await self._reach(tenant_id, account_id, min_sequence)
        async with self._uow.reading(tenant_id) as reads:
            row = await reads.one(tenant_id, account_id, instrument_id)
        if row is None:
            raise NotFound(
                "POSITION_NOT_FOUND",
                f"account {account_id} never held {instrument_id}",
                metadata={"account_id": account_id, "instrument_id": instrument_id},
            )
        return row

    async def positions(
        self,
        tenant_id: str,
        account_id: str,
        min_sequence: int,
        after: tuple[str, str] | None,
        limit: int,
    ) -> list[PositionRow]:
        """Return positions after (account, instrument); account `-` is all of them."""
        if account_id == ALL_ACCOUNTS and min_sequence:
            raise InvalidArgument.of(
                "min_sequence", "MIN_SEQUENCE_NOT_ALLOWED", "counts within one account, not all"
            )
        await self._reach(tenant_id, account_id, min_sequence)
        async with self._uow.reading(tenant_id) as reads:
            return await reads.page(tenant_id, account_id, after or ("", ""), limit)

    async def changes(
        self, tenant_id: str, account_id: str, instrument_id: str, before: int | None, limit: int
    ) -> list[ChangeRow]:
        """Return changes of a position numbered below `before`, newest first."""
        async with self._uow.reading(tenant_id) as reads:
            return await reads.changes(
                tenant_id, account_id, instrument_id, before or NEWEST, limit
            )

    async def watermark(
        self, tenant_id: str, account_id: str, wanted: Mapping[str, int]
    ) -> dict[str, int]:
        """Return the last applied number by topic, once each is at least as wanted."""
        return await self._watermarks.wait(
            tenant_id, account_id, wanted, deadline.patience(WAIT_DEFAULT_S)
        )

    async def _reach(self, tenant_id: str, account_id: str, sequence: int) -> None:
        """Wait until a trade is applied; raises FailedPrecondition when that takes too long."""
        if sequence:
            await self.watermark(tenant_id, account_id, {TRADES: sequence})
