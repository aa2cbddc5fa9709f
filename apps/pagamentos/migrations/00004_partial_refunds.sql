-- +goose Up

ALTER TABLE pagamentos
    -- The sum of the payment's rows in pagamento_refunds that have not failed, and of those that
    -- have succeeded. Both are 0 if the payment is refunded as a whole.
    ADD COLUMN refunds_amount bigint NOT NULL DEFAULT 0,
    ADD COLUMN refunds_done bigint NOT NULL DEFAULT 0,
    -- No more is refunded than was charged, whatever a version or a race does.
    ADD CONSTRAINT pagamentos_refunds CHECK
        (0 <= refunds_done AND refunds_done <= refunds_amount AND refunds_amount <= amount) NOT VALID,
    -- The versions before this migration know only whole refunds, for which a payment becomes
    -- refunding: they must not ask the acquirer for the whole amount of a payment of which a part is
    -- refunded. A payment that is undone after that stays captured, with undo, until its refunds are done.
    ADD CONSTRAINT pagamentos_refunds_state CHECK (refunds_amount = 0 OR state IN ('captured', 'refunded')) NOT VALID;

-- Refunds of a part of a payment, and the refund of the rest if such a payment is undone.
CREATE TABLE pagamento_refunds (
    id               uuid PRIMARY KEY,
    order_id         uuid NOT NULL REFERENCES pagamentos (order_id),
    amount           bigint NOT NULL CHECK (amount > 0),
    reason           text NOT NULL,
    -- pending: to be refunded, or carried out by the acquirer; failed: given up by a person
    state            text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'succeeded', 'failed')),
    -- The acquirer's id of the refund, or what a person has noted of a refund by other means.
    refund_reference text,
    -- Why the acquirer has refused the refund, and how often: each refusal ends the use of an
    -- idempotency key.
    problem          text,
    refusals         integer NOT NULL DEFAULT 0,
    -- Whether a call with the present key may have been made, of which the outcome is not stored.
    asked            boolean NOT NULL DEFAULT true,
    -- When the resolver takes the refund up, and how often it has done so.
    due_at           timestamptz,
    attempts         integer NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT pagamento_refunds_due CHECK ((state = 'pending') = (due_at IS NOT NULL)),
    CONSTRAINT pagamento_refunds_reference CHECK (state <> 'succeeded' OR refund_reference IS NOT NULL)
);

CREATE INDEX pagamento_refunds_order_id ON pagamento_refunds (order_id);
CREATE INDEX pagamento_refunds_due_at ON pagamento_refunds (due_at) WHERE due_at IS NOT NULL;

-- +goose Down
DROP TABLE pagamento_refunds;
ALTER TABLE pagamentos DROP CONSTRAINT pagamentos_refunds_state, DROP CONSTRAINT pagamentos_refunds,
    DROP COLUMN refunds_amount, DROP COLUMN refunds_done;
