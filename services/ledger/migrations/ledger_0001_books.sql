SELECT mesh.create_service('ledger');

-- Numbers the events of an account. Its row is also the lock of the account's
-- books: whoever posts takes it first, in sorted order.
CREATE TABLE ledger.accounts (
    tenant_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    last_sequence bigint NOT NULL CHECK (last_sequence > 0),
    PRIMARY KEY (tenant_id, account_id)
) WITH (fillfactor = 50);
SELECT mesh.isolate_tenants('ledger.accounts');

-- One row for each event that was posted. The id is the event's, so posting it
-- twice breaks the primary key.
CREATE TABLE ledger.journals (
    source_sequence bigint NOT NULL CHECK (source_sequence > 0),
    posted_at timestamptz NOT NULL,
    effective_date date NOT NULL,
    kind smallint NOT NULL CHECK (kind IN (1, 2)),
    journal_id uuid NOT NULL,
    source_id uuid NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, journal_id)
) PARTITION BY RANGE (journal_id);
SELECT mesh.isolate_tenants('ledger.journals');
SELECT mesh.partition_monthly('ledger.journals', 'uuid7');

-- The legs. Money is in minor units of the currency, securities in 1e-6 units.
CREATE TABLE ledger.entries (
    amount bigint NOT NULL CHECK (amount <> 0),
    posted_at timestamptz NOT NULL,
    leg smallint NOT NULL CHECK (leg >= 0),
    sub_account smallint NOT NULL CHECK (sub_account BETWEEN 1 AND 5),
    asset_kind smallint NOT NULL CHECK (asset_kind IN (1, 2)),
    journal_id uuid NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    asset text COLLATE "C" NOT NULL,
    instrument_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, journal_id, leg)
) PARTITION BY RANGE (journal_id);
SELECT mesh.isolate_tenants('ledger.entries');
SELECT mesh.partition_monthly('ledger.entries', 'uuid7');

-- Where an account's journals and an asset's are found, newest first. An index
-- over every entry would cost more than the entries themselves; a journal is
-- found by its first leg, and by the first leg of each pair for an asset: the
-- trigger below refuses a journal that could not be found so.
CREATE INDEX entries_by_account ON ledger.entries (tenant_id, account_id, journal_id)
    WHERE leg = 0;
CREATE INDEX entries_by_asset ON ledger.entries (tenant_id, account_id, asset, journal_id)
    WHERE leg % 2 = 0;

CREATE TABLE ledger.balances (
    amount bigint NOT NULL,
    entry_count bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    -- Turnovers never shrink: in time they would outgrow a bigint.
    debit numeric NOT NULL,
    credit numeric NOT NULL,
    sub_account smallint NOT NULL,
    asset_kind smallint NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    asset text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, account_id, asset, asset_kind, sub_account)
) WITH (fillfactor = 50);
SELECT mesh.isolate_tenants('ledger.balances');

-- Runs for whoever inserts entries, COPY included. Refuses a statement with a
-- journal that is not balanced, and adds the rest to the balances, so that they
-- can't deviate from the entries; nobody may write them otherwise.
--
-- A journal is inserted by one statement: as each must hold leg 0, what somebody
-- adds later breaks the primary key, and no earlier entry has to be looked up.
--
-- Measured for 4,000 trades that touch 3,600 balances, in ms of one core: this
-- MERGE 12.5, INSERT … ON CONFLICT 20, totals summed outside by the kernel and
-- sent as arrays 15 and 7 more for the sender. MERGE does not wait for another
-- insert of its key; the lock on ledger.accounts does.
CREATE FUNCTION ledger.post_entries() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    broken record;
BEGIN
    -- Planned anew each time: a plan made for one journal would be kept for batches.
    EXECUTE $sql$
        SELECT tenant_id, journal_id, bool_or(total <> 0) AS unbalanced FROM (
            SELECT tenant_id, journal_id, sum(amount) AS total, min(leg) AS first_leg,
                   min(leg % 2) AS odd
            FROM added GROUP BY journal_id, asset, asset_kind, tenant_id
        ) AS by_asset
        GROUP BY journal_id, tenant_id
        HAVING bool_or(total <> 0) OR min(first_leg) <> 0 OR max(odd) <> 0
        LIMIT 1
    $sql$ INTO broken;
    IF broken.journal_id IS NOT NULL THEN
        RAISE EXCEPTION 'journal % of % %', broken.journal_id, broken.tenant_id,
            CASE WHEN broken.unbalanced THEN 'does not sum to zero for each asset'
                 ELSE 'lacks leg 0, or an even leg of one of its assets' END
            USING ERRCODE = 'check_violation';
    END IF;
    EXECUTE $sql$
        MERGE INTO ledger.balances AS b USING (
            SELECT tenant_id, account_id, asset, asset_kind, sub_account,
                   sum(amount)::bigint AS amount, count(*) AS entry_count,
                   coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS debit,
                   max(posted_at) AS posted_at
            FROM added GROUP BY account_id, asset, asset_kind, sub_account, tenant_id
        ) AS n
        ON b.tenant_id = n.tenant_id AND b.account_id = n.account_id AND b.asset = n.asset
           AND b.asset_kind = n.asset_kind AND b.sub_account = n.sub_account
        WHEN MATCHED THEN UPDATE SET
            amount = b.amount + n.amount, entry_count = b.entry_count + n.entry_count,
            debit = b.debit + n.debit, credit = b.credit + n.debit - n.amount,
            updated_at = n.posted_at
        WHEN NOT MATCHED THEN INSERT
            (tenant_id, account_id, asset, asset_kind, sub_account, amount, entry_count,
             debit, credit, updated_at)
            VALUES (n.tenant_id, n.account_id, n.asset, n.asset_kind, n.sub_account, n.amount,
                    n.entry_count, n.debit, n.debit - n.amount, n.posted_at)
    $sql$;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION ledger.post_entries() FROM PUBLIC;

CREATE TRIGGER post_entries AFTER INSERT ON ledger.entries REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.post_entries();

-- Nobody is granted these; the owner is refused as well.
CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: books are corrected by reversing journals',
        TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

-- By row, because such triggers hold for partitions that are named directly too.
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON ledger.entries
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON ledger.journals
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger.entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger.journals
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

GRANT SELECT ON ledger.journals, ledger.entries, ledger.balances TO ledger_api;
GRANT INSERT ON ledger.journals, ledger.entries TO ledger_pipeline;
GRANT SELECT, INSERT, UPDATE ON ledger.accounts TO ledger_pipeline;
