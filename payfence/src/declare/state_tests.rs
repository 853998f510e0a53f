//! What REST shows, in the form that files are compared in.

use serde_json::json;

use super::*;

const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

pub fn row(value: Json) -> Fields {
    value.as_object().cloned().unwrap()
}

/// A site as REST shows it, with what only some rows have.
pub fn rows() -> SiteRows {
    let token = |id: &str, subscription: &str, more: Json| {
        let mut token = row(
            json!({ "id": id, "reference": id, "subscription_id": subscription, "version": 1,
            "sha256": HASH.replace("9f", &format!("{:02x}", id.len())), "revoked_at": null, "allow_from": ["10.1.2.3/8"] }),
        );
        token.extend(row(more));
        token
    };
    let subscription = |id: &str, archived: Json| {
        row(
            json!({ "id": id, "reference": format!("ref_{id}"), "plan_id": "plan_1", "customer_id": "cus_1",
            "status": "active", "archived_at": archived, "version": 4, "period_anchor": "2026-01-31T01:00:00+01:00" }),
        )
    };
    SiteRows {
        site: row(
            json!({ "id": "site_1", "slug": "w", "name": "w", "origin": "http://O.example:80/", "version": 3,
            "archived_at": null, "origin_header_names": ["X-A"], "default": "free", "hosts": ["B.example", "a.example"] }),
        ),
        resources: vec![
            row(
                json!({ "id": "res_2", "pattern": "/b", "methods": ["get", "HEAD"], "version": 2 }),
            ),
            row(json!({ "id": "res_1", "pattern": "/a/*", "cost": 1, "version": 1 })),
        ],
        plans: vec![row(json!({ "id": "plan_1", "reference": "pro", "name": "Pro", "version": 5,
            "price": { "amount": 1900, "currency": "eur", "interval": "month", "tax_behavior": "unspecified" },
            "rate_limit": { "requests": 5, "per": "second" }, "resources": ["/b", "/a/*"] }))],
        subscriptions: vec![
            subscription("1", Json::Null),
            subscription("2", json!("2026-01-01T00:00:00Z")),
        ],
        bought: vec![subscription("1", Json::Null)],
        tokens: vec![
            token("t", "1", json!({})),
            token("narrow", "1", json!({ "resources": ["/gone", "/b"] })),
            token("revoked", "1", json!({ "revoked_at": "2026-01-01T00:00:00Z" })),
            token("of_archived", "2", json!({})),
        ],
    }
}

pub fn assembled() -> (CurrentSite, Current) {
    let mut current = Current::default();
    let customers = HashMap::from([("cus_1".to_owned(), "acme".to_owned())]);
    let site = rows().assemble("w", &customers, &mut current).unwrap();
    (site, current)
}

#[test]
fn rows_become_a_form() {
    let (site, current) = assembled();
    let form = &site.form;
    assert_eq!(
        Json::from(form.settings.clone()),
        json!({ "origin": "http://o.example", "hosts": ["a.example", "b.example"] })
    );
    assert_eq!(form.resources.keys().collect::<Vec<_>>(), ["/a/*", "GET /b"]);
    assert_eq!(
        Json::from(form.plans["pro"].clone()),
        json!({ "rate_limit": { "requests": 5, "per": "second", "burst": 5 }, "resources": ["/a/*", "/b"] })
    );
    assert_eq!(
        Json::from(form.subscriptions["ref_1"].clone()),
        json!({ "plan": "pro", "customer": "acme", "status": "active", "period_anchor": "2026-01-31T00:00:00Z" })
    );
    assert_eq!(form.tokens.len(), 3);
    assert_eq!(form.tokens["t"]["allow_from"], json!(["10.0.0.0/8"]));
    assert_eq!(form.tokens["narrow"]["resources"], json!(["/b"]));
    assert_eq!(form.tokens["revoked"]["revoked"], true);
    assert_eq!(site.header_names, ["X-A"]);
    assert!(site.archived_subscriptions.contains("ref_2"));
    assert_eq!(site.bought.iter().collect::<Vec<_>>(), ["ref_1"]);
    assert!(site.archived_tokens.contains("of_archived"));
    for (kind, key, id, version) in [
        (Kind::Site, "w", "site_1", 3),
        (Kind::Resource, "GET /b", "res_2", 2),
        (Kind::Resource, "/a/*", "res_1", 1),
        (Kind::Plan, "pro", "plan_1", 5),
        (Kind::Subscription, "ref_1", "1", 4),
        (Kind::Token, "t", "t", 1),
    ] {
        let held = Held { id: id.to_owned(), version };
        assert_eq!(current.ids.find("w", kind, key), Some(&held), "{kind} {key}");
    }
    assert_eq!(current.ids.find("w", Kind::Subscription, "ref_2"), None);
}

#[test]
fn a_key_that_is_shown_no_hashes_is_told_so() {
    let mut rows = rows();
    rows.tokens[0].remove("sha256");
    let error = rows.assemble("w", &HashMap::new(), &mut Current::default()).unwrap_err();
    assert!(error.to_string().contains("tokens:write"), "{error}");
}

#[test]
fn files_of_a_nodes_machine_are_refused() {
    let text = "[[sites]]\nslug = \"w\"\norigin = \"https://o\"\norigin_ca = \"ca.pem\"\n";
    let error = wanted("w.toml", text.as_bytes()).unwrap_err();
    assert!(error.contains("origin_ca"), "{error}");
    assert!(wanted("w.toml", b"sites = 1").unwrap_err().contains("w.toml"));
}

/// A plan that was archived while it was paid for is its subscribers' still, beside the one that has its name now.
#[test]
fn archived_plans_are_their_subscribers() {
    let archived = |id: &str| {
        row(
            json!({ "id": id, "reference": "pro", "version": 7, "archived_at": "2026-01-01T00:00:00Z",
            "resources": ["/gone", "/b"] }),
        )
    };
    let mut rows = rows();
    rows.plans.extend([archived("plan_old"), archived("plan_of_nobody")]);
    for row in rows.subscriptions.iter_mut().filter(|row| text(row, "id") == "1") {
        row.insert("plan_id".to_owned(), "plan_old".into());
    }
    rows.leave_out_archived_plans();
    let mut current = Current::default();
    let customers = HashMap::from([("cus_1".to_owned(), "acme".to_owned())]);
    let form = rows.assemble("w", &customers, &mut current).unwrap().form;
    assert_eq!(form.plans.keys().collect::<Vec<_>>(), ["plan_old", "pro"]);
    assert_eq!(Json::from(form.plans["plan_old"].clone()), json!({ "resources": ["/b"] }));
    assert_eq!(form.subscriptions["ref_1"]["plan"], "plan_old");
}
