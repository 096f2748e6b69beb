"""Who may see a conversation."""

from services.common.identity import AGENT, CUSTOMER, Caller


def may_see(caller: Caller, customer_id: str, agent_id: str) -> bool:
    """Tell whether a caller may see a conversation of a customer that an agent answers.

    A customer sees his own, an agent the one that he answers now, whoever has a wider
    role all of the tenant. What one may not see is told as what isn't there.
    """
    if not caller.narrow:
        return True
    own = CUSTOMER in caller.roles and caller.subject == customer_id
    return own or (AGENT in caller.roles and bool(agent_id) and caller.subject == agent_id)
