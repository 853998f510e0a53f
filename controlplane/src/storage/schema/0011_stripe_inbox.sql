CREATE TABLE stripe_events (
    {ROW},
    mode TEXT NOT NULL, stripe_account TEXT NOT NULL, event_id TEXT NOT NULL, kind TEXT NOT NULL, livemode BOOLEAN NOT NULL,
    event_at_s BIGINT NOT NULL, object_id TEXT, object_kind TEXT, subject TEXT, state TEXT NOT NULL,
    attempts BIGINT NOT NULL, due_at_ms BIGINT NOT NULL, error TEXT, settled_at_ms BIGINT
);
CREATE UNIQUE INDEX stripe_events_event ON stripe_events (stripe_account, event_id);
CREATE INDEX stripe_events_waiting ON stripe_events (due_at_ms, key) WHERE state = 'waiting';
CREATE INDEX stripe_events_buyers ON stripe_events (due_at_ms, key) 
    WHERE state = 'waiting' AND kind IN ('checkout.session.completed', 'checkout.session.async_payment_succeeded');
CREATE INDEX stripe_events_subject ON stripe_events (subject, key) WHERE state = 'waiting';
CREATE INDEX stripe_events_dead ON stripe_events (account_id, key) WHERE state = 'dead';
CREATE INDEX stripe_events_account ON stripe_events (account_id, key);
CREATE INDEX stripe_events_age ON stripe_events (created_at_ms);
CREATE TABLE stripe_leases (name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, until_ms BIGINT NOT NULL);
CREATE TABLE stripe_reversals (
    {ROW},
    mode TEXT NOT NULL, stripe_id TEXT NOT NULL, kind TEXT NOT NULL, status TEXT NOT NULL, amount BIGINT NOT NULL,
    currency TEXT NOT NULL, charge_id TEXT, invoice_id TEXT, subscription_id TEXT REFERENCES subscriptions (id),
    opened_at_s BIGINT, repaid_at_ms BIGINT
);
CREATE UNIQUE INDEX stripe_reversals_stripe ON stripe_reversals (account_id, stripe_id, mode);
CREATE INDEX stripe_reversals_account ON stripe_reversals (account_id, key);
CREATE INDEX stripe_reversals_subscription ON stripe_reversals (subscription_id, key);
CREATE TABLE stripe_sweeps (
    {ROW},
    mode TEXT NOT NULL, stripe_account TEXT NOT NULL, kind TEXT NOT NULL, cursor TEXT, covered_until_s BIGINT NOT NULL,
    began_at_ms BIGINT, finished_at_ms BIGINT, asked_at_ms BIGINT, seen BIGINT NOT NULL, repaired BIGINT NOT NULL, error TEXT
);
CREATE UNIQUE INDEX stripe_sweeps_kind ON stripe_sweeps (account_id, stripe_account, mode, kind);
