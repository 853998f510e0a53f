-- One row a decision. `valid_until` and `roll_ups` are PayFence's own: an INSERT that the server begins later than the former
-- fails, and the latter says which roll-ups take the row (1 minute, 2 day).
CREATE TABLE IF NOT EXISTS decisions
(
    time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    node LowCardinality(String),
    epoch UInt64 CODEC(ZSTD),
    shard UInt16,
    seq UInt64 CODEC(Delta, ZSTD),
    site LowCardinality(String),
    customer String CODEC(ZSTD),
    subscription String CODEC(ZSTD),
    period Nullable(UInt64) CODEC(ZSTD),
    token_id String CODEC(ZSTD),
    plan LowCardinality(String),
    resource LowCardinality(String),
    method LowCardinality(String),
    path String CODEC(ZSTD),
    protocol LowCardinality(String),
    verdict LowCardinality(String),
    reason LowCardinality(String),
    status Nullable(UInt16),
    charge UInt64 CODEC(ZSTD),
    remaining Nullable(UInt64) CODEC(ZSTD),
    request_bytes UInt64 CODEC(ZSTD),
    response_bytes UInt64 CODEC(ZSTD),
    origin_us Nullable(UInt64) CODEC(ZSTD),
    total_us UInt64 CODEC(ZSTD),
    request_id_bytes FixedString(16),
    client String CODEC(ZSTD),
    valid_until DateTime CODEC(ZSTD),
    roll_ups UInt8 CODEC(ZSTD),
    stored_at DateTime DEFAULT now() + throwIf(now() > valid_until) CODEC(ZSTD),
    request_id String ALIAS lower(hex(request_id_bytes))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (site, time, node, epoch, shard, seq);
