CREATE TABLE customers (
    {ROW},
    reference TEXT NOT NULL, settings TEXT NOT NULL, archived_at_ms BIGINT
);
CREATE UNIQUE INDEX customers_reference ON customers (account_id, reference) WHERE archived_at_ms IS NULL;
CREATE INDEX customers_account ON customers (account_id, key);
CREATE TABLE subscriptions (
    {ROW},
    site_id TEXT NOT NULL REFERENCES sites (id), plan_id TEXT NOT NULL REFERENCES plans (id),
    customer_id TEXT NOT NULL REFERENCES customers (id), reference TEXT NOT NULL, status TEXT NOT NULL,
    past_due_since_ms BIGINT, period_anchor_ms BIGINT, archived_at_ms BIGINT
);
CREATE UNIQUE INDEX subscriptions_reference ON subscriptions (site_id, reference);
CREATE INDEX subscriptions_account ON subscriptions (account_id, key);
CREATE INDEX subscriptions_customer ON subscriptions (customer_id, key);
CREATE INDEX subscriptions_plan ON subscriptions (plan_id, key);
CREATE INDEX subscriptions_served ON subscriptions (plan_id) WHERE archived_at_ms IS NULL;
CREATE TABLE adjustments (
    {ROW},
    subscription_id TEXT NOT NULL REFERENCES subscriptions (id), units BIGINT NOT NULL, reason TEXT NOT NULL, period_id BIGINT
);
CREATE INDEX adjustments_subscription ON adjustments (subscription_id, key);
CREATE TABLE tokens (
    {ROW},
    site_id TEXT NOT NULL REFERENCES sites (id), subscription_id TEXT NOT NULL REFERENCES subscriptions (id),
    reference TEXT NOT NULL, hash {BLOB} NOT NULL, prefix TEXT NOT NULL, last_four TEXT NOT NULL, label TEXT,
    expires_at_ms BIGINT, revoked_at_ms BIGINT, allow_from TEXT, resources TEXT, rotated_to TEXT
);
CREATE UNIQUE INDEX tokens_hash ON tokens (hash);
CREATE UNIQUE INDEX tokens_reference ON tokens (site_id, reference);
CREATE INDEX tokens_account ON tokens (account_id, key);
CREATE INDEX tokens_subscription ON tokens (subscription_id, key);
