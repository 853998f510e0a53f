//! What the control plane is told.
//!
//! In: its flags, completed by environment and defaults. Out: a [`Config`].
//! Always holds: what is secret in the database is never written without a key; a key that is made here is a file that
//! its owner alone reads.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use controlplane::api::ApiSettings;
use controlplane::secrets::Keyring;
use controlplane::server::Config;
use controlplane::storage::{AUDIT_DAYS_DEFAULT, DAY_MS, Retention};
use controlplane::tls::TlsFiles;
use controlplane::world::System;

use super::{DATA_DIR, billing, mail};
use crate::cli::{ControlplaneArgs, KeptArgs};
use crate::failure::Failure;

/// Where the control plane listens where nobody says.
pub const LISTEN_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8082);
/// Where keys may be instead of in a file; not among the flags, where every user of the machine could read them.
const KEYS_VARIABLE: &str = "PAYFENCE_SECRET_KEYS";
const KEYS_FILE: &str = "secrets.key";
const DATABASE_FILE: &str = "controlplane.db";

/// What the control plane is told.
///
/// # Errors
/// When keys cannot be read, or the data directory cannot be made.
pub fn config(args: &ControlplaneArgs) -> Result<Config, Failure> {
    let data_dir = args.data_dir.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR));
    let keyring = Arc::new(keyring(args, &data_dir)?);
    make_directory(&data_dir)?;
    let database_url = database_url(args.database_url.as_deref(), &data_dir);
    let billing = billing::settings(&args.billing)?;
    let public_url = billing.as_ref().and_then(|billing| billing.public_url.clone());
    Ok(Config {
        mail: mail::settings(&args.notify, public_url)?,
        database_url,
        listen: args.listen.unwrap_or(LISTEN_DEFAULT),
        tls: tls(args)?,
        billing,
        keyring,
        folder: data_dir,
        audit_days: args.audit_days.unwrap_or(AUDIT_DAYS_DEFAULT),
        kept: kept(&args.kept),
        clickhouse: super::journal::clickhouse(&args.clickhouse)?,
        api: ApiSettings {
            allow_private_origins: args.allow_private_origins,
            allow_private_webhooks: args.notify.allow_private_webhooks,
            ..ApiSettings::default()
        },
        webhook_secrets: Arc::new(billing::webhook_secrets(&args.webhook_secrets)?),
    })
}

/// The database that is meant, where none was named too.
pub fn database_url(url: Option<&str>, data_dir: &Path) -> String {
    match url {
        Some(url) => url.to_owned(),
        None => format!("sqlite://{}", data_dir.join(DATABASE_FILE).display()),
    }
}

/// What is kept of decisions that nodes ship to a control plane.
pub fn kept(args: &KeptArgs) -> Retention {
    let default = Retention::default();
    let ms = |days: Option<u16>| days.map(|days| i64::from(days) * DAY_MS);
    Retention {
        decisions: args.decisions_kept.unwrap_or(default.decisions),
        decisions_ms: ms(args.decisions_kept_days).unwrap_or(default.decisions_ms),
        minutes_ms: ms(args.usage_minutes_kept_days).unwrap_or(default.minutes_ms),
        days_ms: ms(args.usage_days_kept_days).unwrap_or(default.days_ms),
        ..default
    }
}

fn tls(args: &ControlplaneArgs) -> Result<Option<TlsFiles>, Failure> {
    match (&args.tls_cert, &args.tls_key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Ok(Some(TlsFiles { certificate: certificate.clone(), key: key.clone() }))
        }
        // Flags ask for both, but of two variables one may be set.
        _ => Err(Failure::configuration("--tls-cert and --tls-key go together; give both or none")),
    }
}

fn keyring(args: &ControlplaneArgs, data_dir: &Path) -> Result<Keyring, Failure> {
    if let Ok(text) = std::env::var(KEYS_VARIABLE) {
        // In one line of an environment, `,` stands for a line's end.
        return Keyring::parse(&text.replace(',', "\n"))
            .map_err(|error| Failure::configuration(format!("{KEYS_VARIABLE}: {error}")));
    }
    let file = args.secret_keys_file.clone().unwrap_or_else(|| data_dir.join(KEYS_FILE));
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && args.secret_keys_file.is_none() => {
            make_directory(data_dir)?;
            make_keys(&file)?
        }
        Err(error) => {
            let file = file.display();
            return Err(Failure::configuration(format!("cannot read the keys of {file}: {error}")));
        }
    };
    Keyring::parse(&text)
        .map_err(|error| Failure::configuration(format!("{}: {error}", file.display())))
}

fn make_keys(file: &Path) -> Result<String, Failure> {
    let text = Keyring::generate(&System);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = made.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => {
            tracing::info!(file = %file.display(), "made a key for secrets; keep a copy of it apart from the database");
            Ok(text)
        }
        Err(error) => {
            let file = file.display();
            Err(Failure::configuration(format!("cannot write the key {file}: {error}")))
        }
    }
}

fn make_directory(directory: &Path) -> Result<(), Failure> {
    // What is made here holds customers' addresses and a key: for its owner alone.
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        let directory = directory.display();
        Failure::configuration(format!("cannot make the data directory {directory}: {error}"))
    })
}

#[cfg(test)]
#[path = "controlplane_tests.rs"]
mod tests;
