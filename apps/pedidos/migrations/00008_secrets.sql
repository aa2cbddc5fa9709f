-- +goose Up

-- The secrets of endpoints are in this table, so the role that only reads, the auditor, sees no row of it. The
-- rule names no role, and so holds whatever the roles are called and whenever they get their rights. Backups are
-- made by the owner or a superuser, to whom no policy applies.
CREATE POLICY pedido_webhooks_of_service ON pedido_webhooks
USING ((SELECT has_table_privilege('pedido_webhooks', 'UPDATE')));
ALTER TABLE pedido_webhooks ENABLE ROW LEVEL SECURITY;

-- +goose Down
ALTER TABLE pedido_webhooks DISABLE ROW LEVEL SECURITY;
DROP POLICY pedido_webhooks_of_service ON pedido_webhooks;
