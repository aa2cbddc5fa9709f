-- +goose Up

-- Each batch of pruning begins at the oldest row, and passes over the deleted ones until they are
-- vacuumed: after 1.6 million, a batch takes 20 times as long. The default is a fifth of the table.
ALTER TABLE pagamento_transitions SET (autovacuum_vacuum_scale_factor = 0.02);

-- +goose Down
ALTER TABLE pagamento_transitions RESET (autovacuum_vacuum_scale_factor);
