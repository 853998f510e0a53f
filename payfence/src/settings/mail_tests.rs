//! Which sinks are taken.

use super::*;

fn args(mail: &str, from: Option<&str>) -> NotifyArgs {
    NotifyArgs {
        mail: Some(mail.to_owned()),
        mail_from: from.map(ToOwned::to_owned),
        allow_private_webhooks: false,
    }
}

#[test]
fn sinks_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("smtp.url");
    std::fs::write(&file, "smtps://user:word@mail.example\n").unwrap();
    let smtp = format!("smtp:{}", file.display());
    let from = Some("Weather <billing@weather.example>");
    let cases = [
        ("log", None, Some(MailSink::Log)),
        ("file:mails", None, Some(MailSink::Directory(PathBuf::from("mails")))),
        (&smtp, from, Some(MailSink::Smtp("smtps://user:word@mail.example".to_owned()))),
        (&smtp, None, None),
        ("log", Some("no address"), None),
        ("file:", None, None),
        ("smtp://user:word@mail.example", from, None),
        ("smtp:/no/such/file", from, None),
        ("nonsense", None, None),
    ];
    for (mail, from, expected) in cases {
        let read = settings(&args(mail, from), None);
        match (read, expected) {
            (Ok(read), Some(expected)) => assert_eq!(read.sink, expected, "{mail}"),
            (Err(error), None) => assert!(!error.to_string().contains("word"), "{error}"),
            (read, expected) => panic!("{mail} {from:?}: {read:?}, expected {expected:?}"),
        }
    }
}
