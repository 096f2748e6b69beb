SELECT mesh.create_service('trade');

-- Local copies, kept fresh by account-events and instrument-events: the commit
-- of a trade reads them, so a trade never waits for another service.
CREATE TABLE trade.accounts (
    tenant_id text NOT NULL,
    account_id text NOT NULL,
    open boolean NOT NULL,
    fifo boolean NOT NULL,
    version bigint NOT NULL,
    last_sequence bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, account_id)
) WITH (fillfactor = 50);
SELECT mesh.isolate_tenants('trade.accounts');

CREATE TABLE trade.instruments (
    tenant_id text NOT NULL,
    instrument_id text NOT NULL,
    status smallint NOT NULL,
    currency text NOT NULL,
    lot_micros bigint NOT NULL CHECK (lot_micros > 0),
    tick_e8 bigint NOT NULL CHECK (tick_e8 > 0),
    calendar text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id, instrument_id)
);
SELECT mesh.isolate_tenants('trade.instruments');

-- Idempotency keys have tables of their own: a unique key of a table that is
-- partitioned by time would have to contain the time.
CREATE TABLE trade.request_keys (
    tenant_id text NOT NULL,
    request_id text NOT NULL,
    body_hash bytea NOT NULL,
    trade_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
) PARTITION BY HASH (request_id);
SELECT mesh.isolate_tenants('trade.request_keys');

-- What a source system calls its trade is booked once, for ever.
CREATE TABLE trade.external_keys (
    tenant_id text NOT NULL,
    source text NOT NULL,
    external_id text NOT NULL,
    body_hash bytea NOT NULL,
    trade_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, source, external_id)
) PARTITION BY HASH (external_id);
SELECT mesh.isolate_tenants('trade.external_keys');

DO $$
BEGIN
    FOR n IN 0..7 LOOP
        EXECUTE format('CREATE TABLE trade.request_keys_%s PARTITION OF trade.request_keys '
                       'FOR VALUES WITH (MODULUS 8, REMAINDER %s)', n, n);
        EXECUTE format('CREATE TABLE trade.external_keys_%s PARTITION OF trade.external_keys '
                       'FOR VALUES WITH (MODULUS 8, REMAINDER %s)', n, n);
    END LOOP;
END $$;

-- Ids are UUIDv7 of the time of recording: they partition the table by month,
-- and finding a trade by its id touches one partition.
CREATE TABLE trade.trades (
    tenant_id text NOT NULL,
    trade_id uuid NOT NULL,
    version integer NOT NULL DEFAULT 1,
    account_id text NOT NULL,
    sequence bigint NOT NULL,
    instrument_id text NOT NULL,
    side smallint NOT NULL CHECK (side IN (1, 2)),
    quantity_micros bigint NOT NULL CHECK (quantity_micros > 0),
    price_e8 bigint NOT NULL CHECK (price_e8 > 0),
    currency text NOT NULL,
    gross_minor bigint NOT NULL CHECK (gross_minor > 0),
    fee_minor bigint NOT NULL CHECK (fee_minor >= 0),
    trade_time timestamptz NOT NULL,
    trade_date date NOT NULL,
    venue text NOT NULL,
    external_source text NOT NULL,
    external_id text NOT NULL,
    booked_by text NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, trade_id, version)
) PARTITION BY RANGE (trade_id);
SELECT mesh.isolate_tenants('trade.trades');
SELECT mesh.partition_monthly('trade.trades', 'uuid7');
CREATE INDEX ON trade.trades (tenant_id, account_id, trade_id);

GRANT SELECT ON trade.accounts, trade.instruments TO trade_api;
GRANT UPDATE (last_sequence) ON trade.accounts TO trade_api;
GRANT SELECT, INSERT ON trade.request_keys, trade.external_keys, trade.trades TO trade_api;
GRANT SELECT, INSERT, UPDATE ON trade.accounts, trade.instruments TO trade_pipeline;
GRANT SELECT, DELETE ON trade.request_keys TO trade_pipeline;
GRANT SELECT ON trade.trades TO trade_pipeline;
