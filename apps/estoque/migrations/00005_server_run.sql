-- +goose Up

-- In which run the server is: a text that differs after every restart, crash and failover. PostgreSQL 15 and later
-- reset the statistics when they recover from a crash, also from that of one backend, which the postmaster survives.
-- What was committed without waiting for the disk is lost at most between two runs (docs/adr/0021).
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION server_run() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT extract(epoch FROM pg_postmaster_start_time())::text || '-' || extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time())::text
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION server_run;
