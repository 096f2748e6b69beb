"""The statements of the repository, each for a whole batch."""

_CONVERSATION = """conversation_id, customer_id, channel, handler, bot_id, agent_id, hand_off,
    ended, epoch, first_sequence, last_sequence, event_sequence, marks_version"""

_CONVERSATION_TEXT = _CONVERSATION.replace("conversation_id", "conversation_id::text", 1).replace(
    "epoch", "epoch::text", 1
)

# Exact: an interval counts microseconds as an integer.
_TIME = "timestamptz '1970-01-01 00:00:00+00' + {} * interval '1 microsecond'"

_MESSAGE = """m.conversation_id::text, m.sequence, m.message_id::text, m.client_message_id,
    m.sender_kind, m.sender_id, m.body, m.detail,
    (extract(epoch FROM m.create_time) * 1000000)::bigint AS create_us"""

CONVERSATIONS = f"""
SELECT {_CONVERSATION_TEXT} FROM message.conversations
WHERE tenant_id = $1 AND conversation_id = ANY ($2::uuid[])
"""

TAILS = """
SELECT conversation_id::text, customer_id, agent_id, epoch::text, last_sequence, marks_version
FROM message.conversations WHERE tenant_id = $1 AND conversation_id = ANY ($2::uuid[])
"""

# OFFSET 0 keeps it one look into the index a key: in the first minutes of a month its
# partition has no statistics, and a join would be planned as a scan of all of it. The
# last predicate names the partial index. Who else gave the same id is told apart by the
# caller: each array costs as much as a column.
SENT = f"""
SELECT m.*
FROM unnest($2::uuid[], $3::text[]) AS k(conversation_id, client_message_id)
CROSS JOIN LATERAL (
    SELECT {_MESSAGE} FROM message.messages AS m
    WHERE m.tenant_id = $1 AND m.conversation_id = k.conversation_id
        AND m.client_message_id = k.client_message_id AND m.client_message_id <> ''
    OFFSET 0
) AS m
"""

_INTO = """
INSERT INTO message.messages (tenant_id, conversation_id, sequence, message_id, client_message_id,
    sender_kind, sender_id, body, detail, create_time)
SELECT {tenant_id}, conversation_id, sequence, message_id, client_message_id, sender_kind,
    sender_id, body, detail, {time}
"""
_COLUMNS = """$2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::smallint[], $7::text[],
    $8::text[], $9::json[]"""
_NAMES = """conversation_id, sequence, message_id, client_message_id, sender_kind, sender_id,
    body, detail"""

INSERT = f"""
{_INTO.format(tenant_id="tenant_id", time=_TIME.format("create_us"))}
FROM unnest({_COLUMNS}, $10::bigint[], $1::text[]) AS n({_NAMES}, create_us, tenant_id)
"""

APPEND = f"""
WITH moved AS (
    UPDATE message.conversations AS c
    SET last_sequence = n.last_sequence, event_sequence = n.event_sequence
    FROM unnest($11::uuid[], $12::bigint[], $13::bigint[])
        AS n(conversation_id, last_sequence, event_sequence)
    WHERE c.tenant_id = $1 AND c.conversation_id = n.conversation_id
)
{_INTO.format(tenant_id="$1", time=_TIME.format("$10::bigint"))}
FROM unnest({_COLUMNS}) AS n({_NAMES})
"""

_SIZE = "octet_length(m.body), octet_length(m.detail::text), 0"

# The window counts what a page would hold; its first message always fits.
PAGE_UP = f"""
SELECT conversation_id, sequence, message_id, client_message_id, sender_kind, sender_id, body,
    detail, create_us
FROM (
    SELECT {_MESSAGE}, sum(coalesce({_SIZE})) OVER (ORDER BY m.sequence) AS bytes
    FROM message.messages AS m
    WHERE m.tenant_id = $1 AND m.conversation_id = $2 AND m.sequence > $3 AND m.sequence <= $4
    ORDER BY m.sequence LIMIT $5
) AS page
WHERE bytes <= $6 ORDER BY sequence
"""

# Of each conversation: it ends once it holds so many bytes, and has a message at least.
PAGES_UP = f"""
SELECT page.conversation_id, sequence, message_id, client_message_id, sender_kind, sender_id,
    body, detail, create_us
FROM unnest($2::uuid[], $3::bigint[]) AS k(conversation_id, after_sequence)
CROSS JOIN LATERAL (
    SELECT {_MESSAGE}, coalesce({_SIZE}) AS size,
        sum(coalesce({_SIZE})) OVER (ORDER BY m.sequence) AS bytes
    FROM message.messages AS m
    WHERE m.tenant_id = $1 AND m.conversation_id = k.conversation_id
        AND m.sequence > k.after_sequence
    ORDER BY m.sequence LIMIT $4
) AS page
WHERE bytes - size < $5 ORDER BY 1, 2
"""

PAGE_DOWN = f"""
SELECT conversation_id, sequence, message_id, client_message_id, sender_kind, sender_id, body,
    detail, create_us
FROM (
    SELECT {_MESSAGE}, sum(coalesce({_SIZE})) OVER (ORDER BY m.sequence DESC) AS bytes
    FROM message.messages AS m
    WHERE m.tenant_id = $1 AND m.conversation_id = $2 AND m.sequence < $3
    ORDER BY m.sequence DESC LIMIT $4
) AS page
WHERE bytes <= $5 ORDER BY sequence
"""

_MARK = "m.conversation_id::text, m.reader_kind, m.reader_id, m.delivered_sequence, m.read_sequence"

MARKS = f"""
SELECT m.*
FROM unnest($2::uuid[], $3::smallint[], $4::text[]) AS k(conversation_id, reader_kind, reader_id)
CROSS JOIN LATERAL (
    SELECT {_MARK} FROM message.marks AS m
    WHERE m.tenant_id = $1 AND m.conversation_id = k.conversation_id
        AND m.reader_kind = k.reader_kind AND m.reader_id = k.reader_id
    OFFSET 0
) AS m
"""

MARKS_OF = f"""
SELECT {_MARK} FROM message.marks AS m
WHERE m.tenant_id = $1 AND m.conversation_id = $2
ORDER BY m.delivered_sequence DESC, m.reader_kind, m.reader_id LIMIT $3
"""

MARKS_OF_MANY = f"""
SELECT page.* FROM unnest($2::uuid[]) AS k(conversation_id)
CROSS JOIN LATERAL (
    SELECT {_MARK} FROM message.marks AS m
    WHERE m.tenant_id = $1 AND m.conversation_id = k.conversation_id
    ORDER BY m.delivered_sequence DESC, m.reader_kind, m.reader_id LIMIT $3
) AS page
"""

MOVE_MARKS = """
WITH counted AS (
    UPDATE message.conversations AS c
    SET marks_version = n.marks_version, event_sequence = n.event_sequence
    FROM unnest($7::uuid[], $8::bigint[], $9::bigint[])
        AS n(conversation_id, marks_version, event_sequence)
    WHERE c.tenant_id = $1 AND c.conversation_id = n.conversation_id
)
INSERT INTO message.marks
    (tenant_id, conversation_id, reader_kind, reader_id, delivered_sequence, read_sequence)
SELECT $1, * FROM unnest($2::uuid[], $3::smallint[], $4::text[], $5::bigint[], $6::bigint[])
ON CONFLICT (tenant_id, conversation_id, reader_kind, reader_id) DO UPDATE
SET delivered_sequence = excluded.delivered_sequence, read_sequence = excluded.read_sequence
"""

COPIES = f"""
SELECT c.tenant_id, {", ".join("c." + name.strip() for name in _CONVERSATION_TEXT.split(","))}
FROM unnest($1::text[], $2::uuid[]) AS k(tenant_id, conversation_id)
JOIN message.conversations AS c USING (tenant_id, conversation_id)
"""

PUT_COPIES = f"""
INSERT INTO message.conversations (tenant_id, {_CONVERSATION})
SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::smallint[], $5::smallint[],
    $6::text[], $7::text[], $8::int[], $9::boolean[], $10::uuid[], $11::bigint[], $12::bigint[],
    $13::bigint[], $14::bigint[])
ON CONFLICT (tenant_id, conversation_id) DO UPDATE
SET handler = excluded.handler, agent_id = excluded.agent_id, hand_off = excluded.hand_off,
    ended = excluded.ended, last_sequence = excluded.last_sequence,
    event_sequence = excluded.event_sequence
"""

PUT_EARLY = """
INSERT INTO message.early_replies (tenant_id, conversation_id, event_sequence, payload)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::bytea[])
"""

TAKE_EARLY = """
DELETE FROM message.early_replies AS e
USING unnest($1::text[], $2::uuid[]) AS k(tenant_id, conversation_id)
WHERE (e.tenant_id, e.conversation_id) = (k.tenant_id, k.conversation_id)
RETURNING e.tenant_id, e.event_sequence, e.payload
"""
