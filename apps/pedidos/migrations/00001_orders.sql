-- +goose Up

-- One row per order. The lines are a JSON document and not rows of their own, because
-- they never change.
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
    -- The first answer to the client. A request with the same key gets it again.
    answer_status    smallint,
    answer_body      jsonb,
    -- The end of the lease: from then on, another process may take the order over.
    -- NULL if the order is final.
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

-- The findings of the last audit, one row per rule. No longer used.
CREATE TABLE pedido_audits (
    invariant  text        PRIMARY KEY,
    violations bigint      NOT NULL,
    at         timestamptz NOT NULL
);
