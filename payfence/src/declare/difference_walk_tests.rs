//! From any policy to any other, step by step: after each step the policy file's reader takes what is there, as the control plane's checks
//! do; what both policies admit is admitted, and what neither gives away is not given away.

use std::path::Path;

use dataplane::offcore::policy_source;
use policy::explain::{Question, explain};
use policy::snapshot::Snapshot;
use policy::token::TokenHash;
use proptest::prelude::*;

use super::super::form::SiteForm;
use super::super::perform::label;
use super::super::state::wanted;
use super::super::text::export;
use super::tests::{carried_out, current};
use super::*;

const PATTERNS: [&str; 6] = ["/a/*", "/a/b", "/{x}/b", "/{y}/b", "/**", "/a/{z}"];
/// Each has one spelling: of several, each is as the old or as the new policy says, and the strictest of a mixture may be less strict than either.
const PATHS: [&str; 4] = ["/a/b", "/a/c", "/c/b", "/c/d"];

#[derive(Clone, Debug)]
struct Sketch {
    resources: Vec<Option<(&'static str, &'static str)>>,
    is_default_paid: bool,
    is_case_sensitive: bool,
    plan: &'static str,
    /// Which patterns are in the lists of the plans and of the token, bit by bit; 0 for no list.
    lists: [u8; 3],
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let access = prop::sample::select(vec!["paid", "paid", "free", "blocked"]);
    let methods = prop::sample::select(vec![
        "",
        "",
        "\"GET\"",
        "\"GET\", \"POST\"",
        "\"POST\"",
        "\"GET\", \"DELETE\"",
    ]);
    let resource = prop::option::of((access, methods));
    let plan = prop::sample::select(vec!["pro", "basic"]);
    let list = prop_oneof![Just(0_u8), any::<u8>()];
    let lists = [list.clone(), list.clone(), list];
    let resources = prop::collection::vec(resource, PATTERNS.len());
    (resources, any::<bool>(), any::<bool>(), plan, lists).prop_map(
        |(resources, is_default_paid, is_case_sensitive, plan, lists)| Sketch {
            resources,
            is_default_paid,
            is_case_sensitive,
            plan,
            lists,
        },
    )
}

impl Sketch {
    fn text(&self) -> String {
        let there = self.resources.iter().zip(PATTERNS);
        let there: Vec<_> = there.filter_map(|(r, pattern)| r.map(|r| (pattern, r))).collect();
        let list = |bits: u8| {
            let named = there.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
            let named: Vec<String> =
                named.map(|(_, (pattern, _))| format!("\"{pattern}\"")).collect();
            if named.is_empty() {
                String::new()
            } else {
                format!(", resources = [{}]", named.join(", "))
            }
        };
        let mut resources = String::new();
        for (pattern, (access, methods)) in &there {
            let methods =
                if methods.is_empty() { String::new() } else { format!(", methods = [{methods}]") };
            resources +=
                &format!("{{ pattern = \"{pattern}\", access = \"{access}\"{methods} }}, ");
        }
        let Self { is_default_paid, is_case_sensitive, plan, lists: [pro, basic, token], .. } =
            self;
        let default = if *is_default_paid { "paid" } else { "free" };
        format!(
            "[[sites]]\nslug = \"w\"\norigin = \"http://127.0.0.1:1\"\ndefault = \"{default}\"\n\
             case_sensitive = {is_case_sensitive}\nresources = [{resources}]\n\
             plans = [{{ id = \"pro\"{} }}, {{ id = \"basic\"{} }}]\n\
             [[sites.subscriptions]]\nid = \"s\"\nplan = \"{plan}\"\ncustomer = \"c\"\nstatus = \"active\"\n\
             tokens = [{{ id = \"t\", sha256 = \"{}\"{} }}]\n",
            list(*pro),
            list(*basic),
            TokenHash::of(token_text().as_bytes()),
            list(*token),
        )
    }
}

/// The token that policies know.
fn token_text() -> String {
    let made = policy::token::make::<()>(policy::token::Mode::Live, |bytes| {
        bytes.fill(0);
        Ok(())
    });
    made.unwrap_or_default()
}

fn compiled(form: &SiteForm) -> Result<Snapshot, String> {
    let mut current = Current::default();
    let site = CurrentSite { form: form.clone(), ..CurrentSite::default() };
    current.sites.insert(form.slug.clone(), site);
    let text = export(&current).text;
    policy_source::load(Path::new("w.toml"), text.as_bytes(), 1)
        .map(|loaded| loaded.snapshot)
        .map_err(|error| format!("{error}\n{text}"))
}

/// Whether each request is admitted: all paths, methods, with the token and without.
fn answers(snapshot: &Snapshot) -> Vec<(String, bool)> {
    let token = token_text();
    let mut answers = Vec::new();
    for path in PATHS {
        for method in ["GET", "POST", "DELETE"] {
            for token in [Some(token.as_str()), None] {
                let url = format!("/w{path}");
                let question =
                    Question { method, url: &url, token, gateway_domain: "localhost", now_s: 0 };
                let is_admitted = explain(snapshot, &question).outcome != "refuse";
                answers.push((
                    format!("{method} {path} {}", token.map_or("alone", |_| "token")),
                    is_admitted,
                ));
            }
        }
    }
    answers
}

fn check(old: &Sketch, new: &Sketch) -> Result<(), TestCaseError> {
    let (old, new) = (old.text(), new.text());
    let reject = |reason: &str| TestCaseError::reject(reason.to_owned());
    let (Ok(site), Ok(_)) =
        (wanted("new.toml", new.as_bytes()), wanted("old.toml", old.as_bytes()))
    else {
        return Err(reject("rules that contradict each other are no policy"));
    };
    let is = current(&old);
    // This is said before anything is done.
    let Ok(found) = between(&is, &site, false) else { return Err(reject("not in one go")) };
    let at = |count: usize| {
        let form = carried_out(&is, &found.steps[..count]).remove("w").unwrap_or_default();
        compiled(&form).map(|snapshot| answers(&snapshot))
    };
    let labels: Vec<String> =
        found.steps.iter().map(|step| format!("{} {:?}", label(step), step.act)).collect();
    let fail = |count: usize, what: &str| {
        let steps = labels.join("\n");
        TestCaseError::fail(format!(
            "{what}\nafter step {count} of\n{steps}\nfrom\n{old}\nto\n{new}"
        ))
    };
    let (first, last) = (at(0), at(found.steps.len()));
    let (first, last) = (first.map_err(|e| fail(0, &e))?, last.map_err(|e| fail(0, &e))?);
    for count in 1..found.steps.len() {
        let now = at(count).map_err(|error| fail(count, &error))?;
        for (((request, is), (_, was)), (_, becomes)) in now.iter().zip(&first).zip(&last) {
            if *was && *becomes && !is {
                return Err(fail(
                    count,
                    &format!("{request} is refused, which both policies admit"),
                ));
            }
            if !was && !becomes && *is && request.ends_with("alone") {
                return Err(fail(
                    count,
                    &format!("{request} is given away, which neither policy does"),
                ));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_global_rejects: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_refused_or_given_away_on_the_way(old in sketch(), new in sketch()) {
        check(&old, &new)?;
    }
}
