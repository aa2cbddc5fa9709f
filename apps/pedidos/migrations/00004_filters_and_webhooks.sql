-- +goose Up

-- Holds the place of another change's migration, which replaces this file when the two are merged.
SELECT 1;

-- +goose Down
SELECT 1;
