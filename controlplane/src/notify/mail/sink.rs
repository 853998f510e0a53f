//! Where mails go: an SMTP server, a directory, the log, or nowhere.
//!
//! In: messages. Out: messages handed over, or why not.
//! Always holds: an attempt takes at most [`TIMEOUT`]; user and password of the server are in no message of ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::transport::smtp::Error as SmtpError;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

/// From the connection to the server's last word.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an error that are kept.
const ERROR_CHARS_MAX: usize = 200;

/// Where mails go.
#[derive(Clone, PartialEq, Eq)]
pub enum MailSink {
    /// Nowhere: each is marked as skipped.
    Off,
    /// Into the log, links included: for development alone.
    Log,
    /// Into files of this directory.
    Directory(PathBuf),
    /// To the server of this URL: `smtp://` (with `?tls=required` for STARTTLS) or `smtps://`, with user and password.
    Smtp(String),
}

impl std::fmt::Debug for MailSink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => formatter.write_str("Off"),
            Self::Log => formatter.write_str("Log"),
            Self::Directory(directory) => {
                formatter.debug_tuple("Directory").field(directory).finish()
            }
            Self::Smtp(_) => formatter.write_str("Smtp"),
        }
    }
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    /// For people.
    pub text: String,
    /// Whether it never will be.
    pub is_permanent: bool,
}

/// A sink that messages can be handed to.
#[derive(Clone)]
pub enum Transport {
    /// [`MailSink::Off`].
    Off,
    /// [`MailSink::Log`].
    Log,
    /// [`MailSink::Directory`].
    Directory(PathBuf),
    /// [`MailSink::Smtp`].
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Transport")
    }
}

impl Transport {
    /// A sink, ready.
    ///
    /// # Errors
    /// Text for a person: the URL or the directory is of no use.
    pub fn new(sink: &MailSink) -> Result<Self, String> {
        match sink {
            MailSink::Off => Ok(Self::Off),
            MailSink::Log => Ok(Self::Log),
            MailSink::Directory(directory) => {
                std::fs::create_dir_all(directory).map_err(|error| {
                    format!("cannot make the mail directory {}: {error}", directory.display())
                })?;
                Ok(Self::Directory(directory.clone()))
            }
            MailSink::Smtp(url) => {
                // The error would show the URL.
                let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|_| {
                    "the mail server's URL cannot be read; expected smtp://USER:PASSWORD@HOST:PORT?tls=required or smtps://…"
                        .to_owned()
                })?;
                Ok(Self::Smtp(builder.timeout(Some(TIMEOUT)).build()))
            }
        }
    }

    /// Whether nothing is sent at all.
    #[must_use]
    pub fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }

    /// Hands a message over.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn send(&self, id: &str, message: &Message) -> Result<(), SendError> {
        match self {
            Self::Off => Ok(()),
            Self::Log => {
                let text = String::from_utf8_lossy(&message.formatted()).into_owned();
                tracing::info!(mail = id, text, "a mail");
                Ok(())
            }
            Self::Directory(directory) => {
                let file = directory.join(format!("{id}.eml"));
                let bytes = message.formatted();
                let written = tokio::task::spawn_blocking(move || write(&file, &bytes)).await;
                let error = match written {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                };
                let text = format!("cannot write the mail: {error}");
                Err(SendError { text, is_permanent: false })
            }
            Self::Smtp(transport) => {
                match tokio::time::timeout(TIMEOUT, transport.send(message.clone())).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(send_error(&error)),
                    Err(_) => {
                        let text = "the mail server took too long".to_owned();
                        Err(SendError { text, is_permanent: false })
                    }
                }
            }
        }
    }
}

/// Under another name first, so that whoever watches the directory sees whole mails alone.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let partial = file.with_extension("partial");
    std::fs::write(&partial, bytes)?;
    std::fs::rename(&partial, file)
}

fn send_error(error: &SmtpError) -> SendError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let told = next.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = next.source();
    }
    let text = text.chars().filter(|each| !each.is_control()).take(ERROR_CHARS_MAX).collect();
    // A server that refuses us (user, password, TLS) is the operator's to mend: what waits is sent then.
    let is_ours =
        error.status().is_some_and(|code| matches!(u16::from(code), 530 | 534 | 535 | 538));
    SendError { text, is_permanent: error.is_permanent() && !is_ours }
}
