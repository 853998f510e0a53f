CREATE TABLE nodes (
    {ROW},
    name TEXT NOT NULL, settings TEXT NOT NULL, epoch TEXT, applied_sequence BIGINT NOT NULL, last_seen_at_ms BIGINT,
    declared_dead_at_ms BIGINT, archived_at_ms BIGINT
);
CREATE UNIQUE INDEX nodes_name ON nodes (account_id, name) WHERE archived_at_ms IS NULL;
CREATE TABLE node_tokens (
    {ROW},
    node_id TEXT NOT NULL REFERENCES nodes (id), label TEXT, hash {BLOB} NOT NULL UNIQUE, prefix TEXT NOT NULL,
    last_four TEXT NOT NULL, expires_at_ms BIGINT, revoked_at_ms BIGINT
);
CREATE INDEX node_tokens_node ON node_tokens (node_id, key);
CREATE TABLE snapshots (
    id {KEY}, sequence BIGINT NOT NULL UNIQUE, byte_count BIGINT NOT NULL, sha256 {BLOB} NOT NULL, place TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);
CREATE TABLE ledger_accounts (
    entitlement {BLOB} NOT NULL PRIMARY KEY, account_id TEXT NOT NULL, subscription_id TEXT NOT NULL,
    period_id BIGINT NOT NULL, state TEXT NOT NULL, version BIGINT NOT NULL, updated_at_ms BIGINT NOT NULL
);
CREATE TABLE leases (
    entitlement {BLOB} NOT NULL, node_id TEXT NOT NULL, epoch TEXT NOT NULL, period_id BIGINT NOT NULL,
    state TEXT NOT NULL, updated_at_ms BIGINT NOT NULL, PRIMARY KEY (entitlement, node_id, epoch, period_id)
);
