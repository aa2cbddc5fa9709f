-- +goose Up

ALTER TABLE pedidos
    -- Who placed the order, among the shoppers of a client such as the storefront. NULL if
    -- the client does not say.
    ADD COLUMN shopper text,
    -- When the order was shipped, after which it cannot be cancelled; and by which shipment.
    ADD COLUMN shipped_at timestamptz,
    ADD COLUMN shipment text,
    -- The versions before this migration do not know of shipments: they must not cancel an
    -- order that is shipped.
    ADD CONSTRAINT pedidos_shipped CHECK (shipped_at IS NULL OR state = 'confirmed') NOT VALID;

-- +goose Down
ALTER TABLE pedidos DROP CONSTRAINT pedidos_shipped, DROP COLUMN shopper, DROP COLUMN shipped_at, DROP COLUMN shipment;
