-- +goose Up

-- One row per order. It is inserted before the first call to the acquirer, so that
-- the resolver can finish the payment if the process crashes.
CREATE TABLE pagamentos (
    order_id           uuid PRIMARY KEY,
    state              text NOT NULL CHECK (state IN
                           ('authorising', 'authorised', 'captured', 'declined', 'refunding', 'refunded', 'voided')),
    amount             bigint NOT NULL,
    currency           text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    refunded_amount    bigint NOT NULL DEFAULT 0,
    -- Whether the amount is to be captured, and whether the payment is to be undone.
    capture            boolean NOT NULL,
    undo               boolean NOT NULL DEFAULT false,
    -- Needed to repeat the call to the acquirer, and erased once it has answered.
    card_token         text,
    -- The request's hash; NULL in a tombstone.
    fingerprint        bytea,
    acquirer           text NOT NULL,
    acquirer_reference text,
    decline_reason     text,
    -- When the resolver calls the acquirer again, and how often it has done so. due_at
    -- is NULL if no step is left.
    due_at             timestamptz,
    attempts           integer NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT pagamentos_amount CHECK (amount > 0 OR amount = 0 AND state = 'voided' AND fingerprint IS NULL),
    CONSTRAINT pagamentos_refunded CHECK (0 <= refunded_amount AND refunded_amount <= amount),
    CONSTRAINT pagamentos_refunded_state CHECK ((state = 'refunded') = (refunded_amount > 0)),
    CONSTRAINT pagamentos_card_token CHECK ((state = 'authorising') = (card_token IS NOT NULL)),
    CONSTRAINT pagamentos_reference CHECK
        (state NOT IN ('authorised', 'captured', 'refunding', 'refunded') OR acquirer_reference IS NOT NULL),
    CONSTRAINT pagamentos_declined CHECK ((state = 'declined') = (decline_reason IS NOT NULL)),
    CONSTRAINT pagamentos_due CHECK ((due_at IS NOT NULL) =
        (state IN ('authorising', 'refunding') OR state = 'authorised' AND (capture OR undo) OR state = 'captured' AND undo))
);

CREATE INDEX pagamentos_due_at ON pagamentos (due_at) WHERE due_at IS NOT NULL;

-- When a payment entered each state for the first time. There is no foreign key, because the same statement
-- always writes both rows.
CREATE TABLE pagamento_transitions (
    order_id   uuid NOT NULL,
    from_state text,
    to_state   text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, to_state)
);

-- The books of the simulated acquirer, which represents another system: only the
-- simulator reads and writes them, in its own transactions.
CREATE TABLE simulator_charges (
    key            text PRIMARY KEY,
    reference      text NOT NULL UNIQUE,
    order_id       uuid NOT NULL,
    amount         bigint NOT NULL CHECK (amount > 0),
    currency       text NOT NULL,
    card_token     text NOT NULL,
    capture        boolean NOT NULL,
    -- pending: every call has failed so far, and nothing is charged
    state          text NOT NULL CHECK (state IN ('pending', 'authorised', 'captured', 'declined', 'voided')),
    decline_reason text,
    tries          integer NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX simulator_charges_order_id ON simulator_charges (order_id);

CREATE TABLE simulator_refunds (
    key        text PRIMARY KEY,
    reference  text NOT NULL REFERENCES simulator_charges (reference),
    amount     bigint NOT NULL CHECK (amount > 0),
    -- pending: every call has failed so far, and nothing is refunded
    state      text NOT NULL CHECK (state IN ('pending', 'refunded')),
    tries      integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX simulator_refunds_reference ON simulator_refunds (reference);

-- +goose Down
DROP TABLE simulator_refunds;
DROP TABLE simulator_charges;
DROP TABLE pagamento_transitions;
DROP TABLE pagamentos;
