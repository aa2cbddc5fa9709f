-- +goose Up

-- SKUs are compared by bytes, so that every process locks items in one order.
-- The limits of price_amount let no total of an order leave 64 bits.
--
-- Rows are changed in place, over and over: with room left in its page, a
-- change touches no index. Each check is read and run for each change, so that
-- there are few: that on_hand is not negative follows from estoque_not_oversold.
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

-- What an order holds. Its units count in the item as reserved (reserved), as gone
-- from on_hand (confirmed), or not at all.
--
-- Until there are thousands of rows nobody tells the planner how few they are: it
-- would keep plans that read the whole of what is small now and soon is not.
CREATE TABLE estoque_reservations (
    order_id   uuid        PRIMARY KEY,
    state      text        NOT NULL CHECK (state IN ('reserved', 'confirmed', 'released', 'expired')),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_analyze_threshold = 5000, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = 5000);

-- For the sweep.
CREATE INDEX estoque_reservations_due ON estoque_reservations (expires_at) WHERE state = 'reserved';

-- Written with the reservation and never changed: the prices are those of the
-- items then. A reservation that was released before it was made has none.
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
