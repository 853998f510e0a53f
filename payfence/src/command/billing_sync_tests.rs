//! How what becomes of a plan is told.

use serde_json::json;

use super::lines;

#[test]
fn each_plan_is_told_with_what_becomes_of_it() {
    let differences = json!([{ "field": "price.amount", "ours": "1900", "theirs": "2000" }]);
    for (action, differences, reason, expected) in [
        ("create", json!([]), json!(null), vec!["+ pro (plan_1): becomes a product and a price"]),
        ("retire", json!([]), json!(null), vec!["- pro (plan_1): can no longer be bought"]),
        ("failed", json!([]), json!("Stripe is away"), vec!["x pro (plan_1): Stripe is away"]),
        (
            "mend",
            differences.clone(),
            json!(null),
            vec![
                "~ pro (plan_1): was changed at Stripe, and is as the plan says again",
                "    price.amount: 1900 here, 2000 at Stripe",
            ],
        ),
        (
            "drift",
            differences,
            json!(null),
            vec![
                "! pro (plan_1): was changed at Stripe",
                "    price.amount: 1900 here, 2000 at Stripe",
            ],
        ),
    ] {
        let entry = json!({
            "plan_id": "plan_1", "reference": "pro", "action": action, "differences": differences, "reason": reason
        });
        assert_eq!(lines(&entry), expected);
    }
}
