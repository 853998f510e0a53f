//! The policy file of `payfence dev` on its way into the control plane, and from there to the node.
//!
//! In: the file's bytes at the start and with every change. Out: a control plane that is as the file says, a node that has acknowledged it.
//! Always holds: it goes the way of `payfence apply`; a file that is wrong, alone or with what was made by REST, changes nothing; what the
//! file has never named stays ([`crate::declare::keep`]); what was named is on disk before anything is changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use controlplane::storage::Store;
use dataplane::offcore::policy_source;
use dataplane::offcore::policy_watch::Reports;
use dataplane::offcore::state::NodeState;
use policy::snapshot::Snapshot;
use reqwest::StatusCode;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::files;
use super::supervisor::Supervisor;
use crate::declare::bought;
use crate::declare::difference::{self, Act, Difference};
use crate::declare::form::Kind;
use crate::declare::keep::{self, Before, Merged};
use crate::declare::perform::{StepError, Stopped, perform};
use crate::declare::rest::{Rest, RestError};
use crate::declare::state::{self, Current, CurrentSite, WantedSite};
use crate::declare::text::export;

/// What the file named when it was applied, in the data directory.
const NAMED_FILE: &str = "dev-named.json";
/// Tries where somebody else changed the same rows meanwhile.
const TRIES_MAX: u32 = 3;
/// Changes that are logged one by one.
const LINES_MAX: usize = 100;
/// How long the node may take to acknowledge.
const ACKNOWLEDGE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// The node, once there is one.
#[derive(Debug, Default)]
pub struct TheNode(OnceLock<Arc<NodeState>>);

impl TheNode {
    /// There is one now.
    pub fn set(&self, state: &Arc<NodeState>) {
        // There is one a process.
        let _ = self.0.set(Arc::clone(state));
    }
}

/// The node tells of the file, as one does that reads it by itself.
impl Reports for TheNode {
    fn loaded(&self, _: u64) {
        self.is_current();
    }

    fn refused(&self, error: String) {
        if let Some(state) = self.0.get() {
            state.snapshot_refused(error);
        }
    }

    fn is_current(&self) {
        if let Some(state) = self.0.get() {
            state.snapshot_is_current();
        }
    }
}

/// Brings files in, one after another.
pub struct Bringer {
    /// How the control plane is asked.
    pub rest: Arc<Rest>,
    /// Its database, whose changes have numbers.
    pub store: Store,
    /// Where it is asked.
    pub runtime: Handle,
    /// Who ends it.
    pub supervisor: Arc<Supervisor>,
    /// Who has to have it.
    pub node: Arc<TheNode>,
    /// Where it is remembered what was named.
    pub data_dir: PathBuf,
}

impl Bringer {
    /// Has the control plane be as the file says, and the node have it where there is one; what is then in force of the file's sites.
    ///
    /// # Errors
    /// Text for a person.
    pub fn bring(&self, path: &Path, bytes: &[u8]) -> Result<Snapshot, String> {
        let snapshot = policy_source::load_and_log(path, bytes, 1)?;
        let name = path.display().to_string();
        let wanted = state::wanted(&name, bytes)?;
        let done = self.runtime.block_on(self.supervisor.unless_stopped(async {
            let merged = self.apply(&name, &wanted).await?;
            self.acknowledged().await;
            Ok(merged)
        }));
        done.unwrap_or_else(|| Err("told to stop meanwhile".to_owned()))
            .map(|merged| merged.unwrap_or(snapshot))
    }

    /// The policy in force, where it is another than the file's.
    async fn apply(&self, name: &str, wanted: &[WantedSite]) -> Result<Option<Snapshot>, String> {
        let mut tries = 1;
        loop {
            match self.try_once(name, wanted).await {
                Err(Failed::Disturbed(_)) if tries < TRIES_MAX => tries += 1,
                Err(Failed::Disturbed(text) | Failed::For(text)) => return Err(text),
                Ok(snapshot) => return Ok(snapshot),
            }
        }
    }

    async fn try_once(
        &self,
        name: &str,
        wanted: &[WantedSite],
    ) -> Result<Option<Snapshot>, Failed> {
        let before = self.remembered()?;
        let slugs = wanted.iter().map(|site| site.form.slug.clone());
        let slugs: BTreeSet<String> = slugs.chain(before.keys().cloned()).collect();
        let mut current = state::current(&self.rest, Some(&slugs)).await?;
        let Merged { sites, mut notes } = keep::merge(&current, &before, wanted);
        let (sites, kept) = bought::keep(&current, sites);
        notes.extend(kept);
        let snapshot = in_force(name, wanted, &sites)?;
        let (mut all, more) = keep::ended(&current, &before, wanted);
        notes.extend(more);
        let found = difference::between(&current, &sites, false);
        let found = found.map_err(|faults| Failed::For(told(name, &faults)))?;
        self.check_keys(name, &found).await?;
        all.lines.extend(found.lines);
        all.steps.extend(found.steps);
        for note in &notes {
            tracing::warn!("{name}: {note}");
        }
        log(&all, name);
        self.perform(&before, wanted, &mut current, &all).await?;
        Ok(snapshot)
    }

    async fn perform(
        &self,
        before: &Before,
        wanted: &[WantedSite],
        current: &mut Current,
        all: &Difference,
    ) -> Result<(), Failed> {
        let now: Before =
            wanted.iter().map(|site| (site.form.slug.clone(), site.named.clone())).collect();
        if !all.steps.is_empty() {
            // What is cut off in the middle is known to be the file's at the next start.
            let mut both = before.clone();
            for (slug, named) in &now {
                both.entry(slug.clone()).or_default().join(named);
            }
            self.remember(&both)?;
            perform(&self.rest, &mut current.ids, &all.steps).await?;
        }
        if now != *before || !all.steps.is_empty() {
            self.remember(&now)?;
        }
        Ok(())
    }

    /// A key stays where it is first known: said before anything is changed.
    async fn check_keys(&self, name: &str, found: &Difference) -> Result<(), Failed> {
        let mut made = found.steps.iter().filter_map(|step| match &step.act {
            Act::Create(fields) if step.kind == Kind::Token => Some((step, fields.get("sha256")?)),
            _ => None,
        });
        let made: Vec<_> = made.by_ref().collect();
        if made.is_empty() {
            return Ok(());
        }
        let known = self.rest.list("/v1/tokens", &[("revoked", "true")]).await?;
        let known: BTreeSet<&str> =
            known.iter().filter_map(|row| row.get("sha256")?.as_str()).collect();
        let faults: Vec<String> = made
            .iter()
            .filter(|(_, hash)| hash.as_str().is_some_and(|hash| known.contains(hash)))
            .map(|(step, _)| {
                format!(
                    "site {}: token {}: the control plane knows this key as another site's or name's, where it stays; use another key \
                     (`payfence token new`)",
                    step.slug, step.key
                )
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(Failed::For(told(name, &faults))) }
    }

    fn named_file(&self) -> PathBuf {
        self.data_dir.join(NAMED_FILE)
    }

    fn remembered(&self) -> Result<Before, Failed> {
        let file = self.named_file();
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Before::default()),
            Err(error) => {
                return Err(Failed::For(files::broken("read", &file, &error).to_string()));
            }
        };
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!(
                file = %file.display(), %error,
                "cannot tell what the policy file named before: what it names no longer stays"
            );
            Before::default()
        }))
    }

    fn remember(&self, named: &Before) -> Result<(), Failed> {
        let file = self.named_file();
        let text = serde_json::to_string(named).map_err(|error| Failed::For(error.to_string()))?;
        files::replace(&file, &text, 0o600)
            .map_err(|error| Failed::For(files::broken("write", &file, &error).to_string()))
    }

    /// Waits until the node, where there is one, has everything that was changed until now.
    pub async fn acknowledged(&self) {
        let Some(state) = self.node.0.get() else { return };
        let has_all = async {
            // Whoever numbers it first: it is numbered then.
            while self.store.outbox().publish_once().await.is_err() {
                sleep(LOOK).await;
            }
            let head = u64::try_from(self.store.outbox().head()).unwrap_or_default();
            while state.snapshot_sequence() < head && !state.is_draining() {
                sleep(LOOK).await;
            }
        };
        if timeout(ACKNOWLEDGE, has_all).await.is_err() {
            tracing::warn!(
                "the node has not acknowledged the policy yet; it will be in force once it has"
            );
        }
    }
}

enum Failed {
    /// Somebody else changed the same.
    Disturbed(String),
    For(String),
}

impl From<Stopped> for Failed {
    fn from(stopped: Stopped) -> Self {
        let text = format!("{stopped}; what was done stays done, save the file again to go on");
        match stopped.error {
            StepError::Rest(RestError::Refused {
                status:
                    StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT | StatusCode::NOT_FOUND,
                ..
            }) => Self::Disturbed(text),
            _ => Self::For(text),
        }
    }
}

impl From<state::StateError> for Failed {
    fn from(error: state::StateError) -> Self {
        Self::For(error.to_string())
    }
}

impl From<RestError> for Failed {
    fn from(error: RestError) -> Self {
        Self::For(error.to_string())
    }
}

fn told(name: &str, faults: &[String]) -> String {
    faults.iter().map(|fault| format!("{name}: {fault}")).collect::<Vec<_>>().join("\n       ")
}

/// What the sites are together with what was made by REST, where that is more than the file.
fn in_force(
    name: &str,
    wanted: &[WantedSite],
    merged: &[WantedSite],
) -> Result<Option<Snapshot>, Failed> {
    if wanted.iter().map(|site| &site.form).eq(merged.iter().map(|site| &site.form)) {
        return Ok(None);
    }
    let mut all = Current::default();
    for site in merged {
        let is = CurrentSite { form: site.form.clone(), ..CurrentSite::default() };
        all.sites.insert(is.form.slug.clone(), is);
    }
    let place = format!("{name} and what was made by REST beside it");
    let loaded = policy_source::load(Path::new(&place), export(&all).text.as_bytes(), 1);
    Ok(Some(loaded.map_err(Failed::For)?.snapshot))
}

fn log(difference: &Difference, name: &str) {
    for line in difference.lines.iter().take(LINES_MAX) {
        tracing::info!("{line}");
    }
    match difference.lines.len() {
        0 => tracing::info!("the control plane is as {name} says"),
        all => tracing::info!(changes = all, "applying {name}"),
    }
}
