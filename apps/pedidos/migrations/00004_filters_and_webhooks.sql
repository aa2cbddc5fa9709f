-- +goose NO TRANSACTION
-- +goose Up

-- Every statement can be repeated, because none of them is undone if a later one fails.

-- For lists of a client's orders with filters. Each combination of filters reads the index backwards,
-- once for each state, and stops at the end of the page.
SET lock_timeout = 0;
DROP INDEX CONCURRENTLY IF EXISTS pedidos_by_state;
CREATE INDEX CONCURRENTLY pedidos_by_state ON pedidos (client_id, state, (shipped_at IS NOT NULL), created_at, number);
RESET lock_timeout;

-- The addresses to which clients want events sent. client_id is '*' for the operator's, which get the
-- events of all clients. A secret signs requests, so it cannot be stored as a hash.
CREATE TABLE IF NOT EXISTS pedido_webhooks (
    id               uuid        PRIMARY KEY,
    client_id        text        NOT NULL,
    url              text        NOT NULL,
    secret           bytea       NOT NULL,
    -- The secret before the last rotation, which signs too until old_secret_until.
    old_secret       bytea,
    old_secret_until timestamptz,
    -- When and why no events are sent any more: by_client, gone or failing.
    disabled_at      timestamptz,
    disabled_reason  text,
    -- The first of the failures that no success has followed.
    failing_since    timestamptz,
    -- When the last attempt failed that has failed.
    failed_at        timestamptz,
    -- When it was enabled, until all that waited then is due.
    resumed_at       timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    CHECK ((old_secret IS NULL) = (old_secret_until IS NULL)),
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);
CREATE INDEX IF NOT EXISTS pedido_webhooks_of_client ON pedido_webhooks (client_id, created_at);
-- For DueWebhooks: the endpoints for which SendWaiting has work.
CREATE INDEX IF NOT EXISTS pedido_webhooks_resumed ON pedido_webhooks (id) WHERE resumed_at IS NOT NULL;

-- What happened to orders. A trigger (migration 7) writes the rows, in the transaction of what happened. body is
-- what is sent; it is stored before the first attempt, so that every attempt sends the same.
CREATE TABLE IF NOT EXISTS pedido_events (
    id          uuid        PRIMARY KEY,
    pedido_id   uuid        NOT NULL,
    sequence    integer     NOT NULL,
    type        text        NOT NULL,
    at          timestamptz NOT NULL,
    -- The order's last transition at that time.
    position    integer     NOT NULL,
    body        text,
    -- How the partial refunds of the order stood then, as the members id, state and updated_at; NULL if it had none.
    refunds     jsonb,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (pedido_id, sequence)
);
CREATE INDEX IF NOT EXISTS pedido_events_by_age ON pedido_events (recorded_at);

-- An event for one endpoint. There is no foreign key to the endpoint, so that its deletion neither waits for
-- orders nor fails them: what is left is not sent, and is deleted by its age.
CREATE TABLE IF NOT EXISTS pedido_deliveries (
    webhook_id   uuid        NOT NULL,
    event_id     uuid        NOT NULL REFERENCES pedido_events (id) ON DELETE CASCADE,
    number       bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    pedido_id    uuid        NOT NULL,
    sequence     integer     NOT NULL,
    state        text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'failed')),
    -- When it is sent; NULL while an earlier event of the order waits. While it is being sent, when another
    -- process may take it over.
    next_at      timestamptz,
    sending      boolean     NOT NULL DEFAULT false,
    attempts     integer     NOT NULL DEFAULT 0,
    last_at      timestamptz,
    last_status  integer,
    last_problem text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (webhook_id, event_id)
);
CREATE UNIQUE INDEX IF NOT EXISTS pedido_deliveries_of_webhook ON pedido_deliveries (webhook_id, number);
CREATE INDEX IF NOT EXISTS pedido_deliveries_of_event ON pedido_deliveries (event_id);
CREATE INDEX IF NOT EXISTS pedido_deliveries_due ON pedido_deliveries (webhook_id, next_at) WHERE state = 'waiting' AND next_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS pedido_deliveries_waiting ON pedido_deliveries (webhook_id, number) WHERE state = 'waiting';
-- For Sending and StoreAttempt, which otherwise can read all that waits for an endpoint that fails: at most 8 of
-- them are being sent.
CREATE INDEX IF NOT EXISTS pedido_deliveries_sending ON pedido_deliveries (webhook_id, event_id) WHERE state = 'waiting' AND sending;
CREATE INDEX IF NOT EXISTS pedido_deliveries_of_order ON pedido_deliveries (pedido_id, webhook_id, sequence) WHERE state = 'waiting';

-- +goose Down
DROP TABLE pedido_deliveries, pedido_events, pedido_webhooks;
DROP INDEX pedidos_by_state;
