CREATE TABLE overage_books (
    entitlement {BLOB} NOT NULL, period_id BIGINT NOT NULL, period_start_s BIGINT NOT NULL, period_end_s BIGINT NOT NULL,
    limit_units BIGINT NOT NULL, cap_units BIGINT, used_units BIGINT NOT NULL, over_units BIGINT NOT NULL,
    told_units BIGINT NOT NULL, told_at_ms BIGINT NOT NULL, retry_at_ms BIGINT NOT NULL, error TEXT,
    PRIMARY KEY (entitlement, period_id)
);
CREATE INDEX overage_books_open ON overage_books (retry_at_ms) WHERE over_units > told_units;
CREATE INDEX overage_books_age ON overage_books (period_end_s);
CREATE TABLE overage_events (
    {ROW},
    subscription_id TEXT NOT NULL REFERENCES subscriptions (id), entitlement {BLOB} NOT NULL, period_id BIGINT NOT NULL,
    from_units BIGINT NOT NULL, to_units BIGINT NOT NULL, mode TEXT NOT NULL, meter_id TEXT, event_name TEXT NOT NULL,
    stripe_customer_id TEXT NOT NULL, at_s BIGINT NOT NULL, status TEXT NOT NULL, attempts BIGINT NOT NULL,
    next_at_ms BIGINT, error TEXT, sent_at_ms BIGINT
);
CREATE UNIQUE INDEX overage_events_once ON overage_events (subscription_id, period_id, to_units);
CREATE INDEX overage_events_due ON overage_events (next_at_ms) WHERE next_at_ms IS NOT NULL;
CREATE INDEX overage_events_customer ON overage_events (account_id, stripe_customer_id, event_name, at_s);
CREATE TABLE reconciliations (
    day BIGINT NOT NULL PRIMARY KEY, begun_at_ms BIGINT NOT NULL, retry_at_ms BIGINT NOT NULL, ended_at_ms BIGINT, checked BIGINT, differences BIGINT
);
