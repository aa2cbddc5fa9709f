-- +goose Up

-- The units of items that were seeded, which earlier versions recorded nowhere: so the units
-- on hand are what was topped up minus what was sold. No client's key has a colon.
INSERT INTO estoque_top_ups (key, sku, quantity, reason)
SELECT 'opening:' || e.sku, e.sku, e.on_hand + coalesce(s.sold, 0) - coalesce(t.added, 0), 'opening balance'
FROM estoque AS e
LEFT JOIN (SELECT sku, sum(quantity)::bigint AS added FROM estoque_top_ups GROUP BY sku) AS t USING (sku)
LEFT JOIN (
    SELECT l.sku, sum(l.quantity)::bigint AS sold FROM estoque_reservation_lines AS l
    JOIN estoque_reservations AS r USING (order_id) WHERE r.state = 'confirmed' GROUP BY l.sku
) AS s USING (sku)
WHERE e.on_hand + coalesce(s.sold, 0) > coalesce(t.added, 0)
ON CONFLICT (key) DO NOTHING;

-- +goose Down
DELETE FROM estoque_top_ups WHERE key LIKE 'opening:%';
