//! What is written down of attempts to send mails, and what goes over the wire.

use super::*;
use crate::world::System;

fn sender(sink: MailSink) -> MailSender {
    let store = Store::open("sqlite::memory:", 1, Arc::new(System));
    let from = "Billing \"Team\" <billing@payfence.example>".parse().unwrap();
    let settings = MailSettings { sink, from, public_url: None };
    MailSender::new(store.unwrap(), settings).unwrap()
}

#[test]
fn attempts_are_judged() {
    let mail = |attempts| Mail { attempts, created_at_ms: 1_000, ..Mail::default() };
    let later = |wait_ms| Err(Unsent::Later("no".to_owned(), wait_ms));
    let cases = [
        (1, 1_000, Ok(()), "sent", None),
        (1, 1_000, later(0), PENDING, Some(31_000)),
        (2, 1_000, later(HOUR_MS), PENDING, Some(3_601_000)),
        (90, 1_000, later(0), PENDING, Some(14_401_000)),
        (9, TRIED_MS, later(0), "failed", None),
        (1, 1_000, Err(Unsent::Skip("no address".to_owned())), "skipped", None),
        (1, 1_000, Err(Unsent::Refused("no such user".to_owned())), "failed", None),
    ];
    for (attempts, now_ms, sent, status, next_at_ms) in cases {
        let told = format!("{attempts} {now_ms} {sent:?}");
        let attempted = judge(&mail(attempts), sent, now_ms, 1.0);
        assert_eq!((attempted.status, attempted.next_at_ms), (status, next_at_ms), "{told}");
        assert_eq!(attempted.error.is_none(), status == "sent", "{told}");
    }
}

#[tokio::test]
async fn nothing_becomes_a_header_of_its_own() {
    let sender = sender(MailSink::Off);
    let mail = Mail { id: "mail_1".to_owned(), ..Mail::default() };
    let facts =
        Facts { site: "A\r\nBcc: all@example.com\r\n\r\n<p>".to_owned(), ..Facts::default() };
    let letter = letter::write("trial_ending", &facts).unwrap();
    let message = sender.message(&mail, "buyer@example.com", letter).unwrap();
    let text = String::from_utf8(message.formatted()).unwrap();
    let head = text.split("\r\n\r\n").next().unwrap();
    let names: Vec<&str> = head
        .lines()
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    let expected = ["From", "To", "Subject", "Message-ID", "MIME-Version", "Date", "Content-Type"];
    let mut sorted = (names.clone(), expected.to_vec());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1, "{head}");
    assert_eq!(message.envelope().to().len(), 1);
    for to in ["a@example.com\r\nBcc: b@example.com", "a@example.com, b@example.com", "a", ""] {
        let letter = letter::write("trial_ending", &Facts::default()).unwrap();
        assert!(matches!(sender.message(&mail, to, letter), Err(Unsent::Refused(_))), "{to}");
    }
}

#[test]
fn urls_of_servers_are_shown_to_nobody() {
    let sink = MailSink::Smtp("smtp://user:word@host:nonsense".to_owned());
    let error = Transport::new(&sink).unwrap_err();
    assert!(!error.contains("word@"), "{error}");
    assert!(!format!("{sink:?}").contains("word"));
}

#[test]
fn only_a_mail_server_reaches_people() {
    for (sink, expected) in [
        (MailSink::Off, false),
        (MailSink::Log, false),
        (MailSink::Directory("mails".into()), false),
        (MailSink::Smtp("smtp://mail.example".to_owned()), true),
    ] {
        let settings = MailSettings { sink, ..MailSettings::default() };
        assert_eq!(settings.is_to_people(), expected, "{settings:?}");
    }
}
