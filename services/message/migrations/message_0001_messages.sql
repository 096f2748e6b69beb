SELECT mesh.create_service('message');
SELECT mesh.use_personal_keys('message');

-- Local copies, kept by conversation-events, with the counters of what is numbered.
-- The counters move with every message: room for HOT updates. They stay when the
-- messages of their month are archived, and say what is gone.
CREATE TABLE message.conversations (
    tenant_id text NOT NULL,
    conversation_id uuid NOT NULL,
    customer_id text NOT NULL,
    channel smallint NOT NULL,
    -- Who is to answer: interchange.message.v1.Handler.
    handler smallint NOT NULL CHECK (handler BETWEEN 0 AND 3),
    bot_id text NOT NULL,
    -- Who answers; once it ended, who answered last.
    agent_id text NOT NULL,
    hand_off integer NOT NULL,
    ended boolean NOT NULL,
    -- Random, of this copy: numbers of another copy of the history mean nothing here.
    epoch uuid NOT NULL,
    -- Number of the first message that is still kept.
    first_sequence bigint NOT NULL CHECK (first_sequence >= 1),
    last_sequence bigint NOT NULL CHECK (last_sequence >= first_sequence - 1),
    -- Number of the last event on message-events.
    event_sequence bigint NOT NULL,
    marks_version bigint NOT NULL,
    PRIMARY KEY (tenant_id, conversation_id)
) WITH (fillfactor = 50);
SELECT mesh.isolate_tenants('message.conversations');

-- The id of a conversation is a UUIDv7: its month is the partition of all that is said
-- in it. So a conversation lies in one partition, however long it lasts, its number can
-- be the primary key, and the ids that senders give can be unique without a table of
-- their own.
CREATE TABLE message.messages (
    tenant_id text NOT NULL,
    conversation_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence >= 1),
    message_id uuid NOT NULL,
    client_message_id text COLLATE "C" NOT NULL,
    -- interchange.message.v1.SenderKind.
    sender_kind smallint NOT NULL CHECK (sender_kind BETWEEN 1 AND 4),
    sender_id text COLLATE "C" NOT NULL,
    body text,
    -- An attachment, or what the platform says; json gives it back as it was stored.
    detail json,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, conversation_id, sequence),
    CHECK ((body IS NULL) <> (detail IS NULL))
) PARTITION BY RANGE (conversation_id);
SELECT mesh.isolate_tenants('message.messages');
SELECT mesh.partition_monthly('message.messages', 'uuid7');

-- What a sender sent once he never sends twice.
CREATE UNIQUE INDEX messages_sent ON message.messages
    (tenant_id, conversation_id, client_message_id, sender_id, sender_kind)
    WHERE client_message_id <> '';

CREATE TABLE message.marks (
    tenant_id text NOT NULL,
    conversation_id uuid NOT NULL,
    reader_kind smallint NOT NULL CHECK (reader_kind BETWEEN 1 AND 2),
    reader_id text COLLATE "C" NOT NULL,
    delivered_sequence bigint NOT NULL,
    read_sequence bigint NOT NULL CHECK (read_sequence <= delivered_sequence),
    PRIMARY KEY (tenant_id, conversation_id, reader_kind, reader_id)
) WITH (fillfactor = 50);
SELECT mesh.isolate_tenants('message.marks');

-- The topics of conversations and of bots are not ordered among each other: what a bot
-- said in a conversation whose start is still on its way waits here.
CREATE TABLE message.early_replies (
    tenant_id text NOT NULL,
    conversation_id uuid NOT NULL,
    event_sequence bigint NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, conversation_id, event_sequence)
);
SELECT mesh.isolate_tenants('message.early_replies');

GRANT SELECT ON message.conversations TO message_api;
GRANT UPDATE (last_sequence, event_sequence, marks_version) ON message.conversations
    TO message_api;
GRANT SELECT, INSERT ON message.messages TO message_api;
GRANT SELECT, INSERT ON message.marks TO message_api;
GRANT UPDATE (delivered_sequence, read_sequence) ON message.marks TO message_api;
GRANT SELECT, INSERT, UPDATE ON message.conversations TO message_pipeline;
GRANT SELECT, INSERT ON message.messages TO message_pipeline;
GRANT SELECT, INSERT, DELETE ON message.early_replies TO message_pipeline;
