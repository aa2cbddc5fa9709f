-- +goose NO TRANSACTION
-- +goose Up

-- For Sending and StoreAttempt, which otherwise read all that waits for an endpoint that fails: at most 8 of
-- them are being sent.
SET lock_timeout = 0;
DROP INDEX CONCURRENTLY IF EXISTS pedido_deliveries_sending;
CREATE INDEX CONCURRENTLY pedido_deliveries_sending ON pedido_deliveries (webhook_id, event_id) WHERE state = 'waiting' AND sending;
RESET lock_timeout;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS pedido_deliveries_sending;
