-- +goose Up

ALTER TABLE pedidos
    -- Who placed the order, among the shoppers of a client such as the storefront. NULL if
    -- the client does not say.
    ADD COLUMN shopper text,
    -- When the order was shipped, after which it cannot be cancelled; and by which shipment.
    ADD COLUMN shipped_at timestamptz,
    ADD COLUMN shipment text;

-- +goose Down
ALTER TABLE pedidos DROP COLUMN shopper, DROP COLUMN shipped_at, DROP COLUMN shipment;
