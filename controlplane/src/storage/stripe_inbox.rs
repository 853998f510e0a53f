//! The inbox of what Stripe tells: kept once, claimed by one worker at a time, settled with what came of it.
//!
//! In: envelopes of events; claims of workers ([`super::stripe_claims`]). Out: [`Job`]s, one a subject (what has to be asked for again).
//! Always holds: an event of a connected account is kept once, however often it comes; all events that wait for one subject
//! are one job, under that subject's lease; a job's events are done in the transaction of what was settled. Nothing here is
//! an administrator's change, so nothing is audited.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

use super::change::Change;
use super::database::Transaction;
use super::error::StorageResult;
use super::rows::TenantRow as _;
use super::stripe_event_rows::StripeEvent;
use super::stripe_leases::{self, Lease};
use super::{Store, begin_write};
use crate::ids::new_id;
use crate::world::World;

/// Events kept in one statement: their columns stay below what SQLite takes.
const INSERT_MAX: usize = 500;
/// Events of one subject that are settled at once; the rest is another job.
const JOB_EVENTS_MAX: u64 = 500;
/// How long events are kept, milliseconds: Stripe lists them for 30 days, so that none of them is taken for a new one.
const KEPT_MS: i64 = 60 * 86_400_000;
const PRUNE_STEP: u64 = 1_000;
const PRUNE_STEPS: usize = 20;

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// To be settled.
    Waiting,
    /// Settled.
    Done,
    /// Of a kind that nothing follows from.
    Ignored,
    /// Given up; an administrator can have it tried again.
    Dead,
}

impl EventState {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Ignored => "ignored",
            Self::Dead => "dead",
        }
    }
}

/// An event's envelope, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// `test` or `live`.
    pub mode: &'static str,
    /// Whose, in Stripe's words.
    pub stripe_account: String,
    /// Its id at Stripe.
    pub event_id: String,
    /// Its type.
    pub kind: String,
    /// As it said.
    pub livemode: bool,
    /// When it was made, Unix seconds; never used for order.
    pub event_at_s: i64,
    /// What it is about.
    pub object_id: Option<String>,
    /// The type of that.
    pub object_kind: Option<String>,
    /// What has to be fetched, `KIND/ID`; `None` where nothing follows.
    pub subject: Option<String>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    New,
    /// It was kept before.
    Known,
    /// Its account is connected to none of ours.
    Foreign,
}

/// An event of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEvent {
    /// Its row's number.
    pub key: i64,
    /// Its type.
    pub kind: String,
    /// What it is about.
    pub object_id: Option<String>,
    /// When it was made, Unix seconds.
    pub event_at_s: i64,
}

/// One subject, and the events that say it should be fetched again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Our account.
    pub account_id: String,
    /// `test` or `live`.
    pub mode: String,
    /// The connected account.
    pub stripe_account: String,
    /// What to fetch, `KIND/ID`.
    pub subject: String,
    /// The events, oldest first.
    pub events: Vec<JobEvent>,
    /// How often it was begun, this time included.
    pub attempts: i64,
    /// The right to settle it.
    pub lease: Lease,
}

/// What waits and what was given up, over all accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxState {
    /// Events to be settled.
    pub waiting: i64,
    /// When the oldest of them came, Unix milliseconds.
    pub oldest_ms: Option<i64>,
    /// Events that were given up.
    pub dead: i64,
}

/// The name of a subject's lease.
#[must_use]
pub fn lease_name(mode: &str, stripe_account: &str, subject: &str) -> String {
    format!("{mode}/{stripe_account}/{subject}")
}

impl Store {
    /// Keeps events that were verified; says of each what became of it.
    ///
    /// # Errors
    /// When the database cannot be asked: then none is kept. So for all below.
    pub async fn keep_stripe_events(&self, events: &[Arrived]) -> StorageResult<Vec<Kept>> {
        let mut kept = Vec::with_capacity(events.len());
        for events in events.chunks(INSERT_MAX) {
            let owners = self.owners(events).await?;
            let owned: Vec<(&Arrived, &str)> = events
                .iter()
                .filter_map(|event| Some((event, owners.get(&owner_key(event))?.as_str())))
                .collect();
            let new = self.insert_events(&owned).await?;
            kept.extend(events.iter().map(|event| {
                if !owners.contains_key(&owner_key(event)) {
                    Kept::Foreign
                } else if new.contains(&(event.stripe_account.clone(), event.event_id.clone())) {
                    Kept::New
                } else {
                    Kept::Known
                }
            }));
        }
        Ok(kept)
    }

    /// Whose the connected accounts are, lost ones included: what Stripe still tells of them counts.
    async fn owners(
        &self,
        events: &[Arrived],
    ) -> StorageResult<HashMap<(String, &'static str), String>> {
        let names: BTreeSet<&str> =
            events.iter().map(|event| event.stripe_account.as_str()).collect();
        let values: Vec<Value> = names.into_iter().map(Value::from).collect();
        let places: Vec<String> = (1..=values.len()).map(|place| format!("${place}")).collect();
        let sql = format!(
            "SELECT stripe_id, mode, account_id FROM stripe_accounts WHERE stripe_id IN ({}) \
             ORDER BY CASE WHEN lost_at_ms IS NULL THEN 1 ELSE 0 END, key",
            places.join(", ")
        );
        let backend = self.database.get_database_backend();
        let rows = self
            .database
            .query_all_raw(Statement::from_sql_and_values(backend, sql, values))
            .await?;
        let mut owners = HashMap::with_capacity(rows.len());
        for row in rows {
            let mode = if row.try_get::<String>("", "mode")? == "live" { "live" } else { "test" };
            owners.insert((row.try_get("", "stripe_id")?, mode), row.try_get("", "account_id")?);
        }
        Ok(owners)
    }

    async fn insert_events(
        &self,
        events: &[(&Arrived, &str)],
    ) -> StorageResult<HashSet<(String, String)>> {
        if events.is_empty() {
            return Ok(HashSet::new());
        }
        let now_ms = self.world.now_ms();
        let mut values: Vec<Value> = Vec::with_capacity(events.len() * 14);
        let mut rows = Vec::with_capacity(events.len());
        for (event, account_id) in events {
            let state = match event.subject {
                Some(_) => EventState::Waiting,
                None => EventState::Ignored,
            };
            let first = values.len() + 1;
            let subject = event.subject.as_deref();
            let subject =
                subject.map(|subject| lease_name(event.mode, &event.stripe_account, subject));
            values.extend([
                new_id(StripeEvent::PREFIX, &*self.world).into(),
                (*account_id).into(),
                now_ms.into(),
                event.mode.into(),
                event.stripe_account.as_str().into(),
                event.event_id.as_str().into(),
                event.kind.as_str().into(),
                event.livemode.into(),
                event.event_at_s.into(),
                event.object_id.clone().into(),
                event.object_kind.clone().into(),
                subject.into(),
                state.as_str().into(),
            ]);
            let at = |offset: usize| first + offset;
            rows.push(format!(
                "(${}, ${}, 1, ${now}, ${now}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, 0, ${now})",
                at(0), at(1), at(3), at(4), at(5), at(6), at(7), at(8), at(9), at(10), at(11), at(12),
                now = at(2),
            ));
        }
        let sql = format!(
            "INSERT INTO stripe_events (id, account_id, version, created_at_ms, updated_at_ms, mode, stripe_account, \
             event_id, kind, livemode, event_at_s, object_id, object_kind, subject, state, attempts, due_at_ms) \
             VALUES {} ON CONFLICT (stripe_account, event_id) DO NOTHING RETURNING stripe_account, event_id",
            rows.join(", ")
        );
        // Stripe waits for it.
        let database = self.database.urgent();
        let backend = database.get_database_backend();
        let rows =
            database.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        let mut new = HashSet::with_capacity(rows.len());
        for row in rows {
            new.insert((row.try_get("", "stripe_account")?, row.try_get("", "event_id")?));
        }
        Ok(new)
    }

    /// Ends a job that changed nothing.
    pub async fn end_stripe_job(&self, job: &Job, note: Option<&str>) -> StorageResult<()> {
        let transaction = begin_write(&self.database).await?;
        done(&transaction, job, self.world.now_ms(), note).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Gives a job back, to be tried again at `due_at_ms`; `is_counted` where this was an attempt.
    pub async fn postpone_stripe_job(
        &self,
        job: &Job,
        due_at_ms: i64,
        error: &str,
        is_counted: bool,
    ) -> StorageResult<()> {
        let back = i64::from(!is_counted);
        let set = "due_at_ms = $1, error = $2, attempts = attempts - $3";
        self.mark(job, set, vec![due_at_ms.into(), error.into(), back.into()]).await
    }

    /// Gives a job up until an administrator has it tried again.
    pub async fn bury_stripe_job(&self, job: &Job, error: &str) -> StorageResult<()> {
        let set = "state = 'dead', error = $1, settled_at_ms = $2";
        self.mark(job, set, vec![error.into(), self.world.now_ms().into()]).await
    }

    async fn mark(&self, job: &Job, set: &str, mut values: Vec<Value>) -> StorageResult<()> {
        let transaction = begin_write(&self.database).await?;
        let backend = transaction.get_database_backend();
        values.push(self.world.now_ms().into());
        let now = values.len();
        values.push(job.lease.name.as_str().into());
        values.push(job.lease.holder.as_str().into());
        // One whose lease was lost is another's business.
        let sql = format!(
            "UPDATE stripe_events SET {set}, version = version + 1, updated_at_ms = ${now} WHERE state = 'waiting' \
             AND key IN ({}) AND EXISTS (SELECT 1 FROM stripe_leases WHERE name = ${} AND holder = ${})",
            keys_of(job),
            now + 1,
            now + 2
        );
        transaction.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        stripe_leases::release(&transaction, &job.lease).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// What waits and what was given up.
    pub async fn inbox_state(&self) -> StorageResult<InboxState> {
        let backend = self.database.get_database_backend();
        let sql = "SELECT state, COUNT(*) AS events, MIN(created_at_ms) AS oldest_ms FROM stripe_events \
                   WHERE state IN ('waiting', 'dead') GROUP BY state";
        let rows = self.database.query_all_raw(Statement::from_string(backend, sql)).await?;
        let mut found = InboxState::default();
        for row in rows {
            let events = row.try_get("", "events")?;
            if row.try_get::<String>("", "state")? == EventState::Waiting.as_str() {
                found.waiting = events;
                found.oldest_ms = row.try_get("", "oldest_ms")?;
            } else {
                found.dead = events;
            }
        }
        Ok(found)
    }

    /// Of the newest events of a mode that Stripe made, at most `rows_max`: how many there are, and how many of them came within a time of
    /// being made, as by a webhook.
    pub async fn stripe_events_on_time(
        &self,
        mode: &str,
        rows_max: u64,
        within_ms: i64,
    ) -> StorageResult<(i64, i64)> {
        let sql = format!(
            "SELECT COUNT(*) AS events, COUNT(CASE WHEN created_at_ms - event_at_s * 1000 <= $2 THEN 1 END) AS on_time \
             FROM (SELECT created_at_ms, event_at_s FROM stripe_events WHERE mode = $1 AND event_id LIKE 'evt%' \
             ORDER BY key DESC LIMIT {rows_max}) AS newest"
        );
        let backend = self.database.get_database_backend();
        let values = [mode.into(), within_ms.into()];
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let Some(row) = self.database.query_one_raw(statement).await? else { return Ok((0, 0)) };
        Ok((row.try_get("", "events")?, row.try_get("", "on_time")?))
    }

    /// Forgets events that are old, in bounded steps, and leases nobody has; says how many events.
    pub(super) async fn prune_inbox(&self) -> StorageResult<u64> {
        let before_ms = self.world.now_ms().saturating_sub(KEPT_MS);
        let backend = self.database.get_database_backend();
        let sql = format!(
            "DELETE FROM stripe_events WHERE key IN (SELECT key FROM stripe_events \
             WHERE created_at_ms < $1 AND state <> 'waiting' ORDER BY created_at_ms LIMIT {PRUNE_STEP})"
        );
        let mut count = 0;
        for _ in 0..PRUNE_STEPS {
            let step = Statement::from_sql_and_values(backend, &sql, [before_ms.into()]);
            let gone = self.database.execute_raw(step).await?.rows_affected();
            count += gone;
            if gone < PRUNE_STEP {
                break;
            }
        }
        self.prune_leases().await?;
        Ok(count)
    }
}

impl Change {
    /// Ends a job together with this change: both are kept, or neither.
    ///
    /// # Errors
    /// `Stale` where the job's lease was lost; as all others otherwise.
    pub async fn end_stripe_job(&self, job: &Job) -> StorageResult<()> {
        self.hold(&job.lease).await?;
        done(&self.transaction, job, self.now_ms, None).await
    }
}

fn owner_key(event: &Arrived) -> (String, &'static str) {
    (event.stripe_account.clone(), event.mode)
}

/// Numbers alone, so they can stand in a statement as they are.
fn keys_of(job: &Job) -> String {
    let keys: Vec<String> = job.events.iter().map(|event| event.key.to_string()).collect();
    if keys.is_empty() { "0".to_owned() } else { keys.join(", ") }
}

/// Whose a subject is.
#[derive(Clone, Debug)]
pub(super) struct Whose {
    pub(super) account_id: String,
    pub(super) mode: String,
    pub(super) stripe_account: String,
}

/// Takes the leases of subjects that nobody has, by their names, and begins what waits for them.
pub(super) async fn begin_jobs(
    transaction: &Transaction,
    world: &dyn World,
    // In the order of their names, so that two that claim at once never wait for each other in a circle.
    subjects: BTreeMap<String, Whose>,
    lease_ms: i64,
) -> StorageResult<Vec<Job>> {
    let now_ms = world.now_ms();
    let mut jobs = Vec::with_capacity(subjects.len());
    for (name, whose) in subjects {
        let lease = Lease { name, holder: new_id("hold", world) };
        if !stripe_leases::take(transaction, &lease, now_ms, lease_ms).await? {
            continue;
        }
        let (events, attempts) = begin(transaction, &lease.name).await?;
        let Whose { account_id, mode, stripe_account } = whose;
        let subject = lease.name[lease_name(&mode, &stripe_account, "").len()..].to_owned();
        jobs.push(Job { account_id, mode, stripe_account, subject, events, attempts, lease });
    }
    Ok(jobs)
}

/// The events that wait for a subject, counted as begun once more.
async fn begin(transaction: &Transaction, name: &str) -> StorageResult<(Vec<JobEvent>, i64)> {
    let backend = transaction.get_database_backend();
    let lock = if backend == DbBackend::Postgres { " FOR UPDATE SKIP LOCKED" } else { "" };
    let sql = format!(
        "UPDATE stripe_events SET attempts = attempts + 1 WHERE key IN (SELECT key FROM stripe_events \
         WHERE subject = $1 AND state = 'waiting' ORDER BY key LIMIT {JOB_EVENTS_MAX}{lock}) \
         RETURNING key, kind, object_id, event_at_s, attempts"
    );
    let rows = transaction
        .query_all_raw(Statement::from_sql_and_values(backend, sql, [name.into()]))
        .await?;
    let mut events = Vec::with_capacity(rows.len());
    let mut attempts = 0;
    for row in rows {
        attempts = attempts.max(row.try_get("", "attempts")?);
        events.push(JobEvent {
            key: row.try_get("", "key")?,
            kind: row.try_get("", "kind")?,
            object_id: row.try_get("", "object_id")?,
            event_at_s: row.try_get("", "event_at_s")?,
        });
    }
    events.sort_by_key(|event| event.key);
    Ok((events, attempts))
}

async fn done(
    transaction: &Transaction,
    job: &Job,
    now_ms: i64,
    note: Option<&str>,
) -> StorageResult<()> {
    let sql = format!(
        "UPDATE stripe_events SET state = 'done', version = version + 1, updated_at_ms = $1, settled_at_ms = $1, error = $2 \
         WHERE state = 'waiting' AND key IN ({})",
        keys_of(job)
    );
    let values: [Value; 2] = [now_ms.into(), note.map(ToOwned::to_owned).into()];
    let backend = transaction.get_database_backend();
    transaction.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    stripe_leases::release(transaction, &job.lease).await
}
