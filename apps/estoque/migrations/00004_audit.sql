-- +goose NO TRANSACTION
-- +goose Up

-- Every statement can be repeated, because none of them is undone if a later one fails.

-- For the audit of what has changed: the transaction of the last INSERT, or UPDATE of what the audit reads of a row. A
-- trigger sets it, and not the service's statements, so that no version and no person can forget it. Time would not
-- do: clocks are set back, and a transaction commits later than it begins. NULL: not changed since this migration. A
-- DELETE leaves no row to mark: estoque_pruned is for that.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit_mark() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_xid := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$;
-- +goose StatementEnd

ALTER TABLE estoque_reservations ADD COLUMN IF NOT EXISTS changed_xid bigint;
ALTER TABLE estoque_reservations ALTER COLUMN changed_xid SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE OR REPLACE TRIGGER estoque_reservations_audit_mark BEFORE UPDATE OF state
ON estoque_reservations FOR EACH ROW EXECUTE FUNCTION audit_mark();

-- The transaction that last deleted reservations of a bucket of orders, which leave no row that says so: the first 7
-- digits of their ids, which are 17 minutes. So it grows by 82 rows a day.
CREATE TABLE IF NOT EXISTS estoque_pruned (
    bucket      text   PRIMARY KEY,
    changed_xid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint
);
CREATE INDEX IF NOT EXISTS estoque_pruned_changed ON estoque_pruned (changed_xid);
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION estoque_mark_pruned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO estoque_pruned (bucket) SELECT DISTINCT left(order_id::text, 7) AS bucket FROM gone ORDER BY bucket
    ON CONFLICT (bucket) DO UPDATE SET changed_xid = excluded.changed_xid;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER estoque_reservations_pruned AFTER DELETE ON estoque_reservations
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION estoque_mark_pruned();

-- A row costs such an index nearly nothing. autosummarize keeps it from falling behind a table that only grows.
SET lock_timeout = 0;
DROP INDEX CONCURRENTLY IF EXISTS estoque_reservations_changed;
CREATE INDEX CONCURRENTLY estoque_reservations_changed ON estoque_reservations USING brin (changed_xid) WITH (pages_per_range = 16, autosummarize = on);
RESET lock_timeout;

-- +goose Down
DROP TRIGGER IF EXISTS estoque_reservations_pruned ON estoque_reservations;
DROP FUNCTION IF EXISTS estoque_mark_pruned;
DROP TABLE IF EXISTS estoque_pruned;
DROP TRIGGER IF EXISTS estoque_reservations_audit_mark ON estoque_reservations;
ALTER TABLE estoque_reservations DROP COLUMN IF EXISTS changed_xid;
DROP FUNCTION IF EXISTS audit_mark;
