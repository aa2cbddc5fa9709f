-- +goose NO TRANSACTION
-- +goose Up

-- Every statement can be repeated, because none of them is undone if a later one fails.

-- When a process asks whether a refund that has succeeded still stands: the bank can send the money back. The
-- default is also that of refunds that exist, and of those that the version before places. That version
-- checks none. NULL if it was checked for long enough.
ALTER TABLE pedido_refunds ADD COLUMN IF NOT EXISTS check_at timestamptz DEFAULT now() + interval '1 day';

-- For TakeChecks. Refunds that are not final are asked for at attend_at.
SET lock_timeout = 0;
DROP INDEX CONCURRENTLY IF EXISTS pedido_refunds_to_check;
CREATE INDEX CONCURRENTLY pedido_refunds_to_check ON pedido_refunds (check_at) WHERE state = 'succeeded' AND check_at IS NOT NULL;
RESET lock_timeout;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS pedido_refunds_to_check;
ALTER TABLE pedido_refunds DROP COLUMN check_at;
