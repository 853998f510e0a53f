//! A file beside buyers: what stays, what goes, what is told.

use super::super::difference::between;
use super::super::difference::tests::{carried_out, current};
use super::super::keep::{Before, ended};
use super::super::state::wanted;
use super::*;

/// A site with two plans and a free path; `what` is its subscriptions.
fn text(resources: &[&str], plans: &[&str], subscriptions: &[&str]) -> String {
    format!(
        "[[sites]]\nslug = \"w\"\norigin = \"http://127.0.0.1:1\"\nresources = [{}]\nplans = [{}]\nsubscriptions = [{}]\n",
        resources.join(", "),
        plans.join(", "),
        subscriptions.join(", ")
    )
}

const PAID: &str = "{ pattern = \"/paid/*\" }";
const MORE: &str = "{ pattern = \"/more/*\" }";
const PRO: &str = "{ id = \"pro\" }";
const TEAM: &str = "{ id = \"team\", resources = [\"/more/*\", \"/paid/*\"] }";
const ONLY: &str = "{ id = \"team\", resources = [\"/more/*\"] }";

fn subscription(id: &str, plan: &str, status: &str, token: &str) -> String {
    let hash = format!("{:064x}", id.len() + token.len());
    format!(
        "{{ id = \"{id}\", plan = \"{plan}\", customer = \"acme\", status = \"{status}\", \
         tokens = [{{ id = \"{token}\", sha256 = \"{hash}\" }}] }}"
    )
}

/// The lines and what is told where `bought` was bought; after it nothing is left to do.
fn lines(is: &str, bought: &[&str], file: &str) -> (Vec<String>, Vec<String>) {
    let mut is = current(is);
    let site = is.sites.get_mut("w").unwrap();
    site.bought = bought.iter().map(|key| (*key).to_owned()).collect();
    let (sites, notes) = keep(&is, wanted("now.toml", file.as_bytes()).unwrap());
    let found = between(&is, &sites, false).unwrap();
    let done = carried_out(&is, &found.steps);
    let (done, wanted) = (&done["w"], &sites[0].form);
    assert_eq!((&done.resources, &done.plans), (&wanted.resources, &wanted.plans));
    assert_eq!(done.subscriptions, wanted.subscriptions);
    (found.lines, notes)
}

#[test]
fn what_is_paid_for_stays_with_its_tokens_and_its_plan() {
    let own = subscription("s", "pro", "active", "t");
    let buyer = subscription("buyer", "team", "active", "key");
    let late = subscription("late", "pro", "past_due", "other_key");
    let over = subscription("over_now", "pro", "canceled", "last_key");
    let by_hand = subscription("by_hand", "pro", "active", "made_by_hand");
    let all = text(&[PAID, MORE], &[PRO, TEAM], &[&own, &buyer, &late, &over, &by_hand]);
    let bought = ["buyer", "late", "over_now"];
    let file = text(&[PAID], &[PRO], &[&own]);
    let gone = ["- w subscription by_hand: archived", "- w subscription over_now: archived"];
    let revoked = ["- w token last_key: revoked", "- w token made_by_hand: revoked"];
    let (told, notes) = lines(&all, &bought, &file);
    let narrower = "~ w plan team: resources: [\"/more/*\",\"/paid/*\"] -> [\"/paid/*\"]";
    let mut expected = vec!["- w resource /more/*: archived", narrower];
    expected.extend(gone);
    expected.extend(revoked);
    assert_eq!(told, expected);
    assert_eq!(
        notes,
        [
            "w subscriptions: 2 that were bought stay, with their tokens, though the file has not got them; cancel one to end it",
            "w plan team: stays, since subscription buyer, which was bought, is on it",
        ]
    );
    // A list of nothing cannot be, so what is all of a plan stays.
    let only = all.replace(TEAM, ONLY);
    let (told, notes) = lines(&only, &bought, &file);
    assert_eq!(told, gone.into_iter().chain(revoked).collect::<Vec<_>>());
    let stays = "w resource /more/*: stays, since it is all that plan team includes";
    assert!(notes.contains(&stays.to_owned()), "{notes:?}");
    // Once it is over it goes with all that was kept for it.
    let over = all.replace(
        "status = \"active\", tokens = [{ id = \"key\"",
        "status = \"canceled\", tokens = [{ id = \"key\"",
    );
    let (told, _) = lines(&over, &bought, &file);
    assert!(told.contains(&"- w subscription buyer: archived".to_owned()), "{told:?}");
    assert!(told.contains(&"- w plan team: archived".to_owned()), "{told:?}");
}

#[test]
fn stripe_says_what_a_subscription_is_that_a_file_names() {
    let is = text(
        &[PAID],
        &[PRO, "{ id = \"large\" }"],
        &[&subscription("buyer", "large", "past_due", "key")],
    );
    // As it was exported, before it was past due and moved; its token's paths are the file's.
    let named = subscription("buyer", "pro", "active", "key")
        .replace("sha256", "allow_from = [\"10.0.0.0/8\"], sha256");
    let (told, notes) = lines(&is, &["buyer"], &text(&[PAID], &[PRO], &[&named]));
    assert_eq!(told, ["~ w token key: allow_from: default -> [\"10.0.0.0/8\"]"]);
    assert_eq!(
        notes,
        [
            "w subscription buyer: was bought, so Stripe says its plan, status",
            "w plan large: stays, since subscription buyer, which was bought, is on it",
        ]
    );
    // Over or not: what is over is not brought back by a file.
    let over = is.replace("past_due", "canceled");
    let (told, notes) = lines(
        &over,
        &["buyer"],
        &text(&[PAID], &[PRO], &[&subscription("buyer", "pro", "active", "key")]),
    );
    assert_eq!((told.len(), notes.len()), (0, 2), "{told:?} {notes:?}");
}

#[test]
fn a_site_in_which_something_was_bought_stays() {
    let file = text(&[PAID], &[PRO], &[&subscription("buyer", "pro", "active", "key")]);
    let mut is = current(&file);
    let sites = wanted("before.toml", file.as_bytes()).unwrap();
    let before: Before =
        sites.into_iter().map(|site| (site.form.slug.clone(), site.named)).collect();
    let ends = |is: &Current| ended(is, &before, &[]);
    assert_eq!(ends(&is).0.lines.len(), 1);
    is.sites.get_mut("w").unwrap().bought.insert("buyer".to_owned());
    let (difference, notes) = ends(&is);
    assert_eq!(difference.lines.len() + difference.steps.len(), 0);
    assert_eq!(
        notes,
        ["w site: no longer in the file, but left as it is: subscription buyer was bought"]
    );
}
