-- Sessions of customers and agents, and the instances that hold their sockets.

SELECT mesh.create_service('session');

-- Instances are of no tenant: each holds sockets of all. All sessions of its
-- sockets live by this one row, however many they are. One that is dead can live
-- again when it is buried, which is when all that it held has ended: a session
-- that was over must not be open again.
CREATE TABLE session.instances (
    instance_id text PRIMARY KEY,
    lease_time timestamptz NOT NULL,
    buried_time timestamptz
) WITH (fillfactor = 50);

-- Sessions that an instance held and holds no longer, until it was told: rows of
-- ids that mean nothing to who does not hold them.
CREATE TABLE session.losses (
    instance_id text NOT NULL,
    session_id uuid NOT NULL,
    lost_time timestamptz NOT NULL,
    told_count smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (instance_id, session_id)
);

-- What is decided under the lock of a subject: how many of its sessions are
-- open, and the number of its last event.
CREATE TABLE session.subjects (
    tenant_id text NOT NULL,
    subject text COLLATE "C" NOT NULL,
    open_count integer NOT NULL CHECK (open_count >= 0),
    last_sequence bigint NOT NULL CHECK (last_sequence > 0),
    PRIMARY KEY (tenant_id, subject)
) WITH (fillfactor = 80);
SELECT mesh.isolate_tenants('session.subjects');

CREATE TABLE session.sessions (
    tenant_id text NOT NULL,
    -- UUIDv7 of the opening: also the id of its event.
    session_id uuid NOT NULL,
    subject text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('CUSTOMER', 'AGENT')),
    client text NOT NULL,
    -- SHA-256; the secret itself is with the client only.
    secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    -- Holder of the socket, empty without one.
    instance_id text NOT NULL,
    -- Since when the instance holds it.
    held_time timestamptz,
    -- Null while an instance holds it: then it lives by the lease of that.
    expire_time timestamptz,
    open_time timestamptz NOT NULL,
    resume_count integer NOT NULL CHECK (resume_count >= 0),
    end_time timestamptz,
    end_reason text CHECK (end_reason IN ('CLOSED', 'EXPIRED', 'VANISHED')),
    PRIMARY KEY (tenant_id, session_id),
    CHECK ((instance_id = '') = (expire_time IS NOT NULL)),
    CHECK ((instance_id = '') = (held_time IS NULL)),
    CHECK ((end_time IS NULL) = (end_reason IS NULL)),
    CHECK (end_time IS NULL OR instance_id = '')
) PARTITION BY RANGE (session_id);
CREATE INDEX sessions_open ON session.sessions (tenant_id, session_id) WHERE end_time IS NULL;
CREATE INDEX sessions_subject ON session.sessions (tenant_id, subject, session_id)
    WHERE end_time IS NULL;
CREATE INDEX sessions_held ON session.sessions (instance_id) WHERE expire_time IS NULL;
CREATE INDEX sessions_due ON session.sessions (expire_time)
    WHERE end_time IS NULL AND expire_time IS NOT NULL;
SELECT mesh.isolate_tenants('session.sessions');
SELECT mesh.partition_monthly('session.sessions', 'uuid7');

GRANT SELECT, INSERT, UPDATE (instance_id, held_time, expire_time, resume_count, end_time,
    end_reason) ON session.sessions TO session_api, session_pipeline;
GRANT SELECT, INSERT, UPDATE (open_count, last_sequence) ON session.subjects
    TO session_api, session_pipeline;
GRANT SELECT, INSERT, UPDATE (lease_time, buried_time) ON session.instances
    TO session_api, session_pipeline;
GRANT SELECT, INSERT, DELETE, UPDATE (lost_time, told_count) ON session.losses
    TO session_api, session_pipeline;
GRANT DELETE ON session.instances TO session_pipeline;
