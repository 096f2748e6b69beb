-- Agents of a tenant, what they carry, and the conversations that wait for one.
--
-- These rows are the fold of agent-events and decide: Redis and memory only cache.

SELECT mesh.create_service('agent');
SELECT mesh.create_request_keys('agent');

CREATE TABLE agent.agents (
    tenant_id text NOT NULL,
    -- "C" is the order of page tokens, whatever the locale of the cluster.
    agent_id text COLLATE "C" NOT NULL,
    display_name text NOT NULL,
    pool_id text COLLATE "C" NOT NULL,
    -- Levels by skill.
    skills jsonb NOT NULL CHECK (jsonb_typeof(skills) = 'object'),
    status text NOT NULL CHECK (status IN ('OFFLINE', 'ONLINE', 'AWAY', 'NOT_RESPONDING')),
    average_response_ms bigint NOT NULL CHECK (average_response_ms >= 0),
    -- Since when he carries nothing, counted from his last coming online.
    idle_since timestamptz,
    -- Counts each change of what is on the desk; compared and set by every write.
    version bigint NOT NULL CHECK (version > 0),
    -- Number of the agent's last event.
    last_sequence bigint NOT NULL CHECK (last_sequence > 0),
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, agent_id)
) WITH (fillfactor = 60);
CREATE INDEX agents_pool ON agent.agents (tenant_id, pool_id, agent_id);
SELECT mesh.isolate_tenants('agent.agents');

-- One row a channel that an agent serves, or has conversations of.
CREATE TABLE agent.capacities (
    tenant_id text NOT NULL,
    agent_id text COLLATE "C" NOT NULL,
    channel smallint NOT NULL CHECK (channel BETWEEN 1 AND 6),
    slots smallint NOT NULL CHECK (slots BETWEEN 0 AND 50),
    -- Open offers and assignments. May pass `slots` only where those were lowered.
    load smallint NOT NULL CHECK (load >= 0),
    PRIMARY KEY (tenant_id, agent_id, channel),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agent.agents
) WITH (fillfactor = 60);
SELECT mesh.isolate_tenants('agent.capacities');

-- The last hand-over of each conversation.
CREATE TABLE agent.requests (
    tenant_id text NOT NULL,
    conversation_id uuid NOT NULL,
    hand_off integer NOT NULL CHECK (hand_off > 0),
    customer_id text NOT NULL,
    channel smallint NOT NULL CHECK (channel BETWEEN 1 AND 6),
    reason smallint NOT NULL,
    pool_id text COLLATE "C" NOT NULL,
    -- Nine minus the priority: a page of the queue is one ascending range of the index.
    rank smallint NOT NULL CHECK (rank BETWEEN 0 AND 9),
    -- interchange.conversation.v1.Needs.
    needs bytea NOT NULL,
    previous_agent_id text NOT NULL,
    hand_off_time timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('WAITING', 'OFFERED', 'MATCHED', 'CLOSED')),
    -- When whom it was offered to in vain, microseconds since 1970 by agent.
    declined jsonb NOT NULL CHECK (jsonb_typeof(declined) = 'object'),
    -- Offers or assignments of earlier hand-overs may be open: to be closed, by any
    -- instance from this moment on.
    settle_time timestamptz,
    change_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, conversation_id)
) WITH (fillfactor = 70);
CREATE INDEX requests_queue
    ON agent.requests (tenant_id, pool_id, rank, hand_off_time, conversation_id)
    WHERE state IN ('WAITING', 'OFFERED');
CREATE INDEX requests_settle ON agent.requests (settle_time) WHERE settle_time IS NOT NULL;
CREATE INDEX requests_closed ON agent.requests (change_time) WHERE state = 'CLOSED';
SELECT mesh.isolate_tenants('agent.requests');

CREATE TABLE agent.offers (
    tenant_id text NOT NULL,
    -- UUIDv7 of the offering: also the id of its event.
    offer_id uuid NOT NULL,
    agent_id text COLLATE "C" NOT NULL,
    conversation_id uuid NOT NULL,
    hand_off integer NOT NULL CHECK (hand_off > 0),
    customer_id text NOT NULL,
    channel smallint NOT NULL CHECK (channel BETWEEN 1 AND 6),
    reason smallint NOT NULL,
    hand_off_time timestamptz NOT NULL,
    offer_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    state text NOT NULL
        CHECK (state IN ('OPEN', 'ACCEPTED', 'DECLINED', 'EXPIRED', 'WITHDRAWN')),
    -- Until then an instance works on its running out; another may afterwards.
    claim_time timestamptz NOT NULL,
    close_time timestamptz,
    PRIMARY KEY (tenant_id, offer_id)
) WITH (fillfactor = 70);
-- A hand-over is in front of one agent at a time.
CREATE UNIQUE INDEX offers_open ON agent.offers (tenant_id, conversation_id, hand_off)
    WHERE state = 'OPEN';
CREATE INDEX offers_agent ON agent.offers (tenant_id, agent_id) WHERE state = 'OPEN';
CREATE INDEX offers_expiry ON agent.offers (expire_time) WHERE state = 'OPEN';
CREATE INDEX offers_closed ON agent.offers (close_time) WHERE state <> 'OPEN';
SELECT mesh.isolate_tenants('agent.offers');

-- Conversations that agents answer now; what was is in the events.
CREATE TABLE agent.assignments (
    tenant_id text NOT NULL,
    conversation_id uuid NOT NULL,
    hand_off integer NOT NULL CHECK (hand_off > 0),
    agent_id text COLLATE "C" NOT NULL,
    channel smallint NOT NULL CHECK (channel BETWEEN 1 AND 6),
    accept_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, conversation_id, hand_off)
);
CREATE INDEX assignments_agent ON agent.assignments (tenant_id, agent_id);
SELECT mesh.isolate_tenants('agent.assignments');

-- Agents whose last session ended: gone, unless they are back in time.
CREATE TABLE agent.departures (
    tenant_id text NOT NULL,
    agent_id text COLLATE "C" NOT NULL,
    due_time timestamptz NOT NULL,
    -- As that of an offer.
    claim_time timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (tenant_id, agent_id)
);
CREATE INDEX departures_due ON agent.departures (due_time);
SELECT mesh.isolate_tenants('agent.departures');

GRANT SELECT, INSERT ON agent.agents, agent.capacities, agent.offers TO agent_api;
GRANT UPDATE (display_name, pool_id, skills, status, average_response_ms, idle_since, version,
    last_sequence) ON agent.agents TO agent_api;
GRANT UPDATE (slots, load) ON agent.capacities TO agent_api;
GRANT SELECT, UPDATE (state, declined, change_time, settle_time) ON agent.requests TO agent_api;
GRANT UPDATE (state, close_time) ON agent.offers TO agent_api;
GRANT SELECT, INSERT, DELETE ON agent.assignments TO agent_api;
GRANT SELECT, DELETE ON agent.departures TO agent_api;
GRANT SELECT ON agent.agents, agent.capacities, agent.assignments TO agent_pipeline;
GRANT SELECT, INSERT, UPDATE, DELETE ON agent.requests, agent.departures TO agent_pipeline;
GRANT SELECT, UPDATE, DELETE ON agent.offers TO agent_pipeline;
