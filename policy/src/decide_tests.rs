//! Tests of `decide.rs`: every row of the decision table, and a slow obvious reference over the model itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::compile::compile;
use crate::facts::RequestLine;
use crate::ids::SiteIndex;
use crate::matcher::{RuleRef, reference};
use crate::model::{Policy, Site, Subscription, Token, file};

/// 2026-11-24T00:00:00Z.
const NOW_S: i64 = 1_795_478_400;

/// A token that is good in form; the same for the same number.
fn token(number: u8) -> String {
    let fill = |bytes: &mut [u8]| {
        bytes.fill(number);
        Ok::<(), ()>(())
    };
    token::make(token::Mode::Live, fill).unwrap()
}

const FOREIGN_KEY: &str = "key-of-another-system";

/// `@N` stands for token number N.
const POLICY: &str = r#"
[[sites]]
slug = "w"
origin = "http://a"
[[sites.resources]]
pattern = "/api/*"
cost = 2
[[sites.resources]]
pattern = "/api/extra/*"
cost = 7
[[sites.resources]]
pattern = "/api/docs"
access = "free"
[[sites.resources]]
pattern = "/admin/*"
access = "blocked"
[[sites.plans]]
id = "pro"
quota = { requests = 100, per = "month" }
resources = ["/api/*"]
[[sites.plans]]
id = "all"
grace_days = 30
[[sites.subscriptions]]
id = "active"
plan = "pro"
customer = "c"
status = "active"
tokens = [
    { id = "good", value = "@1" },
    { id = "revoked", value = "@2", revoked = true, expires_at = 2026-01-01T00:00:00Z },
    { id = "expired", value = "@3", expires_at = 2026-11-24T00:00:00Z, allow_from = ["10.0.0.0/8"] },
    { id = "expiring", value = "@4", expires_at = 2026-11-24T00:00:01Z },
    { id = "inside", value = "@5", allow_from = ["192.0.2.0/24"] },
    { id = "outside", value = "@6", allow_from = ["10.0.0.0/8"] },
]
[[sites.subscriptions]]
id = "all"
plan = "all"
customer = "c"
status = "trialing"
tokens = [{ id = "narrow", value = "@7", resources = ["/api/extra/*"] }, { id = "wide", value = "@8" }]
[[sites.subscriptions]]
id = "canceled"
plan = "pro"
customer = "c"
status = "canceled"
tokens = [{ id = "canceled", value = "@9" }]
[[sites.subscriptions]]
id = "late"
plan = "pro"
customer = "c"
status = "past_due"
past_due_since = 2026-11-21T00:00:00Z
tokens = [{ id = "late", value = "@10" }]
[[sites.subscriptions]]
id = "grace"
plan = "pro"
customer = "c"
status = "past_due"
past_due_since = 2026-11-21T00:00:01Z
tokens = [{ id = "grace", value = "@11" }]
[[sites.subscriptions]]
id = "from period"
plan = "all"
customer = "c"
status = "past_due"
period_anchor = 2020-01-25T00:00:00Z
tokens = [{ id = "from period", value = "@12" }]
[[sites.subscriptions]]
id = "from anchored period"
plan = "pro"
customer = "c"
status = "past_due"
period_anchor = 2020-01-22T00:00:00Z
tokens = [{ id = "from anchored period", value = "@14" }]
[[sites]]
slug = "m"
origin = "http://b"
foreign_tokens = true
default = "paid"
[[sites.resources]]
pattern = "/open/*"
access = "free"
[[sites.resources]]
pattern = "/api/*"
[[sites.plans]]
id = "some"
resources = ["/api/*"]
[[sites.plans]]
id = "any"
[[sites.subscriptions]]
id = "some"
plan = "some"
customer = "c"
status = "active"
tokens = [{ id = "foreign", value = "key-of-another-system" }]
[[sites.subscriptions]]
id = "any"
plan = "any"
customer = "c"
status = "active"
tokens = [{ id = "any", value = "@13" }]
"#;

fn policy() -> Policy {
    let mut text = POLICY.to_owned();
    for number in (1..=14).rev() {
        text = text.replace(&format!("\"@{number}\""), &format!("\"{}\"", token(number)));
    }
    file::parse("policy.toml", text.as_bytes()).unwrap().policy
}

/// A request, as far as it matters here.
#[derive(Clone, Debug)]
struct Request {
    site: usize,
    method: &'static str,
    path: String,
    /// Sent as `Authorization: Bearer`.
    token: Option<String>,
    is_cross_origin: bool,
    asks_for_method: bool,
    has_body: bool,
    client: IpAddr,
    now_s: i64,
}

impl Request {
    fn new(site: usize, path: &str, token: Option<String>) -> Self {
        Self {
            site,
            method: "GET",
            path: path.to_owned(),
            token,
            is_cross_origin: false,
            asks_for_method: false,
            has_body: false,
            client: "192.0.2.1".parse().unwrap(),
            now_s: NOW_S,
        }
    }

    fn preflight(mut self) -> Self {
        (self.method, self.is_cross_origin, self.asks_for_method) = ("OPTIONS", true, true);
        self
    }
}

/// What was decided, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    outcome: Outcome,
    reason: Reason,
    resource: Option<String>,
    cost: u64,
    token: Option<String>,
}

fn ask(snapshot: &Snapshot, request: &Request, is_usage: bool) -> (Told, Decision) {
    let bearer = request.token.as_ref().map(|token| format!("Bearer {token}"));
    let mut headers: Vec<(&[u8], &[u8])> = Vec::new();
    headers.extend(bearer.iter().map(|bearer| (&b"authorization"[..], bearer.as_bytes())));
    if request.is_cross_origin {
        headers.push((b"origin", b"https://x"));
    }
    if request.asks_for_method {
        headers.push((b"access-control-request-method", b"GET"));
    }
    let site = snapshot.site(SiteIndex(request.site as u32)).unwrap();
    let line = RequestLine {
        method: request.method.as_bytes(),
        path: request.path.as_bytes(),
        query: None,
    };
    let facts = Facts::extract(
        line,
        headers.into_iter(),
        site.token_places(),
        request.has_body,
        request.client,
    );
    let decision = if is_usage {
        decide_usage(snapshot, &site, &facts, request.now_s)
    } else {
        decide(snapshot, &site, &facts, request.now_s, &mut Scratch::new())
    };
    let resource = decision.resource.map(|index| snapshot.resource(index).unwrap());
    let told = Told {
        outcome: decision.outcome,
        reason: decision.reason,
        resource: resource.map(|resource| resource.pattern().to_owned()),
        cost: decision.cost,
        token: decision.token.map(|index| snapshot.token(index).unwrap().id().to_owned()),
    };
    (told, decision)
}

fn snapshot() -> Snapshot {
    Snapshot::from_bytes(&compile(&policy(), 1).unwrap()).unwrap()
}

fn in_words(told: &Told) -> String {
    let words = format!(
        "{:?} {} {} {} {}",
        told.outcome,
        told.reason.as_str(),
        told.resource.as_deref().unwrap_or("-"),
        told.cost,
        told.token.as_deref().unwrap_or("-")
    );
    words[..1].to_lowercase() + &words[1..]
}

#[test]
fn every_row_of_the_table() {
    let with = |path: &str, number: u8| Request::new(0, path, Some(token(number)));
    let text = |path: &str, token: &str| Request::new(0, path, Some(token.to_owned()));
    let none = |path: &str| Request::new(0, path, None);
    let posted = Request { has_body: true, ..none("/api/a").preflight() };
    #[rustfmt::skip]
    let cases = [
        (none("/api/../../x"), "refuse request_malformed - 0 -"),
        (none("/api/%00"), "refuse request_malformed - 0 -"),
        (with("/admin/x", 1), "refuse resource_blocked /admin/* 0 -"),
        (none("/admin/x").preflight(), "refuse resource_blocked /admin/* 0 -"),
        (none("/api/%2e%2e/admin/x"), "refuse resource_blocked /admin/* 0 -"),
        (none("/"), "forward unprotected - 0 -"),
        (text("/other", "pf_nonsense"), "forward unprotected - 0 -"),
        (none("/api/docs"), "forward unprotected /api/docs 0 -"),
        (none("/").preflight(), "forward unprotected - 0 -"),
        (none("/api/a").preflight(), "forward preflight /api/* 0 -"),
        (posted, "refuse token_missing /api/* 0 -"),
        (none("/api/a"), "refuse token_missing /api/* 0 -"),
        (none("/API/a"), "refuse token_missing /api/* 0 -"),
        (none("/api/docs/%2e./x"), "refuse token_missing /api/* 0 -"),
        (text("/api/a", "jwt"), "refuse token_unknown /api/* 0 -"),
        (text("/api/a", "pf_live_x"), "refuse token_unknown /api/* 0 -"),
        (text("/api/a", &token(1).replace("live", "test")), "refuse token_unknown /api/* 0 -"),
        (text("/api/a", FOREIGN_KEY), "refuse token_unknown /api/* 0 -"),
        (with("/api/a", 99), "refuse token_unknown /api/* 0 -"),
        (with("/api/a", 13), "refuse token_unknown /api/* 0 -"),
        (with("/api/a", 2), "refuse token_revoked /api/* 0 revoked"),
        (with("/api/a", 3), "refuse token_expired /api/* 0 expired"),
        (with("/api/a", 4), "meter ok /api/* 2 expiring"),
        (with("/api/a", 5), "meter ok /api/* 2 inside"),
        (with("/api/a", 6), "refuse address_forbidden /api/* 0 outside"),
        (with("/api/a", 9), "refuse subscription_inactive /api/* 0 canceled"),
        (with("/api/a", 10), "refuse subscription_inactive /api/* 0 late"),
        (with("/api/a", 11), "meter grace /api/* 2 grace"),
        (with("/api/a", 12), "meter grace /api/* 2 from period"),
        (with("/api/a", 14), "meter grace /api/* 2 from anchored period"),
        (Request { now_s: NOW_S + 86_400, ..with("/api/a", 14) }, "refuse subscription_inactive /api/* 0 from anchored period"),
        (with("/api/extra/a", 1), "refuse plan_excludes_resource /api/extra/* 0 good"),
        (with("/api/a", 7), "refuse plan_excludes_resource /api/* 0 narrow"),
        (with("/api/extra/a", 7), "meter ok /api/extra/* 7 narrow"),
        (with("/api/extra/a", 8), "meter ok /api/extra/* 7 wide"),
        (with("/api/extra/%2e%2e/a", 8), "meter ok /api/extra/* 7 wide"),
        (with("/api/extra/%2e%2e/a", 7), "refuse plan_excludes_resource /api/extra/* 0 narrow"),
        (with("/api/a", 1), "meter ok /api/* 2 good"),
        (Request::new(1, "/open/a", Some(FOREIGN_KEY.into())), "forward unprotected /open/* 0 -"),
        (Request::new(1, "/open/", None), "forward unprotected /open/* 0 -"),
        (Request::new(1, "/x", None), "refuse token_missing * 0 -"),
        (Request::new(1, "/api/x", Some(FOREIGN_KEY.into())), "meter ok /api/* 1 foreign"),
        (Request::new(1, "/x", Some(FOREIGN_KEY.into())), "refuse plan_excludes_resource * 0 foreign"),
        (Request::new(1, "/x", Some(token(13))), "meter ok * 1 any"),
        (Request::new(1, "/x", Some(token(1))), "refuse token_unknown * 0 -"),
        (Request::new(1, "/x", Some("another-key-nobody-has".into())), "refuse token_unknown * 0 -"),
        (Request::new(1, "/x", Some("short".into())), "refuse token_unknown * 0 -"),
    ];
    let snapshot = snapshot();
    for (request, expected) in cases {
        let (told, decision) = ask(&snapshot, &request, false);
        assert_eq!(in_words(&told), expected, "{request:?}");
        let is_known = decision.token.is_some();
        assert_eq!(
            (decision.plan.is_some(), decision.subscription.is_some()),
            (is_known, is_known)
        );
    }
}

#[test]
fn tells_when_a_foreign_key_was_looked_up() {
    let snapshot = snapshot();
    let cases = [
        (Request::new(1, "/x", Some(FOREIGN_KEY.into())), true),
        (Request::new(1, "/x", Some("another-key-nobody-has".into())), true),
        (Request::new(1, "/open/x", Some(FOREIGN_KEY.into())), false),
        (Request::new(1, "/x", Some("short".into())), false),
        (Request::new(1, "/x", Some(token(13))), false),
        (Request::new(0, "/api/x", Some(FOREIGN_KEY.into())), false),
    ];
    for (request, expected) in cases {
        assert_eq!(ask(&snapshot, &request, false).1.foreign_looked_up, expected, "{request:?}");
    }
}

#[test]
fn usage_asks_rows_5_to_8_alone() {
    let snapshot = snapshot();
    let cases = [
        (None, Reason::TokenMissing),
        (Some("jwt".to_owned()), Reason::TokenUnknown),
        (Some(token(13)), Reason::TokenUnknown),
        (Some(token(2)), Reason::TokenRevoked),
        (Some(token(3)), Reason::TokenExpired),
        (Some(token(6)), Reason::AddressForbidden),
        (Some(token(9)), Reason::Ok),
        (Some(token(10)), Reason::Ok),
        (Some(token(7)), Reason::Ok),
        (Some(token(1)), Reason::Ok),
    ];
    for (token, expected) in cases {
        let request = Request::new(0, "/.payfence/usage", token);
        let (told, decision) = ask(&snapshot, &request, true);
        assert_eq!(told.reason, expected, "{request:?}");
        let outcome = if expected == Reason::Ok { Outcome::Forward } else { Outcome::Refuse };
        assert_eq!((decision.outcome, decision.cost), (outcome, 0), "{request:?}");
    }
}

/// The table again, over the model: no snapshot, no token table, no codes; the rows one after the other.
fn expected(policy: &Policy, request: &Request) -> Told {
    let site = &policy.sites[request.site];
    let rules = crate::model::rules_of(site);
    let settings = crate::model::settings_of(site);
    let told = |outcome, reason| Told { outcome, reason, resource: None, cost: 0, token: None };
    let refused = |reason| told(Outcome::Refuse, reason);
    let Ok(answer) =
        reference::resolve(&rules, settings, request.method.as_bytes(), request.path.as_bytes())
    else {
        return refused(Reason::RequestMalformed);
    };
    let pattern = |rule: &RuleRef| match rule {
        RuleRef::Rule(index) => site.resources[*index as usize].pattern.as_str().to_owned(),
        RuleRef::Default => "*".to_owned(),
    };
    let resource = answer.logged.as_ref().map(pattern);
    let is_preflight = request.method == "OPTIONS"
        && request.is_cross_origin
        && request.asks_for_method
        && !request.has_body;
    let row = match answer.access {
        Access::Blocked => Some(refused(Reason::ResourceBlocked)),
        Access::Free => Some(told(Outcome::Forward, Reason::Unprotected)),
        Access::Paid if is_preflight => Some(told(Outcome::Forward, Reason::Preflight)),
        Access::Paid => None,
    };
    if let Some(row) = row {
        return Told { resource, ..row };
    }
    let holder = request.token.as_deref().map(|presented| holder_of(site, presented));
    let reason = match holder {
        None => Err(Reason::TokenMissing),
        Some(None) => Err(Reason::TokenUnknown),
        Some(Some((subscription, token))) => {
            expected_of_holder(site, subscription, token, &answer.paid, request)
        }
    };
    let token = holder.flatten().map(|(_, token)| token.id.clone());
    match reason {
        Ok(reason) => Told { resource, cost: answer.cost, token, ..told(Outcome::Meter, reason) },
        Err(reason) => Told { resource, token, ..refused(reason) },
    }
}

fn holder_of<'a>(site: &'a Site, presented: &str) -> Option<(&'a Subscription, &'a Token)> {
    if token::check(presented.as_bytes()).is_err() && !site.foreign_tokens {
        return None;
    }
    let hash = TokenHash::of(presented.as_bytes());
    site.subscriptions.iter().find_map(|subscription| {
        let token = subscription.tokens.iter().find(|token| token.hash == hash)?;
        Some((subscription, token))
    })
}

/// Rows 7 to 10 and 15.
fn expected_of_holder(
    site: &Site,
    subscription: &Subscription,
    token: &Token,
    paid: &BTreeSet<RuleRef>,
    request: &Request,
) -> Result<Reason, Reason> {
    let plan = &site.plans[subscription.plan as usize];
    let is_inside = token.allow_from.iter().any(|network| network.contains(&request.client));
    let calendar = match plan.quota {
        Some(quota) => Calendar { unit: quota.per, anchor_s: subscription.period_anchor_s },
        None => Calendar { unit: Unit::Month, anchor_s: None },
    };
    let since_s = subscription.past_due_since_s.unwrap_or(calendar.span(request.now_s).0);
    let is_in_grace = request.now_s - since_s < i64::from(plan.grace_days) * 86_400;
    let is_listed = |list: &Option<Vec<u32>>, rule: &RuleRef| match (list, rule) {
        (None, _) => true,
        (Some(list), RuleRef::Rule(index)) => list.contains(index),
        (Some(_), RuleRef::Default) => false,
    };
    let is_narrowed_to = |list: &Option<Vec<String>>, rule: &RuleRef| match (list, rule) {
        (None, _) => true,
        (Some(list), RuleRef::Rule(index)) => {
            list.iter().any(|text| *text == site.resources[*index as usize].pattern.as_str())
        }
        (Some(_), RuleRef::Default) => false,
    };
    let is_included = paid
        .iter()
        .all(|rule| is_listed(&plan.resources, rule) && is_narrowed_to(&token.resources, rule));
    let is_late = subscription.status == Status::PastDue;
    let is_served = matches!(subscription.status, Status::Active | Status::Trialing);
    if token.is_revoked {
        Err(Reason::TokenRevoked)
    } else if token.expires_at_s.is_some_and(|expires_at_s| expires_at_s <= request.now_s) {
        Err(Reason::TokenExpired)
    } else if !token.allow_from.is_empty() && !is_inside {
        Err(Reason::AddressForbidden)
    } else if !(is_served || is_late && is_in_grace) {
        Err(Reason::SubscriptionInactive)
    } else if !is_included {
        Err(Reason::PlanExcludesResource)
    } else {
        Ok(if is_late { Reason::Grace } else { Reason::Ok })
    }
}

fn requests() -> impl Strategy<Value = Request> {
    let path = "(/(api|API|open|admin|extra|docs|a|x|\\.\\.|%2e%2e|\\.|a;b|%00|)){1,4}";
    let token = prop_oneof![
        Just(None),
        (0u8..16).prop_map(|number| Some(token(number))),
        Just(Some(FOREIGN_KEY.to_owned())),
        Just(Some("pf_live_nonsense-but-long-enough".to_owned())),
        Just(Some("x".to_owned())),
    ];
    let method = prop::sample::select(vec!["GET", "POST", "OPTIONS", "get"]);
    let client = prop::sample::select(vec!["192.0.2.1", "10.1.1.1", "::1", "198.51.100.1"]);
    (0usize..2, method, path, token, any::<[bool; 3]>(), client, -5i64..40).prop_map(
        |(site, method, path, token, flags, client, days)| Request {
            site,
            method,
            path,
            token,
            is_cross_origin: flags[0],
            asks_for_method: flags[1],
            has_body: flags[2],
            client: client.parse().unwrap(),
            now_s: NOW_S + days * DAY_S,
        },
    )
}

/// Changes that turn the policy into many others: each number picks a value for one part.
fn changed(choices: &[u8]) -> Policy {
    let mut policy = policy();
    let mut choices = choices.iter().copied().cycle();
    let mut pick = move |below: u8| choices.next().unwrap_or(0) % below;
    for site in &mut policy.sites {
        site.default_paid = pick(2) == 0;
        site.case_sensitive = pick(3) == 0;
        site.foreign_tokens = pick(2) == 0;
        for resource in &mut site.resources {
            resource.cost = u64::from(pick(5)) + 1;
            resource.access =
                [Access::Paid, Access::Paid, Access::Free, Access::Blocked][usize::from(pick(4))];
        }
        let rules = u32::try_from(site.resources.len()).unwrap();
        for plan in &mut site.plans {
            let first = u32::from(pick(8));
            plan.resources = (first < rules).then(|| (first..rules).collect());
            plan.grace_days = u32::from(pick(40));
        }
        for subscription in &mut site.subscriptions {
            subscription.plan = u32::from(pick(2));
            subscription.status = Status::WORDS[usize::from(pick(8))].1;
            for token in &mut subscription.tokens {
                token.is_revoked = pick(6) == 0;
                let narrowed = site.resources.get(usize::from(pick(8)));
                token.resources =
                    narrowed.map(|resource| vec![resource.pattern.as_str().to_owned()]);
            }
        }
    }
    policy
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn decides_as_the_reference_does(
        choices in prop::collection::vec(any::<u8>(), 30..90),
        requests in prop::collection::vec(requests(), 30),
    ) {
        let policy = changed(&choices);
        let snapshot = Snapshot::from_bytes(&compile(&policy, 1).unwrap()).unwrap();
        for request in requests {
            let (told, _) = ask(&snapshot, &request, false);
            prop_assert_eq!(told, expected(&policy, &request), "{:?}", request);
        }
    }
}
