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

-- Each batch of pruning begins at the oldest row, and passes over the deleted ones until they are
-- vacuumed: after 1.6 million, a batch takes 20 times as long. The default is a fifth of the table.
ALTER TABLE estoque_reservations SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE estoque_reservation_lines SET (autovacuum_vacuum_scale_factor = 0.02);

-- +goose Down
ALTER TABLE estoque_reservation_lines RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE estoque_reservations RESET (autovacuum_vacuum_scale_factor);
DROP TABLE estoque_settled_orders;
DROP TABLE estoque_settled_units;
