use super::{KEPT_S, Kept, Replays};

#[test]
fn an_answer_is_kept_for_a_day_for_its_account_and_its_question() {
    let mut replays = Replays::default();
    let kept = Kept { status: 500, body: "{}".into(), request_id: "req_1".into() };
    replays.keep("acct_1", "key", "POST /v1/products name=a".into(), 1000, kept.clone());
    for (account, key, asked, now, expected) in [
        ("acct_1", "key", "POST /v1/products name=a", 1000, Some(&kept)),
        ("acct_1", "key", "POST /v1/products name=a", 1000 + KEPT_S - 1, Some(&kept)),
        ("acct_1", "key", "POST /v1/products name=a", 1000 + KEPT_S, None),
        ("acct_2", "key", "POST /v1/products name=a", 1000, None),
        ("acct_1", "other", "POST /v1/products name=a", 1000, None),
        ("acct_1", "key", "POST /v1/products name=b", 1000 + KEPT_S, None),
    ] {
        let found = replays.find(account, key, asked, now);
        assert_eq!(
            found.as_ref().map(Option::as_ref),
            Ok(expected),
            "{account} {key} {asked} {now}"
        );
    }
    let refused = replays
        .find("acct_1", "key", "POST /v1/products name=b", 1001)
        .expect_err("asked otherwise");
    assert_eq!(refused.kind, "idempotency_error");
}
