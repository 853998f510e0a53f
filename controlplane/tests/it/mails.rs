//! Mails from a change to a mail server behind a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use policy::budget::{Calendar, Period, Unit};
use policy::ids::entitlement_id;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::client::Client;
use super::place::{Place, actor};
use super::quota;
use super::sync_node::until;
use super::webhooks::Moved;
use crate::notify::mail::{MailSender, MailSettings, MailSink, PER_HOUR_MAX};
use crate::notify::quota::QuotaTeller;
use crate::notify::{Event, Invoice, enqueue};
use crate::storage::{KeyClaim, Mail, Store, Subscription};

/// A mail server (RFC 5321) that keeps what it is sent, or has no room.
#[derive(Clone, Default)]
pub struct MailServer {
    mails: Arc<Mutex<Vec<String>>>,
    logins: Arc<Mutex<Vec<String>>>,
    pub is_full: Arc<AtomicBool>,
}

impl MailServer {
    /// Starts one; answers its address.
    pub async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        address.to_string()
    }

    async fn serve(self, stream: TcpStream) -> std::io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 mail.example\r\n").await?;
        while let Some(line) = lines.next_line().await? {
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let answer = match verb.as_str() {
                "EHLO" => "250-mail.example\r\n250 AUTH PLAIN",
                "AUTH" => {
                    self.logins.lock().push(line);
                    "235 welcome"
                }
                "MAIL" if self.is_full.load(Ordering::Relaxed) => "452 no room",
                "RCPT" if line.contains("nobody@") => "550 no such user",
                "DATA" => {
                    write.write_all(b"354 go on\r\n").await?;
                    let mut mail = String::new();
                    while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                        mail.push_str(&line);
                        mail.push('\n');
                    }
                    self.mails.lock().push(mail);
                    "250 taken"
                }
                "QUIT" => "221 bye",
                _ => "250 well",
            };
            write.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
        Ok(())
    }

    pub fn drain(&self) -> Vec<String> {
        std::mem::take(&mut self.mails.lock())
    }
}

struct Setting {
    owner: Client,
    account: String,
    subscription: Subscription,
    server: MailServer,
    clock: Arc<Moved>,
    store: Store,
    sender: MailSender,
}

async fn setting(place: &Place, email: &str) -> Setting {
    let owner = place.owner().await;
    let (account, subscription) = subscription(&owner, email).await;
    let server = MailServer::default();
    let address = server.start().await;
    let clock = Arc::new(Moved::default());
    let store = Store::open(&place.url, 4, clock.clone()).unwrap();
    let settings = MailSettings {
        sink: MailSink::Smtp(format!("smtp://user:word@{address}")),
        from: "PayFence <mail@payfence.example>".parse().unwrap(),
        public_url: Some("https://pay.example".to_owned()),
    };
    let sender = MailSender::new(store.clone(), settings).unwrap();
    let subscription = store.tenant(&account).get(&subscription).await.unwrap().unwrap();
    Setting { owner, account, subscription, server, clock, store, sender }
}

/// An account's id and a subscription of a customer with this address.
async fn subscription(owner: &Client, email: &str) -> (String, String) {
    let site = json!({ "slug": "weather", "name": "Weather", "origin": "https://api.example.com" });
    let site = owner.post("/v1/sites", site).await.expect(201).id();
    let plan = json!({ "reference": "pro" });
    let plan = owner.post(&format!("/v1/sites/{site}/plans"), plan).await.expect(201).id();
    let customer = if email.is_empty() { json!({}) } else { json!({ "email": email }) };
    let customer = owner.post("/v1/customers", customer).await.expect(201).id();
    let body = json!({ "site_id": site, "plan_id": plan, "customer_id": customer });
    let id = owner.post("/v1/subscriptions", body).await.expect(201).id();
    (owner.get("/v1/account").await.expect(200).id(), id)
}

impl Setting {
    async fn tell(&self, event: Event) {
        let mut change = self.store.change(&self.account, actor()).await.unwrap();
        enqueue(&mut change, event).await.unwrap();
        change.commit().await.unwrap();
    }

    async fn fail_payment(&self) {
        let invoice = Invoice {
            id: "in_1".to_owned(),
            amount_minor: 1_250,
            currency: "eur".to_owned(),
            hosted_invoice_url: Some("https://invoice.example/1".to_owned()),
            next_attempt_at_ms: Some(1_796_083_200_000),
        };
        self.tell(Event::payment_failed(&self.subscription, &invoice)).await;
    }

    /// A further one of the same customer: what nodes know it by.
    async fn another_subscription(&self) -> String {
        let of = &self.subscription;
        let body =
            json!({ "site_id": of.site_id, "plan_id": of.plan_id, "customer_id": of.customer_id });
        let made = self.owner.post("/v1/subscriptions", body).await.expect(201);
        made.json["reference"].as_str().unwrap().to_owned()
    }

    /// A node says that so much of a thousand was used, and again; which part of the quota was written of after each.
    async fn use_units(
        &self,
        place: &Place,
        (reference, period): (&str, Period),
        calendar: Calendar,
        steps: &[u64],
    ) -> Vec<Option<u64>> {
        let id = entitlement_id("weather", reference);
        let mut written = Vec::new();
        for (stamp_us, used) in (period.id.0 * 1_000..).zip(steps) {
            let terms = quota::terms(1, Some(1_000), calendar);
            let request = quota::request(id, period, terms, *used, stamp_us);
            place.store.take_requests(1, 1, &[request]).await.unwrap();
            written.push(self.written().await);
        }
        written
    }

    /// Which part of a quota the buyer is written of now, in text and in HTML; none where nothing is written.
    async fn written(&self) -> Option<u64> {
        let (teller, other) =
            (QuotaTeller::new(self.store.clone()), QuotaTeller::new(self.store.clone()));
        let (first, second) = tokio::join!(teller.tell_all(), other.tell_all());
        let sent = self.sender.send_due().await.unwrap();
        assert_eq!(first.unwrap() + second.unwrap(), sent, "each is a mail");
        let mails = self.server.drain();
        assert_eq!(mails.len(), sent);
        let mail = mails.first()?.replace("=\n", "");
        for part in ["To: buyer@example.com", "text/plain", "text/html", "of the 1000 units"] {
            assert!(mail.contains(part), "{part} in {mail}");
        }
        assert_eq!(mail.matches("of the 1000 units").count(), 2, "in both forms: {mail}");
        Some(if mail.contains("used all") { 100 } else { 80 })
    }

    async fn mails(&self) -> Vec<Mail> {
        self.store.tenant(&self.account).all::<Mail>(1_000, |query| query).await.unwrap()
    }
}

pub async fn a_mail_is_sent_once_and_tried_again(place: Place) {
    let at = setting(&place, "Buyer@Example.com").await;
    at.fail_payment().await;
    at.server.is_full.store(true, Ordering::Relaxed);
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    let mail = at.mails().await.remove(0);
    assert_eq!((mail.status.as_str(), mail.attempts), ("pending", 1), "{mail:?}");
    assert!(mail.error.is_some_and(|error| error.contains("452") || error.contains("no room")));
    at.server.is_full.store(false, Ordering::Relaxed);
    at.clock.0.store(60_000, Ordering::Relaxed);
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    assert_eq!(at.sender.send_due().await.unwrap(), 0);
    let sent = at.server.drain();
    assert_eq!(sent.len(), 1);
    for part in ["To: buyer@example.com", "12.50 EUR", "https://invoice.example/1", "text/html"] {
        assert!(sent[0].contains(part), "{part} in {}", sent[0]);
    }
    assert!(sent[0].contains("Subject: Your payment for Weather did not come through"));
    assert!(!at.server.logins.lock().is_empty());
    assert_eq!(at.mails().await[0].status, "sent");
}

pub async fn what_cannot_be_sent_is_left(place: Place) {
    let at = setting(&place, "nobody@example.com").await;
    at.fail_payment().await;
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    let mail = at.mails().await.remove(0);
    assert_eq!(mail.status, "failed", "refused for good: {mail:?}");
    let off = MailSender::new(at.store.clone(), MailSettings::default()).unwrap();
    at.fail_payment().await;
    assert_eq!(off.send_due().await.unwrap(), 1);
    assert_eq!(at.mails().await[1].status, "skipped");
}

pub async fn a_customer_without_an_address_is_sent_nothing(place: Place) {
    let at = setting(&place, "").await;
    at.fail_payment().await;
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    assert!(at.server.drain().is_empty());
    assert_eq!(at.mails().await[0].status, "skipped");
}

pub async fn nobody_is_sent_too_many_mails(place: Place) {
    let at = setting(&place, "buyer@example.com").await;
    for _ in 0..PER_HOUR_MAX + 3 {
        at.fail_payment().await;
    }
    while at.sender.send_due().await.unwrap() > 0 {}
    assert_eq!(at.server.drain().len() as i64, PER_HOUR_MAX);
    at.clock.0.store(2 * 3_600_000, Ordering::Relaxed);
    while at.sender.send_due().await.unwrap() > 0 {}
    assert_eq!(at.server.drain().len(), 3, "put off, not lost");
}

pub async fn a_key_link_is_made_when_it_is_sent(place: Place) {
    let at = setting(&place, "buyer@example.com").await;
    let mut change = at.store.change(&at.account, actor()).await.unwrap();
    let claim = KeyClaim { subscription_id: at.subscription.id.clone(), ..KeyClaim::default() };
    let claim = change.insert(claim).await.unwrap();
    enqueue(&mut change, Event::key_ready(&at.subscription, &claim.id)).await.unwrap();
    change.commit().await.unwrap();
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    let mail = at.server.drain().remove(0).replace("=\n", "");
    let link = mail.split("https://pay.example/claim/").nth(1).expect("a link");
    let is_of_secret = |each: &char| each.is_ascii_alphanumeric() || *each == '_';
    let secret: String = link.chars().take_while(is_of_secret).collect();
    assert!(secret.starts_with("claim_") && secret.len() > 26, "{mail}");
    let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(secret.as_bytes()).into();
    let found = at.store.claim_of_link(&hash).await.unwrap().expect("the link names the claim");
    assert_eq!(found.id, claim.id);
    // Redeemed meanwhile, no link is sent.
    let mut change = at.store.change(&at.account, actor()).await.unwrap();
    let redeemed = KeyClaim { redeemed_at_ms: Some(1), ..found.clone() };
    change.update(&found, redeemed).await.unwrap();
    enqueue(&mut change, Event::key_ready(&at.subscription, &claim.id)).await.unwrap();
    change.commit().await.unwrap();
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    assert!(at.server.drain().is_empty());
}

/// Of a quota a buyer is written once at each part, and again in the next period; of a plan without one never.
pub async fn a_buyer_is_written_of_a_quota_once_a_period(place: Place) {
    let at = setting(&place, "Buyer@Example.com").await;
    let now_s = async || place.store.ledger_now_ms().await.unwrap().div_euclid(1_000);
    let deadline_s = now_s().await + 120;
    let (reference, calendar, ends_s) = loop {
        assert!(now_s().await < deadline_s, "no period was long enough");
        let anchor_s = now_s().await + 5;
        let calendar = Calendar { unit: Unit::Minute, anchor_s: Some(anchor_s) };
        let reference = at.another_subscription().await;
        let period = Period::first(&calendar, anchor_s - 1);
        let written = at
            .use_units(&place, (&reference, period), calendar, &[799, 800, 900, 1_000, 1_200])
            .await;
        // Use of a period that is over is told to nobody: on a machine that stood still it is done again.
        if now_s().await < anchor_s {
            assert_eq!(written, [None, Some(80), None, Some(100), None]);
            break (reference, calendar, anchor_s);
        }
    };
    assert!(until(async || now_s().await >= ends_s).await, "the period did not end");
    let next = Period::first(&calendar, ends_s);
    let written =
        at.use_units(&place, (&reference, next), calendar, &[10, 850, 1_000, 1_001]).await;
    assert_eq!(written, [None, Some(80), Some(100), None]);
    let boundless = at.another_subscription().await;
    let month = Calendar { unit: Unit::Month, anchor_s: Some(ends_s - 86_400) };
    let period = Period::first(&month, ends_s);
    let id = entitlement_id("weather", &boundless);
    let request = quota::request(id, period, quota::terms(1, None, month), 1 << 40, 1);
    place.store.take_requests(1, 1, &[request]).await.unwrap();
    assert_eq!(at.written().await, None);
    let rows = at.mails().await;
    assert!(rows.iter().all(|mail| mail.status == "sent"), "{rows:?}");
}
