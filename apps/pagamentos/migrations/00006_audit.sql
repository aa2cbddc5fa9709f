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

ALTER TABLE pagamentos ADD COLUMN IF NOT EXISTS changed_xid bigint;
ALTER TABLE pagamentos ALTER COLUMN changed_xid SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE OR REPLACE TRIGGER pagamentos_audit_mark BEFORE UPDATE OF state, amount, currency, refunded_amount, undo, problem, refunds_amount, refunds_done
ON pagamentos FOR EACH ROW EXECUTE FUNCTION audit_mark();

ALTER TABLE pagamento_refunds ADD COLUMN IF NOT EXISTS changed_xid bigint;
ALTER TABLE pagamento_refunds ALTER COLUMN changed_xid SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE OR REPLACE TRIGGER pagamento_refunds_audit_mark BEFORE UPDATE OF amount, state, problem
ON pagamento_refunds FOR EACH ROW EXECUTE FUNCTION audit_mark();

ALTER TABLE simulator_charges ADD COLUMN IF NOT EXISTS changed_xid bigint;
ALTER TABLE simulator_charges ALTER COLUMN changed_xid SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE OR REPLACE TRIGGER simulator_charges_audit_mark BEFORE UPDATE OF order_id, amount, state
ON simulator_charges FOR EACH ROW EXECUTE FUNCTION audit_mark();

ALTER TABLE simulator_refunds ADD COLUMN IF NOT EXISTS changed_xid bigint;
ALTER TABLE simulator_refunds ALTER COLUMN changed_xid SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE OR REPLACE TRIGGER simulator_refunds_audit_mark BEFORE UPDATE OF reference, amount, state
ON simulator_refunds FOR EACH ROW EXECUTE FUNCTION audit_mark();

-- A row costs such an index nearly nothing. autosummarize keeps it from falling behind a table that only grows.
SET lock_timeout = 0;
DROP INDEX CONCURRENTLY IF EXISTS pagamentos_changed;
CREATE INDEX CONCURRENTLY pagamentos_changed ON pagamentos USING brin (changed_xid) WITH (pages_per_range = 16, autosummarize = on);
DROP INDEX CONCURRENTLY IF EXISTS pagamento_refunds_changed;
CREATE INDEX CONCURRENTLY pagamento_refunds_changed ON pagamento_refunds USING brin (changed_xid) WITH (pages_per_range = 16, autosummarize = on);
DROP INDEX CONCURRENTLY IF EXISTS simulator_charges_changed;
CREATE INDEX CONCURRENTLY simulator_charges_changed ON simulator_charges USING brin (changed_xid) WITH (pages_per_range = 16, autosummarize = on);
DROP INDEX CONCURRENTLY IF EXISTS simulator_refunds_changed;
CREATE INDEX CONCURRENTLY simulator_refunds_changed ON simulator_refunds USING brin (changed_xid) WITH (pages_per_range = 16, autosummarize = on);
RESET lock_timeout;

-- +goose Down
DROP TRIGGER IF EXISTS pagamentos_audit_mark ON pagamentos;
ALTER TABLE pagamentos DROP COLUMN IF EXISTS changed_xid;
DROP TRIGGER IF EXISTS pagamento_refunds_audit_mark ON pagamento_refunds;
ALTER TABLE pagamento_refunds DROP COLUMN IF EXISTS changed_xid;
DROP TRIGGER IF EXISTS simulator_charges_audit_mark ON simulator_charges;
ALTER TABLE simulator_charges DROP COLUMN IF EXISTS changed_xid;
DROP TRIGGER IF EXISTS simulator_refunds_audit_mark ON simulator_refunds;
ALTER TABLE simulator_refunds DROP COLUMN IF EXISTS changed_xid;
DROP FUNCTION IF EXISTS audit_mark;
