//! A file and an administrator side by side: what stays, what goes, what is told.

use serde_json::json;

use super::super::difference::between;
use super::super::difference::tests::{HASH, carried_out, current};
use super::super::state::wanted;
use super::*;

const OTHER: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

/// A site of which a part of each kind can be named or not.
fn text(settings: &str, resources: &[&str], plans: &[&str], subscriptions: &[&str]) -> String {
    format!(
        "[[sites]]\nslug = \"w\"\norigin = \"http://127.0.0.1:1\"\n{settings}\nresources = [{}]\nplans = [{}]\nsubscriptions = [{}]\n",
        resources.join(", "),
        plans.join(", "),
        subscriptions.join(", ")
    )
}

const PAID: &str = "{ pattern = \"/paid/*\" }";
const MORE: &str = "{ pattern = \"/more/*\" }";
const PRO: &str = "{ id = \"pro\" }";
const TEAM: &str = "{ id = \"team\", concurrency = 3 }";

fn subscription(id: &str, plan: &str, tokens: &str) -> String {
    format!(
        "{{ id = \"{id}\", plan = \"{plan}\", customer = \"acme\", status = \"active\", tokens = [{tokens}] }}"
    )
}

fn token(id: &str, hash: &str) -> String {
    format!("{{ id = \"{id}\", sha256 = \"{hash}\" }}")
}

fn before(text: &str) -> Before {
    let sites = wanted("before.toml", text.as_bytes()).unwrap();
    sites.into_iter().map(|site| (site.form.slug.clone(), site.named)).collect()
}

/// The lines of bringing `now` in where `had` was brought in and `is` is there; after it nothing is left to do.
fn lines(is: &Current, had: &str, now: &str) -> (Vec<String>, Vec<String>) {
    let wanted = wanted("now.toml", now.as_bytes()).unwrap();
    let merged = merge(is, &before(had), &wanted);
    let found = between(is, &merged.sites, false).unwrap();
    let sites = carried_out(is, &found.steps);
    for site in &merged.sites {
        let done = &sites[&site.form.slug];
        assert_eq!((&done.resources, &done.plans), (&site.form.resources, &site.form.plans));
        assert_eq!(done.settings, site.form.settings);
    }
    (found.lines, merged.notes)
}

#[test]
fn what_the_file_never_named_stays_and_what_it_dropped_goes() {
    let own = subscription("s", "pro", &token("t", HASH));
    let file = text("", &[PAID], &[PRO], &[&own]);
    let both = subscription("s", "pro", &[token("t", HASH), token("rest", OTHER)].join(", "));
    let theirs = subscription("theirs", "team", "");
    let all = text("upgrade_url = \"http://a/\"", &[PAID, MORE], &[PRO, TEAM], &[&both, &theirs]);
    // (what is there, what the file named before, what it says now, the lines)
    let cases: &[(&str, &str, &str, &[&str])] = &[
        (&all, &file, &file, &[]),
        (
            &all,
            &all,
            &file,
            &[
                "~ w site: upgrade_url: \"http://a/\" -> default",
                "- w resource /more/*: archived",
                "- w plan team: archived",
                "- w subscription theirs: archived",
                "- w token rest: revoked",
            ],
        ),
        (
            &all,
            &file,
            &text("", &[PAID], &[PRO], &[&subscription("s", "pro", "")]),
            &["- w token t: revoked"],
        ),
        // A token goes with its subscription, whoever made it.
        (
            &all,
            &file,
            &text("", &[PAID], &[PRO], &[]),
            &["- w subscription s: archived", "- w token rest: revoked", "- w token t: revoked"],
        ),
    ];
    for (is, had, now, expected) in cases {
        let (lines, notes) = lines(&current(is), had, now);
        assert_eq!(lines, *expected, "{now}");
        assert!(notes.is_empty(), "{notes:?}");
    }
}

#[test]
fn a_key_that_the_file_never_wrote_stays_as_it_is() {
    let plan = |keys: &str| text("", &[], &[&format!("{{ id = \"pro\"{keys} }}")], &[]);
    let is =
        current(&plan(", concurrency = 5, grace_days = 9, overage = \"allow\", overage_cap = 7"));
    let cases: &[(&str, &str, &[&str])] = &[
        ("", "", &[]),
        ("", ", concurrency = 2", &["~ w plan pro: concurrency: 5 -> 2"]),
        // It wrote it and does so no longer.
        (", concurrency = 4", "", &["~ w plan pro: concurrency: 5 -> default"]),
        // The default counts where it is written, and what means nothing without it goes with it.
        ("", ", grace_days = 3", &["~ w plan pro: grace_days: 9 -> default"]),
        (
            "",
            ", overage = \"deny\"",
            &["~ w plan pro: overage: \"allow\" -> default, overage_cap: 7 -> default"],
        ),
    ];
    for (had, now, expected) in cases {
        let (lines, _) = lines(&is, &plan(had), &plan(now));
        assert_eq!(lines, *expected, "{had} -> {now}");
    }
    // What comes to be named is the file's as a whole.
    let (lines, _) = lines(&is, &text("", &[], &[], &[]), &plan(""));
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn what_somebody_else_needs_stays_and_is_told() {
    let theirs = subscription("theirs", "pro", "");
    let is = current(&text(
        "",
        &[PAID, MORE],
        &[PRO, "{ id = \"team\", resources = [\"/more/*\"] }"],
        &[&theirs],
    ));
    let had = text("", &[PAID, MORE], &[PRO], &[]);
    let (lines, notes) = lines(&is, &had, &text("", &[PAID], &[], &[]));
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(
        notes,
        [
            "w plan pro: stays, since subscription theirs is on it",
            "w resource /more/*: stays, since it is all that plan team includes",
        ]
    );
    let is = current(&text(
        "",
        &[PAID, MORE],
        &["{ id = \"team\", resources = [\"/more/*\", \"/paid/*\"] }"],
        &[],
    ));
    let (lines, notes) = super::tests::lines(&is, &had, &text("", &[PAID], &[], &[]));
    assert_eq!(
        lines,
        [
            "- w resource /more/*: archived",
            "~ w plan team: resources: [\"/more/*\",\"/paid/*\"] -> [\"/paid/*\"]",
        ]
    );
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn what_was_revoked_or_archived_stays_so() {
    let file = text("", &[], &[PRO], &[&subscription("s", "pro", &token("t", HASH))]);
    let mut is = current(&file);
    let site = is.sites.get_mut("w").unwrap();
    site.form.tokens.get_mut("t").unwrap().insert("revoked".to_owned(), json!(true));
    let (lines, notes) = lines(&is, &file, &file);
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(notes, ["w token t: was revoked by REST and stays so"]);
    // Whoever took it out and writes it again is told that it cannot be.
    let again = wanted("now.toml", file.as_bytes()).unwrap();
    let without = before(&text("", &[], &[PRO], &[&subscription("s", "pro", "")]));
    let merged = merge(&is, &without, &again);
    assert!(between(&is, &merged.sites, false).unwrap_err()[0].contains("stays so"));

    let site = is.sites.get_mut("w").unwrap();
    site.form.subscriptions.clear();
    site.form.tokens.clear();
    site.archived_subscriptions.insert("s".to_owned());
    site.archived_tokens.insert("t".to_owned());
    let (lines, notes) = super::tests::lines(&is, &file, &file);
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(notes, ["w subscription s: was archived by REST and stays so"]);
}

#[test]
fn a_site_that_the_file_drops_goes_unless_somebody_else_uses_it() {
    let own = text("", &[PAID], &[PRO], &[&subscription("s", "pro", &token("t", HASH))]);
    let is = current(&own);
    let other = own.replace("\"w\"", "\"v\"").replace(HASH, OTHER);
    let other = wanted("now.toml", other.as_bytes()).unwrap();
    let (difference, notes) = ended(&is, &before(&own), &other);
    assert_eq!(difference.lines, ["- w site: archived with all that is in it"]);
    let kinds: Vec<Kind> = difference.steps.iter().map(|step| step.kind).collect();
    assert_eq!(kinds, [Kind::Token, Kind::Subscription, Kind::Site]);
    assert!(notes.is_empty());
    let without = text("", &[PAID], &[PRO], &[&subscription("s", "pro", "")]);
    let (difference, notes) = ended(&is, &before(&without), &other);
    assert_eq!(difference, Difference::default());
    assert_eq!(
        notes,
        ["w site: no longer in the file, but left as it is: token t was made by REST"]
    );
    // One that it never named is none of its business.
    let (difference, notes) = ended(&is, &Before::default(), &other);
    assert_eq!((difference, notes.len()), (Difference::default(), 0));
}
