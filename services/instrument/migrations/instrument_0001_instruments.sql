-- Instruments of a tenant, and the terms by which they are found.

SELECT mesh.create_service('instrument');
SELECT mesh.create_request_keys('instrument');

CREATE TABLE instrument.instruments (
    tenant_id text NOT NULL,
    -- "C" is the order of page tokens, whatever the locale of the cluster.
    instrument_id text COLLATE "C" NOT NULL,
    symbol text NOT NULL,
    name text NOT NULL,
    isin text NOT NULL,
    cusip text NOT NULL,
    figi text NOT NULL,
    mic text NOT NULL,
    currency text NOT NULL,
    lot_size_micros bigint NOT NULL CHECK (lot_size_micros > 0),
    tick_size_e8 bigint NOT NULL CHECK (tick_size_e8 > 0),
    calendar text NOT NULL,
    status text NOT NULL CHECK (status IN ('ACTIVE', 'HALTED', 'EXPIRED')),
    version bigint NOT NULL CHECK (version > 0),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, instrument_id),
    CHECK (isin <> '' OR cusip <> '' OR figi <> '')
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX instruments_symbol ON instrument.instruments (tenant_id, mic, symbol)
    WHERE status <> 'EXPIRED';
CREATE INDEX instruments_status ON instrument.instruments (tenant_id, status, instrument_id);
SELECT mesh.isolate_tenants('instrument.instruments');

-- Prefixes are looked up as ranges of terms: comparing text is leakproof, so
-- the index serves under the policy, while LIKE and lower() would not be used.
-- Ranks: 0 symbol, 1 identifier, 2 name from each of its words on.
CREATE TABLE instrument.search_terms (
    tenant_id text NOT NULL,
    rank smallint NOT NULL CHECK (rank BETWEEN 0 AND 2),
    term text COLLATE "C" NOT NULL,
    instrument_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, rank, term, instrument_id),
    FOREIGN KEY (tenant_id, instrument_id) REFERENCES instrument.instruments
);
CREATE INDEX search_terms_instrument ON instrument.search_terms (tenant_id, instrument_id);
SELECT mesh.isolate_tenants('instrument.search_terms');

GRANT SELECT, INSERT ON instrument.instruments TO instrument_api;
GRANT UPDATE (symbol, name, isin, cusip, figi, lot_size_micros, tick_size_e8, calendar, status,
              version, update_time) ON instrument.instruments TO instrument_api;
GRANT SELECT, INSERT, DELETE ON instrument.search_terms TO instrument_api;
