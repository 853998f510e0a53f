SELECT if(mark = 1, toDateTime(toStartOfMonth(time, 'UTC'), 'UTC'), {{bucket}}) AS of_time,
    if(mark = 1, '', site) AS of_site,
    if(mark = 1, '', customer) AS of_customer,
    if(mark = 1, '', subscription) AS of_subscription,
    if(mark = 1, 0, ifNull(period, 0)) AS of_period,
    if(mark = 1, '', plan) AS of_plan,
    if(mark = 1, '', resource) AS of_resource,
    if(mark = 1, '', verdict) AS of_verdict,
    if(mark = 1, '', reason) AS of_reason,
    if(mark = 1, node, '') AS of_node,
    if(mark = 1, epoch, 0) AS of_epoch,
    if(mark = 1, shard, 0) AS of_shard,
    min(if(mark = 1, seq, 0)) AS seq_from,
    max(if(mark = 1, seq, 0)) AS seq_to,
    sum(mark) AS rows,
    sum(if(mark = 1, 0, 1)) AS requests,
    sum(if(mark = 1, 0, charge)) AS charge_sum,
    sum(if(mark = 1, 0, request_bytes)) AS request_bytes_sum,
    sum(if(mark = 1, 0, response_bytes)) AS response_bytes_sum,
    quantilesTDigestState(0.5, 0.9, 0.99)(if(mark = 1, NULL, total_us)) AS total_us_state,
    quantilesTDigestState(0.5, 0.9, 0.99)(if(mark = 1, NULL, origin_us)) AS origin_us_state
FROM decisions
ARRAY JOIN [0, 1] AS mark
WHERE {{rows}}
GROUP BY of_time, of_site, of_customer, of_subscription, of_period, of_plan, of_resource, of_verdict, of_reason, of_node,
    of_epoch, of_shard
