-- Idempotency: what a request_id was answered with, kept for seven days.

-- Makes the table of a service's request keys. Its partitions are by key and
-- not by time: a key must be unique whenever it comes.
CREATE FUNCTION mesh.create_request_keys(service text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    partition integer;
BEGIN
    EXECUTE format($sql$
        CREATE TABLE %1$I.request_keys (
            tenant_id text NOT NULL,
            rpc text NOT NULL,
            key text COLLATE "C" NOT NULL CHECK (key <> ''),
            body_hash bytea NOT NULL CHECK (octet_length(body_hash) = 32),
            response bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, rpc, key)
        ) PARTITION BY HASH (key);
        CREATE INDEX ON %1$I.request_keys (created_at);
        SELECT mesh.isolate_tenants('%1$I.request_keys');
        GRANT SELECT, INSERT ON %1$I.request_keys TO %2$I;
    $sql$, service, service || '_api');
    FOR partition IN 0..7 LOOP
        EXECUTE format(
            'CREATE TABLE %1$I.%2$I PARTITION OF %1$I.request_keys
             FOR VALUES WITH (MODULUS 8, REMAINDER %3$s)',
            service, 'request_keys_' || partition, partition);
    END LOOP;
    -- Deletes at most `rows_max` keys older than seven days and returns how many.
    EXECUTE format($sql$
        CREATE FUNCTION %1$I.purge_request_keys(rows_max integer) RETURNS bigint
        LANGUAGE sql SET search_path = pg_catalog AS $purge$
            WITH old AS (
                SELECT tenant_id, rpc, key FROM %1$I.request_keys
                WHERE created_at < now() - interval '7 days' LIMIT rows_max
            ), deleted AS (
                DELETE FROM %1$I.request_keys AS r USING old
                WHERE (r.tenant_id, r.rpc, r.key) = (old.tenant_id, old.rpc, old.key)
                RETURNING 1
            )
            SELECT count(*) FROM deleted
        $purge$;
        REVOKE ALL ON FUNCTION %1$I.purge_request_keys(integer) FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION %1$I.purge_request_keys(integer) TO %2$I;
        GRANT SELECT, DELETE ON %1$I.request_keys TO %2$I;
    $sql$, service, service || '_pipeline');
END $$;
