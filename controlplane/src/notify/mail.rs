//! Sending mails: takes what is due, writes letters, hands them to the sink.
//!
//! In: mails in the database. Out: letters to people by SMTP, into a directory or the log; nothing where nobody set it up.
//! Always holds: a mail is tried for three days, what is refused for good is not; nobody is sent more than
//! [`PER_HOUR_MAX`] an hour and [`PER_DAY_MAX`] a day; an address or a name never becomes a header of its own; what a
//! link lets in is made when the letter is written, and only its hash is kept.

use std::sync::Arc;
use std::time::Duration;

use lettre::Message;
use lettre::message::{Mailbox, MultiPart};
use sha2::{Digest as _, Sha256};

mod facts;
mod free_link;
mod key_link;
mod letter;
mod sink;

pub use letter::{Facts, Letter};
pub use sink::{MailSink, SendError, Transport};

use super::{PENDING, backoff};
use crate::storage::{Attempted, EventRecord, Mail, StorageResult, Store};

/// Mails taken at once; they are sent one after another.
const BATCH: u64 = 10;
/// Longer than a batch can take ([`sink::TIMEOUT`] each).
const LEASE_MS: i64 = 600_000;
const POLL: Duration = Duration::from_secs(1);
/// How long a mail is tried.
const TRIED_MS: i64 = 3 * 86_400_000;
/// How long until the next attempt.
const DELAYS_S: &[i64] = &[30, 300, 900, 3_600, 7_200, 14_400];
/// Mails to one address in an hour.
pub const PER_HOUR_MAX: i64 = 10;
/// Mails to one address in a day.
pub const PER_DAY_MAX: i64 = 30;
const HOUR_MS: i64 = 3_600_000;

/// What mails are sent with.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// Where they go.
    pub sink: MailSink,
    /// Whom they are from.
    pub from: Mailbox,
    /// Where people reach this control plane, without a slash last; links lead there.
    pub public_url: Option<String>,
}

impl Default for MailSettings {
    fn default() -> Self {
        let address = lettre::Address::new("payfence", "localhost").expect("is an address");
        let from = Mailbox::new(Some("PayFence".to_owned()), address);
        Self { sink: MailSink::Off, from, public_url: None }
    }
}

impl MailSettings {
    /// Whether what is sent is read by whoever has the address and by nobody else. Mails in files or the log of development are not.
    #[must_use]
    pub fn is_to_people(&self) -> bool {
        matches!(self.sink, MailSink::Smtp(_))
    }
}

/// Why a mail is not sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unsent {
    /// Nobody is to be told, or it cannot be said.
    Skip(String),
    /// It was refused for good.
    Refused(String),
    /// It may go well later.
    Later(String, i64),
}

/// Sends what is due.
#[derive(Clone, Debug)]
pub struct MailSender {
    store: Store,
    transport: Transport,
    settings: Arc<MailSettings>,
}

impl MailSender {
    /// A sender of what is in a store.
    ///
    /// # Errors
    /// Text for a person: the sink is of no use.
    pub fn new(store: Store, settings: MailSettings) -> Result<Self, String> {
        let transport = Transport::new(&settings.sink)?;
        Ok(Self { store, transport, settings: Arc::new(settings) })
    }

    /// Sends until it is dropped. While the database is away, nothing is sent.
    pub async fn run(self) {
        loop {
            match self.send_due().await {
                Ok(1..) => {}
                Ok(0) => tokio::time::sleep(POLL).await,
                Err(error) => {
                    tracing::debug!(%error, "mails wait for the database");
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    }

    /// Sends what is due now, at most [`BATCH`]; says how many that were.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn send_due(&self) -> StorageResult<usize> {
        let taken = self.store.take_mails(BATCH, LEASE_MS).await?;
        for (mail, event) in &taken {
            self.send(mail, event).await?;
        }
        Ok(taken.len())
    }

    async fn send(&self, mail: &Mail, event: &EventRecord) -> StorageResult<()> {
        let recipient = self.recipient(mail).await?;
        let hash = recipient.as_ref().map(|to| <[u8; 32]>::from(Sha256::digest(to.as_bytes())));
        let sent = match (&recipient, &hash) {
            _ if self.transport.is_off() => Err(Unsent::Skip("no mail is set up".to_owned())),
            (Some(to), Some(hash)) => self.try_send(mail, event, to, hash).await?,
            _ => Err(Unsent::Skip("the customer has no e-mail address".to_owned())),
        };
        let now_ms = self.store.world().now_ms();
        let attempted = judge(mail, sent, now_ms, backoff::jitter(&**self.store.world()));
        if attempted.status == "failed" {
            tracing::warn!(mail = mail.id, error = attempted.error, "a mail was given up");
        }
        self.store.mail_attempted(mail, hash.as_ref(), &attempted).await?;
        Ok(())
    }

    async fn try_send(
        &self,
        mail: &Mail,
        event: &EventRecord,
        to: &str,
        hash: &[u8; 32],
    ) -> StorageResult<Result<(), Unsent>> {
        let now_ms = self.store.world().now_ms();
        for (span_ms, count_max) in [(HOUR_MS, PER_HOUR_MAX), (24 * HOUR_MS, PER_DAY_MAX)] {
            if self.store.mails_sent(hash, now_ms.saturating_sub(span_ms)).await? >= count_max {
                let text = "this address has been sent too many mails; it is sent later".to_owned();
                return Ok(Err(Unsent::Later(text, HOUR_MS)));
            }
        }
        let facts = match self.facts(mail, event).await? {
            Ok(facts) => facts,
            Err(text) => return Ok(Err(Unsent::Skip(text))),
        };
        let message = letter::write(&mail.template, &facts)
            .map_err(Unsent::Refused)
            .and_then(|letter| self.message(mail, to, letter));
        let message = match message {
            Ok(message) => message,
            Err(unsent) => return Ok(Err(unsent)),
        };
        let sent = self.transport.send(&mail.id, &message).await;
        Ok(sent.map_err(|error| match error.is_permanent {
            true => Unsent::Refused(error.text),
            false => Unsent::Later(error.text, 0),
        }))
    }

    /// The letter as it goes over the wire. Its id stays at every attempt, so that a reader's program may know it again.
    fn message(&self, mail: &Mail, to: &str, letter: Letter) -> Result<Message, Unsent> {
        let address = to.parse().map_err(|_| Unsent::Refused("no e-mail address".to_owned()))?;
        let message_id = format!("<{}@{}>", mail.id, self.settings.from.email.domain());
        Message::builder()
            .from(self.settings.from.clone())
            .to(Mailbox::new(None, address))
            .subject(letter.subject)
            .message_id(Some(message_id))
            .multipart(MultiPart::alternative_plain_html(letter.text, letter.html))
            .map_err(|error| Unsent::Refused(error.to_string()))
    }
}

/// What is to be written down of an attempt.
fn judge(mail: &Mail, sent: Result<(), Unsent>, now_ms: i64, jitter: f64) -> Attempted {
    let ended = |status, error| Attempted { status, next_at_ms: None, answer_status: None, error };
    let (error, wait_ms) = match sent {
        Ok(()) => return ended("sent", None),
        Err(Unsent::Skip(error)) => return ended("skipped", Some(error)),
        Err(Unsent::Refused(error)) => return ended("failed", Some(error)),
        Err(Unsent::Later(error, wait_ms)) => (error, wait_ms),
    };
    let delay_ms = backoff::delay_ms(DELAYS_S, mail.attempts, jitter).max(wait_ms);
    let next_at_ms = now_ms.saturating_add(delay_ms);
    if next_at_ms > mail.created_at_ms.saturating_add(TRIED_MS) {
        return ended("failed", Some(error));
    }
    let next_at_ms = Some(next_at_ms);
    Attempted { status: PENDING, next_at_ms, answer_status: None, error: Some(error) }
}

#[cfg(test)]
#[path = "mail_tests.rs"]
mod tests;
