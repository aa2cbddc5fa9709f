-- +goose Up

-- What the reservations of sold units that left the table by their age have sold: the audit adds it
-- to the reservations that are still there. The statement that deletes a reservation counts it here.
CREATE TABLE estoque_settled_units (
    sku   text   COLLATE "C" PRIMARY KEY REFERENCES estoque,
    units bigint NOT NULL CHECK (units > 0)
);

-- One row: the number of these reservations, and the newest of their orders. The confirmed orders up
-- to that one that have no reservation are as many, or a reservation is lost.
CREATE TABLE estoque_settled_orders (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    orders bigint  NOT NULL CHECK (orders > 0),
    newest uuid    NOT NULL
);

-- +goose Down
DROP TABLE estoque_settled_orders;
DROP TABLE estoque_settled_units;
