-- +goose Up

ALTER TABLE pedidos
    -- How many partial refunds the order has had, and the sum of those that have not failed.
    ADD COLUMN refunds integer NOT NULL DEFAULT 0,
    ADD COLUMN refunds_amount bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT pedidos_refunds CHECK (0 <= refunds_amount AND refunds_amount <= total_amount) NOT VALID;

-- Refunds of parts of an order. pagamentos carries them out; state is what it last said.
CREATE TABLE pedido_refunds (
    id              uuid        PRIMARY KEY,
    pedido_id       uuid        NOT NULL REFERENCES pedidos (id),
    idempotency_key text        NOT NULL,
    request_hash    bytea       NOT NULL,
    amount          bigint      NOT NULL CHECK (amount > 0),
    lines           jsonb       NOT NULL,
    reason          text        NOT NULL,
    state           text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'needs_person', 'succeeded', 'failed')),
    -- When a process asks pagamentos how the refund stands, and how often it has. NULL if it is final.
    attend_at       timestamptz,
    attempts        integer     NOT NULL DEFAULT 0,
    -- When a process asks whether a refund that has succeeded still stands: the bank can send the money back.
    -- NULL if it was checked for long enough.
    check_at        timestamptz DEFAULT now() + interval '1 day',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (pedido_id, idempotency_key),
    CHECK ((state IN ('succeeded', 'failed')) = (attend_at IS NULL))
);

CREATE INDEX pedido_refunds_to_attend ON pedido_refunds (attend_at) WHERE attend_at IS NOT NULL;
-- For TakeChecks. Refunds that are not final are asked for at attend_at.
CREATE INDEX pedido_refunds_to_check ON pedido_refunds (check_at) WHERE state = 'succeeded' AND check_at IS NOT NULL;

-- +goose Down
DROP TABLE pedido_refunds;
ALTER TABLE pedidos DROP CONSTRAINT pedidos_refunds, DROP COLUMN refunds, DROP COLUMN refunds_amount;
