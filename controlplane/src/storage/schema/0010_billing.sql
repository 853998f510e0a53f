CREATE TABLE stripe_accounts (
    {ROW},
    mode TEXT NOT NULL, stripe_id TEXT NOT NULL, status TEXT NOT NULL, settings TEXT NOT NULL, lost_at_ms BIGINT
);
CREATE UNIQUE INDEX stripe_accounts_mode ON stripe_accounts (account_id, mode) WHERE lost_at_ms IS NULL;
CREATE UNIQUE INDEX stripe_accounts_stripe ON stripe_accounts (stripe_id, mode) WHERE lost_at_ms IS NULL;
CREATE TABLE stripe_oauth_states (
    state_hash {BLOB} NOT NULL PRIMARY KEY, account_id TEXT NOT NULL, actor_id TEXT NOT NULL, mode TEXT NOT NULL,
    expires_at_ms BIGINT NOT NULL, browser_hash {BLOB}, stripe_id TEXT, granted_id TEXT, give_back_at_ms BIGINT
);
CREATE INDEX stripe_oauth_states_due ON stripe_oauth_states (give_back_at_ms) WHERE give_back_at_ms IS NOT NULL;
CREATE TABLE stripe_calls (
    account_id TEXT NOT NULL, purpose TEXT NOT NULL, idempotency_key TEXT NOT NULL, request_hash {BLOB} NOT NULL,
    created_at_ms BIGINT NOT NULL, answered_at_ms BIGINT, object_id TEXT,
    PRIMARY KEY (account_id, purpose)
);
CREATE INDEX stripe_calls_age ON stripe_calls (created_at_ms);
CREATE TABLE plan_prices (
    {ROW},
    site_id TEXT NOT NULL REFERENCES sites (id), plan_id TEXT NOT NULL REFERENCES plans (id), mode TEXT NOT NULL,
    stripe_account TEXT NOT NULL, product_id TEXT NOT NULL, price_id TEXT, metered_price_id TEXT, meter_id TEXT, meter_event_name TEXT,
    terms TEXT NOT NULL, drift TEXT, retired_at_ms BIGINT
);
CREATE INDEX plan_prices_plan ON plan_prices (plan_id, mode, key);
CREATE INDEX plan_prices_price ON plan_prices (price_id);
CREATE INDEX plan_prices_product ON plan_prices (product_id);
CREATE TABLE stripe_customers (
    {ROW},
    customer_id TEXT NOT NULL REFERENCES customers (id), mode TEXT NOT NULL, stripe_account TEXT NOT NULL,
    stripe_id TEXT NOT NULL, email TEXT
);
CREATE UNIQUE INDEX stripe_customers_customer ON stripe_customers (customer_id, mode, stripe_account);
CREATE UNIQUE INDEX stripe_customers_stripe ON stripe_customers (account_id, stripe_id, mode);
CREATE TABLE stripe_subscriptions (
    {ROW},
    subscription_id TEXT NOT NULL REFERENCES subscriptions (id), mode TEXT NOT NULL, stripe_account TEXT NOT NULL,
    stripe_id TEXT NOT NULL, stripe_status TEXT NOT NULL, item_id TEXT, price_id TEXT, metered_item_id TEXT, period_start_ms BIGINT,
    period_end_ms BIGINT, cancel_at_ms BIGINT, pending_plan_id TEXT, upgrade_plan_id TEXT, upgrade_until_ms BIGINT,
    unpaid_invoice TEXT, mailed_attempt TEXT, facts TEXT NOT NULL, fetched_at_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX stripe_subscriptions_subscription ON stripe_subscriptions (subscription_id);
CREATE UNIQUE INDEX stripe_subscriptions_stripe ON stripe_subscriptions (account_id, stripe_id, mode);
CREATE TABLE checkouts (
    {ROW},
    site_id TEXT NOT NULL REFERENCES sites (id), plan_id TEXT NOT NULL REFERENCES plans (id), mode TEXT NOT NULL,
    session_id TEXT, status TEXT NOT NULL, settings TEXT NOT NULL, subscription_id TEXT, expires_at_ms BIGINT
);
CREATE UNIQUE INDEX checkouts_session ON checkouts (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX checkouts_account ON checkouts (account_id, key);
CREATE INDEX checkouts_expired ON checkouts (created_at_ms) WHERE status = 'expired';
CREATE TABLE claims (
    {ROW},
    subscription_id TEXT NOT NULL REFERENCES subscriptions (id), checkout_id TEXT, link_hash {BLOB},
    session_until_ms BIGINT, link_until_ms BIGINT, redeemed_at_ms BIGINT, token_id TEXT, once_hash {BLOB}, shown_at_ms BIGINT
);
CREATE UNIQUE INDEX claims_checkout ON claims (checkout_id) WHERE checkout_id IS NOT NULL;
CREATE UNIQUE INDEX claims_link ON claims (link_hash) WHERE link_hash IS NOT NULL;
CREATE INDEX claims_subscription ON claims (subscription_id);
CREATE TABLE free_requests (
    plan_id TEXT NOT NULL, email TEXT NOT NULL, account_id TEXT NOT NULL, event_id TEXT, asked_at_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL, link_hash {BLOB}, link_until_ms BIGINT,
    PRIMARY KEY (plan_id, email)
);
CREATE UNIQUE INDEX free_requests_link ON free_requests (link_hash) WHERE link_hash IS NOT NULL;
CREATE UNIQUE INDEX free_requests_event ON free_requests (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX free_requests_asked ON free_requests (plan_id, asked_at_ms);
CREATE INDEX free_requests_age ON free_requests (until_ms);
