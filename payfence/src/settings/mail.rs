//! Where mails go.
//!
//! In: flags. Out: [`MailSettings`]. Always holds: what is in the server's URL is in no message.

use std::path::{Path, PathBuf};

use controlplane::notify::mail::{MailSettings, MailSink};

use crate::cli::NotifyArgs;
use crate::failure::Failure;

/// What mails are sent with; `public_url` is where links lead.
///
/// # Errors
/// When a flag or the file that it names is of no use.
pub fn settings(args: &NotifyArgs, public_url: Option<String>) -> Result<MailSettings, Failure> {
    let mut settings = MailSettings { public_url, ..MailSettings::default() };
    if let Some(sink) = &args.mail {
        settings.sink = read(sink)?;
    }
    if let Some(from) = &args.mail_from {
        settings.from = from.parse().map_err(|_| {
            let text = "--mail-from: expected ADDRESS or NAME <ADDRESS>, such as Weather <billing@weather.example>";
            Failure::configuration(text)
        })?;
    } else if matches!(settings.sink, MailSink::Smtp(_)) {
        return Err(Failure::configuration(
            "--mail smtp:FILE needs --mail-from, whom mails are from",
        ));
    }
    Ok(settings)
}

fn read(sink: &str) -> Result<MailSink, Failure> {
    match sink.split_once(':') {
        None if sink == "log" => Ok(MailSink::Log),
        Some(("file", directory)) if !directory.is_empty() => {
            Ok(MailSink::Directory(PathBuf::from(directory)))
        }
        Some(("smtp", file)) if !file.is_empty() && !file.starts_with("//") => {
            let text = std::fs::read_to_string(Path::new(file)).map_err(|error| {
                Failure::configuration(format!("--mail: cannot read {file}: {error}"))
            })?;
            Ok(MailSink::Smtp(text.trim().to_owned()))
        }
        _ => Err(Failure::configuration(
            "--mail: expected smtp:FILE with the server's URL in the file, file:DIR or log",
        )),
    }
}

#[cfg(test)]
#[path = "mail_tests.rs"]
mod tests;
