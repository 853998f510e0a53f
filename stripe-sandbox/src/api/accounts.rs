//! Connected accounts: v2 `v2.core.account`, its v1 `account` view, links to onboard, OAuth.
//!
//! In: creation, onboarding, a platform's connection and its end. Out: one account seen by both versions of the API.
//! Always holds: an account sells only once `card_payments` is active; a link works once; what was disconnected is
//! unreachable at once.

use crate::call::{Answer, Call};
use crate::error::StripeError;
use crate::json::{at, entries, flag, int, text};
use crate::params::Params;
use crate::routes::{Route, route};
use crate::state::{PLATFORM, State};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Calls on accounts.
pub const ROUTES: &[Route] = &[
    route("POST", "/v2/core/accounts", CREATE_V2, create_v2),
    route("GET", "/v2/core/accounts", &["limit", "page"], list_v2),
    route("GET", "/v2/core/accounts/{id}", &["include[]"], retrieve_v2),
    route("POST", "/v2/core/accounts/{id}", UPDATE_V2, update_v2),
    route("POST", "/v2/core/account_links", LINK_V2, link_v2),
    route("POST", "/v1/accounts", CREATE_V1, create_v1),
    route("GET", "/v1/accounts", LIST_V1, list_v1),
    route("GET", "/v1/accounts/{id}", &[], retrieve_v1),
    route("GET", "/v1/account", &[], own_v1),
    route(
        "POST",
        "/v1/account_links",
        &["account", "type", "refresh_url", "return_url", "collect"],
        link_v1,
    ),
    route("POST", "/oauth/token", &["grant_type", "code", "refresh_token", "scope"], token),
    route("POST", "/oauth/deauthorize", &["client_id", "stripe_user_id"], deauthorize_call),
];

const CREATE_V2: &[&str] = &[
    "contact_email",
    "dashboard",
    "display_name",
    "identity[country]",
    "identity[entity_type]",
    "defaults[currency]",
    "defaults[responsibilities][fees_collector]",
    "defaults[responsibilities][losses_collector]",
    "configuration[merchant][capabilities][card_payments][requested]",
    "include[]",
    "metadata{}",
];
const UPDATE_V2: &[&str] = &[
    "contact_email",
    "dashboard",
    "display_name",
    "identity[country]",
    "identity[entity_type]",
    "configuration[merchant][capabilities][card_payments][requested]",
    "include[]",
    "metadata{}",
];
const LINK_V2: &[&str] = &[
    "account",
    "use_case[type]",
    "use_case[account_onboarding][refresh_url]",
    "use_case[account_onboarding][return_url]",
    "use_case[account_update][refresh_url]",
    "use_case[account_update][return_url]",
];
const CREATE_V1: &[&str] = &[
    "type",
    "country",
    "email",
    "business_type",
    "metadata{}",
    "controller[fees][payer]",
    "controller[losses][payments]",
    "controller[requirement_collection]",
    "controller[stripe_dashboard][type]",
    "capabilities[card_payments][requested]",
    "capabilities[transfers][requested]",
];
const LIST_V1: &[&str] = &[
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];
const V2: &str = "v2.core.account";
/// Members that come only when they are included.
const INCLUDED: [&str; 5] =
    ["configuration", "defaults", "future_requirements", "identity", "requirements"];
/// How long a link works, in seconds.
const LINK_S: i64 = 300;

impl State {
    /// Whether the platform may act for an account.
    pub fn is_connected(&self, account: &str) -> bool {
        self.get(PLATFORM, V2, account).is_some_and(|account| flag(&account, "_connected"))
    }

    /// Whether an account may take cards; the platform itself always may.
    pub fn may_sell(&self, account: &str) -> bool {
        account == PLATFORM
            || self
                .get(PLATFORM, V2, account)
                .is_some_and(|account| text(&account, CARD_STATUS) == "active")
    }
}

const CARD_STATUS: &str = "configuration.merchant.capabilities.card_payments.status";

/// A second as v2 writes it.
pub fn rfc3339(second: i64) -> String {
    Timestamp::from_second(second)
        .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string())
}

/// An account as it is made; nothing is active yet.
fn new(state: &mut State, email: Option<String>, country: Option<String>) -> Value {
    let now = state.moment;
    json!({
        "id": state.ids.id("acct"), "object": V2, "applied_configurations": ["merchant"], "closed": false,
        "configuration": {
            "customer": null, "recipient": null,
            "merchant": {"applied": true, "capabilities": {"card_payments": capability(false)}},
        },
        "contact_email": email, "contact_phone": null, "created": rfc3339(now), "dashboard": "full",
        "defaults": {"currency": "usd", "locales": ["en-US"], "profile": null,
            "responsibilities": {"fees_collector": "stripe", "losses_collector": "stripe",
                "requirements_collector": "stripe"}},
        "display_name": null, "future_requirements": null,
        "identity": {"attestations": null, "business_details": null, "country": country, "entity_type": null,
            "individual": null},
        "livemode": false, "metadata": {},
        "requirements": {"collector": "stripe", "entries": [{"awaiting_action_from": "user",
            "description": "business_details", "errors": [], "impact": {"restricts_capabilities": []},
            "minimum_deadline": {"status": "currently_due"}, "requested_reasons": []}], "summary": {
            "minimum_deadline": {"status": "currently_due", "time": null}}},
        "_connected": true, "_created": now,
    })
}

fn capability(active: bool) -> Value {
    if active {
        return json!({"requested": true, "status": "active", "status_details": []});
    }
    json!({"requested": true, "status": "restricted",
        "status_details": [{"code": "requirements_past_due", "resolution": "provide_info"}]})
}

fn create_v2(call: &mut Call<'_>) -> Answer {
    if call.account != PLATFORM {
        return Err(StripeError::invalid("Accounts cannot be made on behalf of an account"));
    }
    let (email, country) =
        (call.params.text("contact_email")?, call.params.text("identity.country")?);
    let mut account = new(call.state, email, country);
    set_v2(&call.params, &mut account)?;
    open_room(call.state, &account)?;
    included(&call.params, account)
}

/// Makes the account and its room.
fn open_room(state: &mut State, account: &Value) -> Result<(), StripeError> {
    state.put(PLATFORM, account)?;
    state.rooms.entry(text(account, "id").to_owned()).or_default();
    Ok(())
}

fn set_v2(params: &Params, account: &mut Value) -> Result<(), StripeError> {
    for name in ["contact_email", "display_name"] {
        if let Some(text) = params.text(name)? {
            account[name] = json!(text);
        }
    }
    if let Some(dashboard) = params.choice("dashboard", &["express", "full", "none"])? {
        account["dashboard"] = json!(dashboard);
    }
    for name in ["country", "entity_type"] {
        if let Some(text) = params.text(&format!("identity.{name}"))? {
            account["identity"][name] = json!(text);
        }
    }
    if let Some(currency) = params.text("defaults.currency")? {
        account["defaults"]["currency"] = json!(currency);
    }
    for name in ["fees_collector", "losses_collector"] {
        let path = format!("defaults.responsibilities.{name}");
        if let Some(who) = params.choice(&path, &["application", "stripe"])? {
            account["defaults"]["responsibilities"][name] = json!(who);
        }
    }
    if params.has("metadata") {
        account["metadata"] = params.metadata("metadata", at(account, "metadata"))?;
    }
    Ok(())
}

/// The account with no more than what was asked for.
fn included(params: &Params, mut account: Value) -> Answer {
    let wanted = params.texts("include")?;
    for name in INCLUDED {
        if !wanted.iter().any(|path| path.split('.').next() == Some(name)) {
            account[name] = Value::Null;
        }
    }
    Ok(account)
}

fn retrieve_v2(call: &mut Call<'_>) -> Answer {
    included(&call.params, call.state.must(PLATFORM, V2, call.id())?)
}

fn update_v2(call: &mut Call<'_>) -> Answer {
    let mut account = call.state.must(PLATFORM, V2, call.id())?;
    set_v2(&call.params, &mut account)?;
    call.state.put(PLATFORM, &account)?;
    tell(call.state, &account)?;
    included(&call.params, account)
}

fn list_v2(call: &mut Call<'_>) -> Answer {
    let limit =
        usize::try_from(call.params.int_within("limit", 1, 100)?.unwrap_or(20)).unwrap_or(20);
    let page = call.params.text("page")?;
    let table = call.state.table(PLATFORM, V2);
    let rows = table.into_iter().flat_map(|table| table.newest(page.as_deref()));
    let mut rows: Vec<Value> =
        rows.filter(|account| flag(account, "_connected")).take(limit + 1).cloned().collect();
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows
        .last()
        .filter(|_| more)
        .map(|last| format!("/v2/core/accounts?limit={limit}&page={}", text(last, "id")));
    for row in &mut rows {
        for name in INCLUDED {
            row[name] = Value::Null;
        }
    }
    Ok(json!({"data": rows, "next_page_url": next, "previous_page_url": null}))
}

fn link_v2(call: &mut Call<'_>) -> Answer {
    let account = call.params.required("account")?;
    call.state.named(PLATFORM, V2, &account, "account")?;
    let kind = call
        .params
        .choice("use_case.type", &["account_onboarding", "account_update"])?
        .ok_or_else(|| StripeError::required("use_case[type]"))?;
    let refresh = call.params.required(&format!("use_case.{kind}.refresh_url"))?;
    let back = call.params.text(&format!("use_case.{kind}.return_url"))?;
    let link = new_link(call.state, &account, &refresh, back.as_deref().unwrap_or(""))?;
    let (created, expires) = (int(&link, "created"), int(&link, "expires_at"));
    Ok(json!({
        "account": account, "created": rfc3339(created), "expires_at": rfc3339(expires), "livemode": false,
        "object": "v2.core.account_link", "url": at(&link, "url"),
        "use_case": {"type": kind, kind.clone(): {"refresh_url": refresh, "return_url": back}},
    }))
}

fn new_link(
    state: &mut State,
    account: &str,
    refresh: &str,
    back: &str,
) -> Result<Value, StripeError> {
    let id = state.ids.id("alink");
    let link = json!({
        "id": id, "object": "account_link", "created": state.moment, "expires_at": state.moment + LINK_S,
        "url": format!("{}/pages/onboarding/{id}", state.base_url), "_account": account, "_refresh": refresh,
        "_return": back,
    });
    state.put(PLATFORM, &link)?;
    Ok(link)
}

fn link_v1(call: &mut Call<'_>) -> Answer {
    let account = call.params.required("account")?;
    call.state.named(PLATFORM, V2, &account, "account")?;
    call.params
        .choice("type", &["account_onboarding", "account_update"])?
        .ok_or_else(|| StripeError::required("type"))?;
    let (refresh, back) =
        (call.params.required("refresh_url")?, call.params.required("return_url")?);
    let mut link = new_link(call.state, &account, &refresh, &back)?;
    if let Some(link) = link.as_object_mut() {
        link.remove("id");
    }
    Ok(link)
}

/// The v1 view of an account.
fn view_v1(account: &Value) -> Value {
    let active = text(account, CARD_STATUS) == "active";
    let due = if active {
        json!([])
    } else {
        json!(["business_profile.url", "external_account", "tos_acceptance.date"])
    };
    let state = if active { "active" } else { "inactive" };
    json!({
        "id": at(account, "id"), "object": "account", "business_profile": null, "business_type": null,
        "capabilities": {"card_payments": state, "transfers": state}, "charges_enabled": active,
        "controller": {"fees": {"payer": "account"}, "is_controller": true, "losses": {"payments": "stripe"},
            "requirement_collection": "stripe", "stripe_dashboard": {"type": "full"}, "type": "application"},
        "country": at(account, "identity.country"), "created": at(account, "_created"),
        "default_currency": at(account, "defaults.currency"), "details_submitted": active,
        "email": at(account, "contact_email"), "future_requirements": null, "metadata": at(account, "metadata"),
        "payouts_enabled": active,
        "requirements": {"alternatives": [], "current_deadline": null, "currently_due": due,
            "disabled_reason": if active { Value::Null } else { json!("requirements.past_due") }, "errors": [],
            "eventually_due": due, "past_due": due, "pending_verification": []},
        "settings": {
            "branding": {"icon": null, "logo": null, "primary_color": null, "secondary_color": null},
            "card_payments": {"decline_on": {"avs_failure": false, "cvc_failure": false},
                "statement_descriptor_prefix": null, "statement_descriptor_prefix_kana": null,
                "statement_descriptor_prefix_kanji": null},
            "dashboard": {"display_name": at(account, "display_name"), "timezone": "Etc/UTC"},
            "payments": {"statement_descriptor": null, "statement_descriptor_kana": null,
                "statement_descriptor_kanji": null},
        },
        "type": "standard",
    })
}

fn create_v1(call: &mut Call<'_>) -> Answer {
    let (email, country) = (call.params.text("email")?, call.params.text("country")?);
    let kind = call.params.choice("type", &["standard", "express", "custom", "none"])?;
    if kind.is_some() && call.params.has("controller") {
        return Err(call
            .params
            .refused("controller", "You cannot set both `type` and `controller`"));
    }
    // The one kind of account there is here; another would be charged, and lose, otherwise.
    for (path, word) in [
        ("controller.fees.payer", "account"),
        ("controller.losses.payments", "stripe"),
        ("controller.requirement_collection", "stripe"),
        ("controller.stripe_dashboard.type", "full"),
    ] {
        call.params.choice(path, &[word])?;
    }
    let mut account = new(call.state, email, country);
    account["metadata"] = call.params.metadata("metadata", &json!({}))?;
    open_room(call.state, &account)?;
    Ok(view_v1(&account))
}

fn retrieve_v1(call: &mut Call<'_>) -> Answer {
    let account = call.state.must(PLATFORM, V2, call.id())?;
    if !flag(&account, "_connected") {
        return Err(StripeError::coded("account_invalid", "The account has been disconnected")
            .with_status(403));
    }
    Ok(view_v1(&account))
}

fn own_v1(call: &mut Call<'_>) -> Answer {
    if call.account != PLATFORM {
        return Ok(view_v1(&call.state.must(PLATFORM, V2, &call.account)?));
    }
    let mut own = new(call.state, None, Some("US".to_owned()));
    own["id"] = json!("acct_sandboxplatform");
    own["configuration"]["merchant"]["capabilities"]["card_payments"] = capability(true);
    Ok(view_v1(&own))
}

fn list_v1(call: &mut Call<'_>) -> Answer {
    let room = std::mem::replace(&mut call.account, PLATFORM.to_owned());
    let mut page = call.list(V2, |account| flag(account, "_connected"))?;
    call.account = room;
    let rows: Vec<Value> = entries(&page, "data").iter().map(view_v1).collect();
    page["data"] = Value::Array(rows);
    Ok(page)
}

/// Tells the platform of an account's new state.
fn tell(state: &mut State, account: &Value) -> Result<(), StripeError> {
    let (view, id) = (view_v1(account), text(account, "id"));
    let related = json!({"id": id, "type": V2, "url": format!("/v2/core/accounts/{id}")});
    for kind in [
        "v2.core.account.updated",
        "v2.core.account[configuration.merchant].capability_status_updated",
    ] {
        state.notify(id, kind, &related);
    }
    state.emit(id, "account.updated", &view)
}

/// Onboarding is complete: cards can be taken.
///
/// # Errors
/// No such account.
pub fn activate(state: &mut State, id: &str) -> Result<(), StripeError> {
    let mut account = state.must(PLATFORM, V2, id)?;
    account["configuration"]["merchant"]["capabilities"]["card_payments"] = capability(true);
    account["requirements"]["entries"] = json!([]);
    account["requirements"]["summary"] = json!({"minimum_deadline": null});
    state.put(PLATFORM, &account)?;
    tell(state, &account)
}

/// The platform's access ends; the event still reaches it.
///
/// # Errors
/// No such account, or no access.
pub fn deauthorize(state: &mut State, id: &str) -> Result<(), StripeError> {
    revoke(state, id)?;
    let application =
        json!({"id": state.config.client_id, "object": "application", "name": "PayFence"});
    state.emit(id, "account.application.deauthorized", &application)
}

/// The platform's access ends, and nothing tells it so: no event is made that could be delivered or listed.
///
/// # Errors
/// No such account, or no access.
pub fn revoke(state: &mut State, id: &str) -> Result<(), StripeError> {
    let mut account = state.must(PLATFORM, V2, id)?;
    if !flag(&account, "_connected") {
        return Err(StripeError::missing("account", id));
    }
    account["_connected"] = json!(false);
    state.put(PLATFORM, &account)
}

/// The platform may act for the account again, and nothing tells of it.
///
/// # Errors
/// No such account.
pub fn restore(state: &mut State, id: &str) -> Result<(), StripeError> {
    let mut account = state.must(PLATFORM, V2, id)?;
    account["_connected"] = json!(true);
    state.put(PLATFORM, &account)
}

/// An account that its owner had before, ready to sell, for which no platform may act.
///
/// # Errors
/// A full table.
pub fn own(state: &mut State) -> Result<String, StripeError> {
    let mut account = new(state, Some("owner@example.com".to_owned()), Some("US".to_owned()));
    account["configuration"]["merchant"]["capabilities"]["card_payments"] = capability(true);
    account["_connected"] = json!(false);
    open_room(state, &account)?;
    Ok(text(&account, "id").to_owned())
}

/// The owner of an account agrees that the platform may act for it: the code to redeem.
///
/// # Errors
/// No such account, or a full table.
pub fn authorize(state: &mut State, account: &str) -> Result<String, StripeError> {
    let account = text(&state.must(PLATFORM, V2, account)?, "id").to_owned();
    let code = state.ids.id("ac");
    let row =
        json!({"id": code, "object": "oauth_code", "created": state.moment, "_account": account});
    state.put(PLATFORM, &row)?;
    Ok(code)
}

fn oauth_error(code: &'static str, message: String) -> StripeError {
    StripeError { kind: "oauth", ..StripeError::coded(code, message) }
}

fn token(call: &mut Call<'_>) -> Answer {
    match call.params.text("grant_type")?.as_deref() {
        Some("authorization_code") => {}
        _ => {
            return Err(oauth_error("unsupported_grant_type", "Unsupported grant type".to_owned()));
        }
    }
    let code = call.params.text("code")?.unwrap_or_default();
    let Some(row) = call
        .state
        .rooms
        .get_mut(PLATFORM)
        .and_then(|room| room.table_mut("oauth_code").remove(&code))
    else {
        return Err(oauth_error(
            "invalid_grant",
            format!("Authorization code does not exist: {code}"),
        ));
    };
    if call.now() - int(&row, "created") > 300 {
        return Err(oauth_error("invalid_grant", format!("Authorization code expired: {code}")));
    }
    let id = text(&row, "_account").to_owned();
    let mut account = call.state.must(PLATFORM, V2, &id)?;
    account["_connected"] = json!(true);
    call.state.put(PLATFORM, &account)?;
    let application =
        json!({"id": call.state.config.client_id, "object": "application", "name": "PayFence"});
    call.state.emit(&id, "account.application.authorized", &application)?;
    Ok(json!({
        "access_token": call.state.config.secret_key, "livemode": false, "refresh_token": call.state.ids.id("rt"),
        "scope": "read_write", "stripe_publishable_key": "pk_test_sandbox", "stripe_user_id": id,
        "token_type": "bearer",
    }))
}

fn deauthorize_call(call: &mut Call<'_>) -> Answer {
    let client = call.params.text("client_id")?.unwrap_or_default();
    if client != call.state.config.client_id {
        return Err(oauth_error("invalid_client", format!("No such application: '{client}'"))
            .with_status(401));
    }
    let id = call.params.text("stripe_user_id")?.unwrap_or_default();
    deauthorize(call.state, &id).map_err(|_| {
        oauth_error(
            "invalid_client",
            format!("This application is not connected to stripe account {id}"),
        )
        .with_status(401)
    })?;
    Ok(json!({"stripe_user_id": id}))
}
