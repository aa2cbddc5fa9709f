-- +goose NO TRANSACTION
-- +goose Up

-- Every statement can be repeated, because none of them is undone if a later one fails.

-- How many events of the order were recorded: events are deleted after 30 days, and an order can be refunded later.
ALTER TABLE pedidos ADD COLUMN IF NOT EXISTS events integer NOT NULL DEFAULT 0;

-- Records an event if an endpoint wants it. It is a trigger, and not code of the service, because during a
-- canary and after a rollback the previous version moves orders too: no event may be missing then.
-- It locks in this order: the order's row, which what happened to the order holds already, then deliveries. A
-- process that holds deliveries never waits for an order.
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
        of_order := NEW.id; kind := 'order.shipped'; happened := NEW.shipped_at;
    ELSIF TG_TABLE_NAME = 'pedido_refunds' THEN
        of_order := NEW.pedido_id; happened := NEW.updated_at;
        kind := CASE NEW.state WHEN 'succeeded' THEN 'order.partially_refunded' ELSE 'order.refund_failed' END;
    ELSE
        of_order := NEW.pedido_id; kind := 'order.' || NEW.to_state; happened := NEW.at; at_place := NEW.position;
    END IF;
    SELECT client_id INTO of_client FROM pedidos WHERE id = of_order;
    IF NOT EXISTS (SELECT FROM pedido_webhooks WHERE client_id IN (of_client, '*') AND disabled_at IS NULL) THEN
        RETURN NULL;
    END IF;
    -- Hold the order, so that its sequence has no duplicates, and a refund that is stored at the same time is
    -- either in this event or has the next one.
    UPDATE pedidos SET events = events + 1 WHERE id = of_order RETURNING events INTO number;
    IF at_place IS NULL THEN
        SELECT max(position) INTO at_place FROM pedido_transitions WHERE pedido_id = of_order;
    END IF;
    IF TG_TABLE_NAME = 'pedido_refunds' THEN
        -- A refund's time is the begin of its transaction, which may have waited for another change of the order.
        SELECT greatest(happened, updated_at) INTO happened FROM pedidos WHERE id = of_order;
    END IF;
    -- Wait until a process that stores how a delivery of this order ended has committed: it lets the next one
    -- go, and does not see the one that is added here.
    PERFORM FROM pedido_deliveries WHERE pedido_id = of_order AND state = 'waiting' ORDER BY webhook_id, sequence FOR SHARE;
    INSERT INTO pedido_events (id, pedido_id, sequence, type, at, position, refunds)
    VALUES (event, of_order, number, kind, happened, coalesce(at_place, 0), (
        SELECT jsonb_agg(jsonb_build_object('id', r.id, 'state', r.state, 'updated_at', r.updated_at))
        FROM pedido_refunds AS r WHERE r.pedido_id = of_order
    ));
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

-- A refund that has succeeded and leaves that state was sent back by the bank.
CREATE OR REPLACE TRIGGER pedido_refund_ended AFTER UPDATE OF state ON pedido_refunds FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (NEW.state IN ('succeeded', 'failed') OR OLD.state = 'succeeded'))
EXECUTE FUNCTION pedido_record_event();

-- +goose Down
DROP TRIGGER pedido_refund_ended ON pedido_refunds;
DROP TRIGGER pedido_moved ON pedido_transitions;
DROP TRIGGER pedido_shipped ON pedidos;
DROP FUNCTION pedido_record_event;
ALTER TABLE pedidos DROP COLUMN events;
