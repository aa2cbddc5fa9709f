-- name: Place :one
-- Stores a new order with its first transition, and returns the server's run too. No row means that the key is known.
WITH placed AS (
    INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, lines,
                         total_amount, total_currency, card_token, shopper, attend_at)
    VALUES (@id, @client_id, @idempotency_key, @request_hash, 'pending', @lines, @total_amount, @total_currency, @card_token,
            sqlc.narg(shopper), now() + @attend_after::interval)
    ON CONFLICT (client_id, idempotency_key) DO NOTHING
    RETURNING id, created_at
), first AS (
    INSERT INTO pedido_transitions (pedido_id, position, to_state, at, reason)
    SELECT id, 0, 'pending', created_at, 'placed' FROM placed
)
SELECT created_at, server_run()::text AS run FROM placed;

-- name: Save :one
-- Stores an order's state and new transitions. No row means that the order has changed
-- since it was read, or that the server is not in the run in which it was read: what other services have
-- answered since may be lost. It does not overwrite a stored answer.
WITH saved AS (
    UPDATE pedidos SET
        state = @state, version = version + 1, failure_reason = sqlc.narg(failure_reason),
        cancel_requested = @cancel_requested,
        card_token = CASE WHEN @final::boolean THEN NULL ELSE card_token END,
        client_secret = CASE WHEN @final::boolean THEN NULL ELSE sqlc.narg(client_secret) END,
        attend_at = CASE WHEN @final::boolean THEN NULL ELSE now() + @attend_after::interval END,
        answer_status = coalesce(answer_status, sqlc.narg(answer_status)),
        answer_body = coalesce(answer_body, sqlc.narg(answer_body)),
        updated_at = greatest(updated_at, @updated_at)
    WHERE id = @id AND version = @version AND server_run() = @run::text
    RETURNING id, answer_status, answer_body
), moved AS (
    INSERT INTO pedido_transitions (pedido_id, position, from_state, to_state, at, reason)
    SELECT saved.id, unnest(@positions::integer[]), unnest(@from_states::text[]), unnest(@to_states::text[]),
           unnest(@ats::timestamptz[]), unnest(@reasons::text[])
    FROM saved
)
SELECT answer_status, answer_body FROM saved;

-- name: OrderByID :one
SELECT sqlc.embed(pedidos), now()::timestamptz AS read_at, server_run()::text AS run FROM pedidos WHERE id = @id;

-- name: OrderByKey :one
SELECT id, request_hash, shopper, state, answer_status, answer_body FROM pedidos
WHERE client_id = @client_id AND idempotency_key = @idempotency_key;

-- name: OrdersOfClient :many
SELECT * FROM pedidos WHERE client_id = @client_id AND number < @before::bigint ORDER BY number DESC LIMIT @page;

-- name: FilteredOrdersOfClient :many
-- Reads the index pedidos_by_state backwards, once for each pair of a state and whether the order is
-- shipped, so that it sorts at most a page of each.
SELECT pedidos.* FROM (
    SELECT one.id FROM (SELECT unnest(@states::text[]) AS state, unnest(@shipped::boolean[]) AS shipped) AS pair
    CROSS JOIN LATERAL (
        SELECT p.id, p.created_at, p.number FROM pedidos AS p
        WHERE p.client_id = @client_id AND p.state = pair.state AND (p.shipped_at IS NOT NULL) = pair.shipped
            AND p.created_at >= @created_from AND p.created_at < @created_to
            AND (p.created_at, p.number) < (@before_created::timestamptz, @before::bigint)
        ORDER BY p.created_at DESC, p.number DESC LIMIT @page
    ) AS one
    ORDER BY one.created_at DESC, one.number DESC LIMIT @page
) AS found
JOIN pedidos ON pedidos.id = found.id
ORDER BY pedidos.created_at DESC, pedidos.number DESC;

-- name: TransitionsOf :many
SELECT * FROM pedido_transitions WHERE pedido_id = ANY(@ids::uuid[]) ORDER BY pedido_id, position;

-- name: Answer :one
-- Stores the first answer to the client, unless there is one, and returns the stored
-- answer.
UPDATE pedidos SET answer_status = coalesce(answer_status, @answer_status::smallint),
    answer_body = coalesce(answer_body, @answer_body::jsonb)
WHERE id = @id
RETURNING answer_status, answer_body;

-- name: Ship :execrows
-- Stores that a confirmed order was shipped. The new version prevents a cancel that has read
-- the order before. 0: the order is not confirmed, or is shipped.
UPDATE pedidos SET shipped_at = now(), shipment = @shipment::text, version = version + 1, updated_at = greatest(updated_at, now())
WHERE id = @id AND state = 'confirmed' AND NOT cancel_requested AND shipped_at IS NULL;

-- name: TakeOverdue :many
-- Takes over orders whose lease has expired, and those with a lease that is longer than any:
-- PostgreSQL's clock was set back. The new version prevents a process that still works on one
-- of them from storing anything.
UPDATE pedidos SET attend_at = now() + @attend_after::interval, version = version + 1
WHERE id IN (
    SELECT due.id FROM pedidos AS due WHERE due.attend_at < now() OR due.attend_at > now() + 2 * @attend_after::interval
    ORDER BY due.attend_at LIMIT @page FOR UPDATE SKIP LOCKED
)
RETURNING id;

-- name: PruneAnswers :execrows
-- Erases the stored answers of final orders placed before the id @before.
UPDATE pedidos SET answer_status = NULL, answer_body = NULL
WHERE id IN (
    SELECT old.id FROM pedidos AS old
    WHERE old.attend_at IS NULL AND old.answer_status IS NOT NULL AND old.id < @before::uuid
    ORDER BY old.id LIMIT @max_rows FOR NO KEY UPDATE SKIP LOCKED
);

-- name: PruneTransitions :execrows
-- Deletes all transitions of final orders placed before the id @before, those of an order
-- together: an order has all of its transitions or none. The order is looked up for each: a join
-- could read all orders whose transitions have left before.
DELETE FROM pedido_transitions
WHERE pedido_id IN (
    SELECT placed.pedido_id FROM pedido_transitions AS placed
    WHERE placed.position = 0 AND placed.pedido_id < @before::uuid
        AND (SELECT o.attend_at IS NULL FROM pedidos AS o WHERE o.id = placed.pedido_id)
    ORDER BY placed.pedido_id LIMIT @max_orders FOR UPDATE SKIP LOCKED
);

-- name: LockClient :exec
-- Lets one transaction at a time change the client's endpoints.
SELECT pg_advisory_xact_lock(4, hashtext(@client_id::text));

-- name: AddWebhook :one
-- No row: the client has @max endpoints.
INSERT INTO pedido_webhooks (id, client_id, url, secret)
SELECT @id, @client_id, @url, @secret WHERE (SELECT count(*) FROM pedido_webhooks AS w WHERE w.client_id = @client_id) < @max_endpoints::bigint
RETURNING *;

-- name: WebhooksOfClient :many
SELECT * FROM pedido_webhooks WHERE client_id = @client_id ORDER BY created_at, id;

-- name: WebhookOfClient :one
SELECT * FROM pedido_webhooks WHERE id = @id AND client_id = @client_id;

-- name: RemoveWebhook :execrows
DELETE FROM pedido_webhooks WHERE id = @id AND client_id = @client_id;

-- name: RotateSecret :one
-- While the secret before the last rotation is valid, it stays, for no longer: the answer to the last rotation may
-- be lost, and then it is the one that the client knows.
UPDATE pedido_webhooks SET old_secret = CASE WHEN old_secret_until > now() THEN old_secret ELSE secret END,
    old_secret_until = CASE WHEN old_secret_until > now() THEN old_secret_until ELSE now() + @keep::interval END,
    secret = @secret
WHERE id = @id AND client_id = @client_id
RETURNING *;

-- name: EnableWebhook :one
UPDATE pedido_webhooks SET disabled_at = NULL, disabled_reason = NULL, failing_since = NULL, resumed_at = now()
WHERE id = @id AND client_id = @client_id
RETURNING *;

-- name: SendWaiting :execrows
-- Sends at once some of what waits for its next attempt, and has since before the endpoint was enabled. It passes
-- over what orders that move hold: it must not wait for them, since they may wait for what it holds.
UPDATE pedido_deliveries AS d SET next_at = now() FROM (
    SELECT later.webhook_id, later.event_id FROM pedido_deliveries AS later
    WHERE later.webhook_id = @webhook_id AND later.state = 'waiting' AND later.next_at > now() AND NOT later.sending
        AND later.last_at < @resumed_at::timestamptz
    ORDER BY later.next_at
    LIMIT @page
    FOR NO KEY UPDATE SKIP LOCKED
) AS held
WHERE d.webhook_id = held.webhook_id AND d.event_id = held.event_id;

-- name: EndResume :exec
-- Notes that SendWaiting has sent all.
UPDATE pedido_webhooks SET resumed_at = NULL WHERE id = @id AND NOT EXISTS (
    SELECT FROM pedido_deliveries AS later
    WHERE later.webhook_id = @id AND later.state = 'waiting' AND later.next_at > now() AND NOT later.sending AND later.last_at < resumed_at
);

-- name: DisableWebhook :execrows
-- 0: it is disabled, or deleted.
UPDATE pedido_webhooks SET disabled_at = now(), disabled_reason = @reason::text WHERE id = @id AND disabled_at IS NULL;

-- name: DeliveriesOfWebhook :many
SELECT sqlc.embed(d), e.type, e.at FROM pedido_deliveries AS d JOIN pedido_events AS e ON e.id = d.event_id
WHERE d.webhook_id = @webhook_id AND d.number < @before::bigint
ORDER BY d.number DESC LIMIT @page;

-- name: Redeliver :one
-- Sends an event again, or a waiting one at once. No row: it does not exist, is being sent, or waits for an earlier event.
UPDATE pedido_deliveries AS d SET attempts = CASE WHEN state = 'waiting' THEN attempts ELSE 0 END, state = 'waiting', next_at = now()
FROM pedido_events AS e
WHERE d.webhook_id = @webhook_id AND d.event_id = @event_id AND e.id = d.event_id
    AND (d.state <> 'waiting' OR d.next_at IS NOT NULL AND (NOT d.sending OR d.next_at < now()))
RETURNING sqlc.embed(d), e.type, e.at;

-- name: DeliveryOfWebhook :one
SELECT sqlc.embed(d), e.type, e.at FROM pedido_deliveries AS d JOIN pedido_events AS e ON e.id = d.event_id
WHERE d.webhook_id = @webhook_id AND d.event_id = @event_id;

-- name: DueWebhooks :many
-- The endpoints to which something must be sent now, and those for which SendWaiting has work. It steps through
-- the index pedido_deliveries_due from one endpoint to the next, so that it costs nothing for the endpoints for
-- which nothing waits.
WITH RECURSIVE earliest AS (
    (SELECT d.webhook_id, d.next_at FROM pedido_deliveries AS d WHERE d.state = 'waiting' AND d.next_at IS NOT NULL
    ORDER BY d.webhook_id, d.next_at LIMIT 1)
    UNION ALL
    SELECT following.webhook_id, following.next_at FROM earliest CROSS JOIN LATERAL (
        SELECT d.webhook_id, d.next_at FROM pedido_deliveries AS d
        WHERE d.state = 'waiting' AND d.next_at IS NOT NULL AND d.webhook_id > earliest.webhook_id
        ORDER BY d.webhook_id, d.next_at LIMIT 1
    ) AS following
)
SELECT earliest.webhook_id FROM earliest
WHERE earliest.next_at <= now() AND (SELECT w.disabled_at IS NULL FROM pedido_webhooks AS w WHERE w.id = earliest.webhook_id)
UNION
SELECT resumed.id FROM pedido_webhooks AS resumed WHERE resumed.resumed_at IS NOT NULL AND resumed.disabled_at IS NULL;

-- name: LockWebhook :one
-- No row: another process takes deliveries of the endpoint, or nothing may be sent to it.
SELECT * FROM pedido_webhooks WHERE id = @id AND disabled_at IS NULL FOR NO KEY UPDATE SKIP LOCKED;

-- name: Sending :one
-- How many deliveries all processes send to the endpoint now. It reads those that are being sent before it looks at
-- next_at: otherwise PostgreSQL may choose the index of next_at, and read all that waits.
WITH sent AS MATERIALIZED (SELECT next_at FROM pedido_deliveries WHERE webhook_id = @webhook_id AND state = 'waiting' AND sending)
SELECT count(*) FROM sent WHERE next_at > now();

-- name: TakeDeliveries :many
UPDATE pedido_deliveries AS d SET sending = true, attempts = d.attempts + 1, next_at = now() + @lease::interval
FROM (
    SELECT due.webhook_id, due.event_id FROM pedido_deliveries AS due
    WHERE due.webhook_id = @webhook_id AND due.state = 'waiting' AND due.next_at <= now()
    ORDER BY due.next_at
    LIMIT @page
    FOR NO KEY UPDATE SKIP LOCKED
) AS taken, pedido_events AS e
WHERE d.webhook_id = taken.webhook_id AND d.event_id = taken.event_id AND e.id = d.event_id
RETURNING d.event_id, d.pedido_id, d.sequence, d.attempts, e.type, e.at, e.position, e.refunds, e.body;

-- name: StoreBody :one
-- Stores what is sent, unless it is stored, and returns the stored text.
UPDATE pedido_events SET body = coalesce(body, @body::text) WHERE id = @id RETURNING body;

-- name: StoreAttempt :execrows
-- Stores how an attempt ended. 0: another process has taken the delivery over, or it is deleted.
UPDATE pedido_deliveries SET state = @state, sending = false, next_at = CASE WHEN @state = 'waiting' THEN now() + @pause::interval END,
    last_at = now(), last_status = sqlc.narg(last_status), last_problem = sqlc.narg(last_problem)
WHERE webhook_id = @webhook_id AND event_id = @event_id AND state = 'waiting' AND sending AND attempts = @attempts;

-- name: SendNext :exec
-- Sends the first waiting event of the order, unless it is on its way.
UPDATE pedido_deliveries SET next_at = now() WHERE (webhook_id, event_id) = (
    SELECT d.webhook_id, d.event_id FROM pedido_deliveries AS d
    WHERE d.pedido_id = @pedido_id AND d.webhook_id = @webhook_id AND d.state = 'waiting'
    ORDER BY d.sequence LIMIT 1
) AND next_at IS NULL;

-- name: WebhookSucceeded :exec
UPDATE pedido_webhooks SET failing_since = NULL WHERE id = @id AND failing_since IS NOT NULL;

-- name: WebhookFailed :one
-- Returns for how long every attempt has failed. That begins again if there was none for so long that it cannot
-- have been a pause between two attempts: nothing is known of that time.
UPDATE pedido_webhooks SET failing_since = CASE WHEN failed_at > now() - @quiet::interval THEN coalesce(failing_since, now()) ELSE now() END,
    failed_at = now()
WHERE id = @id
RETURNING (now() - failing_since)::interval AS failing;

-- name: OldestWaiting :one
-- The age of the oldest event that waits for an endpoint that is not disabled; 0 if none waits. It steps through
-- the index pedido_deliveries_waiting as DueWebhooks does through another.
WITH RECURSIVE oldest AS (
    (SELECT d.webhook_id, d.created_at FROM pedido_deliveries AS d WHERE d.state = 'waiting' ORDER BY d.webhook_id, d.number LIMIT 1)
    UNION ALL
    SELECT following.webhook_id, following.created_at FROM oldest CROSS JOIN LATERAL (
        SELECT d.webhook_id, d.created_at FROM pedido_deliveries AS d WHERE d.state = 'waiting' AND d.webhook_id > oldest.webhook_id
        ORDER BY d.webhook_id, d.number LIMIT 1
    ) AS following
)
SELECT coalesce(max(now() - oldest.created_at), interval '0')::interval AS age FROM oldest
WHERE (SELECT w.disabled_at IS NULL FROM pedido_webhooks AS w WHERE w.id = oldest.webhook_id);

-- name: OldEvents :many
-- Holds the oldest events that were recorded before a time.
SELECT id, pedido_id FROM pedido_events WHERE recorded_at < @before ORDER BY recorded_at LIMIT @max_rows FOR UPDATE SKIP LOCKED;

-- name: HoldWaiting :exec
-- Holds what waits of some orders. Like the trigger it locks the deliveries of an order in this order, and before
-- PruneEvents, so that they do not lock each other out.
SELECT FROM pedido_deliveries WHERE pedido_id = ANY(@order_ids::uuid[]) AND state = 'waiting'
ORDER BY pedido_id, webhook_id, sequence FOR UPDATE;

-- name: PruneEvents :execrows
-- Deletes events, and with them their deliveries.
DELETE FROM pedido_events WHERE id = ANY(@ids::uuid[]);

-- name: SendFirsts :exec
-- Sends the first waiting event of each of some orders to each endpoint, unless it is on its way.
UPDATE pedido_deliveries SET next_at = now() WHERE (webhook_id, event_id) IN (
    SELECT DISTINCT ON (d.pedido_id, d.webhook_id) d.webhook_id, d.event_id FROM pedido_deliveries AS d
    WHERE d.pedido_id = ANY(@order_ids::uuid[]) AND d.state = 'waiting'
    ORDER BY d.pedido_id, d.webhook_id, d.sequence
) AND next_at IS NULL;

-- name: LockOrder :one
-- Reads an order and holds its row, so that its refunds are decided one after the other.
SELECT * FROM pedidos WHERE id = @id FOR UPDATE;

-- name: RefundsOf :many
SELECT * FROM pedido_refunds WHERE pedido_id = ANY(@ids::uuid[]) ORDER BY pedido_id, created_at, id;

-- name: PlaceRefund :one
-- Stores a refund of a part, while LockOrder holds the order.
WITH held AS (
    UPDATE pedidos SET refunds = refunds + 1, refunds_amount = refunds_amount + @amount, updated_at = greatest(updated_at, now())
    WHERE pedidos.id = @order_id
)
INSERT INTO pedido_refunds (id, pedido_id, idempotency_key, request_hash, amount, lines, reason, attend_at)
VALUES (@id, @order_id, @idempotency_key, @request_hash, @amount, @lines, @reason, now() + interval '10 seconds')
RETURNING *;

-- name: StoreRefund :execrows
-- Stores how pagamentos says that a refund stands, and when to ask again: after 5, 10, 20 ... s, at
-- most 10 minutes. A refund that has failed gives its amount back. The order's time changes only with the
-- state: a client that compares it would read the order at each question. 0: the state is the same, or the
-- refund has ended. refused: pagamentos refuses the refund, which says nothing against one that has succeeded.
WITH changed AS (
    UPDATE pedido_refunds AS r SET state = @state, updated_at = CASE WHEN r.state = @state THEN r.updated_at ELSE now() END,
        attend_at = CASE WHEN @state::text NOT IN ('succeeded', 'failed')
            THEN now() + least(interval '10 minutes', interval '5 seconds' * 2 ^ least(r.attempts, 8)) END
    WHERE r.id = @id AND (r.state IN ('pending', 'needs_person')
        OR r.state = 'succeeded' AND @state::text IN ('needs_person', 'failed') AND NOT @refused::boolean)
    RETURNING r.pedido_id, r.amount, r.updated_at = now() AS moved
)
UPDATE pedidos AS p SET
    refunds_amount = p.refunds_amount - CASE WHEN @state::text = 'failed' THEN changed.amount ELSE 0 END,
    updated_at = greatest(p.updated_at, now())
FROM changed WHERE p.id = changed.pedido_id AND changed.moved;

-- name: TakeRefunds :many
-- Takes refunds that pagamentos is to be asked for, and postpones each.
UPDATE pedido_refunds SET
    attend_at = now() + least(interval '10 minutes', interval '10 seconds' * 2 ^ least(attempts, 8)), attempts = attempts + 1
WHERE id IN (
    SELECT due.id FROM pedido_refunds AS due WHERE due.attend_at < now()
    ORDER BY due.attend_at LIMIT @page FOR UPDATE SKIP LOCKED
)
RETURNING id, pedido_id;

-- name: TakeChecks :many
-- Takes refunds that have succeeded, to ask whether they still do, and postpones each by a day: up to 60
-- days after they succeeded. A bank can take up to 30 days to send the money back
-- (https://docs.stripe.com/refunds#failed-refunds).
UPDATE pedido_refunds SET check_at = CASE WHEN updated_at > now() - interval '60 days' THEN now() + interval '1 day' END
WHERE id IN (
    SELECT due.id FROM pedido_refunds AS due WHERE due.state = 'succeeded' AND due.check_at < now()
    ORDER BY due.check_at LIMIT @page FOR UPDATE SKIP LOCKED
)
RETURNING id, pedido_id;
