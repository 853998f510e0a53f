//! The public pages, as everybody's browser has them.
//!
//! In: names that would be markup, all ways to a page. Out: what each page must have and must not.
//! Always holds: a page that is added to the router is added here.

use serde_json::json;
use stripe_sandbox::Outcome;

use super::front::Front;
use super::place::{Place, actor};
use super::shop::Seen;
use crate::billing::claims::{new_link, of_checkout};
use crate::storage::KeyClaim;
use crate::world::System;

/// A name that is markup, an attribute's end and an entity, if it is not escaped.
const NAME: &str = "<script>x</script>\"'&amp; <b>";
const ESCAPED: &str = "&lt;script&gt;x&lt;/script&gt;&quot;'&amp;amp; &lt;b&gt;";

/// What every page must have and must not.
pub fn check(what: &str, seen: &Seen, names: &[&str]) {
    let header = |name: &str| seen.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let policy = header("content-security-policy");
    for part in
        ["default-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(part), "{what}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{what}: {policy}");
    for (name, value) in [
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("x-robots-tag", "noindex"),
        ("content-type", "text/html; charset=utf-8"),
    ] {
        assert_eq!(header(name), value, "{what}: {name}");
    }
    let text = seen.text.as_str();
    assert!(text.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{what}: {text}");
    let count = |part: &str| text.matches(part).count();
    assert_eq!((count("<h1>"), count("<main "), count("<title>")), (1, 1, 1), "{what}: {text}");
    assert!(count("<meta name=\"viewport\"") == 1 && count("href=\"#content\"") == 1, "{what}");
    for never in [
        "<script",
        " onclick=",
        " onload=",
        "javascript:",
        " style=",
        "<img",
        "http-equiv=\"refresh\" content=\"3\"",
    ] {
        assert_eq!(count(never), 0, "{what}: {never} in {text}");
    }
    // Headings go down by one at most, and each field has its label.
    assert!(count("<h3") == 0 || count("<h2") > 0, "{what}: {text}");
    for field in text.split("<input ").skip(1) {
        let field = field.split_once('>').unwrap().0;
        if field.contains("type=\"hidden\"") {
            continue;
        }
        let id = field.split_once("id=\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
        assert_eq!(count(&format!("<label for=\"{id}\"")), 1, "{what}: {field}");
    }
    let ids: Vec<&str> =
        text.split(" id=\"").skip(1).map(|rest| rest.split_once('"').unwrap().0).collect();
    for id in &ids {
        assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "{what}: {id} twice");
    }
    for name in names {
        assert!(text.contains(name), "{what}: no {name} in {text}");
    }
}

pub async fn each_is_plain_and_tells_nobody_else(place: Place) {
    let front = Front::open(&place).await;
    let site = format!("/v1/sites/{}", front.shop.site);
    front.owner.patch(&site, None, json!({ "name": NAME })).await.expect(200);
    let plans = format!("{site}/plans");
    let plan = format!("{plans}/{}", front.shop.small);
    front.owner.patch(&plan, None, json!({ "name": NAME })).await.expect(200);
    let free = json!({ "reference": "free", "name": NAME,
        "price": { "amount": 0, "currency": "usd", "interval": "month" } });
    let free = front.owner.post(&plans, free).await.expect(201).id();

    check("prices", &front.see("/pay/shop").await.expect(200), &[ESCAPED]);
    let begun = front.submit("/pay/shop/checkout", &format!("plan={}", front.shop.small)).await;
    check("on the way to Stripe", &begun.expect(200), &["Go to the payment"]);
    let (session, _) = front.begin().await;
    let waiting = front.success(&session).await.expect(200);
    check("waiting", &waiting, &["role=\"status\"", "Look again"]);
    // Who has just paid is not kept waiting; who waits for days does not ask each second.
    for (looks, pause) in [("", 1), ("&looks=4", 1), ("&looks=5", 5), ("&looks=300", 5)] {
        let seen = front.see(&format!("/pay/shop/success?session_id={session}{looks}")).await;
        let refresh = format!("http-equiv=\"refresh\" content=\"{pause};url=");
        assert!(seen.text.contains(&refresh), "{looks}: {}", seen.text);
    }
    let still = format!("/pay/shop/success?session_id={session}&still=1");
    let still = front.see(&still).await.expect(200);
    check("waiting, still", &still, &["Look again"]);
    // Whoever reads slowly is not interrupted.
    assert!(waiting.text.contains("http-equiv=\"refresh\"") && !still.text.contains("http-equiv"));
    front.shop.sandbox.pay(&session, Outcome::Paid).unwrap();
    check("paid", &front.success(&session).await.expect(200), &[ESCAPED, "Show my key"]);
    let link = link_of(&front, &session).await;
    check("link", &front.see(&link).await.expect(200), &["Show my key"]);
    let shown = front.submit("/claim", &format!("session_id={session}")).await.expect(200);
    check("key", &shown, &[ESCAPED, "<code id=\"key\">pf_test_"]);
    check("used", &front.success(&session).await.expect(404), &["no key to be had"]);
    check("link used", &front.see(&link).await.expect(404), &["no key to be had"]);
    let taken = front.submit("/pay/shop/free", &format!("plan={free}&email=a@example.com")).await;
    check("free key", &taken.expect(200), &[ESCAPED, "pf_"]);
    let wrong = front.submit("/pay/shop/free", &format!("plan={free}&email=nobody")).await;
    check("wrong address", &wrong.expect(422), &["e-mail address", "Go back"]);
    let garbage = front.submit("/pay/shop/free", "plan[").await;
    check("garbage", &garbage.expect(422), &[]);
    for (path, status) in [
        ("/pay/nobody", 404),
        ("/pay/shop/success", 404),
        ("/pay/shop/success?session_id=%3Cb%3E", 404),
        ("/claim/claim_guessed", 404),
        ("/stripe/oauth/callback", 200),
        ("/stripe/oauth/callback?state=guessed&code=ac_1", 404),
        ("/stripe/oauth/callback?error=access_denied&error_description=%3Cb%3E", 200),
        ("/stripe/onboarding/done", 200),
        ("/stripe/onboarding/again", 200),
    ] {
        check(path, &front.see(path).await.expect(status), &[]);
    }
    let style = front.see("/pay/style.css").await.expect(200);
    assert_eq!(style.headers["content-type"], "text/css; charset=utf-8");
}

/// A link like the one that is sent by mail.
async fn link_of(front: &Front, session: &str) -> String {
    let store = &front.shop.place.store;
    let checkout = store.checkout_of_session(session).await.unwrap().unwrap();
    let mut change = store.change(&checkout.account_id, actor()).await.unwrap();
    let claim = of_checkout(&change.tenant(), &checkout.id).await.unwrap().unwrap();
    let (secret, hash) = new_link(&System);
    let after = KeyClaim { link_hash: Some(hash), ..claim.clone() };
    change.update(&claim, after).await.unwrap();
    change.commit().await.unwrap();
    format!("/claim/{secret}")
}

/// Too many at once are told when to come again.
pub async fn who_asks_too_often_is_told_when_to_come(place: Place) {
    let front = Front::open(&place).await;
    for _ in 0..200 {
        let seen = front.see("/pay/shop").await;
        if seen.status.as_u16() == 200 {
            continue;
        }
        let seen = seen.expect(429);
        check("too often", &seen, &[]);
        let wait: u32 = seen.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait));
        return;
    }
    panic!("nobody was told to wait");
}

/// Strangers who guess keep nobody from a key.
pub async fn guesses_do_not_count_against_who_has_a_claim(place: Place) {
    let front = Front::open(&place).await;
    let (session, _) = front.begin().await;
    front.shop.sandbox.pay(&session, Outcome::Paid).unwrap();
    front.success(&session).await.expect(200);
    let link = link_of(&front, &session).await;
    let mut is_refused = false;
    for number in 0..200 {
        let guess = format!("link=claim_{number}");
        is_refused |= front.submit("/claim", &guess).await.status.as_u16() == 429;
    }
    assert!(is_refused, "those who guess are told to wait");
    front.see(&link).await.expect(200);
    let shown = front.submit("/claim", &format!("session_id={session}")).await.expect(200);
    check("key", &shown, &["<code id=\"key\">pf_test_"]);
}
