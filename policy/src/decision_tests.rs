//! Tests of `decision.rs`.

use super::*;

#[test]
fn reasons_are_dense_and_distinct() {
    for (number, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, number);
        assert_eq!(Reason::ALL.iter().filter(|other| other.as_str() == reason.as_str()).count(), 1);
    }
    assert_eq!(Reason::COUNT, 27);
}

#[test]
fn words_and_statuses_are_the_contracts() {
    let table: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| {
            let status = reason.status().map_or("-".to_owned(), |status| status.to_string());
            format!("{} {status} {:?}", reason.as_str(), reason.verdict())
        })
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn a_record_is_written_with_the_logs_names() {
    let record = Record {
        time_ns: 1_795_478_400_123_456_789,
        node: "n1",
        epoch: 7,
        shard: 1,
        seq: 42,
        site: "weather",
        customer: Some("acme"),
        subscription: Some("sub_acme"),
        period: Some(1_793_491_200),
        token_id: Some("tok_1"),
        plan: Some("pro"),
        resource: Some("/api/v1/*"),
        method: "GET",
        path: "/api/v1/now",
        protocol: "http/1.1",
        verdict: Verdict::Allow,
        reason: Reason::Ok,
        status: Some(200),
        charge: 1,
        remaining: Some(9_999),
        request_bytes: 0,
        response_bytes: 120,
        origin_us: Some(900),
        total_us: 1_000,
        request_id: "0123",
        client: None,
    };
    insta::assert_snapshot!(serde_json::to_string_pretty(&record).unwrap());
}
