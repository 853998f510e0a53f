//! Mails from a change to a mail server behind a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::client::Client;
use super::place::{Place, actor};
use super::webhooks::Moved;
use crate::notify::mail::{MailSender, MailSettings, MailSink, PER_HOUR_MAX};
use crate::notify::{Event, Invoice, enqueue};
use crate::storage::{KeyClaim, Mail, Store, Subscription};

/// A mail server (RFC 5321) that keeps what it is sent, or has no room.
#[derive(Clone, Default)]
struct MailServer {
    mails: Arc<Mutex<Vec<String>>>,
    logins: Arc<Mutex<Vec<String>>>,
    is_full: Arc<AtomicBool>,
}

impl MailServer {
    /// Starts one; answers its address.
    async fn start(&self) -> String {
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

    fn drain(&self) -> Vec<String> {
        std::mem::take(&mut self.mails.lock())
    }
}

struct Setting {
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
    Setting { account, subscription, server, clock, store, sender }
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
