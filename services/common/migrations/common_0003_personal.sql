-- Keys of customers: what events say of a customer is sealed under his key, and
-- unreadable in every archive once that key is destroyed.

CREATE TABLE mesh.personal_keys (
    tenant_id text NOT NULL,
    customer_id text COLLATE "C" NOT NULL CHECK (customer_id <> ''),
    -- Wrapped by the master key, which is no part of the database; NULL once destroyed.
    wrapped bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, customer_id)
);
SELECT mesh.isolate_tenants('mesh.personal_keys');

-- Lets a service find and make keys of its callers' tenant. None may change one.
CREATE FUNCTION mesh.use_personal_keys(service text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT SELECT, INSERT ON mesh.personal_keys TO %I', service || '_api');
END $$;
