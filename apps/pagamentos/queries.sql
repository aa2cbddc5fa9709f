-- Each change of a payment is one statement, which writes the row and the history.
-- age_seconds is the time since the payment was requested, by the database's clock.

-- name: Intend :one
-- Stores the intention to charge. No row: the order has a payment already.
WITH intended AS (
    INSERT INTO pagamentos (order_id, state, amount, currency, capture, card_token, fingerprint, acquirer, due_at)
    VALUES (@order_id, 'authorising', @amount, @currency, @capture, @card_token::text, @fingerprint, @acquirer,
        now() + interval '1 minute')
    ON CONFLICT (order_id) DO NOTHING
    RETURNING *
), logged AS (
    INSERT INTO pagamento_transitions (order_id, to_state) SELECT order_id, state FROM intended
)
SELECT *, extract(epoch FROM now() - created_at)::bigint AS age_seconds FROM intended;

-- name: IntendCapture :one
-- No row: the payment is not authorised, or is being undone.
UPDATE pagamentos SET capture = true, due_at = now() + interval '1 minute', attempts = 0, updated_at = now()
WHERE order_id = @order_id AND state = 'authorised' AND NOT undo AND NOT capture
RETURNING *, extract(epoch FROM now() - created_at)::bigint AS age_seconds;

-- name: IntendUndo :one
-- Stores the intention to undo the payment. An order without a payment gets a
-- voided one as a tombstone. No row: there is nothing to undo, or the intention is
-- stored already.
WITH intended AS (
    INSERT INTO pagamentos AS p (order_id, state, amount, currency, capture, undo, acquirer)
    VALUES (@order_id, 'voided', 0, 'XXX', false, true, @acquirer)
    ON CONFLICT (order_id) DO UPDATE SET
        undo = true,
        state = CASE p.state WHEN 'captured' THEN 'refunding' ELSE p.state END,
        due_at = now() + interval '1 minute', attempts = 0, updated_at = now()
    WHERE p.state = 'captured' OR p.state IN ('authorising', 'authorised') AND NOT p.undo
    RETURNING *
), logged AS (
    INSERT INTO pagamento_transitions (order_id, from_state, to_state)
    SELECT order_id, CASE state WHEN 'refunding' THEN 'captured' END, state FROM intended
    WHERE state IN ('refunding', 'voided')
)
SELECT *, extract(epoch FROM now() - created_at)::bigint AS age_seconds FROM intended;

-- name: Settle :one
-- Stores the acquirer's answer. No row: the payment has left the state in which the
-- acquirer was called, because another request or process stored the answer.
WITH changed AS (
    UPDATE pagamentos AS p SET
        state = @to_state,
        card_token = NULL,
        acquirer_reference = coalesce(sqlc.narg(acquirer_reference), p.acquirer_reference),
        decline_reason = sqlc.narg(decline_reason),
        refunded_amount = CASE WHEN @to_state::text = 'refunded' THEN amount ELSE 0 END,
        due_at = CASE WHEN @to_state::text = 'authorised' AND (capture OR undo) OR @to_state::text = 'captured' AND undo
            THEN now() + interval '1 minute' END,
        attempts = 0,
        updated_at = now()
    WHERE p.order_id = @order_id AND p.state = @from_state
    RETURNING *
), logged AS (
    INSERT INTO pagamento_transitions (order_id, from_state, to_state) SELECT order_id, @from_state::text, state FROM changed
)
SELECT *, extract(epoch FROM now() - created_at)::bigint AS age_seconds FROM changed;

-- name: Payment :one
SELECT *, extract(epoch FROM now() - created_at)::bigint AS age_seconds FROM pagamentos WHERE order_id = @order_id;

-- name: Payments :many
-- Newest order first: order ids are UUIDv7.
SELECT *, extract(epoch FROM now() - created_at)::bigint AS age_seconds FROM pagamentos
WHERE order_id < @before
ORDER BY order_id DESC
LIMIT @max_rows;

-- name: Claim :many
-- Takes payments that are due, and postpones them by 1, 2, 4 ... minutes, at most an
-- hour.
WITH due AS (
    SELECT d.order_id FROM pagamentos AS d
    WHERE d.due_at <= now() AND d.acquirer = @acquirer
    ORDER BY d.due_at
    LIMIT @max_rows
    FOR UPDATE SKIP LOCKED
)
UPDATE pagamentos AS p SET
    due_at = now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(p.attempts, 6)),
    attempts = p.attempts + 1
FROM due
WHERE p.order_id = due.order_id
RETURNING p.*, extract(epoch FROM now() - p.created_at)::bigint AS age_seconds;

-- name: Overdue :one
-- Payments that the resolver has tried at least once and not finished.
SELECT count(*) FROM pagamentos WHERE due_at IS NOT NULL AND attempts > 0;
