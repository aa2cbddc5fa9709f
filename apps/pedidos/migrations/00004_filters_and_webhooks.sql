-- +goose NO TRANSACTION
-- +goose Up

-- Every statement can be repeated, because none of them is undone if a later one fails.

-- For lists of a client's orders with filters. Each combination of filters reads the index backwards,
-- once for each state, and stops at the end of the page.
SET lock_timeout = 0;
DROP INDEX CONCURRENTLY IF EXISTS pedidos_by_state;
CREATE INDEX CONCURRENTLY pedidos_by_state ON pedidos (client_id, state, (shipped_at IS NOT NULL), created_at, number);
RESET lock_timeout;

-- +goose Down
DROP INDEX pedidos_by_state;
