CREATE TABLE accounts (
    key {KEY}, id TEXT NOT NULL UNIQUE, account_id TEXT NOT NULL, version BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL, updated_at_ms BIGINT NOT NULL,
    name TEXT NOT NULL, archived_at_ms BIGINT
);
CREATE TABLE members (
    {ROW},
    email TEXT NOT NULL, name TEXT, role TEXT NOT NULL, archived_at_ms BIGINT
);
CREATE UNIQUE INDEX members_email ON members (account_id, email) WHERE archived_at_ms IS NULL;
CREATE TABLE admin_keys (
    {ROW},
    label TEXT NOT NULL, role TEXT NOT NULL, scopes TEXT, is_operator BOOLEAN NOT NULL,
    hash {BLOB} NOT NULL UNIQUE, prefix TEXT NOT NULL, last_four TEXT NOT NULL,
    expires_at_ms BIGINT, revoked_at_ms BIGINT
);
CREATE INDEX admin_keys_account ON admin_keys (account_id, key);
