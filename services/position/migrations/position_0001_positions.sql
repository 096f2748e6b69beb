-- What accounts hold, how they came to it, and the order in which it happened.

SELECT mesh.create_service('position');

-- The row of an account is the lock of all its positions, lots and changes:
-- who writes those holds it.
CREATE TABLE position.accounts (
    tenant_id text NOT NULL,
    account_id text NOT NULL,
    fifo boolean NOT NULL,             -- cost method; false is average cost
    sequence bigint NOT NULL DEFAULT 0,       -- last change, numbered from 1 without gaps
    event_sequence bigint NOT NULL DEFAULT 0, -- last of the account's position-events
    trade_sequence bigint NOT NULL DEFAULT 0, -- last applied trade
    PRIMARY KEY (tenant_id, account_id)
) WITH (fillfactor = 50);
SELECT mesh.isolate_tenants('position.accounts');

CREATE TABLE position.positions (
    tenant_id text NOT NULL,
    account_id text NOT NULL,
    instrument_id text NOT NULL,
    currency text NOT NULL,            -- empty until an event names one
    quantity bigint NOT NULL,          -- 1e-6 units
    open_cost bigint NOT NULL,         -- minor units
    realized bigint NOT NULL,          -- minor units
    version bigint NOT NULL,
    sequence bigint NOT NULL,          -- of the last change
    recorded_at timestamptz NOT NULL,  -- of the event that was applied last
    PRIMARY KEY (tenant_id, account_id, instrument_id),
    CHECK (quantity <> 0 OR open_cost = 0)
) WITH (fillfactor = 50);
SELECT mesh.isolate_tenants('position.positions');

-- Open lots of the accounts that close first in, first out. A fill opens one
-- lot at most, so the number of its change names it.
CREATE TABLE position.lots (
    tenant_id text NOT NULL,
    account_id text NOT NULL,
    instrument_id text NOT NULL,
    opened bigint NOT NULL,
    quantity bigint NOT NULL CHECK (quantity <> 0),
    open_cost bigint NOT NULL,
    PRIMARY KEY (tenant_id, account_id, instrument_id, opened)
) WITH (fillfactor = 70);
SELECT mesh.isolate_tenants('position.lots');

-- One row a fill. The key needs the time only because the partitions do: the
-- lock of the account makes (tenant, account, sequence) unique.
CREATE TABLE position.changes (
    tenant_id text NOT NULL,
    account_id text NOT NULL,
    sequence bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    instrument_id text NOT NULL,
    source_topic text NOT NULL,
    source_sequence bigint NOT NULL,
    event_id uuid NOT NULL,
    quantity_change bigint NOT NULL,
    amount bigint NOT NULL,            -- paid +, received -; realized - open_cost = -sum(amount)
    quantity bigint NOT NULL,
    open_cost bigint NOT NULL,
    realized bigint NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id, account_id, sequence, recorded_at)
) PARTITION BY RANGE (recorded_at);
CREATE INDEX ON position.changes (tenant_id, account_id, instrument_id, sequence);
SELECT mesh.isolate_tenants('position.changes');
SELECT mesh.partition_monthly('position.changes', 'time');

GRANT SELECT ON position.accounts, position.positions, position.changes TO position_api;
-- DELETE on positions and changes is for a rebuild that replaces what differs.
GRANT SELECT, INSERT, UPDATE ON position.accounts TO position_pipeline;
GRANT SELECT, INSERT, UPDATE, DELETE ON position.positions, position.lots TO position_pipeline;
GRANT SELECT, INSERT, DELETE ON position.changes TO position_pipeline;
