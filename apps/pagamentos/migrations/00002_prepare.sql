-- +goose Up

-- While a payment of this version or a later one is authorising, its acquirer has the suffix
-- /2. The versions before leave payments of an unknown acquirer alone: they would charge it
-- in a single call, beside the charge that is prepared.
ALTER TABLE pagamentos
    -- Whether the charge is prepared at the acquirer before it is authorised, so that
    -- nothing can have been charged while acquirer_reference is NULL. False in rows of
    -- the versions before this migration, which charged in a single call.
    ADD COLUMN prepares boolean NOT NULL DEFAULT false,
    -- The acquirer's id of a refund that has begun.
    ADD COLUMN refund_reference text,
    -- Why the acquirer refused the next step, NULL if it has not; and how often it has
    -- refused it. Each refusal ends the use of an idempotency key.
    ADD COLUMN problem text,
    ADD COLUMN refusals integer NOT NULL DEFAULT 0,
    -- Whose order it is. NULL in rows of the versions before this migration, and if an
    -- operator undid an order that had no payment.
    ADD COLUMN client_id text;

-- Why the simulator refuses the refund, to each call with the same key.
ALTER TABLE simulator_refunds ADD COLUMN refusal text;

-- +goose Down
ALTER TABLE simulator_refunds DROP COLUMN refusal;
ALTER TABLE pagamentos DROP COLUMN prepares, DROP COLUMN refund_reference, DROP COLUMN problem, DROP COLUMN refusals,
    DROP COLUMN client_id;
