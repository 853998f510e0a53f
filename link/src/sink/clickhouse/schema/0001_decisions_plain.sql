-- One row a decision, in the types that old servers have: `time` in seconds, `time_us` the microseconds within it.
CREATE TABLE IF NOT EXISTS decisions
(
    time DateTime('UTC'),
    time_us UInt32,
    node String,
    epoch UInt64,
    shard UInt16,
    seq UInt64,
    site String,
    customer String,
    subscription String,
    period Nullable(UInt64),
    token_id String,
    plan String,
    resource String,
    method String,
    path String,
    protocol String,
    verdict String,
    reason String,
    status Nullable(UInt16),
    charge UInt64,
    remaining Nullable(UInt64),
    request_bytes UInt64,
    response_bytes UInt64,
    origin_us Nullable(UInt64),
    total_us UInt64,
    request_id_bytes FixedString(16),
    client String,
    valid_until DateTime,
    roll_ups UInt8,
    stored_at DateTime DEFAULT now() + throwIf(now() > valid_until),
    request_id String ALIAS lower(hex(request_id_bytes))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (site, time, node, epoch, shard, seq);
