CREATE TABLE events (
    {ROW},
    kind TEXT NOT NULL, subscription_id TEXT, data TEXT NOT NULL
);
CREATE INDEX events_age ON events (created_at_ms);
CREATE TABLE webhook_endpoints (
    {ROW},
    url TEXT NOT NULL, description TEXT, events TEXT, sealed_secrets {BLOB} NOT NULL, old_secret_until_ms BIGINT,
    failing_since_ms BIGINT, disabled_at_ms BIGINT, disabled_reason TEXT, archived_at_ms BIGINT
);
CREATE INDEX webhook_endpoints_account ON webhook_endpoints (account_id, key);
CREATE TABLE webhook_deliveries (
    {ROW},
    endpoint_id TEXT NOT NULL REFERENCES webhook_endpoints (id), event_id TEXT NOT NULL REFERENCES events (id),
    kind TEXT NOT NULL, status TEXT NOT NULL, attempts BIGINT NOT NULL, begun_at_ms BIGINT NOT NULL,
    next_at_ms BIGINT, answer_status BIGINT, error TEXT, ended_at_ms BIGINT
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_at_ms) WHERE next_at_ms IS NOT NULL;
CREATE INDEX webhook_deliveries_endpoint ON webhook_deliveries (endpoint_id, key);
CREATE INDEX webhook_deliveries_event ON webhook_deliveries (event_id);
CREATE TABLE mails (
    {ROW},
    template TEXT NOT NULL, event_id TEXT NOT NULL REFERENCES events (id), subscription_id TEXT, recipient TEXT,
    status TEXT NOT NULL, attempts BIGINT NOT NULL, next_at_ms BIGINT, error TEXT, ended_at_ms BIGINT,
    recipient_hash {BLOB}
);
CREATE INDEX mails_due ON mails (next_at_ms) WHERE next_at_ms IS NOT NULL;
CREATE INDEX mails_event ON mails (event_id);
CREATE INDEX mails_recipient ON mails (recipient_hash, ended_at_ms) WHERE recipient_hash IS NOT NULL;
CREATE TABLE entitlement_names (
    entitlement {BLOB} NOT NULL PRIMARY KEY, subscription_key BIGINT NOT NULL, subscription_id TEXT NOT NULL,
    account_id TEXT NOT NULL
);
CREATE INDEX entitlement_names_subscription ON entitlement_names (subscription_key);
CREATE TABLE quota_crossings (
    entitlement {BLOB} NOT NULL, period_id BIGINT NOT NULL, percent BIGINT NOT NULL, limit_units BIGINT NOT NULL,
    used_units BIGINT NOT NULL, period_start_s BIGINT NOT NULL, period_end_s BIGINT NOT NULL,
    crossed_at_ms BIGINT NOT NULL, told_at_ms BIGINT, tries BIGINT NOT NULL,
    PRIMARY KEY (entitlement, period_id, percent, limit_units)
);
CREATE INDEX quota_crossings_untold ON quota_crossings (crossed_at_ms) WHERE told_at_ms IS NULL;
CREATE INDEX quota_crossings_age ON quota_crossings (crossed_at_ms);
