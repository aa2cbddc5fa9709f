-- +goose Up

-- With which the shopper authenticates, while the order waits for that. Erased with the card's token.
ALTER TABLE pedidos ADD COLUMN client_secret text;

-- +goose Down
ALTER TABLE pedidos DROP COLUMN client_secret;
