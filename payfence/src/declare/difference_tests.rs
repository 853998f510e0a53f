//! The difference, as tables: what is, what is wanted, the lines, the requests in order. Every row is also carried out on the forms, which are
//! then as wanted.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::form::{SiteForm, resource_key};
use super::super::perform::label;
use super::super::state::wanted;
use super::*;

pub const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A site with a plan, a subscription and a token; `{R}` is what its resources are, `{P}` more keys of the plan, `{T}` of the token.
fn site(settings: &str, resources: &str, plan: &str, subscription: &str) -> String {
    format!(
        "[[sites]]\nslug = \"w\"\norigin = \"http://127.0.0.1:1\"\n{settings}\nresources = [{resources}]\n\
         plans = [{{ id = \"pro\"{plan} }}]\n{subscription}"
    )
}

fn subscription(token: &str) -> String {
    format!(
        "[[sites.subscriptions]]\nid = \"s\"\nplan = \"pro\"\ncustomer = \"acme\"\nstatus = \"active\"\n\
         tokens = [{{ id = \"t\", sha256 = \"{HASH}\"{token} }}]\n"
    )
}

pub fn current(text: &str) -> Current {
    let mut current = Current::default();
    for site in wanted("is.toml", text.as_bytes()).unwrap() {
        for subscription in site.form.subscriptions.values() {
            let customer = subscription.get("customer").and_then(Json::as_str).unwrap();
            current.customers.insert(customer.to_owned());
        }
        let names = site.headers.unwrap_or_default().into_keys().collect();
        let is = CurrentSite { form: site.form, header_names: names, ..CurrentSite::default() };
        current.sites.insert(is.form.slug.clone(), is);
    }
    current
}

/// What a control plane makes of the steps, without its checks.
pub fn carried_out(current: &Current, steps: &[Step]) -> BTreeMap<String, SiteForm> {
    let sites = current.sites.iter().map(|(slug, site)| (slug.clone(), site.form.clone()));
    let mut sites: BTreeMap<String, SiteForm> = sites.collect();
    for step in steps {
        let site = sites.entry(step.slug.clone()).or_default();
        let rows = match step.kind {
            Kind::Site => {
                site.slug.clone_from(&step.slug);
                let (Act::Create(fields) | Act::Change(fields)) = &step.act else { panic!() };
                merge(&mut site.settings, fields);
                site.settings.retain(|name, _| name != "slug" && name != "origin_headers");
                continue;
            }
            Kind::Customer => continue,
            Kind::Resource => &mut site.resources,
            Kind::Plan => &mut site.plans,
            Kind::Subscription => &mut site.subscriptions,
            Kind::Token => &mut site.tokens,
        };
        match &step.act {
            Act::Create(fields) => _ = rows.insert(step.key.clone(), fields.clone()),
            Act::Change(patch) => merge(rows.get_mut(&step.key).unwrap(), patch),
            Act::End if step.kind == Kind::Token => {
                let row = rows.get_mut(&step.key).unwrap();
                row.insert("revoked".to_owned(), json!(true));
            }
            Act::End => _ = rows.remove(&step.key).unwrap(),
        }
    }
    for site in sites.values_mut() {
        let rows = std::mem::take(&mut site.resources).into_values();
        site.resources = rows.map(|fields| (resource_key(&fields), fields)).collect();
    }
    sites
}

fn merge(row: &mut Fields, patch: &Fields) {
    for (name, value) in patch {
        if value.is_null() {
            row.remove(name);
        } else {
            row.insert(name.clone(), value.clone());
        }
    }
}

/// What a node is told: of what is revoked it matters only that it is.
fn comparable(mut form: SiteForm) -> SiteForm {
    form.tokens.retain(|_, token| !token.contains_key("revoked"));
    form
}

#[track_caller]
fn check(is: &str, want: &str, lines: &[&str], steps: &[&str]) {
    let current = if is.is_empty() { Current::default() } else { current(is) };
    let wanted = wanted("w.toml", want.as_bytes()).unwrap();
    let found = between(&current, &wanted, false).unwrap();
    assert_eq!(found.lines, lines);
    let labels: Vec<String> = found
        .steps
        .iter()
        .map(|step| match &step.act {
            Act::Change(fields) => format!("{} {}", label(step), Json::from(fields.clone())),
            Act::Create(fields) if step.kind == Kind::Resource => {
                format!("{} {}", label(step), Json::from(fields.clone()))
            }
            _ => label(step),
        })
        .map(|label| label.replace(" of site w", ""))
        .collect();
    assert_eq!(labels, steps);
    for site in &wanted {
        let made = carried_out(&current, &found.steps).remove(&site.form.slug).unwrap();
        assert_eq!(comparable(made), comparable(site.form.clone()), "{labels:#?}");
    }
    let shown = found.lines.join("\n");
    assert!(!shown.contains(HASH) && !shown.contains("s3cret"), "{shown}");
}

const A: &str = "{ pattern = \"/a/*\" }";

#[test]
fn what_is_the_same_is_no_difference() {
    let short = site("", A, ", rate_limit = { requests = 5, per = \"second\" }", &subscription(""));
    let long = site(
        "name = \"w\"\ndefault = \"free\"\nhosts = []\nresponse_timeout_ms = 60000",
        "{ pattern = \"/a/*\", access = \"paid\", cost = 1 }",
        ", rate_limit = { requests = 5, per = \"second\", burst = 5 }, grace_days = 3, overage = \"deny\"",
        &subscription(", revoked = false"),
    );
    check(&short, &long, &[], &[]);
    let get = |methods: &str| {
        site("", &format!("{{ pattern = \"/a\", methods = [{methods}] }}"), "", &subscription(""))
    };
    check(&get("\"get\""), &get("\"HEAD\", \"GET\""), &[], &[]);
    let origin = |origin: &str| short.replace("http://127.0.0.1:1", origin);
    check(&origin("http://A.example:80/"), &origin("http://a.example"), &[], &[]);
}

#[test]
fn everything_is_made_in_the_order_in_which_it_is_named() {
    check(
        "",
        &site(
            "origin_headers = { X-A = \"s3cret\" }",
            A,
            ", resources = [\"/a/*\"]",
            &subscription(", revoked = true"),
        ),
        &[
            "+ w site: origin = \"http://127.0.0.1:1\", origin_headers for X-A",
            "+ w resource /a/*: pattern = \"/a/*\"",
            "+ w plan pro: resources = [\"/a/*\"]",
            "+ w customer acme",
            "+ w subscription s: customer = \"acme\", plan = \"pro\", status = \"active\"",
            "+ w token t: revoked = true, subscription = \"s\"",
        ],
        &[
            "make site w",
            "make resource /a/* {\"pattern\":\"/a/*\"}",
            "make plan pro",
            "make customer acme",
            "make subscription s",
            "make token t",
            "revoke token t",
        ],
    );
}

#[test]
fn what_the_file_has_not_goes_last_but_tokens_first() {
    let is = site("", A, "", &subscription("")).replace("plans = [", "plans = [{ id = \"old\" }, ");
    check(
        &is,
        &site("default = \"paid\"", "", "", ""),
        &[
            "~ w site: default: default -> \"paid\"",
            "- w resource /a/*: archived",
            "- w plan old: archived",
            "- w subscription s: archived",
            "- w token t: revoked",
        ],
        &[
            "revoke token t",
            "change site w {\"default\":\"paid\"}",
            "archive resource /a/*",
            "archive subscription s",
            "archive plan old",
        ],
    );
}

#[test]
fn fields_change_and_go_back_to_their_defaults() {
    let settings =
        "upgrade_url = \"https://w.example/\"\ncase_sensitive = true\nforward_token = true";
    let plan = ", quota = { requests = 5, per = \"day\" }, overage = \"allow\", overage_cap = 2";
    check(
        &site(settings, A, plan, &subscription(", expires_at = 2031-01-01T00:00:00Z")),
        &site(
            "forward_token = true",
            A,
            ", quota = { requests = 6, per = \"day\" }",
            &subscription(""),
        ),
        &[
            "~ w site: case_sensitive: true -> default, upgrade_url: \"https://w.example/\" -> default",
            "~ w plan pro: overage: \"allow\" -> default, overage_cap: 2 -> default, \
             quota: {\"per\":\"day\",\"requests\":5} -> {\"per\":\"day\",\"requests\":6}",
            "~ w token t: expires_at: \"2031-01-01T00:00:00Z\" -> default",
        ],
        &[
            "change plan pro {\"overage\":null,\"overage_cap\":null,\"quota\":{\"per\":\"day\",\"requests\":6}}",
            "change token t {\"expires_at\":null}",
            "change site w {\"case_sensitive\":null,\"upgrade_url\":null}",
        ],
    );
}

#[test]
fn lists_let_in_what_either_policy_does_until_resources_are_in_service() {
    let is = site("", A, ", resources = [\"/a/*\"]", &subscription(""));
    let want = site(
        "",
        "{ pattern = \"/a/b\", cost = 9 }, { pattern = \"/open\", access = \"free\" }",
        ", resources = [\"/a/b\"]",
        &subscription(", resources = [\"/a/b\"]"),
    );
    check(
        &is,
        &want,
        &[
            "+ w resource /a/b: cost = 9, pattern = \"/a/b\"",
            "+ w resource /open: access = \"free\", pattern = \"/open\"",
            "- w resource /a/*: archived",
            "~ w plan pro: resources: [\"/a/*\"] -> [\"/a/b\"]",
            "~ w token t: resources: default -> [\"/a/b\"]",
        ],
        &[
            "make resource /a/b {\"cost\":9,\"methods\":[\"PAYFENCE-NEXT-0\"],\"pattern\":\"/a/b\"}",
            "make resource /open {\"access\":\"free\",\"methods\":[\"PAYFENCE-NEXT-1\"],\"pattern\":\"/open\"}",
            "change plan pro {\"resources\":[\"/a/*\",\"/a/b\"]}",
            "change resource /a/b {\"methods\":null}",
            "change resource /open {\"methods\":null}",
            "change resource /a/* {\"methods\":[\"PAYFENCE-PAST-3\"]}",
            "change plan pro {\"resources\":[\"/a/b\"]}",
            "change token t {\"resources\":[\"/a/b\"]}",
            "archive resource /a/*",
        ],
    );
    // The other way round, from a list to everything.
    let back = site("", A, "", &subscription(""));
    check(
        &want,
        &back,
        &[
            "+ w resource /a/*: pattern = \"/a/*\"",
            "- w resource /a/b: archived",
            "- w resource /open: archived",
            "~ w plan pro: resources: [\"/a/b\"] -> default",
            "~ w token t: resources: [\"/a/b\"] -> default",
        ],
        &[
            "make resource /a/* {\"methods\":[\"PAYFENCE-NEXT-0\"],\"pattern\":\"/a/*\"}",
            "change plan pro {\"resources\":null}",
            "change token t {\"resources\":null}",
            "change resource /a/* {\"methods\":null}",
            "archive resource /open",
            "change resource /a/b {\"methods\":[\"PAYFENCE-PAST-2\"]}",
            "archive resource /a/b",
        ],
    );
}

#[test]
fn resources_that_cannot_be_there_both_are_changed_in_place() {
    let with = |resource: &str, plan: &str| site("", resource, plan, &subscription(""));
    let named = ", resources = [\"/a/{x}\"]";
    check(
        &with("{ pattern = \"/a/{x}\", methods = [\"GET\"] }", named),
        &with("{ pattern = \"/a/{x}\", methods = [\"POST\"], access = \"free\" }", named),
        &[
            "+ w resource POST /a/{x}: access = \"free\", methods = [\"POST\"], pattern = \"/a/{x}\"",
            "- w resource GET /a/{x}: archived",
        ],
        &[
            "make resource POST /a/{x} {\"access\":\"free\",\"methods\":[\"PAYFENCE-NEXT-0\"],\"pattern\":\"/a/{x}\"}",
            "change resource POST /a/{x} {\"methods\":[\"POST\"]}",
            "archive resource GET /a/{x}",
        ],
    );
    check(
        &with("{ pattern = \"/a/{x}\" }", ""),
        &with("{ pattern = \"/a/{y}\" }", ""),
        &["~ w resource /a/{x}: pattern: \"/a/{x}\" -> \"/a/{y}\""],
        &["change resource /a/{x} {\"pattern\":\"/a/{y}\"}"],
    );
    check(
        &with("{ pattern = \"/a\", methods = [\"GET\", \"PUT\"] }", ""),
        &with("{ pattern = \"/a\", methods = [\"GET\", \"POST\"] }", ""),
        &["~ w resource GET,PUT /a: methods: [\"GET\",\"PUT\"] -> [\"GET\",\"POST\"]"],
        &[
            "change resource GET,PUT /a {\"methods\":[\"GET\",\"POST\",\"PUT\"]}",
            "change resource GET,PUT /a {\"methods\":[\"GET\",\"POST\"]}",
        ],
    );
    // The most specific comes first and goes last.
    check(
        &with("{ pattern = \"/**\" }, { pattern = \"/a\", access = \"free\" }", ""),
        &with(
            "{ pattern = \"/{x}\" }, { pattern = \"/{x}/b\", methods = [\"GET\"] }, { pattern = \"/{x}/b\" }",
            "",
        ),
        &[
            "+ w resource /{x}: pattern = \"/{x}\"",
            "+ w resource /{x}/b: pattern = \"/{x}/b\"",
            "+ w resource GET /{x}/b: methods = [\"GET\"], pattern = \"/{x}/b\"",
            "- w resource /**: archived",
            "- w resource /a: archived",
        ],
        &[
            "make resource GET /{x}/b {\"methods\":[\"GET\"],\"pattern\":\"/{x}/b\"}",
            "make resource /{x}/b {\"pattern\":\"/{x}/b\"}",
            "make resource /{x} {\"pattern\":\"/{x}\"}",
            "archive resource /**",
            "archive resource /a",
        ],
    );
}

#[test]
fn headers_of_origins_are_compared_by_name() {
    let with = |headers: &str| site(headers, A, "", &subscription(""));
    let some = with("origin_headers = { X-A = \"s3cret\", X-B = \"s3cret\" }");
    check(&some, &with("origin_headers = { x-a = \"s3cret2\", X-B = \"s3cret\" }"), &[], &[]);
    check(&some, &with(""), &[], &[]);
    check(
        &some,
        &with("origin_headers = {}"),
        &["~ w site: origin_headers: X-A X-B -> none"],
        &["change site w {\"origin_headers\":null}"],
    );
    check(
        &some,
        &with("origin_headers = { X-A = \"s3cret\" }"),
        &["~ w site: origin_headers: X-A X-B -> X-A"],
        &["change site w {\"origin_headers\":{\"X-A\":\"s3cret\",\"X-B\":null}}"],
    );
    let wanted = wanted("w.toml", some.as_bytes()).unwrap();
    let found = between(&current(&some), &wanted, true).unwrap();
    assert_eq!(found.lines, ["~ w site: origin_headers: values of X-A X-B set anew"]);
}

#[test]
fn a_host_moves_from_one_site_of_the_file_to_another() {
    let two = |a: &str, b: &str| {
        format!(
            "[[sites]]\nslug = \"a\"\norigin = \"http://o\"\nhosts = [{a}]\n\
             [[sites]]\nslug = \"b\"\norigin = \"http://o\"\nhosts = [{b}]\n"
        )
    };
    check(
        &two("", "\"h.example\""),
        &two("\"h.example\"", ""),
        &[
            "~ b site: hosts: [\"h.example\"] -> default",
            "~ a site: hosts: default -> [\"h.example\"]",
        ],
        &["change site b {\"hosts\":null}", "change site a {\"hosts\":[\"h.example\"]}"],
    );
}

#[test]
fn what_cannot_be_is_said_before_anything_is_done() {
    let check = |is: &str, want: &str, expected: &str| {
        let wanted = wanted("w.toml", want.as_bytes()).unwrap();
        let mut is = current(is);
        let site = is.sites.get_mut("w").unwrap();
        site.archived_subscriptions.insert("gone".to_owned());
        site.archived_tokens.insert("gone".to_owned());
        let faults = between(&is, &wanted, false).unwrap_err();
        assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
    };
    let is = site("", A, "", &subscription(""));
    let revoked = site("", A, "", &subscription(", revoked = true"));
    let named = |name: &str| {
        let list = format!(", resources = [\"/a/{name}\"]");
        site("", &format!("{{ pattern = \"/a/{name}\" }}"), &list, &subscription(""))
    };
    check(&revoked, &is, "it is revoked and stays so");
    check(&is, &is.replace("\"acme\"", "\"other\""), "its customer stays");
    check(&is, &is.replace(HASH, &HASH.replace('9', "8")), "it is another key");
    check(&is, &is.replace("id = \"t\"", "id = \"t2\""), "under the name t");
    let other = is.replace("id = \"s\"", "id = \"gone\"").replace("id = \"t\"", "id = \"t2\"");
    check(&is, &other.replace(HASH, &HASH.replace('9', "8")), "it was archived");
    check(&named("{x}"), &named("{y}"), "keep the old spelling");
    let methods = |methods: &str| {
        site("", &format!("{{ pattern = \"/a\", {methods} }}"), "", &subscription(""))
    };
    let (old, new) = ("methods = [\"GET\", \"PUT\"]", "methods = [\"GET\", \"POST\"], cost = 2");
    check(&methods(old), &methods(new), "in one go");
    let cased = site("case_sensitive = true", "", "", &subscription(""));
    check(&is, &cased, "`case_sensitive` cannot change together");
}
