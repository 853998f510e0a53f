//! Free plans where mail reaches people: an address shows whose it is before anything is made for it.
//!
//! In: pages as browsers have them, a mail server behind a real socket, a clock. Out: what is answered, sent and made.
//! Always holds: what is answered is compared whole, since a word that differs tells which addresses have a plan.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use serde_json::json;
use tokio::task::JoinHandle;

use super::mails::MailServer;
use super::pages::check;
use super::place::Place;
use super::shop::{Seen, Shop, price};
use super::webhooks::Moved;
use crate::billing::claims::{Proof, REPLACED_WITHIN_MS, Redeemed, redeem};
use crate::billing::free::{ASKED_PER_HOUR_MAX, LINK_MS, MAIL_EVERY_MS};
use crate::billing::{Billing, BillingSettings};
use crate::notify::mail::{MailSender, MailSettings, MailSink};

const EMAIL: &str = "me@example.com";

/// A shop that sends mail.
struct Asking {
    shop: Shop,
    billing: Billing,
    router: Router,
    clock: Arc<Moved>,
    server: MailServer,
    sender: MailSender,
    site: String,
    plan: String,
    publisher: JoinHandle<()>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

impl Asking {
    async fn open(place: Place) -> Self {
        let shop = Shop::open(place).await;
        let (site, plan) = shop.plan("free", 100, price(0)).await;
        let clock = Arc::new(Moved::default());
        let store = shop.place.in_time_of(clock.clone()).store;
        let settings = BillingSettings { has_mail: true, ..(*shop.billing.settings).clone() };
        let billing = Billing::new(settings, store.clone()).unwrap();
        let router = Shop::router_of(&shop.place, &billing);
        let server = MailServer::default();
        let address = server.start().await;
        let settings = MailSettings {
            sink: MailSink::Smtp(format!("smtp://user:word@{address}")),
            from: "PayFence <mail@payfence.example>".parse().unwrap(),
            public_url: Some("https://pay.example".to_owned()),
        };
        let publisher = tokio::spawn(store.outbox().clone().publish());
        let sender = MailSender::new(store, settings).unwrap();
        Self { shop, billing, router, clock, server, sender, site, plan, publisher }
    }

    async fn ask(&self, email: &str) -> Seen {
        let form = format!("plan={}&email={email}", self.plan);
        Shop::submit_by(&self.router, "/pay/weather/free", &form).await
    }

    /// Sends what is due; the secrets of the links that came.
    async fn links(&self) -> Vec<String> {
        self.sender.send_due().await.unwrap();
        let mails = self.server.drain().into_iter().map(|mail| mail.replace("=\n", ""));
        mails.map(|mail| secret_of(&mail)).collect()
    }

    /// The link that comes of asking.
    async fn link(&self) -> String {
        self.ask(EMAIL).await.expect(200);
        let mut links = self.links().await;
        assert_eq!(links.len(), 1, "one mail");
        links.remove(0)
    }

    async fn see(&self, link: &str) -> Seen {
        Shop::see_by(&self.router, &format!("/claim/{link}")).await
    }

    async fn redeem(&self, link: &str) -> Seen {
        Shop::submit_by(&self.router, "/claim", &format!("link={link}")).await
    }

    fn later(&self, by_ms: i64) {
        self.clock.0.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Customers, subscriptions and tokens.
    async fn made(&self) -> [usize; 3] {
        let mut made = [0; 3];
        for (count, kind) in made.iter_mut().zip(["customers", "subscriptions", "tokens"]) {
            let list = self.shop.owner.get(&format!("/v1/{kind}?limit=100")).await.expect(200);
            *count = list.json["data"].as_array().unwrap().len();
        }
        made
    }

    async fn number(&self, of: &str) -> i64 {
        self.shop.place.store.raw_number(&format!("SELECT COUNT(*) AS n FROM {of}")).await
    }

    fn plan_path(&self) -> String {
        format!("/v1/sites/{}/plans/{}", self.site, self.plan)
    }

    async fn subscription_path(&self) -> String {
        let list = self.shop.owner.get("/v1/subscriptions").await.expect(200);
        format!("/v1/subscriptions/{}", list.json["data"][0]["id"].as_str().unwrap())
    }
}

fn secret_of(mail: &str) -> String {
    let link = mail.split("https://pay.example/claim/").nth(1).expect("a link");
    link.chars().take_while(|each| each.is_ascii_alphanumeric() || *each == '_').collect()
}

/// All that an answer says.
fn whole(seen: &Seen) -> (u16, String, String) {
    (seen.status.as_u16(), format!("{:?}", seen.headers), seen.text.clone())
}

pub async fn a_link_shows_whose_an_address_is(place: Place) {
    let at = Asking::open(place).await;
    let prices = Shop::see_by(&at.router, "/pay/weather").await.expect(200);
    check("prices with mail", &prices, &["We send a link to your key there.", "aria-describedby"]);
    let sent = at.ask("Me@Example.com").await.expect(200);
    check("sent", &sent, &["We have sent a link to <strong>me@example.com</strong>"]);
    assert_eq!(sent.key(), None);
    at.sender.send_due().await.unwrap();
    let mail = at.server.drain().remove(0).replace("=\n", "");
    for part in ["To: me@example.com", "Subject: Your API key for Weather", "text/html", "did not"]
    {
        assert!(mail.contains(part), "{part} in {mail}");
    }
    let link = secret_of(&mail);
    // A scanner that follows it makes nothing.
    for _ in 0..2 {
        check("link", &at.see(&link).await.expect(200), &["Show my key"]);
    }
    assert_eq!((at.made().await, at.number("claims").await), ([0; 3], 0));
    assert_eq!(
        at.number("audit_log WHERE kind NOT IN ('account', 'admin_key', 'member', 'site', 'plan')")
            .await,
        0
    );
    let shown = at.redeem(&link).await.expect(200);
    assert!(shown.key().unwrap().starts_with("pf_live_"));
    assert_eq!(at.made().await, [1, 1, 1]);
    assert_eq!(at.number("events WHERE kind = 'token.issued'").await, 1);
    // Once.
    at.see(&link).await.expect(404);
    at.redeem(&link).await.expect(404);
    at.redeem("claim_guessed").await.expect(404);
    assert_eq!(at.made().await, [1, 1, 1]);
    // Whoever has the plan gets another key of the same units.
    at.later(MAIL_EVERY_MS);
    let another = at.link().await;
    assert_ne!(another, link);
    assert_ne!(at.redeem(&another).await.expect(200).key(), shown.key());
    assert_eq!(at.made().await, [1, 1, 2]);
}

/// Two at once get one key, and a page whose answer was lost gets another in its place.
pub async fn a_link_is_one_key(place: Place) {
    let at = Asking::open(place).await;
    let link = at.link().await;
    let (one, other) = tokio::join!(at.redeem(&link), at.redeem(&link));
    let keys = [one.key(), other.key()];
    assert_eq!(keys.iter().flatten().count(), 1, "{keys:?}");
    assert_eq!(at.made().await, [1, 1, 1]);
    at.later(MAIL_EVERY_MS);
    let link = at.link().await;
    let form = format!("link={link}&once=once_of_a_page");
    // Its answer reaches nobody.
    let redeemed = redeem(&at.billing, Proof::Link(&link), Some("once_of_a_page")).await;
    assert!(matches!(redeemed, Ok(Redeemed::Key(_))), "{redeemed:?}");
    at.later(REPLACED_WITHIN_MS / 2);
    at.redeem(&link).await.expect(404);
    assert!(Shop::submit_by(&at.router, "/claim", &form).await.expect(200).key().is_some());
    let revoked = at.number("tokens WHERE revoked_at_ms IS NOT NULL").await;
    assert_eq!((at.made().await, revoked), ([1, 1, 2], 1));
}

/// Byte for byte: an address that is new, was sent a link just now, has the plan, had it, and whose mail cannot be sent.
pub async fn no_answer_tells_of_an_address(place: Place) {
    let at = Asking::open(place).await;
    let first = whole(&at.ask(EMAIL).await.expect(200));
    assert_eq!(whole(&at.ask(EMAIL).await), first, "asked again");
    let links = at.links().await;
    assert_eq!(links.len(), 1, "one mail in ten minutes");
    at.redeem(&links[0]).await.expect(200);
    assert_eq!(whole(&at.ask(EMAIL).await), first, "redeemed just now");
    assert!(at.links().await.is_empty(), "one mail in ten minutes, redeemed or not");
    at.later(MAIL_EVERY_MS);
    at.server.is_full.store(true, Ordering::Relaxed);
    assert_eq!(whole(&at.ask(EMAIL).await), first, "known, and the mail server has no room");
    assert!(at.links().await.is_empty());
    // What is on its way still is not sent twice.
    at.later(MAIL_EVERY_MS);
    assert_eq!(whole(&at.ask(EMAIL).await), first, "on its way");
    assert_eq!(at.number("mails").await, 2);
    at.server.is_full.store(false, Ordering::Relaxed);
    let late = at.links().await;
    assert_eq!(late.len(), 1, "sent later");
    let path = at.subscription_path().await;
    at.shop.owner.patch(&path, None, json!({ "status": "canceled" })).await.expect(200);
    at.later(MAIL_EVERY_MS);
    assert_eq!(whole(&at.ask(EMAIL).await), first, "had");
    at.later(MAIL_EVERY_MS);
    at.ask("other@example.com").await.expect(200);
    let mails = at.links().await.len();
    assert_eq!(mails, 2, "one each");
}

/// What became of plan and subscription since counts when the link is redeemed.
pub async fn a_link_gives_what_there_is_to_be_had(place: Place) {
    let at = Asking::open(place).await;
    let link = at.link().await;
    let patch =
        async |path: &str, change| drop(at.shop.owner.patch(path, None, change).await.expect(200));
    patch(&at.plan_path(), json!({ "price": price(1900) })).await;
    assert_eq!(at.redeem(&link).await.expect(409).key(), None);
    assert_eq!(at.made().await, [0; 3]);
    patch(&at.plan_path(), json!({ "price": price(0) })).await;
    assert!(at.redeem(&link).await.expect(200).key().is_some());
    // What its owner made of a subscription is not had by asking.
    let (_, paid) = at.shop.plan("pro", 1000, price(1900)).await;
    at.later(MAIL_EVERY_MS);
    let link = at.link().await;
    let path = at.subscription_path().await;
    for change in [json!({ "plan_id": paid }), json!({ "plan_id": at.plan, "status": "canceled" })]
    {
        patch(&path, change).await;
        assert_eq!(at.redeem(&link).await.expect(409).key(), None);
    }
    at.shop.owner.delete(&path).await.expect(200);
    assert_eq!(at.redeem(&link).await.expect(409).key(), None);
    let form = format!("plan={}&email=you@example.com", at.plan);
    Shop::submit_by(&at.router, "/pay/weather/free", &form).await.expect(200);
    let link = at.links().await.remove(0);
    at.shop.owner.delete(&at.plan_path()).await.expect(200);
    assert_eq!(at.redeem(&link).await.expect(409).key(), None);
    at.ask(EMAIL).await.expect(404);
    assert_eq!(at.made().await[2], 1);
}

pub async fn a_link_is_over_with_its_time_and_the_next_one(place: Place) {
    let at = Asking::open(place).await;
    let first = at.link().await;
    at.later(MAIL_EVERY_MS);
    at.ask(EMAIL).await.expect(200);
    // Until its successor is written it is good.
    at.see(&first).await.expect(200);
    let second = at.links().await.remove(0);
    at.redeem(&first).await.expect(404);
    at.later(LINK_MS - 60_000);
    at.see(&second).await.expect(200);
    at.later(120_000);
    at.see(&second).await.expect(404);
    assert_eq!(at.redeem(&second).await.expect(404).key(), None);
    assert_eq!((at.made().await, at.number("free_requests").await), ([0; 3], 1));
    let store = at.shop.place.in_time_of(at.clock.clone()).store;
    store.prune(0).await.unwrap();
    assert_eq!(at.number("free_requests").await, 0, "nothing is left of it");
    // A mail that is tried after its request is over has no link.
    at.ask(EMAIL).await.expect(200);
    at.shop.place.store.raw("DELETE FROM free_requests").await;
    at.sender.send_due().await.unwrap();
    assert!(at.server.drain().is_empty());
    assert_eq!(at.number("mails WHERE status = 'skipped'").await, 1);
}

/// Strangers have us write to so many people in an hour, and no more.
pub async fn so_many_are_written_to_in_an_hour(place: Place) {
    let at = Asking::open(place).await;
    at.ask(EMAIL).await.expect(200);
    let fill = format!(
        "INSERT INTO free_requests (plan_id, email, account_id, asked_at_ms, until_ms) \
         WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {}) \
         SELECT plan_id, 'them' || number || '@example.com', account_id, asked_at_ms, until_ms FROM free_requests, numbers",
        ASKED_PER_HOUR_MAX - 1
    );
    at.shop.place.store.raw(&fill).await;
    let refused = at.ask("you@example.com").await.expect(429);
    check("too many", &refused, &["come again later"]);
    let wait_s: i64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3_500..=3_600).contains(&wait_s), "{wait_s}");
    assert_eq!(at.number("mails").await, 1);
    // Whoever was written to is told the same as before.
    at.ask(EMAIL).await.expect(200);
    at.later(wait_s * 1_000 + 1_000);
    at.ask("you@example.com").await.expect(200);
    assert_eq!(at.number("mails").await, 2);
}
