"""What a conversation needs of its agent, in one form.

The rules of Needs stand in the proto, for all who take them.
"""

from interchange.conversation.v1.conversation_pb2 import Needs

from services.common.errors import InvalidArgument

POOL_DEFAULT = "default"
LEVEL_DEFAULT = 1
EXCLUDED_MAX = 16


def stored(needs: Needs) -> bytes:
    """Return needs as they are stored and sent, with what was left out filled in."""
    full = Needs()
    full.CopyFrom(needs)
    full.pool_id = needs.pool_id or POOL_DEFAULT
    for skills in (full.required_skills, full.wished_skills):
        for skill in skills:
            skill.level = skill.level or LEVEL_DEFAULT
    return full.SerializeToString(deterministic=True)


NONE = stored(Needs())
"""Any agent of the default pool."""


def without(needs: bytes, agent_id: str) -> bytes:
    """Return needs that exclude one agent more; raises InvalidArgument where that can't be."""
    changed = Needs.FromString(needs)
    if agent_id in changed.excluded_agent_ids:
        return needs
    if len(changed.excluded_agent_ids) == EXCLUDED_MAX:
        raise InvalidArgument.of(
            "needs.excluded_agent_ids",
            "TOO_MANY_EXCLUDED",
            f"expected at most {EXCLUDED_MAX} with the agent who answers now",
        )
    if changed.preferred_agent_id == agent_id:
        raise InvalidArgument.of(
            "needs.preferred_agent_id",
            "PREFERRED_AGENT_EXCLUDED",
            "is the agent who answers now: a transfer goes to another one",
        )
    changed.excluded_agent_ids.append(agent_id)
    return changed.SerializeToString(deterministic=True)


def again(last: bytes, at_start: bytes) -> bytes:
    """Return the last needs for another agent, open to all but those excluded at the start.

    Who handed it on before is not excluded for ever: in a small team nobody would be left.
    """
    needs = Needs.FromString(last)
    needs.ClearField("preferred_agent_id")
    needs.ClearField("preferred_only")
    del needs.excluded_agent_ids[:]
    needs.excluded_agent_ids.extend(Needs.FromString(at_start).excluded_agent_ids)
    return needs.SerializeToString(deterministic=True)
