//! What `doctor` says about a control plane's database.
//!
//! In: its URL. Out: a finding, none where no database was named. Always holds: nothing is made in it, no table and no file;
//! the URL, which may hold a password, is not shown.

use std::path::Path;
use std::sync::Arc;

use controlplane::billing::stripe::Mode;
use controlplane::storage::{Store, UrlError};
use controlplane::world::System;
use dataplane::preflight::Problem;

use super::Finding;
use super::journal::place;

/// So many say by what way events come.
const EVENTS_LOOKED_AT: u64 = 20;
/// Webhooks come in seconds; sweeps find what is a quarter of an hour old, as a rule.
const ON_TIME_MS: i64 = 60_000;

/// The finding.
pub fn examine(url: Option<&str>) -> Option<(String, Finding)> {
    let url = url?;
    let finding = match sqlite_file(url).filter(|file| !file.exists()) {
        Some(file) => to_be_made(file),
        None => ask(url),
    };
    Some(("database".to_owned(), finding))
}

/// The file of an SQLite URL.
fn sqlite_file(url: &str) -> Option<&Path> {
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let file = rest.split('?').next().filter(|file| !file.is_empty() && *file != ":memory:")?;
    Some(Path::new(file))
}

/// How many of the newest events of a mode there are, at most [`EVENTS_LOOKED_AT`], and how many of them came within a minute; none where no
/// database can be asked, which [`examine`] says.
pub async fn events_on_time(url: Option<&str>, mode: Mode) -> Option<(i64, i64)> {
    let url = url.filter(|url| sqlite_file(url).is_none_or(Path::exists))?;
    let store = Store::open(url, 1, Arc::new(System)).ok()?;
    let found = store.stripe_events_on_time(mode.as_str(), EVENTS_LOOKED_AT, ON_TIME_MS).await;
    store.close().await;
    found.ok()
}

fn to_be_made(file: &Path) -> Finding {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match place(folder.unwrap_or(Path::new("."))) {
        Ok(place) => Finding::Well(format!(
            "{} will be made; {} MiB are free there",
            file.display(),
            place.free >> 20
        )),
        Err(problem) => Finding::Broken(problem),
    }
}

fn ask(url: &str) -> Finding {
    let broken =
        |what: String, remedy: &str| Finding::Broken(Problem { what, remedy: remedy.to_owned() });
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return broken(error.to_string(), "look at the limits of this process"),
    };
    let answered = runtime.block_on(async {
        let store = Store::open(url, 1, Arc::new(System))?;
        let answered = store.ping().await;
        store.close().await;
        Ok::<_, UrlError>(answered)
    });
    let answered = match answered {
        Ok(answered) => answered,
        Err(error) => return broken(error.to_string(), "correct --database-url"),
    };
    match answered {
        Ok(()) => Finding::Well("it answers".to_owned()),
        Err(error) => broken(
            error.to_string(),
            "see that the server runs and can be reached from here, that the URL names a user it lets in and a database that is \
             there (of SQLite: a database file that this user may write)",
        ),
    }
}
