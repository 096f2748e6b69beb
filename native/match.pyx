"""The best agents for a conversation, out of columns of all that there are.

An agent is eligible when he is online, load < limit, reaches each required
level, and is not excluded. His score is the sum of five values, from 0 to
VALUE_MAX (the formulas are in match.pxd), times their weights: what he has of
the wished levels (a skill counts up to the level asked for; everything when
nothing is wished), the share of his capacity that is free, a short average
response time, a long idle time, and preference. Higher goes first, and of
equal scores the lower column.

Blocks of agents pass through loops without branches, so that a block's columns
stay in the first cache and gcc vectorises each loop; only rows of `levels`
that are asked for are touched. Nothing is allocated for an agent.

What is wrong with a call raises ValueError or TypeError before any work.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset
from native.check cimport same_length

# A wheel must run on any x86-64, whose baseline has vectors of 16 bytes; the
# loop's variants for wider ones are chosen when the module is loaded. Of other
# compilers, gcc and glibc alone are known to build that; the numbers are the
# same everywhere.
cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) \
        && __GNUC__ >= 12 && !defined(__clang__) && !CYTHON_TRACE_NOGIL
    #define EACH_CPU __attribute__((target_clones( \
        "arch=x86-64-v4", "arch=x86-64-v3", "default")))
    #else
    #define EACH_CPU
    #endif
    EACH_CPU static int match_sign(const int32_t *, Py_ssize_t);
    EACH_CPU static int match_free(const uint8_t *, const int32_t *, const int32_t *,
                                   Py_ssize_t, uint8_t *);
    EACH_CPU static int match_require(const uint8_t *, uint8_t, Py_ssize_t, uint8_t *);
    EACH_CPU static void match_reach(const uint8_t *, uint8_t, Py_ssize_t, uint16_t *);
    EACH_CPU static void match_add_wished(const uint16_t *, int32_t, uint32_t,
                                          Py_ssize_t, uint32_t *);
    EACH_CPU static void match_add_load(const int32_t *, const int32_t *, uint32_t,
                                        Py_ssize_t, uint32_t *);
    EACH_CPU static void match_add_response(const int32_t *, uint32_t, Py_ssize_t,
                                            uint32_t *);
    EACH_CPU static void match_add_idle(const int32_t *, uint32_t, Py_ssize_t, uint32_t *);
    EACH_CPU static void match_finish(const uint8_t *, uint32_t, const uint8_t *,
                                      const uint32_t *, Py_ssize_t, int64_t *, int64_t *);
    """

cdef enum:
    BLOCK = 512
    LANE = 32
    LANES = 16
    COLUMN_BITS = 30
    COLUMN_MAX = (1 << 30) - 1


cdef class Question:
    """The columns of n agents and what a conversation needs, checked."""

    cdef Py_ssize_t count
    cdef const uint8_t[:, ::1] levels
    cdef const uint8_t[::1] online, preference, required_levels, wished_levels
    cdef const int32_t[::1] load, limit, response_ms, idle_ms
    cdef const int32_t[::1] required, wished, excluded, weights
    cdef int32_t asked
    """Sum of the wished levels."""

    def __cinit__(
        self,
        const uint8_t[:, ::1] levels not None,
        const uint8_t[::1] online not None,
        const int32_t[::1] load not None,
        const int32_t[::1] limit not None,
        const int32_t[::1] response_ms not None,
        const int32_t[::1] idle_ms not None,
        const uint8_t[::1] preference not None,
        const int32_t[::1] required not None,
        const uint8_t[::1] required_levels not None,
        const int32_t[::1] wished not None,
        const uint8_t[::1] wished_levels not None,
        const int32_t[::1] excluded not None,
        const int32_t[::1] weights not None,
    ):
        cdef Py_ssize_t n = online.shape[0], rows = levels.shape[0]
        self.count = n
        if n > COLUMN_MAX:
            raise ValueError(f"length of online was {n}, expected <= {COLUMN_MAX}")
        if wished.shape[0] > WISHED_MAX:
            raise ValueError(
                f"length of wished was {wished.shape[0]}, expected <= {WISHED_MAX}"
            )
        same_length("a row of levels", levels.shape[1], n)
        same_length("load", load.shape[0], n)
        same_length("limit", limit.shape[0], n)
        same_length("response_ms", response_ms.shape[0], n)
        same_length("idle_ms", idle_ms.shape[0], n)
        same_length("preference", preference.shape[0], n)
        same_length("required_levels", required_levels.shape[0], required.shape[0])
        same_length("wished_levels", wished_levels.shape[0], wished.shape[0])
        same_length("weights", weights.shape[0], PARTS)
        at_least_zero("load", load)
        at_least_zero("limit", limit)
        at_least_zero("response_ms", response_ms)
        at_least_zero("idle_ms", idle_ms)
        within("required", required, rows)
        within("wished", wished, rows)
        within("excluded", excluded, n)
        within("weights", weights, WEIGHT_MAX + 1)
        levels_asked("required_levels", required_levels)
        self.asked = levels_asked("wished_levels", wished_levels)
        self.levels, self.online, self.preference = levels, online, preference
        self.load, self.limit = load, limit
        self.response_ms, self.idle_ms = response_ms, idle_ms
        self.required, self.required_levels = required, required_levels
        self.wished, self.wished_levels = wished, wished_levels
        self.excluded, self.weights = excluded, weights

    cdef inline bint is_excluded(self, Py_ssize_t column) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.excluded.shape[0]):
            if self.excluded[i] == column:
                return True
        return False

    cdef inline bint fit(self, Py_ssize_t first, Py_ssize_t n, uint8_t* fits) noexcept nogil:
        """Flag the agents of a block who fit, excluded or not; tell if any does."""
        cdef Py_ssize_t i
        if not free(&self.online[first], &self.load[first], &self.limit[first], n, fits):
            return False
        for i in range(self.required.shape[0]):
            if not require(
                &self.levels[self.required[i], first], self.required_levels[i], n, fits
            ):
                return False
        return True

    cdef inline void score(
        self, Py_ssize_t first, Py_ssize_t n, const uint8_t* fits,
        int64_t* scores, int64_t* tops,
    ) noexcept nogil:
        """Write the scores of a block, -1 for those who do not fit, and each lane's top."""
        cdef uint16_t reached[BLOCK]
        cdef uint32_t sums[BLOCK]
        cdef Py_ssize_t i
        cdef uint32_t wished_all = <uint32_t>(self.weights[0] * VALUE_MAX)
        # Four products of at most 10^9 fit in 32 bits; the fifth is added in 64.
        for i in range(n):
            sums[i] = wished_all if self.asked == 0 else 0
        if self.asked and self.weights[0]:
            memset(reached, 0, sizeof(reached))
            for i in range(self.wished.shape[0]):
                reach(&self.levels[self.wished[i], first], self.wished_levels[i], n, reached)
            add_wished(reached, self.asked, self.weights[0], n, sums)
        if self.weights[1]:
            add_load(&self.load[first], &self.limit[first], self.weights[1], n, sums)
        if self.weights[2]:
            add_response(&self.response_ms[first], self.weights[2], n, sums)
        if self.weights[3]:
            add_idle(&self.idle_ms[first], self.weights[3], n, sums)
        finish(&self.preference[first], self.weights[4], fits, sums, n, scores, tops)

    cdef inline uint8_t reason(self, Py_ssize_t column) noexcept nogil:
        cdef Py_ssize_t i
        if not self.online[column]:
            return OFFLINE
        if self.load[column] >= self.limit[column]:
            return NO_CAPACITY
        for i in range(self.required.shape[0]):
            if self.levels[self.required[i], column] < self.required_levels[i]:
                return MISSING_SKILL
        return EXCLUDED if self.is_excluded(column) else ELIGIBLE

    cdef inline uint32_t wished_part(self, Py_ssize_t column) noexcept nogil:
        cdef Py_ssize_t i
        cdef int32_t reached = 0
        if self.asked == 0:
            return VALUE_MAX
        for i in range(self.wished.shape[0]):
            reached += min(self.levels[self.wished[i], column], self.wished_levels[i])
        return wished_value(reached, self.asked)


def best(
    levels, online, load, limit, response_ms, idle_ms, preference,
    required, required_levels, wished, wished_levels, excluded, weights,
    Py_ssize_t count,
):
    """Return (columns int32[M], scores int64[M]) of the best `count` eligible agents.

    levels[S, N] holds a row a skill, 0 for who lacks it; required[K] and
    wished[W] name rows, and their levels are from 1; excluded[E] names columns.
    weights are of wished skills, load, response time, idle time, preference.
    """
    if not 1 <= count <= COUNT_MAX:
        raise ValueError(f"count was {count}, expected >= 1 and <= {COUNT_MAX}")
    cdef Question question = Question(
        levels, online, load, limit, response_ms, idle_ms, preference,
        required, required_levels, wished, wished_levels, excluded, weights,
    )
    cdef int64_t keys[COUNT_MAX]
    cdef Py_ssize_t i, found
    with nogil:
        found = _best(question, count, keys)
    columns, scores = np.empty(found, np.int32), np.empty(found, np.int64)
    cdef int32_t[::1] column = columns
    cdef int64_t[::1] score = scores
    for i in range(found):
        column[i] = <int32_t>(COLUMN_MAX - (keys[i] & COLUMN_MAX))
        score[i] = keys[i] >> COLUMN_BITS
    return columns, scores


cdef Py_ssize_t _best(Question question, Py_ssize_t count, int64_t* keys) noexcept nogil:
    cdef uint8_t fits[BLOCK]
    cdef int64_t scores[BLOCK]
    cdef int64_t tops[LANES]
    cdef Py_ssize_t first = 0, n, found = 0
    while first < question.count:
        n = min(<Py_ssize_t>BLOCK, question.count - first)
        if question.fit(first, n, fits):
            question.score(first, n, fits, scores, tops)
            found = _keep(question, scores, tops, first, n, keys, found, count)
        first += BLOCK
    return found


cdef inline Py_ssize_t _keep(
    Question question, const int64_t* scores, const int64_t* tops,
    Py_ssize_t first, Py_ssize_t n, int64_t* keys, Py_ssize_t found, Py_ssize_t count,
) noexcept nogil:
    """Insert into the best keys, descending, what a block has to add to them.

    A key is the score above the column counted down, so all keys differ and
    ties need no care. A later agent must exceed the last score to be kept.
    """
    cdef int64_t key, last = keys[count - 1] >> COLUMN_BITS if found == count else -1
    cdef Py_ssize_t lane, i, at
    for lane in range((n + LANE - 1) // LANE):
        if tops[lane] <= last:
            continue
        for i in range(lane * LANE, min(lane * LANE + LANE, n)):
            if scores[i] <= last or question.is_excluded(first + i):
                continue
            key = (scores[i] << COLUMN_BITS) | (COLUMN_MAX - (first + i))
            if found < count:
                found += 1
            at = found - 1
            while at > 0 and keys[at - 1] < key:
                keys[at] = keys[at - 1]
                at -= 1
            keys[at] = key
            if found == count:
                last = keys[count - 1] >> COLUMN_BITS
    return found


def explain(
    levels, online, load, limit, response_ms, idle_ms, preference,
    required, required_levels, wished, wished_levels, excluded, weights,
    const int32_t[::1] agents not None,
):
    """Return (values int64[M, PARTS], reason uint8[M]) of the agents given by column.

    The values are those before weights, of the ineligible too; the reason is
    ELIGIBLE or the first that holds of OFFLINE, NO_CAPACITY, MISSING_SKILL and
    EXCLUDED.
    """
    cdef Question question = Question(
        levels, online, load, limit, response_ms, idle_ms, preference,
        required, required_levels, wished, wished_levels, excluded, weights,
    )
    cdef Py_ssize_t i, column, m = agents.shape[0]
    within("agents", agents, question.count)
    values, reasons = np.empty((m, PARTS), np.int64), np.empty(m, np.uint8)
    cdef int64_t[:, ::1] value = values
    cdef uint8_t[::1] reason = reasons
    with nogil:
        for i in range(m):
            column = agents[i]
            value[i, 0] = question.wished_part(column)
            value[i, 1] = load_value(question.load[column], question.limit[column])
            value[i, 2] = response_value(question.response_ms[column])
            value[i, 3] = idle_value(question.idle_ms[column])
            value[i, 4] = preference_value(question.preference[column])
            reason[i] = question.reason(column)
    return values, reasons


cdef int free "match_free"(
    const uint8_t* online, const int32_t* load, const int32_t* limit,
    Py_ssize_t n, uint8_t* fits,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint8_t some = 0
    for i in range(n):
        fits[i] = (online[i] != 0) & (load[i] < limit[i])
        some |= fits[i]
    return some


cdef int require "match_require"(
    const uint8_t* row, uint8_t level, Py_ssize_t n, uint8_t* fits
) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint8_t some = 0
    for i in range(n):
        fits[i] &= row[i] >= level
        some |= fits[i]
    return some


cdef void reach "match_reach"(
    const uint8_t* row, uint8_t level, Py_ssize_t n, uint16_t* reached
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        reached[i] += row[i] if row[i] < level else level


cdef void add_wished "match_add_wished"(
    const uint16_t* reached, int32_t asked, uint32_t weight, Py_ssize_t n, uint32_t* sums
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        sums[i] += weight * wished_value(reached[i], asked)


cdef void add_load "match_add_load"(
    const int32_t* load, const int32_t* limit, uint32_t weight, Py_ssize_t n, uint32_t* sums
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        sums[i] += weight * load_value(load[i], limit[i])


cdef void add_response "match_add_response"(
    const int32_t* response_ms, uint32_t weight, Py_ssize_t n, uint32_t* sums
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        sums[i] += weight * response_value(response_ms[i])


cdef void add_idle "match_add_idle"(
    const int32_t* idle_ms, uint32_t weight, Py_ssize_t n, uint32_t* sums
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        sums[i] += weight * idle_value(idle_ms[i])


cdef void finish "match_finish"(
    const uint8_t* preference, uint32_t weight, const uint8_t* fits, const uint32_t* sums,
    Py_ssize_t n, int64_t* scores, int64_t* tops,
) noexcept nogil:
    cdef Py_ssize_t i, lane
    cdef int64_t score, top
    for i in range(n):
        score = <int64_t>sums[i] + <int64_t>(weight * preference_value(preference[i]))
        scores[i] = score if fits[i] else -1
    for lane in range((n + LANE - 1) // LANE):
        top = -1
        for i in range(lane * LANE, min(lane * LANE + LANE, n)):
            top = scores[i] if scores[i] > top else top
        tops[lane] = top


cdef int sign "match_sign"(const int32_t* column, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int32_t every = 0
    for i in range(n):
        every |= column[i]
    return every


cdef int at_least_zero(str name, const int32_t[::1] column) except -1:
    """Raise ValueError unless every element is."""
    cdef Py_ssize_t i, count = column.shape[0]
    if count == 0 or sign(&column[0], count) >= 0:
        return 0
    for i in range(count):
        if column[i] < 0:
            raise ValueError(f"{name}[{i}] was {column[i]}, expected >= 0")
    return 0


cdef int within(str name, const int32_t[::1] column, Py_ssize_t size) except -1:
    """Raise ValueError unless 0 <= column < size throughout."""
    cdef Py_ssize_t i
    for i in range(column.shape[0]):
        if column[i] < 0 or column[i] >= size:
            raise ValueError(f"{name}[{i}] was {column[i]}, expected >= 0 and < {size}")
    return 0


cdef int32_t levels_asked(str name, const uint8_t[::1] column) except -1:
    """Return their sum; raise ValueError where one is 0, which asks for nothing."""
    cdef Py_ssize_t i
    cdef int32_t total = 0
    for i in range(column.shape[0]):
        if column[i] == 0:
            raise ValueError(f"{name}[{i}] was 0, expected >= 1")
        total += column[i]
    return total
