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
    created_at       timestamptz NOT NULL DEFAULT now(),
    CHECK ((old_secret IS NULL) = (old_secret_until IS NULL)),
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);
CREATE INDEX IF NOT EXISTS pedido_webhooks_of_client ON pedido_webhooks (client_id, created_at);

-- What happened to orders. The trigger below writes the rows, in the transaction of what happened. body is
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
CREATE INDEX IF NOT EXISTS pedido_deliveries_of_order ON pedido_deliveries (pedido_id, webhook_id, sequence) WHERE state = 'waiting';

-- Records an event if an endpoint wants it. It is a trigger, and not code of the service, because during a
-- canary and after a rollback the previous version moves orders too: no event may be missing then.
-- The order's row is locked by what happened to it, so that its sequence has neither gaps nor duplicates.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION pedido_record_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of_order  uuid;
    of_client text;
    event     uuid := gen_random_uuid();
    kind      text;
    happened  timestamptz;
    at_place  integer;
    number    integer;
BEGIN
    IF NOT EXISTS (SELECT FROM pedido_webhooks WHERE disabled_at IS NULL) THEN
        RETURN NULL; -- most shops have none, and then an order costs nothing more
    END IF;
    IF TG_TABLE_NAME = 'pedidos' THEN
        of_order := NEW.id; of_client := NEW.client_id; kind := 'order.shipped'; happened := NEW.shipped_at;
        SELECT max(position) INTO at_place FROM pedido_transitions WHERE pedido_id = of_order;
    ELSE
        of_order := NEW.pedido_id; kind := 'order.' || NEW.to_state; happened := NEW.at; at_place := NEW.position;
        SELECT client_id INTO of_client FROM pedidos WHERE id = of_order;
    END IF;
    IF NOT EXISTS (SELECT FROM pedido_webhooks WHERE client_id IN (of_client, '*') AND disabled_at IS NULL) THEN
        RETURN NULL;
    END IF;
    -- Wait until a process that stores how a delivery of this order ended has committed: it lets the next one
    -- go, and does not see the one that is added here.
    PERFORM FROM pedido_deliveries WHERE pedido_id = of_order AND state = 'waiting' ORDER BY webhook_id, sequence FOR SHARE;
    SELECT coalesce(max(e.sequence), 0) + 1 INTO number FROM pedido_events AS e WHERE e.pedido_id = of_order;
    INSERT INTO pedido_events (id, pedido_id, sequence, type, at, position)
    VALUES (event, of_order, number, kind, happened, coalesce(at_place, 0));
    INSERT INTO pedido_deliveries (webhook_id, event_id, pedido_id, sequence, next_at)
    SELECT w.id, event, of_order, number, CASE WHEN NOT EXISTS (
        SELECT FROM pedido_deliveries AS d WHERE d.pedido_id = of_order AND d.webhook_id = w.id AND d.state = 'waiting'
    ) THEN now() END
    FROM pedido_webhooks AS w WHERE w.client_id IN (of_client, '*') AND w.disabled_at IS NULL;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE OR REPLACE TRIGGER pedido_moved AFTER INSERT ON pedido_transitions FOR EACH ROW
WHEN (NEW.to_state IN ('confirmed', 'failed', 'cancelled', 'refunding', 'refunded')) EXECUTE FUNCTION pedido_record_event();
CREATE OR REPLACE TRIGGER pedido_shipped AFTER UPDATE OF shipped_at ON pedidos FOR EACH ROW
WHEN (OLD.shipped_at IS NULL AND NEW.shipped_at IS NOT NULL) EXECUTE FUNCTION pedido_record_event();

-- +goose Down
DROP TRIGGER pedido_moved ON pedido_transitions;
DROP TRIGGER pedido_shipped ON pedidos;
DROP FUNCTION pedido_record_event;
DROP TABLE pedido_deliveries, pedido_events, pedido_webhooks;
DROP INDEX pedidos_by_state;
