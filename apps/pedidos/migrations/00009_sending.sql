-- +goose NO TRANSACTION
-- +goose Up

-- Every statement can be repeated, because none of them is undone if a later one fails.

ALTER TABLE pedido_webhooks
    -- When it was enabled, until all that waited then is due.
    ADD COLUMN IF NOT EXISTS resumed_at timestamptz,
    -- When the last attempt failed that has failed.
    ADD COLUMN IF NOT EXISTS failed_at timestamptz;

SET lock_timeout = 0;
-- For Sending and StoreAttempt, which otherwise can read all that waits for an endpoint that fails: at most 8 of
-- them are being sent.
DROP INDEX CONCURRENTLY IF EXISTS pedido_deliveries_sending;
CREATE INDEX CONCURRENTLY pedido_deliveries_sending ON pedido_deliveries (webhook_id, event_id) WHERE state = 'waiting' AND sending;

-- For DueWebhooks: the endpoints for which SendWaiting has work.
DROP INDEX CONCURRENTLY IF EXISTS pedido_webhooks_resumed;
CREATE INDEX CONCURRENTLY pedido_webhooks_resumed ON pedido_webhooks (id) WHERE resumed_at IS NOT NULL;
RESET lock_timeout;

-- +goose Down
ALTER TABLE pedido_webhooks DROP COLUMN IF EXISTS resumed_at, DROP COLUMN IF EXISTS failed_at;
DROP INDEX CONCURRENTLY IF EXISTS pedido_deliveries_sending;
