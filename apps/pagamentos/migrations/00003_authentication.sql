-- +goose Up

-- While a payment of this version or a later one is authorising, its acquirer has the suffix /3. The
-- version before only postpones payments of an acquirer that it does not know: it would confirm
-- a charge without its ConfirmationToken, and decline a card whose bank asks the shopper.
ALTER TABLE pagamentos
    -- With which the shop's page lets the shopper authenticate. Erased with the card's token.
    ADD COLUMN client_secret text,
    ADD CONSTRAINT pagamentos_client_secret CHECK (client_secret IS NULL OR state = 'authorising') NOT VALID;

-- +goose Down
ALTER TABLE pagamentos DROP CONSTRAINT pagamentos_client_secret, DROP COLUMN client_secret;
