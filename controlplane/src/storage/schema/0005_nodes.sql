CREATE TABLE nodes (
    {ROW},
    name TEXT NOT NULL, settings TEXT NOT NULL, epoch TEXT, applied_sequence BIGINT NOT NULL, last_seen_at_ms BIGINT,
    declared_dead_at_ms BIGINT, archived_at_ms BIGINT, base_sequence BIGINT NOT NULL DEFAULT 0, program TEXT,
    rejected BIGINT NOT NULL DEFAULT 0, error TEXT, buried_at_ms BIGINT
);
CREATE UNIQUE INDEX nodes_name ON nodes (account_id, name) WHERE archived_at_ms IS NULL;
CREATE TABLE node_tokens (
    {ROW},
    node_id TEXT NOT NULL REFERENCES nodes (id), label TEXT, hash {BLOB} NOT NULL UNIQUE, prefix TEXT NOT NULL,
    last_four TEXT NOT NULL, expires_at_ms BIGINT, revoked_at_ms BIGINT
);
CREATE INDEX node_tokens_node ON node_tokens (node_id, key);
CREATE TABLE node_starts (
    node_key BIGINT NOT NULL, epoch TEXT NOT NULL, start BIGINT NOT NULL, begun_at_ms BIGINT NOT NULL,
    PRIMARY KEY (node_key, epoch)
);
CREATE UNIQUE INDEX node_starts_order ON node_starts (node_key, start);
CREATE TABLE node_mail (
    id {KEY}, node_key BIGINT NOT NULL, start BIGINT NOT NULL, reply {BLOB} NOT NULL, created_at_ms BIGINT NOT NULL
);
CREATE INDEX node_mail_node ON node_mail (node_key, id);
CREATE TABLE ledger_accounts (
    entitlement {BLOB} NOT NULL PRIMARY KEY, state {BLOB} NOT NULL, updated_at_ms BIGINT NOT NULL
);
CREATE TABLE installation (id BIGINT NOT NULL PRIMARY KEY, history BIGINT NOT NULL);
