-- +goose NO TRANSACTION
-- +goose Up

-- Every statement can be repeated, because none of them is undone if a later one fails.

-- For the audit of what has changed: the transaction of the last INSERT, or UPDATE of what the audit reads of a row. A
-- trigger sets it, and not the service's statements, so that no version and no person can forget it. Time would not
-- do: clocks are set back, and a transaction commits later than it begins. NULL: not changed since this migration. A
-- DELETE leaves no mark: no service deletes such rows, and only a whole audit can see that one is gone.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit_mark() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_xid := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$;
-- +goose StatementEnd

ALTER TABLE pedidos ADD COLUMN IF NOT EXISTS changed_xid bigint;
ALTER TABLE pedidos ALTER COLUMN changed_xid SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE OR REPLACE TRIGGER pedidos_audit_mark BEFORE UPDATE OF state, total_amount, total_currency, refunds_amount
ON pedidos FOR EACH ROW EXECUTE FUNCTION audit_mark();

ALTER TABLE pedido_refunds ADD COLUMN IF NOT EXISTS changed_xid bigint;
ALTER TABLE pedido_refunds ALTER COLUMN changed_xid SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE OR REPLACE TRIGGER pedido_refunds_audit_mark BEFORE UPDATE OF amount, state
ON pedido_refunds FOR EACH ROW EXECUTE FUNCTION audit_mark();

-- What the last audit found, from which the next one goes on. The setup of the databases lets only the owner and the
-- audit's role, which only reads elsewhere, use this schema.
CREATE SCHEMA IF NOT EXISTS audit;
CREATE TABLE IF NOT EXISTS audit.checkpoint (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    run        uuid    NOT NULL,
    generation bigint  NOT NULL,
    state      jsonb   NOT NULL
);
-- A part of the sums for each bucket of orders: the first 7 digits of their ids, which are 17 minutes. run is that
-- of the whole audit which the parts go back to.
CREATE TABLE IF NOT EXISTS audit.parts (
    run    uuid  NOT NULL,
    bucket text  NOT NULL,
    sums   jsonb NOT NULL,
    PRIMARY KEY (run, bucket)
);

-- A row costs such an index nearly nothing. autosummarize keeps it from falling behind a table that only grows.
SET lock_timeout = 0;
DROP INDEX CONCURRENTLY IF EXISTS pedidos_changed;
CREATE INDEX CONCURRENTLY pedidos_changed ON pedidos USING brin (changed_xid) WITH (pages_per_range = 16, autosummarize = on);
DROP INDEX CONCURRENTLY IF EXISTS pedido_refunds_changed;
CREATE INDEX CONCURRENTLY pedido_refunds_changed ON pedido_refunds USING brin (changed_xid) WITH (pages_per_range = 16, autosummarize = on);
RESET lock_timeout;

-- +goose Down
DROP TABLE IF EXISTS audit.parts, audit.checkpoint;
DROP TRIGGER IF EXISTS pedidos_audit_mark ON pedidos;
ALTER TABLE pedidos DROP COLUMN IF EXISTS changed_xid;
DROP TRIGGER IF EXISTS pedido_refunds_audit_mark ON pedido_refunds;
ALTER TABLE pedido_refunds DROP COLUMN IF EXISTS changed_xid;
DROP FUNCTION IF EXISTS audit_mark;
