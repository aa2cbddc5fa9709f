-- Each change of a payment is one statement, which writes the row and the history.
-- due_in is the time in seconds until the resolver takes the payment up, by the database's
-- clock; 0 if no step is left.

-- name: Intend :one
-- Stores the intention to charge. No row: the order has a payment already.
WITH intended AS (
    INSERT INTO pagamentos (order_id, client_id, state, amount, currency, capture, card_token, fingerprint,
        acquirer, acquirer_reference, prepares, due_at)
    VALUES (@order_id, sqlc.narg(client_id), 'authorising', @amount, @currency, @capture, @card_token::text, @fingerprint,
        @acquirer::text || '/3', sqlc.narg(acquirer_reference), true, now() + interval '1 minute')
    ON CONFLICT (order_id) DO NOTHING
    RETURNING *
), logged AS (
    INSERT INTO pagamento_transitions (order_id, to_state) SELECT order_id, state FROM intended
)
SELECT *, coalesce(ceil(extract(epoch FROM due_at - now())), 0)::bigint AS due_in FROM intended;

-- name: IntendCapture :one
-- No row: the payment is not authorised, or is being undone.
UPDATE pagamentos SET capture = true, due_at = now() + interval '1 minute', attempts = 0, updated_at = now()
WHERE order_id = @order_id AND state = 'authorised' AND NOT undo AND NOT capture
RETURNING *, coalesce(ceil(extract(epoch FROM due_at - now())), 0)::bigint AS due_in;

-- name: IntendUndo :one
-- Stores the intention to undo the payment. A charge that is not prepared is voided at
-- once: nothing has been charged. An order without a payment gets a voided one as a
-- tombstone. No row: there is nothing to undo, the intention is stored already, or a part is
-- refunded (IntendRest).
WITH intended AS (
    INSERT INTO pagamentos AS p (order_id, client_id, state, amount, currency, capture, undo, acquirer)
    VALUES (@order_id, sqlc.narg(client_id), 'voided', 0, 'XXX', false, true, @acquirer)
    ON CONFLICT (order_id) DO UPDATE SET
        undo = true,
        state = CASE WHEN p.state = 'captured' THEN 'refunding'
            WHEN p.state = 'authorising' AND p.prepares AND p.acquirer_reference IS NULL THEN 'voided'
            ELSE p.state END,
        card_token = CASE WHEN p.prepares AND p.acquirer_reference IS NULL THEN NULL ELSE p.card_token END,
        acquirer = CASE WHEN p.prepares AND p.acquirer_reference IS NULL THEN split_part(p.acquirer, '/', 1) ELSE p.acquirer END,
        due_at = CASE WHEN p.state <> 'authorising' OR NOT p.prepares OR p.acquirer_reference IS NOT NULL
            THEN now() + interval '1 minute' END,
        attempts = 0, problem = NULL, refusals = 0, updated_at = now()
    WHERE p.state = 'captured' AND p.refunds_amount = 0 OR p.state IN ('authorising', 'authorised') AND NOT p.undo
    RETURNING *
), logged AS (
    INSERT INTO pagamento_transitions (order_id, from_state, to_state)
    SELECT order_id, CASE WHEN state = 'refunding' THEN 'captured' WHEN fingerprint IS NOT NULL THEN 'authorising' END, state
    FROM intended WHERE state IN ('refunding', 'voided')
)
SELECT *, coalesce(ceil(extract(epoch FROM due_at - now())), 0)::bigint AS due_in FROM intended;

-- name: IntendRest :execrows
-- Stores the intention to undo a payment of which parts are refunded: the rest becomes one more
-- refund. The payment is refunded once all of them are done. 0: there is no such payment, or the
-- intention is stored already.
WITH before AS MATERIALIZED (
    SELECT b.order_id, b.amount - b.refunds_amount AS rest, b.refunds_done = b.amount AS done FROM pagamentos AS b
    WHERE b.order_id = @order_id AND b.state = 'captured' AND b.refunds_amount > 0 AND NOT b.undo
    FOR UPDATE
), rest AS (
    INSERT INTO pagamento_refunds (id, order_id, amount, reason, due_at)
    SELECT @rest_id, order_id, rest, @reason, now() + interval '1 minute' FROM before WHERE rest > 0
), logged AS (
    INSERT INTO pagamento_transitions (order_id, from_state, to_state)
    SELECT order_id, 'captured', 'refunded' FROM before WHERE done ON CONFLICT (order_id, to_state) DO NOTHING
)
UPDATE pagamentos AS p SET
    undo = true, refunds_amount = p.amount,
    state = CASE WHEN done THEN 'refunded' ELSE p.state END,
    refunded_amount = CASE WHEN done THEN p.amount ELSE 0 END,
    -- No call is left for the payment itself.
    due_at = CASE WHEN NOT done THEN now() + interval '10 years' END,
    attempts = 0, problem = NULL, refusals = 0, updated_at = now()
FROM before WHERE p.order_id = before.order_id;

-- name: Settle :one
-- Stores the acquirer's answer. The state stays authorising if the charge is now
-- prepared, or if the shopper has to authenticate, with client_secret. No row: the payment has left the state in which the acquirer was called,
-- because another request or process stored the answer, or another process has prepared
-- the charge, so that the answer is about another reference than the payment's.
-- The commit does not wait for the disk if the server is in the run @run: the caller stores nothing that relies on
-- it unless the server is still in that run then.
WITH quick AS MATERIALIZED (
    SELECT CASE WHEN server_run() = @run::text THEN set_config('synchronous_commit', 'off', true) END
), changed AS (
    UPDATE pagamentos AS p SET
        state = @to_state,
        acquirer = CASE WHEN sqlc.narg(client_secret)::text IS NOT NULL THEN split_part(p.acquirer, '/', 1) || '/3'
            WHEN @to_state::text = 'authorising' THEN p.acquirer ELSE split_part(p.acquirer, '/', 1) END,
        card_token = CASE WHEN @to_state::text = 'authorising' THEN p.card_token END,
        client_secret = CASE WHEN @to_state::text = 'authorising' THEN coalesce(sqlc.narg(client_secret), p.client_secret) END,
        acquirer_reference = coalesce(sqlc.narg(acquirer_reference), p.acquirer_reference),
        refund_reference = coalesce(sqlc.narg(refund_reference), p.refund_reference),
        decline_reason = sqlc.narg(decline_reason),
        refunded_amount = CASE WHEN @to_state::text = 'refunded' THEN amount ELSE 0 END,
        due_at = CASE WHEN @to_state::text = 'authorising' OR @to_state::text = 'authorised' AND (capture OR undo)
            OR @to_state::text = 'captured' AND undo
            THEN now() + interval '1 minute' END,
        attempts = 0, problem = NULL,
        -- Kept after a refund: if that fails later, the next one needs another key.
        refusals = CASE WHEN @to_state::text = 'refunded' THEN p.refusals ELSE 0 END,
        updated_at = now()
    FROM quick
    WHERE p.order_id = @order_id AND p.state = @from_state
        AND p.acquirer_reference IS NOT DISTINCT FROM sqlc.narg(called_reference)
    RETURNING p.*
), logged AS (
    INSERT INTO pagamento_transitions (order_id, from_state, to_state)
    SELECT order_id, @from_state::text, state FROM changed WHERE state <> @from_state::text
    ON CONFLICT (order_id, to_state) DO NOTHING -- refunded before, by a refund that failed later
)
SELECT *, coalesce(ceil(extract(epoch FROM due_at - now())), 0)::bigint AS due_in FROM changed;

-- name: AwaitRefund :one
-- Stores that the acquirer carries a refund out, and when to ask for it again: after 1,
-- 2, 4 ... minutes, at most an hour. No row: the payment has left the state refunding.
UPDATE pagamentos SET
    refund_reference = @refund_reference::text, problem = NULL,
    due_at = now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(attempts, 6))
WHERE order_id = @order_id AND state = 'refunding'
RETURNING *, coalesce(ceil(extract(epoch FROM due_at - now())), 0)::bigint AS due_in;

-- name: Refuse :one
-- Stores why the acquirer refused the next step, and when to call it again, with another
-- key: after 1, 2, 4 ... minutes, at most an hour. No row: the payment has left the state,
-- or another process has stored the refusal.
UPDATE pagamentos SET
    problem = @problem::text, refusals = refusals + 1, refund_reference = NULL,
    due_at = now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(refusals, 6))
WHERE order_id = @order_id AND state = @from_state AND refusals = @refusals AND due_at IS NOT NULL
RETURNING *, coalesce(ceil(extract(epoch FROM due_at - now())), 0)::bigint AS due_in;

-- name: Reopen :execrows
-- Stores that a refund has failed after the acquirer said that it was done. Another one would
-- probably fail too, so that no step is taken before a person asks for it (RetryNow) or has
-- refunded by other means. 0: the payment is not refunded, or by another refund.
UPDATE pagamentos SET state = 'refunding', refunded_amount = 0, refund_reference = NULL,
    problem = @problem::text, refusals = greatest(refusals + 1, 5), attempts = 0,
    due_at = now() + interval '10 years', updated_at = now()
WHERE order_id = @order_id AND state = 'refunded' AND refund_reference = @refund_reference::text;

-- name: Payment :one
SELECT *, coalesce(ceil(extract(epoch FROM due_at - now())), 0)::bigint AS due_in FROM pagamentos WHERE order_id = @order_id;

-- name: DurablePayment :one
-- Payment, and what it returns is on disk: to lock the row is a change, whose commit waits, also for what Settle has
-- committed before without waiting.
SELECT *, coalesce(ceil(extract(epoch FROM due_at - now())), 0)::bigint AS due_in FROM pagamentos WHERE order_id = @order_id FOR SHARE;

-- name: Payments :many
-- Newest order first: order ids are UUIDv7.
SELECT *, coalesce(ceil(extract(epoch FROM due_at - now())), 0)::bigint AS due_in FROM pagamentos
WHERE order_id < @before
ORDER BY order_id DESC
LIMIT @max_rows;

-- name: NeedingPerson :many
-- Payments that do not finish by themselves: the acquirer has refused the next step five
-- times, which takes 15 minutes, or the payment has not changed for a day, or for ten
-- days while the acquirer carries out a refund; and those with such a refund of a part. Newest order first.
-- They are few, and found first: in the order of the ids, all payments would be read to find them.
WITH needing AS MATERIALIZED (
    SELECT p.order_id FROM pagamentos AS p WHERE p.due_at IS NOT NULL AND p.refunds_amount = 0
        AND (p.refusals >= 5 OR p.updated_at < now() - CASE WHEN p.refund_reference IS NULL THEN interval '1 day' ELSE interval '10 days' END)
    UNION
    SELECT r.order_id FROM pagamento_refunds AS r WHERE r.due_at IS NOT NULL
        AND (r.refusals >= 5 OR r.updated_at < now() - CASE WHEN r.refund_reference IS NULL THEN interval '1 day' ELSE interval '10 days' END)
)
SELECT p.*, coalesce(ceil(extract(epoch FROM p.due_at - now())), 0)::bigint AS due_in
FROM needing JOIN pagamentos AS p ON p.order_id = needing.order_id
WHERE p.order_id < @before
ORDER BY p.order_id DESC
LIMIT @max_rows;

-- name: RetryNow :execrows
-- Lets the resolver take a payment up in its next round. 0: no step is left.
UPDATE pagamentos SET due_at = now() WHERE order_id = @order_id AND due_at IS NOT NULL AND refunds_amount = 0;

-- name: Claim :many
-- Takes payments that are due, and postpones them by 1, 2, 4 ... minutes, at most an
-- hour.
WITH due AS (
    SELECT d.order_id FROM pagamentos AS d
    WHERE d.due_at <= now() AND split_part(d.acquirer, '/', 1) = @acquirer::text
    ORDER BY d.due_at
    LIMIT @max_rows
    FOR UPDATE SKIP LOCKED
)
UPDATE pagamentos AS p SET
    due_at = now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(p.attempts, 6)),
    attempts = p.attempts + 1
FROM due
WHERE p.order_id = due.order_id
RETURNING p.*, 0::bigint AS due_in;

-- name: Unfinished :one
-- How many payments are overdue, which the resolver has tried at least once and not finished,
-- except those that wait for the shopper, or for a refund that the acquirer carries out; and how many NeedingPerson lists:
-- a payment once, also if several of its refunds need a person.
SELECT count(*) FILTER (WHERE attempts > 0 AND refund_reference IS NULL AND waits_for_shopper IS NULL) AS overdue,
    count(DISTINCT order_id) FILTER (WHERE refusals >= 5
        OR updated_at < now() - CASE WHEN refund_reference IS NULL THEN interval '1 day' ELSE interval '10 days' END) AS needing_person
FROM (
    SELECT order_id, attempts, refund_reference, client_secret AS waits_for_shopper, refusals, updated_at FROM pagamentos
    WHERE due_at IS NOT NULL AND refunds_amount = 0
    UNION ALL
    SELECT order_id, attempts, refund_reference, NULL, refusals, updated_at FROM pagamento_refunds WHERE due_at IS NOT NULL
) AS unfinished;

-- Refunds of parts. needs_person is the rule of NeedingPerson; due_in that of payments; age is the
-- time in seconds since the first call with the present key can have been made.

-- name: IntendRefund :execrows
-- Stores the intention to refund a part. 0: there is no such payment, it is not captured or is
-- being undone, or its refunds would exceed what was charged.
WITH held AS (
    UPDATE pagamentos AS p SET refunds_amount = p.refunds_amount + @amount::bigint, updated_at = now()
    WHERE p.order_id = @order_id AND p.state = 'captured' AND NOT p.undo AND p.currency = @currency::text
        AND @amount::bigint <= p.amount - p.refunds_amount
    RETURNING p.order_id
)
INSERT INTO pagamento_refunds (id, order_id, amount, reason, due_at)
SELECT @id, held.order_id, @amount::bigint, @reason, now() + interval '1 minute' FROM held;

-- name: RefundsOf :many
SELECT r.*, coalesce(ceil(extract(epoch FROM r.due_at - now())), 0)::bigint AS due_in,
    extract(epoch FROM now() - r.updated_at)::bigint AS age,
    coalesce(r.due_at IS NOT NULL AND (r.refusals >= 5
        OR r.updated_at < now() - CASE WHEN r.refund_reference IS NULL THEN interval '1 day' ELSE interval '10 days' END), false)::boolean AS needs_person,
    p.currency, p.acquirer, coalesce(p.acquirer_reference, '')::text AS charge
FROM pagamento_refunds AS r JOIN pagamentos AS p ON p.order_id = r.order_id
WHERE r.order_id = @order_id ORDER BY r.created_at, r.id;

-- name: OrderOfRefund :one
SELECT order_id FROM pagamento_refunds WHERE id = @id;

-- name: ClaimRefunds :many
-- Takes refunds that are due, and postpones them as Claim does.
WITH due AS (
    SELECT d.id FROM pagamento_refunds AS d
    WHERE d.due_at <= now()
        AND (SELECT split_part(p.acquirer, '/', 1) FROM pagamentos AS p WHERE p.order_id = d.order_id) = @acquirer::text
    ORDER BY d.due_at
    LIMIT @max_rows
    FOR UPDATE SKIP LOCKED
)
UPDATE pagamento_refunds AS r SET
    due_at = now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(r.attempts, 6)),
    attempts = r.attempts + 1
FROM due WHERE r.id = due.id
RETURNING r.id;

-- name: SettleRefund :one
-- Stores that a refund is done, and with the last refund of an undone payment that this is refunded.
-- Returns the payment's state. elsewhere: it was done by other means, which is refused unless the acquirer has
-- refused the refund, and was not asked again since. No row: the refund is not pending, or it is refused.
WITH changed AS (
    UPDATE pagamento_refunds SET state = 'succeeded', refund_reference = @refund_reference::text, problem = NULL, due_at = NULL,
        updated_at = now()
    WHERE id = @id AND state = 'pending' AND (NOT @elsewhere::boolean OR NOT asked AND refund_reference IS NULL)
    RETURNING order_id, amount
), paid AS (
    UPDATE pagamentos AS p SET
        refunds_done = p.refunds_done + changed.amount,
        state = CASE WHEN p.undo AND p.refunds_done + changed.amount = p.amount THEN 'refunded' ELSE p.state END,
        refunded_amount = CASE WHEN p.undo AND p.refunds_done + changed.amount = p.amount THEN p.amount ELSE 0 END,
        due_at = CASE WHEN p.undo AND p.refunds_done + changed.amount = p.amount THEN NULL ELSE p.due_at END,
        updated_at = now()
    FROM changed WHERE p.order_id = changed.order_id
    RETURNING p.order_id, p.state
), logged AS (
    INSERT INTO pagamento_transitions (order_id, from_state, to_state)
    SELECT order_id, 'captured', state FROM paid WHERE state = 'refunded' ON CONFLICT (order_id, to_state) DO NOTHING
)
SELECT state FROM paid;

-- name: AwaitPartRefund :execrows
-- What AwaitRefund does, for a refund of a part.
UPDATE pagamento_refunds SET
    refund_reference = @refund_reference::text, problem = NULL,
    due_at = now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(attempts, 6))
WHERE id = @id AND state = 'pending';

-- name: RefuseRefund :execrows
-- What Refuse does, for a refund of a part.
UPDATE pagamento_refunds SET
    problem = @problem::text, refusals = refusals + 1, refund_reference = NULL, asked = false,
    due_at = now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(refusals, 6))
WHERE id = @id AND state = 'pending' AND refusals = @refusals;

-- name: AskRefund :execrows
-- Stores that the acquirer is called with a new key, before the call: until its outcome is stored, the
-- refund cannot be given up. 0: the refund has been given up, or changed by another process.
UPDATE pagamento_refunds SET asked = true
WHERE id = @id AND state = 'pending' AND refusals = @refusals AND refund_reference IS NULL;

-- name: ReopenRefund :execrows
-- What Reopen does, for a refund of a part: the money is at the shop again.
WITH changed AS (
    UPDATE pagamento_refunds SET state = 'pending', refund_reference = NULL, problem = @problem::text,
        refusals = greatest(refusals + 1, 5), asked = false, attempts = 0, due_at = now() + interval '10 years', updated_at = now()
    WHERE id = @id AND state = 'succeeded' AND refund_reference = @refund_reference::text
    RETURNING order_id, amount
)
UPDATE pagamentos AS p SET refunds_done = p.refunds_done - changed.amount, state = 'captured', refunded_amount = 0,
    due_at = CASE WHEN p.undo THEN now() + interval '10 years' END, updated_at = now()
FROM changed WHERE p.order_id = changed.order_id;

-- name: GiveUpRefund :execrows
-- Ends a refund that the acquirer has refused, so that its amount can be refunded otherwise. 0: it has
-- not been refused, or has been asked for again since, or the payment is being undone.
WITH kept AS MATERIALIZED (
    SELECT p.order_id FROM pagamentos AS p JOIN pagamento_refunds AS g ON g.order_id = p.order_id
    WHERE g.id = @id AND NOT p.undo
    FOR UPDATE OF p
), changed AS (
    UPDATE pagamento_refunds AS r SET state = 'failed', due_at = NULL, updated_at = now()
    FROM kept
    WHERE r.id = @id AND r.order_id = kept.order_id AND r.state = 'pending' AND NOT r.asked
    RETURNING r.order_id, r.amount
)
UPDATE pagamentos AS p SET refunds_amount = p.refunds_amount - changed.amount, updated_at = now()
FROM changed WHERE p.order_id = changed.order_id;

-- name: RetryRefundNow :execrows
-- Lets the resolver take a refund up in its next round. 0: it is not pending.
UPDATE pagamento_refunds SET due_at = now() WHERE id = @id AND due_at IS NOT NULL;

-- name: PruneTransitions :execrows
-- Deletes transitions before a time of payments that have no step left. @before is the
-- smallest id of an order placed at that time. The payment is looked up for each transition: a
-- join could read all payments whose transitions have left before.
DELETE FROM pagamento_transitions AS t USING (
    SELECT o.order_id, o.to_state FROM pagamento_transitions AS o
    WHERE o.order_id < @before::uuid AND o.at < @entered_before::timestamptz
        AND (SELECT p.due_at IS NULL FROM pagamentos AS p WHERE p.order_id = o.order_id)
    ORDER BY o.order_id, o.to_state
    LIMIT @max_rows
    FOR UPDATE SKIP LOCKED
) AS old
WHERE t.order_id = old.order_id AND t.to_state = old.to_state;
