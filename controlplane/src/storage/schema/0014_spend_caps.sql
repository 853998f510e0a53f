-- At which price an increment was told, so that a cap in money holds over prices.
ALTER TABLE overage_events ADD COLUMN plan_price_id TEXT;
CREATE INDEX overage_events_spent ON overage_events (subscription_id, at_s);
