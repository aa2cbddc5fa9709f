-- name: Place :one
-- Stores a new order with its first transition. No row means that the key is known.
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
SELECT created_at FROM placed;

-- name: Save :one
-- Stores an order's state and new transitions. No row means that the order has changed
-- since it was read. It does not overwrite a stored answer.
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
    WHERE id = @id AND version = @version
    RETURNING id, answer_status, answer_body
), moved AS (
    INSERT INTO pedido_transitions (pedido_id, position, from_state, to_state, at, reason)
    SELECT saved.id, unnest(@positions::integer[]), unnest(@from_states::text[]), unnest(@to_states::text[]),
           unnest(@ats::timestamptz[]), unnest(@reasons::text[])
    FROM saved
)
SELECT answer_status, answer_body FROM saved;

-- name: OrderByID :one
SELECT sqlc.embed(pedidos), now()::timestamptz AS read_at FROM pedidos WHERE id = @id;

-- name: OrderByKey :one
SELECT id, request_hash, shopper, state, answer_status, answer_body FROM pedidos
WHERE client_id = @client_id AND idempotency_key = @idempotency_key;

-- name: OrdersOfClient :many
SELECT * FROM pedidos WHERE client_id = @client_id AND number < @before::bigint ORDER BY number DESC LIMIT @page;

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
