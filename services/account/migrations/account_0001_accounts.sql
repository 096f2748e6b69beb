-- Accounts of a tenant and their transfers.

SELECT mesh.create_service('account');
SELECT mesh.create_request_keys('account');

CREATE TABLE account.accounts (
    tenant_id text NOT NULL,
    -- "C" is the order of page tokens, whatever the locale of the cluster.
    account_id text COLLATE "C" NOT NULL,
    display_name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('CLIENT', 'HOUSE')),
    base_currency text NOT NULL,
    cost_method text NOT NULL CHECK (cost_method IN ('AVERAGE', 'FIFO')),
    status text NOT NULL CHECK (status IN ('OPEN', 'CLOSED')),
    version bigint NOT NULL CHECK (version > 0),
    -- Number of the account's last event, over all types of events.
    last_sequence bigint NOT NULL CHECK (last_sequence >= version),
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, account_id)
) WITH (fillfactor = 80);
SELECT mesh.isolate_tenants('account.accounts');

CREATE TABLE account.transfers (
    tenant_id text NOT NULL,
    -- UUIDv7 of the recording: also the id of the event and of its journal.
    transfer_id uuid NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    asset text NOT NULL,
    is_cash boolean NOT NULL,
    -- Deposits positive; minor units for cash, 1e-6 units for securities.
    amount bigint NOT NULL CHECK (amount <> 0),
    cost_currency text NOT NULL,
    cost_minor bigint NOT NULL CHECK (cost_minor >= 0),
    value_date date NOT NULL,
    description text NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 1),
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, transfer_id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES account.accounts,
    CHECK (cost_currency = '' OR (NOT is_cash AND amount > 0)),
    CHECK (cost_currency <> '' OR cost_minor = 0)
) PARTITION BY RANGE (transfer_id);
CREATE INDEX transfers_account ON account.transfers (tenant_id, account_id, sequence DESC);
SELECT mesh.isolate_tenants('account.transfers');
SELECT mesh.partition_monthly('account.transfers', 'uuid7');

GRANT SELECT, INSERT, UPDATE (last_sequence) ON account.accounts TO account_api;
GRANT SELECT, INSERT ON account.transfers TO account_api;
