-- +goose Up

-- While the shopper has to authenticate, the payment's acquirer has the suffix /3. The version
-- before leaves payments of an unknown acquirer alone: it would decline such a card.
ALTER TABLE pagamentos
    -- With which the shop's page lets the shopper authenticate. Erased with the card's token.
    ADD COLUMN client_secret text,
    ADD CONSTRAINT pagamentos_client_secret CHECK (client_secret IS NULL OR state = 'authorising') NOT VALID;

-- +goose Down
ALTER TABLE pagamentos DROP CONSTRAINT pagamentos_client_secret, DROP COLUMN client_secret;
