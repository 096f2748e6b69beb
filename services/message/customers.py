"""Whose conversations these are: asked once, for it never changes."""

from collections.abc import Collection

from services.message.ports import Units

CACHED_MAX = 50_000


class Customers:
    """Customers of conversations, remembered by this process.

    What a message says is sealed under the key of the customer before its
    transaction begins, so he must be known by then.
    """

    def __init__(self, uow: Units) -> None:
        self._uow = uow
        self._known: dict[tuple[str, str], str] = {}

    async def of(self, tenant_id: str, conversation_ids: Collection[str]) -> dict[str, str]:
        """Return the customers of those of the conversations that are known here."""
        known = self._known
        found = {}
        missing = []
        for conversation_id in conversation_ids:
            customer_id = known.get((tenant_id, conversation_id))
            if customer_id is None:
                missing.append(conversation_id)
            else:
                found[conversation_id] = customer_id
        if missing:
            async with self._uow.reading(tenant_id) as reads:
                loaded = await reads.conversations(tenant_id, missing)
            for conversation_id, conversation in loaded.items():
                found[conversation_id] = conversation.customer_id
                self._remember((tenant_id, conversation_id), conversation.customer_id)
        return found

    def _remember(self, key: tuple[str, str], customer_id: str) -> None:
        if len(self._known) >= CACHED_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = customer_id
