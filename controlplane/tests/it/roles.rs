//! Who may do what: every operation that the OpenAPI document lists, by every role and with every scope.
//!
//! In: the table below, written by hand. Out: 403 where it does not allow, anything else where it does.
//! Always holds: an operation that is added stands in the table, or the walk fails.

use std::collections::BTreeMap;

use serde_json::json;

use super::client::Client;
use super::contract::{Operation, Walk};
use super::place::Place;
use crate::domain::permission::Area;

/// What is needed, who has it, and for what.
const RIGHTS: &[(&str, &str, &[&str])] = &[
    ("account:read", "owner admin billing viewer", &["get_account", "get_stripe_account"]),
    (
        "account:write",
        "owner",
        &[
            "update_account",
            "disconnect_stripe_account",
            "connect_stripe_account",
            "authorize_stripe_account",
        ],
    ),
    ("admin_keys:read", "owner admin billing viewer", &["list_admin_keys", "get_admin_key"]),
    ("admin_keys:write", "owner admin", &["create_admin_key", "revoke_admin_key"]),
    ("audit:read", "owner admin billing viewer", &["list_audit"]),
    ("customers:read", "owner admin billing viewer", &["list_customers", "get_customer"]),
    (
        "customers:write",
        "owner admin billing",
        &["create_customer", "archive_customer", "update_customer"],
    ),
    ("members:read", "owner admin billing viewer", &["list_members", "get_member"]),
    ("members:write", "owner", &["create_member", "remove_member", "update_member"]),
    (
        "nodes:read",
        "owner admin billing viewer",
        &["list_nodes", "get_node", "list_node_tokens", "get_node_token"],
    ),
    (
        "nodes:write",
        "owner admin",
        &[
            "create_node",
            "archive_node",
            "declare_node_dead",
            "create_node_token",
            "revoke_node_token",
        ],
    ),
    ("operator", "operator", &["list_accounts", "create_account", "set_stripe_fee"]),
    ("plans:read", "owner admin billing viewer", &["list_plans", "get_plan", "list_plan_prices"]),
    (
        "plans:write",
        "owner admin billing",
        &["sync_billing", "create_plan", "archive_plan", "update_plan"],
    ),
    (
        "sites:read",
        "owner admin billing viewer",
        &["list_sites", "get_site", "list_resources", "get_resource"],
    ),
    (
        "sites:write",
        "owner admin",
        &[
            "create_site",
            "archive_site",
            "update_site",
            "create_resource",
            "archive_resource",
            "update_resource",
        ],
    ),
    (
        "subscriptions:read",
        "owner admin billing viewer",
        &[
            "list_checkouts",
            "get_checkout",
            "get_entitlement",
            "list_stripe_events",
            "get_stripe_event",
            "list_stripe_sweeps",
            "list_reversals",
            "list_subscriptions",
            "get_subscription",
            "list_adjustments",
            "get_adjustment",
        ],
    ),
    (
        "subscriptions:write",
        "owner admin billing",
        &[
            "create_checkout",
            "replay_stripe_event",
            "ask_stripe_sweep",
            "create_subscription",
            "archive_subscription",
            "update_subscription",
            "create_adjustment",
            "cancel_subscription",
            "change_plan",
            "open_portal",
            "preview_plan",
            "resume_subscription",
        ],
    ),
    ("tokens:read", "owner admin billing viewer", &["list_tokens", "get_token"]),
    (
        "tokens:write",
        "owner admin",
        &["create_token", "import_token", "revoke_token", "update_token", "rotate_token"],
    ),
    ("usage:read", "owner admin billing viewer", &["list_decisions", "get_usage"]),
    (
        "webhooks:read",
        "owner admin billing viewer",
        &["list_webhook_endpoints", "get_webhook_endpoint", "list_webhook_deliveries"],
    ),
    (
        "webhooks:write",
        "owner admin",
        &[
            "create_webhook_endpoint",
            "archive_webhook_endpoint",
            "update_webhook_endpoint",
            "replay_webhook_deliveries",
            "replay_webhook_delivery",
            "rotate_webhook_secret",
        ],
    ),
];

/// Only for the operator: the first owner's key, without scopes.
const OPERATOR: &str = "operator";
const ROLES: &[&str] = &["owner", "admin", "billing", "viewer"];

/// Keys by name.
type Keys = BTreeMap<String, Client>;

async fn key(walk: &Walk, role: &str, scopes: Option<Vec<String>>) -> Client {
    let mut body = json!({ "label": "walked", "role": role });
    if let Some(scopes) = scopes {
        body["scopes"] = json!(scopes);
    }
    let made = walk.shop.owner.post("/v1/admin_keys", body).await.expect(201);
    let key = made.json["secret"].as_str().unwrap().to_owned();
    walk.shop.owner.with_key(key)
}

/// One key of each role, and of an owner with each scope alone and with all but one.
async fn keys(walk: &Walk) -> Keys {
    let mut keys = Keys::new();
    for role in ROLES {
        keys.insert((*role).to_owned(), key(walk, role, None).await);
    }
    let scopes: Vec<String> = Area::WORDS
        .iter()
        .flat_map(|(word, _)| [format!("{word}:read"), format!("{word}:write")])
        .collect();
    for scope in &scopes {
        keys.insert(scope.clone(), key(walk, "owner", Some(vec![scope.clone()])).await);
    }
    for (word, _) in Area::WORDS {
        let others = scopes.iter().filter(|scope| !scope.starts_with(&format!("{word}:")));
        let client = key(walk, "owner", Some(others.cloned().collect())).await;
        keys.insert(format!("not {word}"), client);
    }
    keys
}

/// Whether the key's owner gets past the gate.
async fn is_let_in(client: &Client, operation: &Operation, path: &str) -> bool {
    let body = match operation.body.is_null() {
        true => Vec::new(),
        false if operation.method == http::Method::PATCH => b"{}".to_vec(),
        false => operation.body.to_string().into_bytes(),
    };
    let answer = client.send(operation.method.clone(), path, &[], body).await;
    assert!(answer.status != 401 && !answer.status.is_server_error(), "{path}: {}", answer.text);
    if answer.status == 403 {
        let named = answer.json["detail"].as_str().unwrap();
        assert!(named.contains("role") || named.contains("scope") || named.contains("operator"));
    }
    answer.status != 403
}

pub async fn every_operation_asks_for_its_right(place: Place) {
    let walk = Walk::of(place).await;
    let keys = keys(&walk).await;
    let operations = walk.operations();
    let rights: BTreeMap<&str, (&str, &str)> = RIGHTS
        .iter()
        .flat_map(|(right, roles, ids)| ids.iter().map(move |id| (*id, (*right, *roles))))
        .collect();
    assert_eq!(rights.len(), operations.len(), "the table has what is not in the document");
    for operation in &operations {
        let name = operation.id.as_str();
        let (right, roles) =
            rights.get(name).unwrap_or_else(|| panic!("{name}: say in RIGHTS who may"));
        // Ids of nothing, so that whoever is let in ends nothing that the next one needs.
        let mut path = operation.template.clone();
        while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            path.replace_range(from..=to, "nothing_here");
        }
        let check = async |who: &str, expected: bool| {
            let found = is_let_in(&keys[who], operation, &path).await;
            assert_eq!(found, expected, "{name} by {who}, which needs {right}");
        };
        for role in ROLES {
            check(role, roles.split(' ').any(|one| one == *role)).await;
        }
        if *right == OPERATOR {
            assert!(is_let_in(&walk.shop.owner, operation, &path).await, "{name} by the operator");
            continue;
        }
        let (area, kind) = right.split_once(':').unwrap();
        check(&format!("{area}:write"), true).await;
        check(&format!("{area}:read"), kind == "read").await;
        check(&format!("not {area}"), false).await;
    }
}
