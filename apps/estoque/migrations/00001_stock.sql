-- +goose Up

-- SKUs are compared by bytes, so that every process locks items in the same order.
-- With the limits of price_amount, the total of every order fits into 64 bits.
--
-- Rows are updated very often. The fillfactor leaves room in each page, so that an
-- update stays in its page and changes no index. PostgreSQL evaluates every check at
-- each update, so there are few: estoque_not_oversold implies that on_hand is not negative.
CREATE TABLE estoque (
    sku            text        COLLATE "C" PRIMARY KEY CHECK (sku ~ '^[A-Z0-9][A-Z0-9-]{0,31}$'),
    name           text        NOT NULL,
    description    text        NOT NULL,
    price_amount   bigint      NOT NULL CHECK (price_amount BETWEEN 0 AND 1000000000000),
    price_currency text        NOT NULL CHECK (price_currency ~ '^[A-Z]{3}$'),
    on_hand        bigint      NOT NULL,
    reserved       bigint      NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT estoque_not_oversold CHECK (reserved >= 0 AND reserved <= on_hand)
) WITH (fillfactor = 40);

-- The stock that an order holds. The item's row counts its units in reserved (state
-- reserved), has subtracted them from on_hand (confirmed), or does not count them.
--
-- autovacuum does not analyse the table while it is small: the planner would cache plans
-- that scan the whole table, which are slow soon after, when it has grown.
CREATE TABLE estoque_reservations (
    order_id   uuid        PRIMARY KEY,
    state      text        NOT NULL CHECK (state IN ('reserved', 'confirmed', 'released', 'expired')),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_analyze_threshold = 5000, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = 5000);

-- For the sweep.
CREATE INDEX estoque_reservations_due ON estoque_reservations (expires_at) WHERE state = 'reserved';

-- Inserted with the reservation and never changed. The prices are the items' prices at
-- that time. The tombstone of an order that reserved nothing has no lines.
CREATE TABLE estoque_reservation_lines (
    order_id       uuid   NOT NULL REFERENCES estoque_reservations,
    sku            text   COLLATE "C" NOT NULL REFERENCES estoque,
    quantity       bigint NOT NULL CHECK (quantity > 0),
    price_amount   bigint NOT NULL,
    price_currency text   NOT NULL,
    PRIMARY KEY (order_id, sku)
) WITH (autovacuum_analyze_threshold = 5000, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = 5000);

CREATE TABLE estoque_top_ups (
    key      text        COLLATE "C" PRIMARY KEY,
    sku      text        COLLATE "C" NOT NULL REFERENCES estoque,
    quantity bigint      NOT NULL CHECK (quantity > 0),
    reason   text        NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);
