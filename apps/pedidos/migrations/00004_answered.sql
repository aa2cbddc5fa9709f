-- +goose NO TRANSACTION
-- +goose Up

-- For PruneAnswers: the final orders whose answers are still stored, the oldest first.
SET lock_timeout = 0;
DROP INDEX CONCURRENTLY IF EXISTS pedidos_answered;
CREATE INDEX CONCURRENTLY pedidos_answered ON pedidos (id) WHERE attend_at IS NULL AND answer_status IS NOT NULL;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS pedidos_answered;
