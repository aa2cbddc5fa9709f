-- +goose Up

-- One row per order. What was agreed on does not change, so the lines are one
-- document and not rows of their own.
CREATE TABLE pedidos (
    id               uuid        PRIMARY KEY,
    number           bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    client_id        text        NOT NULL,
    idempotency_key  text        NOT NULL,
    request_hash     bytea       NOT NULL,
    state            text        NOT NULL CHECK (state IN ('pending', 'reserved', 'paid', 'confirmed', 'cancelled', 'refunding', 'refunded', 'failed')),
    version          integer     NOT NULL DEFAULT 0,
    lines            jsonb       NOT NULL,
    total_amount     bigint      NOT NULL CHECK (total_amount > 0),
    total_currency   text        NOT NULL CHECK (total_currency ~ '^[A-Z]{3}$'),
    card_token       text,
    cancel_requested boolean     NOT NULL DEFAULT false,
    failure_reason   text,
    -- What the client was told first, and is told again for the same key.
    answer_status    smallint,
    answer_body      jsonb,
    -- When somebody else has to look after the order, because whoever does has
    -- not finished by then; NULL for an order at its end.
    attend_at        timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, idempotency_key),
    CHECK ((state IN ('confirmed', 'cancelled', 'refunded', 'failed')) = (attend_at IS NULL)),
    CHECK ((answer_status IS NULL) = (answer_body IS NULL))
);

CREATE UNIQUE INDEX pedidos_of_client ON pedidos (client_id, number);
CREATE INDEX pedidos_to_attend ON pedidos (attend_at) WHERE attend_at IS NOT NULL;

CREATE TABLE pedido_transitions (
    pedido_id  uuid        NOT NULL REFERENCES pedidos (id),
    position   integer     NOT NULL,
    from_state text,
    to_state   text        NOT NULL,
    at         timestamptz NOT NULL,
    reason     text        NOT NULL,
    PRIMARY KEY (pedido_id, position)
);

-- The last audit's findings, one row per rule; whichever replica audits writes
-- them, and each replica shows them.
CREATE TABLE pedido_audits (
    invariant  text        PRIMARY KEY,
    violations bigint      NOT NULL,
    at         timestamptz NOT NULL
);
