-- Sums per minute. A row with a node is no sum: it says which rows of `decisions` one INSERT has brought into this table, and is
-- stored with that INSERT's sums or not at all.
CREATE TABLE IF NOT EXISTS decisions_per_minute_rows
(
    of_time DateTime('UTC'),
    of_site LowCardinality(String),
    of_customer String,
    of_subscription String,
    of_period UInt64,
    of_plan LowCardinality(String),
    of_resource LowCardinality(String),
    of_verdict LowCardinality(String),
    of_reason LowCardinality(String),
    of_node LowCardinality(String),
    of_epoch UInt64,
    of_shard UInt16,
    seq_from UInt64,
    seq_to UInt64,
    rows UInt64,
    requests UInt64,
    charge_sum UInt64,
    request_bytes_sum UInt64,
    response_bytes_sum UInt64,
    total_us_state AggregateFunction(quantilesTDigest(0.5, 0.9, 0.99), Nullable(UInt64)),
    origin_us_state AggregateFunction(quantilesTDigest(0.5, 0.9, 0.99), Nullable(UInt64)),
    stored_at DateTime DEFAULT now()
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(of_time)
ORDER BY (of_site, of_time, of_customer, of_subscription, of_period, of_plan, of_resource, of_verdict, of_reason,
    of_node, of_epoch, of_shard, seq_from, seq_to)
TTL stored_at + INTERVAL 30 DAY DELETE WHERE of_node != '';

CREATE MATERIALIZED VIEW IF NOT EXISTS decisions_per_minute_feed TO decisions_per_minute_rows AS
{{fill_minute}};

CREATE VIEW IF NOT EXISTS decisions_per_minute AS
SELECT of_time AS time, of_site AS site, of_customer AS customer, of_subscription AS subscription, of_period AS period,
    of_plan AS plan, of_resource AS resource, of_verdict AS verdict, of_reason AS reason, requests, charge_sum AS charge,
    request_bytes_sum AS request_bytes, response_bytes_sum AS response_bytes, total_us_state, origin_us_state
FROM decisions_per_minute_rows
WHERE of_node = '';

-- Sums per day. A row with a node is no sum: it says which rows of `decisions` one INSERT has brought into this table, and is
-- stored with that INSERT's sums or not at all.
CREATE TABLE IF NOT EXISTS decisions_per_day_rows
(
    of_time DateTime('UTC'),
    of_site LowCardinality(String),
    of_customer String,
    of_subscription String,
    of_period UInt64,
    of_plan LowCardinality(String),
    of_resource LowCardinality(String),
    of_verdict LowCardinality(String),
    of_reason LowCardinality(String),
    of_node LowCardinality(String),
    of_epoch UInt64,
    of_shard UInt16,
    seq_from UInt64,
    seq_to UInt64,
    rows UInt64,
    requests UInt64,
    charge_sum UInt64,
    request_bytes_sum UInt64,
    response_bytes_sum UInt64,
    total_us_state AggregateFunction(quantilesTDigest(0.5, 0.9, 0.99), Nullable(UInt64)),
    origin_us_state AggregateFunction(quantilesTDigest(0.5, 0.9, 0.99), Nullable(UInt64)),
    stored_at DateTime DEFAULT now()
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(of_time)
ORDER BY (of_site, of_time, of_customer, of_subscription, of_period, of_plan, of_resource, of_verdict, of_reason,
    of_node, of_epoch, of_shard, seq_from, seq_to)
TTL stored_at + INTERVAL 30 DAY DELETE WHERE of_node != '';

CREATE MATERIALIZED VIEW IF NOT EXISTS decisions_per_day_feed TO decisions_per_day_rows AS
{{fill_day}};

CREATE VIEW IF NOT EXISTS decisions_per_day AS
SELECT of_time AS time, of_site AS site, of_customer AS customer, of_subscription AS subscription, of_period AS period,
    of_plan AS plan, of_resource AS resource, of_verdict AS verdict, of_reason AS reason, requests, charge_sum AS charge,
    request_bytes_sum AS request_bytes, response_bytes_sum AS response_bytes, total_us_state, origin_us_state
FROM decisions_per_day_rows
WHERE of_node = '';

