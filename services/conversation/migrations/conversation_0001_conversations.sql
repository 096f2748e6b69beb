-- Conversations: who talks with whom, and who is to answer.

SELECT mesh.create_service('conversation');
SELECT mesh.create_request_keys('conversation');
SELECT mesh.use_personal_keys('conversation');

CREATE TABLE conversation.conversations (
    tenant_id text NOT NULL,
    -- UUIDv7 of the start: the order of lists.
    conversation_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    customer_name text NOT NULL,
    channel smallint NOT NULL CHECK (channel BETWEEN 1 AND 6),
    -- 1 with the bot, 2 queued, 3 with an agent, 4 ended.
    status smallint NOT NULL CHECK (status BETWEEN 1 AND 4),
    bot_id text NOT NULL,
    -- Who answers; once it ended, who answered last.
    agent_id text COLLATE "C",
    hand_off_count integer NOT NULL CHECK (hand_off_count >= 0),
    hand_off_reason smallint NOT NULL,
    -- interchange.conversation.v1.Needs: of the last hand-over, and as given at the start.
    needs bytea NOT NULL,
    start_needs bytea NOT NULL,
    end_reason smallint NOT NULL,
    -- Microseconds since 1970-01-01 UTC; zero for what has not happened.
    start_us bigint NOT NULL,
    hand_off_us bigint NOT NULL,
    end_us bigint NOT NULL,
    -- Number of its last event.
    version bigint NOT NULL CHECK (version > 0),
    PRIMARY KEY (tenant_id, conversation_id),
    CHECK (status <> 3 OR agent_id IS NOT NULL),
    CHECK (status NOT IN (1, 2) OR agent_id IS NULL),
    CHECK ((status = 4) = (end_us > 0))
) PARTITION BY RANGE (conversation_id);
-- One a filter, each in the order of lists: no page sorts or skips what it does not show.
CREATE INDEX ON conversation.conversations (tenant_id, customer_id, conversation_id DESC);
CREATE INDEX ON conversation.conversations (tenant_id, agent_id, conversation_id DESC)
    WHERE agent_id IS NOT NULL;
CREATE INDEX ON conversation.conversations (tenant_id, status, conversation_id DESC);
CREATE INDEX ON conversation.conversations (tenant_id, channel, conversation_id DESC);
SELECT mesh.isolate_tenants('conversation.conversations');
SELECT mesh.partition_monthly('conversation.conversations', 'uuid7');

GRANT SELECT, INSERT ON conversation.conversations TO conversation_api, conversation_pipeline;
GRANT UPDATE (status, agent_id, hand_off_count, hand_off_reason, needs, end_reason, hand_off_us,
              end_us, version)
    ON conversation.conversations TO conversation_api, conversation_pipeline;
