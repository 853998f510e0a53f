CREATE TABLE decision_positions (
    node_key BIGINT NOT NULL, epoch BIGINT NOT NULL, shard BIGINT NOT NULL, next BIGINT NOT NULL, updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (node_key, epoch, shard)
);
CREATE TABLE decisions (
    account_id TEXT NOT NULL, site_key BIGINT NOT NULL, time_us BIGINT NOT NULL, epoch BIGINT NOT NULL, shard BIGINT NOT NULL,
    seq BIGINT NOT NULL, node_key BIGINT NOT NULL, customer TEXT, subscription TEXT, period BIGINT, token TEXT, plan TEXT, resource TEXT,
    method TEXT NOT NULL, path TEXT NOT NULL, protocol TEXT NOT NULL, reason BIGINT NOT NULL, status BIGINT, charge BIGINT NOT NULL,
    remaining BIGINT, request_bytes BIGINT NOT NULL, response_bytes BIGINT NOT NULL, origin_us BIGINT, total_us BIGINT NOT NULL,
    request_id TEXT NOT NULL, client TEXT,
    PRIMARY KEY (site_key, time_us, epoch, shard, seq, node_key)
);
CREATE INDEX decisions_account ON decisions (account_id, time_us, epoch, shard, seq);
CREATE TABLE usage_keys (
    site_key BIGINT NOT NULL, id {BLOB} NOT NULL, customer TEXT, subscription TEXT, token TEXT, resource TEXT, used_at_s BIGINT NOT NULL,
    PRIMARY KEY (site_key, id)
);
CREATE TABLE usage_minutes (
    site_key BIGINT NOT NULL, at_s BIGINT NOT NULL, key_id {BLOB} NOT NULL, period BIGINT NOT NULL, reason BIGINT NOT NULL,
    requests BIGINT NOT NULL, charge BIGINT NOT NULL, request_bytes BIGINT NOT NULL, response_bytes BIGINT NOT NULL,
    total_us BIGINT NOT NULL, took_0 BIGINT NOT NULL, took_1 BIGINT NOT NULL, took_2 BIGINT NOT NULL, took_3 BIGINT NOT NULL,
    took_4 BIGINT NOT NULL, took_5 BIGINT NOT NULL, took_6 BIGINT NOT NULL, took_7 BIGINT NOT NULL, took_8 BIGINT NOT NULL,
    PRIMARY KEY (site_key, at_s, key_id, period, reason)
);
CREATE TABLE usage_days (
    site_key BIGINT NOT NULL, at_s BIGINT NOT NULL, key_id {BLOB} NOT NULL, period BIGINT NOT NULL, reason BIGINT NOT NULL,
    requests BIGINT NOT NULL, charge BIGINT NOT NULL, request_bytes BIGINT NOT NULL, response_bytes BIGINT NOT NULL,
    total_us BIGINT NOT NULL, took_0 BIGINT NOT NULL, took_1 BIGINT NOT NULL, took_2 BIGINT NOT NULL, took_3 BIGINT NOT NULL,
    took_4 BIGINT NOT NULL, took_5 BIGINT NOT NULL, took_6 BIGINT NOT NULL, took_7 BIGINT NOT NULL, took_8 BIGINT NOT NULL,
    PRIMARY KEY (site_key, at_s, key_id, period, reason)
);
CREATE INDEX usage_days_key ON usage_days (site_key, key_id, at_s);
