-- What every service's schema is made of: roles, tenancy, partitions, outbox, inbox.

CREATE SCHEMA mesh;

-- Rows are visible and writable only for the tenant of the transaction.
CREATE FUNCTION mesh.isolate_tenants(parent regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', parent);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', parent);
    EXECUTE format(
        'CREATE POLICY tenant ON %s
         USING (tenant_id = current_setting(''app.tenant_id'', true))
         WITH CHECK (tenant_id = current_setting(''app.tenant_id'', true))', parent);
END $$;

-- The lowest UUIDv7 of a moment: bounds of partitions by time-ordered ids.
CREATE FUNCTION mesh.uuid7_floor(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0')
            || '70008000000000000000')::uuid
$$;

-- Tables that get a partition a month, by time (`time`) or UUIDv7 (`uuid7`).
CREATE TABLE mesh.partitioned_tables (
    parent regclass PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('time', 'uuid7'))
);

CREATE FUNCTION mesh.ensure_partition(parent regclass, kind text, month timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    upper_bound timestamptz := month + interval '1 month';
    parent_schema text := (SELECT nspname FROM pg_class c
                           JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = parent);
    parent_name text := (SELECT relname FROM pg_class WHERE oid = parent);
    child text := format('%s_%s', parent_name, to_char(month AT TIME ZONE 'UTC', 'YYYY_MM'));
BEGIN
    IF to_regclass(format('%I.%I', parent_schema, child)) IS NOT NULL THEN
        RETURN;
    END IF;
    IF kind = 'time' THEN
        EXECUTE format('CREATE TABLE %I.%I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
                       parent_schema, child, parent, month, upper_bound);
    ELSE
        EXECUTE format('CREATE TABLE %I.%I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
                       parent_schema, child, parent,
                       mesh.uuid7_floor(month), mesh.uuid7_floor(upper_bound));
    END IF;
END $$;

-- Makes the partitions of this month and the next three. Services own nothing,
-- so they call it with the rights of the owner.
CREATE FUNCTION mesh.ensure_partitions() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, mesh AS $$
DECLARE
    entry record;
    month timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('mesh.ensure_partitions'));
    FOR entry IN SELECT * FROM mesh.partitioned_tables LOOP
        FOR month IN SELECT generate_series(
            date_trunc('month', now() AT TIME ZONE 'UTC'),
            date_trunc('month', now() AT TIME ZONE 'UTC') + interval '3 months',
            interval '1 month') AT TIME ZONE 'UTC'
        LOOP
            PERFORM mesh.ensure_partition(entry.parent, entry.kind, month);
        END LOOP;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION mesh.ensure_partitions() FROM PUBLIC;

-- Registers a table for monthly partitions. The default partition takes what
-- is dated outside of them, so that no write ever fails for want of one.
CREATE FUNCTION mesh.partition_monthly(parent regclass, kind text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mesh.partitioned_tables VALUES (parent, kind);
    EXECUTE format('CREATE TABLE %s_default PARTITION OF %s DEFAULT', parent, parent);
    PERFORM mesh.ensure_partitions();
END $$;

CREATE FUNCTION mesh.ensure_role(name text, attributes text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
        EXECUTE format('CREATE ROLE %I', name);
    END IF;
    EXECUTE format('ALTER ROLE %I %s', name, attributes);
END $$;

-- Reads the event store of every service and nothing else.
SELECT mesh.ensure_role('event_reader', 'LOGIN BYPASSRLS');

-- The outbox is the event store: one row a transaction, tenant, topic and
-- shard, its events packed in arrays.
CREATE FUNCTION mesh.create_outbox(service text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($sql$
        CREATE SEQUENCE %1$I.outbox_id;
        CREATE TABLE %1$I.outbox (
            tenant_id text NOT NULL,
            id bigint NOT NULL DEFAULT nextval('%1$I.outbox_id'),
            transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
            shard smallint NOT NULL,
            topic text NOT NULL,
            recorded_at timestamptz NOT NULL DEFAULT now(),
            event_ids uuid[] NOT NULL,
            types text[] NOT NULL,
            versions smallint[] NOT NULL,
            keys text[] NOT NULL,
            sequences bigint[] NOT NULL,
            payloads bytea[] NOT NULL,
            traceparent text,
            reason text,
            PRIMARY KEY (tenant_id, recorded_at, id),
            CHECK (cardinality(event_ids) = cardinality(payloads)),
            CHECK (cardinality(types) = cardinality(payloads)),
            CHECK (cardinality(versions) = cardinality(payloads)),
            CHECK (cardinality(keys) = cardinality(payloads)),
            CHECK (cardinality(sequences) = cardinality(payloads))
        ) PARTITION BY RANGE (recorded_at);
        CREATE INDEX ON %1$I.outbox (shard, transaction_id, id);
        SELECT mesh.isolate_tenants('%1$I.outbox');
        SELECT mesh.partition_monthly('%1$I.outbox', 'time');
        CREATE TABLE %1$I.outbox_cursors (
            shard smallint PRIMARY KEY,
            transaction_id xid8 NOT NULL,
            id bigint NOT NULL
        );
        GRANT USAGE ON SEQUENCE %1$I.outbox_id TO %2$I, %3$I;
        GRANT INSERT ON %1$I.outbox TO %2$I;
        GRANT SELECT, INSERT ON %1$I.outbox TO %3$I;
        GRANT SELECT, INSERT, UPDATE ON %1$I.outbox_cursors TO %3$I;
        GRANT USAGE ON SCHEMA %1$I TO event_reader;
        GRANT SELECT ON %1$I.outbox TO event_reader;
    $sql$, service, service || '_api', service || '_pipeline');
END $$;

-- What a service has applied of the events of others: offsets move together
-- with the effects, sequences per key are the authority, and events that can't
-- be applied wait with their key.
CREATE FUNCTION mesh.create_inbox(service text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($sql$
        CREATE TABLE %1$I.inbox_offsets (
            topic text NOT NULL,
            partition integer NOT NULL,
            next_offset bigint NOT NULL,
            PRIMARY KEY (topic, partition)
        );
        CREATE TABLE %1$I.inbox_sequences (
            tenant_id text NOT NULL,
            topic text NOT NULL,
            key text NOT NULL,
            sequence bigint NOT NULL,
            PRIMARY KEY (tenant_id, topic, key)
        ) WITH (fillfactor = 50);
        SELECT mesh.isolate_tenants('%1$I.inbox_sequences');
        CREATE TABLE %1$I.parked_keys (
            tenant_id text NOT NULL,
            topic text NOT NULL,
            key text NOT NULL,
            state text NOT NULL CHECK (state IN ('GAP', 'POISONED', 'RELEASED', 'SKIP')),
            reason text NOT NULL,
            parked_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, topic, key)
        );
        SELECT mesh.isolate_tenants('%1$I.parked_keys');
        CREATE TABLE %1$I.parked_events (
            tenant_id text NOT NULL,
            topic text NOT NULL,
            key text NOT NULL,
            sequence bigint NOT NULL,
            event_id uuid NOT NULL,
            type text NOT NULL,
            version smallint NOT NULL,
            payload bytea NOT NULL,
            traceparent text,
            PRIMARY KEY (tenant_id, topic, key, sequence)
        );
        SELECT mesh.isolate_tenants('%1$I.parked_events');
        GRANT SELECT ON %1$I.inbox_sequences, %1$I.parked_keys TO %2$I;
        GRANT SELECT, INSERT, UPDATE ON %1$I.inbox_offsets, %1$I.inbox_sequences TO %3$I;
        GRANT SELECT, INSERT, UPDATE, DELETE ON %1$I.parked_keys, %1$I.parked_events TO %3$I;
    $sql$, service, service || '_api', service || '_pipeline');
END $$;

-- Makes the schema of a service and its two roles: `<service>_api` serves
-- requests and sees one tenant, `<service>_pipeline` serves consumers and
-- relays, whose batches span tenants.
CREATE FUNCTION mesh.create_service(service text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', service);
    PERFORM mesh.ensure_role(service || '_api', 'LOGIN NOBYPASSRLS');
    PERFORM mesh.ensure_role(service || '_pipeline', 'LOGIN BYPASSRLS');
    EXECUTE format('GRANT USAGE ON SCHEMA %I, mesh TO %I, %I',
                   service, service || '_api', service || '_pipeline');
    EXECUTE format('GRANT EXECUTE ON FUNCTION mesh.ensure_partitions() TO %I', service || '_pipeline');
    PERFORM mesh.create_outbox(service);
    PERFORM mesh.create_inbox(service);
END $$;
