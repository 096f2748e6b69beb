"""native.match, in Python that can be read against its specification."""

from collections.abc import Iterator, Sequence

ELIGIBLE, OFFLINE, NO_CAPACITY, MISSING_SKILL, EXCLUDED = range(5)
VALUE_MAX = 1_000_000
RESPONSE_HALF_MS, IDLE_HALF_MS = 60_000, 300_000

Levels = Sequence[Sequence[int]]
Column = Sequence[int]


def reasons(
    levels: Levels,
    online: Column,
    load: Column,
    limit: Column,
    required: Column,
    required_levels: Column,
    excluded: Column,
) -> Iterator[int]:
    """Tell of each agent why he is not eligible, the first that holds."""
    asked = list(zip(required, required_levels, strict=True))
    for at in range(len(online)):
        if not online[at]:
            yield OFFLINE
        elif load[at] >= limit[at]:
            yield NO_CAPACITY
        elif any(levels[row][at] < level for row, level in asked):
            yield MISSING_SKILL
        else:
            yield EXCLUDED if at in excluded else ELIGIBLE


def values(
    levels: Levels,
    load: Column,
    limit: Column,
    response_ms: Column,
    idle_ms: Column,
    preference: Column,
    wished: Column,
    wished_levels: Column,
) -> Iterator[tuple[int, int, int, int, int]]:
    """Return the five values of each agent, in the order of their weights."""
    asked = list(zip(wished, wished_levels, strict=True))
    for at in range(len(load)):
        reached = sum(min(levels[row][at], level) for row, level in asked)
        yield (
            VALUE_MAX * reached // sum(wished_levels) if asked else VALUE_MAX,
            VALUE_MAX * (limit[at] - load[at]) // limit[at] if load[at] < limit[at] else 0,
            VALUE_MAX * RESPONSE_HALF_MS // (RESPONSE_HALF_MS + response_ms[at]),
            VALUE_MAX * idle_ms[at] // (IDLE_HALF_MS + idle_ms[at]),
            VALUE_MAX * preference[at] // 255,
        )


def best(
    levels: Levels,
    online: Column,
    load: Column,
    limit: Column,
    response_ms: Column,
    idle_ms: Column,
    preference: Column,
    required: Column,
    required_levels: Column,
    wished: Column,
    wished_levels: Column,
    excluded: Column,
    weights: Column,
    count: int,
) -> tuple[list[int], list[int]]:
    """Return the best eligible agents, best first, ties by column, and their scores."""
    why = reasons(levels, online, load, limit, required, required_levels, excluded)
    parts = values(
        levels, load, limit, response_ms, idle_ms, preference, wished, wished_levels
    )  # fmt: skip
    ranked = sorted(
        (-sum(value * weight for value, weight in zip(five, weights, strict=True)), at)
        for at, (five, reason) in enumerate(zip(parts, why, strict=True))
        if reason == ELIGIBLE
    )
    return [at for _, at in ranked[:count]], [-score for score, _ in ranked[:count]]


def explain(
    levels: Levels,
    online: Column,
    load: Column,
    limit: Column,
    response_ms: Column,
    idle_ms: Column,
    preference: Column,
    required: Column,
    required_levels: Column,
    wished: Column,
    wished_levels: Column,
    excluded: Column,
    weights: Column,
    agents: Column,
) -> tuple[list[list[int]], list[int]]:
    """Return the values before weights of the agents asked for, and their reasons."""
    why = list(reasons(levels, online, load, limit, required, required_levels, excluded))
    parts = list(
        values(levels, load, limit, response_ms, idle_ms, preference, wished, wished_levels)
    )
    return [list(parts[at]) for at in agents], [why[at] for at in agents]
