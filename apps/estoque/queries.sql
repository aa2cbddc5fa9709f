-- Every statement is its own transaction. It locks a reservation's row before the rows
-- of its items, and the items in the order of their SKUs, so that statements do not
-- deadlock. It decides on locked rows, and computes an item's new values from the locked
-- row: the conditions of an UPDATE first see the statement's snapshot, which may be out
-- of date by then.

-- name: Reserve :many
-- Returns one row per line if it reserved all lines. It changes nothing and returns no
-- row if a line is short, a SKU is unknown, the prices are in different currencies, or
-- the order has a reservation. It does not lock an item that is short in the snapshot.
-- The commit does not wait for the disk. If PostgreSQL crashes and loses it, no unit has
-- been sold yet: the caller that confirms finds no reservation and reserves again.
WITH quick AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), wanted AS (
    SELECT unnest(@skus::text[]) AS sku, unnest(@quantities::bigint[]) AS quantity
), locked AS MATERIALIZED (
    SELECT e.sku, w.quantity, e.reserved + w.quantity AS reserved, e.price_amount, e.price_currency
    FROM quick, wanted AS w JOIN estoque AS e ON e.sku = w.sku
    WHERE e.on_hand - e.reserved >= w.quantity
    ORDER BY e.sku
    FOR NO KEY UPDATE OF e
), created AS (
    INSERT INTO estoque_reservations (order_id, state, expires_at)
    SELECT @order_id, 'reserved', now() + make_interval(secs => @seconds::integer)
    WHERE (SELECT count(*) = cardinality(@skus::text[]) AND min(l.price_currency) = max(l.price_currency) FROM locked AS l)
    ON CONFLICT (order_id) DO NOTHING
    RETURNING expires_at
), taken AS (
    UPDATE estoque AS e SET reserved = l.reserved, updated_at = now()
    FROM locked AS l, created
    WHERE e.sku = l.sku
), lines AS (
    INSERT INTO estoque_reservation_lines (order_id, sku, quantity, price_amount, price_currency)
    SELECT @order_id, l.sku, l.quantity, l.price_amount, l.price_currency FROM locked AS l, created
)
SELECT l.sku, l.quantity::bigint AS quantity, l.price_amount, l.price_currency, m.expires_at
FROM created AS m, locked AS l;

-- name: ItemsBySKU :many
SELECT * FROM estoque WHERE sku = ANY(@skus::text[]);

-- name: Move :many
-- Moves a reservation from one of from_states to to_state, updates the items, and returns
-- one row per line. It changes nothing and returns no row if the order has no reservation
-- in one of these states, or if the stock is short. It does not reserve a reservation
-- again that has not expired.
-- The commit does not wait for the disk if the server is in the run @run: the caller stores nothing that relies on
-- it unless the server is still in that run then.
WITH quick AS MATERIALIZED (
    SELECT CASE WHEN server_run() = @run::text THEN set_config('synchronous_commit', 'off', true) END
), held AS MATERIALIZED (
    SELECT r.order_id, r.state
    FROM quick, estoque_reservations AS r
    WHERE r.order_id = @order_id AND r.state = ANY(@from_states::text[])
          AND NOT (@to_state::text = 'reserved' AND r.state = 'reserved' AND r.expires_at > now())
    FOR UPDATE OF r
), locked AS MATERIALIZED (
    SELECT l.sku, l.quantity, l.price_amount, l.price_currency,
           e.on_hand + CASE WHEN h.state = 'confirmed' THEN l.quantity ELSE 0 END
               - CASE WHEN @to_state::text = 'confirmed' THEN l.quantity ELSE 0 END AS on_hand,
           e.reserved + CASE WHEN @to_state::text = 'reserved' THEN l.quantity ELSE 0 END
               - CASE WHEN h.state = 'reserved' THEN l.quantity ELSE 0 END AS reserved
    FROM held AS h
         JOIN estoque_reservation_lines AS l ON l.order_id = h.order_id
         JOIN estoque AS e ON e.sku = l.sku
    ORDER BY e.sku
    FOR NO KEY UPDATE OF e
), moved AS (
    UPDATE estoque_reservations AS r
    SET state = @to_state, updated_at = now(),
        expires_at = CASE WHEN @to_state = 'reserved' THEN now() + make_interval(secs => @seconds::integer) ELSE r.expires_at END
    FROM held AS h
    WHERE r.order_id = h.order_id AND (SELECT bool_and(l.reserved <= l.on_hand) FROM locked AS l)
    RETURNING r.expires_at
), counted AS (
    UPDATE estoque AS e SET on_hand = l.on_hand, reserved = l.reserved, updated_at = now()
    FROM locked AS l, moved
    WHERE e.sku = l.sku
)
SELECT l.sku, l.quantity, l.price_amount, l.price_currency, m.expires_at
FROM moved AS m, locked AS l;

-- name: ReservationByOrder :many
-- Returns one row per line, or one row without SKU if there are no lines. due: the state
-- is reserved, but expires_at has passed.
SELECT r.state, r.expires_at, (r.state = 'reserved' AND r.expires_at <= now())::boolean AS due,
       coalesce(l.sku, '')::text AS sku, coalesce(l.quantity, 0)::bigint AS quantity,
       coalesce(l.price_amount, 0)::bigint AS price_amount, coalesce(l.price_currency, '')::text AS price_currency
FROM estoque_reservations AS r LEFT JOIN estoque_reservation_lines AS l ON l.order_id = r.order_id
WHERE r.order_id = @order_id;

-- name: LockReservation :execrows
-- The commit waits for the disk, since a lock is a change: also for a Move that did not wait.
SELECT FROM estoque_reservations WHERE order_id = @order_id AND state = @state FOR SHARE;

-- name: RefuseReservation :execrows
-- Stores the tombstone of an order that has reserved nothing. It inserts no row if the
-- order has a reservation.
INSERT INTO estoque_reservations (order_id, state, expires_at)
VALUES (@order_id, 'released', now())
ON CONFLICT (order_id) DO NOTHING;

-- name: Expire :one
-- Expires the most overdue reservations, returns their units to the stock, and returns
-- their number. It skips those that another transaction has locked.
WITH due AS MATERIALIZED (
    SELECT r.order_id
    FROM estoque_reservations AS r
    WHERE r.state = 'reserved' AND r.expires_at <= now()
    ORDER BY r.expires_at
    LIMIT @max_rows
    FOR UPDATE SKIP LOCKED
), freed AS MATERIALIZED (
    SELECT l.sku, sum(l.quantity)::bigint AS quantity
    FROM due AS d JOIN estoque_reservation_lines AS l ON l.order_id = d.order_id
    GROUP BY l.sku
), locked AS MATERIALIZED (
    SELECT e.sku, e.reserved - f.quantity AS reserved
    FROM freed AS f JOIN estoque AS e ON e.sku = f.sku
    ORDER BY e.sku
    FOR NO KEY UPDATE OF e
), counted AS (
    UPDATE estoque AS e SET reserved = l.reserved, updated_at = now()
    FROM locked AS l
    WHERE e.sku = l.sku
), expired AS (
    UPDATE estoque_reservations AS r SET state = 'expired', updated_at = now()
    FROM due AS d
    WHERE r.order_id = d.order_id
    RETURNING r.order_id
)
SELECT count(*) FROM expired;

-- name: PruneReservations :one
-- Deletes reservations of orders placed before the id @before that hold no unit and have not
-- changed since, and returns their number. It adds what they sold to the settled units, which
-- no other statement changes.
WITH old AS MATERIALIZED (
    SELECT r.order_id, r.state
    FROM estoque_reservations AS r
    WHERE r.order_id < @before::uuid AND r.state <> 'reserved' AND r.updated_at < @changed_before::timestamptz
    ORDER BY r.order_id
    LIMIT @max_rows
    FOR UPDATE SKIP LOCKED
), lines AS (
    DELETE FROM estoque_reservation_lines AS l USING old AS o
    WHERE l.order_id = o.order_id
    RETURNING l.order_id, l.sku, l.quantity
), units AS (
    INSERT INTO estoque_settled_units AS s (sku, units)
    SELECT l.sku, sum(l.quantity)::bigint FROM lines AS l JOIN old AS o ON o.order_id = l.order_id
    WHERE o.state = 'confirmed' GROUP BY l.sku ORDER BY l.sku
    ON CONFLICT (sku) DO UPDATE SET units = s.units + excluded.units
), orders AS (
    INSERT INTO estoque_settled_orders AS s (orders, newest)
    SELECT count(*), max(o.order_id::text)::uuid FROM old AS o WHERE o.state = 'confirmed' HAVING count(*) > 0
    ON CONFLICT (one) DO UPDATE SET orders = s.orders + excluded.orders, newest = greatest(s.newest, excluded.newest)
), gone AS (
    DELETE FROM estoque_reservations AS r USING old AS o
    WHERE r.order_id = o.order_id
    RETURNING r.order_id
)
SELECT count(*) FROM gone;

-- name: PutItem :one
INSERT INTO estoque AS e (sku, name, description, price_amount, price_currency, on_hand)
VALUES (@sku, @name, @description, @price_amount, @price_currency, 0)
ON CONFLICT (sku) DO UPDATE SET name = excluded.name, description = excluded.description,
    price_amount = excluded.price_amount, price_currency = excluded.price_currency, updated_at = now()
RETURNING sqlc.embed(e), (xmax = 0)::boolean AS created;

-- name: TopUp :one
-- Changes nothing and returns no row if the key has been used, or if there is no such item.
WITH added AS (
    INSERT INTO estoque_top_ups (key, sku, quantity, reason)
    SELECT @key, e.sku, @quantity, @reason FROM estoque AS e WHERE e.sku = @sku
    ON CONFLICT (key) DO NOTHING
    RETURNING sku, quantity
)
UPDATE estoque AS e SET on_hand = e.on_hand + a.quantity, updated_at = now()
FROM added AS a
WHERE e.sku = a.sku
RETURNING e.*;

-- name: TopUpByKey :one
SELECT * FROM estoque_top_ups WHERE key = @key;

-- name: ItemBySKU :one
SELECT * FROM estoque WHERE sku = @sku;

-- name: ItemsAfter :many
SELECT * FROM estoque WHERE sku > @after ORDER BY sku LIMIT @max_rows;

-- name: Units :many
SELECT sku, (on_hand - reserved)::bigint AS available, reserved FROM estoque ORDER BY sku LIMIT @max_rows;

-- name: Seed :execrows
-- Fills only an empty catalogue. If two processes start at the same time, the second
-- waits for the first and adds nothing. The units are recorded as top-ups.
WITH seeded AS (
    INSERT INTO estoque (sku, name, description, price_amount, price_currency, on_hand)
    SELECT unnest(@skus::text[]), unnest(@names::text[]), unnest(@descriptions::text[]),
           unnest(@amounts::bigint[]), unnest(@currencies::text[]), unnest(@quantities::bigint[])
    WHERE NOT EXISTS (SELECT FROM estoque)
    ON CONFLICT (sku) DO NOTHING
    RETURNING sku, on_hand
), recorded AS (
    INSERT INTO estoque_top_ups (key, sku, quantity, reason)
    SELECT 'opening:' || sku, sku, on_hand, 'opening balance' FROM seeded WHERE on_hand > 0
)
SELECT * FROM seeded;
