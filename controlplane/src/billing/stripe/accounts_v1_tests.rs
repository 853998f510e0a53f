//! What an account of v1 is taken for.

use serde_json::json;

use super::Account;

#[test]
fn an_account_is_ready_where_its_charges_and_its_cards_are() {
    for (account, status, awaited) in [
        (
            json!({ "charges_enabled": true, "capabilities": { "card_payments": "active" } }),
            Some("active"),
            0,
        ),
        (
            json!({ "charges_enabled": false, "capabilities": { "card_payments": "active" } }),
            Some("restricted"),
            0,
        ),
        (json!({ "capabilities": { "card_payments": "active" } }), Some("restricted"), 0),
        (
            json!({ "charges_enabled": true, "capabilities": { "card_payments": "pending" } }),
            Some("pending"),
            0,
        ),
        (
            json!({ "charges_enabled": true, "capabilities": { "card_payments": "inactive" } }),
            Some("restricted"),
            0,
        ),
        (json!({ "charges_enabled": true, "capabilities": { "transfers": "active" } }), None, 0),
        (json!({ "charges_enabled": true }), None, 0),
        (
            json!({ "charges_enabled": false, "capabilities": { "card_payments": "inactive" },
                "requirements": { "currently_due": ["external_account", "tos_acceptance.date"], "disabled_reason": "requirements.past_due" } }),
            Some("restricted"),
            3,
        ),
        (json!({ "requirements": { "currently_due": null, "disabled_reason": null } }), None, 0),
    ] {
        let mut account = account;
        account["id"] = json!("acct_1");
        let shown = account.to_string();
        let read: Account = serde_json::from_value(account).unwrap();
        let read = read.into_v2();
        assert_eq!(read.card_payments(), status, "{shown}");
        assert_eq!(read.is_ready(), status == Some("active"), "{shown}");
        assert_eq!(read.awaited().len(), awaited, "{shown}");
    }
}
