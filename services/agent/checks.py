"""What must hold over the tables, whatever happened: tests and repairs ask it."""

from datetime import datetime, timedelta

from services.agent import rows
from services.agent.domain import Agent
from services.common.db import Connection

_LOADS = """
SELECT coalesce(c.agent_id, h.agent_id) AS agent_id, coalesce(c.channel, h.channel) AS channel,
       coalesce(c.load, 0) AS load, coalesce(h.n, 0) AS carried
FROM (SELECT * FROM agent.capacities WHERE tenant_id = $1) AS c
FULL JOIN (
    SELECT agent_id, channel, count(*) AS n
    FROM (SELECT agent_id, channel FROM agent.offers WHERE tenant_id = $1 AND state = 'OPEN'
          UNION ALL SELECT agent_id, channel FROM agent.assignments WHERE tenant_id = $1) AS carried
    GROUP BY agent_id, channel
) AS h ON c.agent_id = h.agent_id AND c.channel = h.channel
WHERE coalesce(c.load, 0) <> coalesce(h.n, 0)
"""

_OVERFULL = """
SELECT agent_id, channel, load, slots FROM agent.capacities WHERE tenant_id = $1 AND load > slots
"""

_OFFERED = """
SELECT r.conversation_id, r.hand_off, count(o.*) AS n
FROM agent.requests AS r LEFT JOIN agent.offers AS o
     ON o.tenant_id = r.tenant_id AND o.conversation_id = r.conversation_id
     AND o.hand_off = r.hand_off AND o.state = 'OPEN'
WHERE r.tenant_id = $1 AND r.settle_time IS NULL
GROUP BY r.tenant_id, r.conversation_id, r.hand_off, r.state
HAVING (count(o.*) = 1) <> (r.state = 'OFFERED')
"""

_KEPT = """
SELECT a.conversation_id, a.hand_off, a.agent_id, r.state, r.hand_off AS current
FROM agent.assignments AS a LEFT JOIN agent.requests AS r USING (tenant_id, conversation_id)
WHERE a.tenant_id = $1 AND r.settle_time IS NULL
  AND (r.hand_off IS DISTINCT FROM a.hand_off OR r.state IS DISTINCT FROM 'MATCHED')
"""


async def violations(
    connection: Connection, tenant_id: str, now: datetime, decline_pause: timedelta
) -> list[str]:
    """Return what does not hold of a tenant's agents, in words; nothing when all is well.

    Load is open offers and conversations, and within the slots unless those were
    lowered; a request is offered once or not at all; no agent keeps a conversation that
    moved on; nobody waits while an agent who fits is free. `decline_pause` is how long
    one who had a conversation in vain does not count as free for it. What is noted to
    be settled is left out: it is being done.
    """
    found = [
        f"{row['agent_id']} has load {row['load']} over channel {row['channel']} "
        f"and carries {row['carried']}"
        for row in await connection.fetch(_LOADS, tenant_id)
    ]
    found += [
        f"{row['agent_id']} has {row['load']} of {row['slots']} over channel {row['channel']}"
        for row in await connection.fetch(_OVERFULL, tenant_id)
    ]
    found += [
        f"hand-over {row['hand_off']} of {row['conversation_id']} has {row['n']} open offers"
        for row in await connection.fetch(_OFFERED, tenant_id)
    ]
    found += [
        f"{row['agent_id']} keeps hand-over {row['hand_off']} of {row['conversation_id']}, "
        f"which is {row['state']} with hand-over {row['current']}"
        for row in await connection.fetch(_KEPT, tenant_id)
    ]
    return found + await waiting_in_vain(connection, tenant_id, now, decline_pause)


async def waiting_in_vain(
    connection: Connection, tenant_id: str, now: datetime, decline_pause: timedelta
) -> list[str]:
    """Return who waits while an agent who fits is free."""
    waiting = await connection.fetch(
        f"SELECT {rows.REQUEST} FROM agent.requests WHERE tenant_id = $1 AND state = 'WAITING'",
        tenant_id,
    )
    online = await connection.fetch(
        f"SELECT {rows.AGENT} FROM agent.agents AS a {rows.CAPACITIES} "
        "WHERE a.tenant_id = $1 AND a.status = 'ONLINE'",
        tenant_id,
    )
    agents: list[Agent] = [rows.agent(row) for row in online]
    found = []
    for row in waiting:
        request = rows.request(row)
        fit = [one.agent_id for one in agents if request.fits(one, now, decline_pause)]
        if fit:
            found.append(f"{request.conversation_id} waits while {fit[0]} is free")
    return found
