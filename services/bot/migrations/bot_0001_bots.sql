-- Bots, what they know of conversations, and the turns that they have to answer.

SELECT mesh.create_service('bot');
SELECT mesh.use_personal_keys('bot');

CREATE TABLE bot.bots (
    tenant_id text NOT NULL,
    -- "C" is the order of page tokens, whatever the locale of the cluster.
    bot_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    -- interchange.bot.v1.Bot without its version.
    body bytea NOT NULL,
    PRIMARY KEY (tenant_id, bot_id)
);
SELECT mesh.isolate_tenants('bot.bots');

CREATE TABLE bot.contexts (
    tenant_id text NOT NULL,
    conversation_id uuid NOT NULL,
    -- Empty as long as no bot has answered.
    bot_id text NOT NULL,
    -- How often the conversation had been handed to agents: a stint of the bot.
    hand_off integer NOT NULL,
    -- Stints below this one are over: nothing of them is answered any more.
    closed integer NOT NULL,
    misses integer NOT NULL,
    turns integer NOT NULL,
    last_intent text NOT NULL,
    last_confidence_millis integer NOT NULL,
    handed_off boolean NOT NULL,
    model_version bigint NOT NULL,
    -- How often each intent was answered: the next time the next wording is used.
    uses jsonb NOT NULL,
    -- Number of the conversation's last bot event.
    event_sequence bigint NOT NULL,
    PRIMARY KEY (tenant_id, conversation_id)
) PARTITION BY RANGE (conversation_id);
SELECT mesh.isolate_tenants('bot.contexts');
SELECT mesh.partition_monthly('bot.contexts', 'uuid7');

-- A queue: a row lives from the event that asks for an answer to the transaction
-- that answers. Rows are few and short-lived, so its dead ones are cleared early.
CREATE TABLE bot.turns (
    tenant_id text NOT NULL,
    conversation_id uuid NOT NULL,
    -- Number of the message to answer; zero for a greeting.
    sequence bigint NOT NULL,
    -- The order in which turns came.
    turn_id bigint GENERATED ALWAYS AS IDENTITY,
    -- Event to answer: ids of answers follow from it.
    event_id uuid NOT NULL,
    customer_id text NOT NULL,
    bot_id text NOT NULL,
    hand_off integer NOT NULL,
    -- interchange.message.v1.MessageBody under the key of the customer; empty for a
    -- greeting, and for the note that the bot is to answer again.
    sealed_body bytea NOT NULL,
    traceparent text,
    -- Whoever takes a turn moves this ahead by a lease, and names himself.
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease uuid,
    attempts integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, conversation_id, sequence)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX turns_order ON bot.turns (tenant_id, turn_id);
SELECT mesh.isolate_tenants('bot.turns');

GRANT SELECT, INSERT, UPDATE (version, body) ON bot.bots TO bot_api;
GRANT SELECT, INSERT ON bot.contexts TO bot_api, bot_pipeline;
GRANT UPDATE (bot_id, hand_off, closed, misses, turns, last_intent, last_confidence_millis,
    handed_off, model_version, uses, event_sequence) ON bot.contexts TO bot_api, bot_pipeline;
GRANT SELECT, DELETE ON bot.turns TO bot_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON bot.turns TO bot_pipeline;
