CREATE TABLE outbox (
    id {KEY}, sequence BIGINT UNIQUE, account_id TEXT NOT NULL, kind TEXT NOT NULL, row_id TEXT NOT NULL,
    row_key BIGINT NOT NULL, operation TEXT NOT NULL, created_at_ms BIGINT NOT NULL
);
CREATE INDEX outbox_unnumbered ON outbox (id) WHERE sequence IS NULL;
CREATE TABLE outbox_head (id BIGINT NOT NULL PRIMARY KEY, sequence BIGINT NOT NULL);
INSERT INTO outbox_head (id, sequence) VALUES (1, 0);
CREATE TABLE audit_log (
    {ROW},
    actor_kind TEXT NOT NULL, actor_id TEXT NOT NULL, request_id TEXT, action TEXT NOT NULL, kind TEXT NOT NULL,
    row_id TEXT NOT NULL, before TEXT, after TEXT
);
CREATE INDEX audit_log_account ON audit_log (account_id, key);
CREATE INDEX audit_log_row ON audit_log (row_id, key);
CREATE TABLE idempotency_keys (
    account_id TEXT NOT NULL, idempotency_key TEXT NOT NULL, request_hash {BLOB} NOT NULL, status BIGINT NOT NULL,
    body TEXT NOT NULL, etag TEXT, location TEXT, created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (account_id, idempotency_key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at_ms);
