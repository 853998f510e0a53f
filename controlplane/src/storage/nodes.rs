//! What storage knows of nodes beside their rows: who they are by their token, their starts, how they are, mail for them.
//!
//! In: a token's hash, a start's random number, reports. Out: a node that may come in, or why it may not.
//! Always holds: starts of a node are numbered in the order in which they first came, a start keeps its number for
//! ever, and only the newest may speak; nothing here is an administrator's change, so nothing is audited.

use sea_orm::entity::prelude::*;
use sea_orm::{DbBackend, Statement, Value};

use super::error::{StorageError, StorageResult};
use super::rows::{Entity, Node, NodeToken, column};
use super::{Store, begin_write};

/// Starts of a node that are remembered, so that a late message of an old one is known for what it is.
const STARTS_KEPT: i64 = 100;
/// Mail that nobody fetched is thrown away after this, milliseconds: whoever waits has asked again long before.
const MAIL_KEPT_MS: i64 = 60_000;
/// A node that was not heard for longer is away, and not behind.
const HEARD_MS: i64 = 60_000;

/// A node that showed a good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownNode {
    /// Its row's number: how the ledger names it.
    pub key: i64,
    /// Its name.
    pub name: String,
    /// From when on its token is refused, Unix milliseconds.
    pub expires_at_ms: Option<i64>,
}

/// What a node's token is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may come in.
    Known(KnownNode),
    /// Never issued.
    Unknown,
    /// Revoked, expired, or its node is archived.
    Revoked,
    /// Its node was declared dead.
    Dead,
}

/// Where a start stands among those of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is the newest, and has this number.
    Current(u64),
    /// A later one has come.
    Superseded,
}

/// How nodes follow the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodesLag {
    /// Nodes that were heard lately.
    pub reporting: i64,
    /// Published changes that the last of them does not have in force.
    pub lag: i64,
}

/// What a node says of itself in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// The last change in force there.
    pub applied_sequence: i64,
    /// The base below it.
    pub base_sequence: i64,
    /// Bases and changes refused since its start.
    pub rejected: i64,
    /// Why the last one was.
    pub error: Option<String>,
    /// The program's version.
    pub program: String,
}

impl Store {
    /// Who shows a token with this hash.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn admit_node(&self, hash: &[u8; 32]) -> StorageResult<Admission> {
        // By the unique index over hashes: what the time it takes could tell is about a hash, not about a token.
        let query = Entity::<NodeToken>::find().filter(column::NodeToken::Hash.eq(hash.to_vec()));
        let Some(token) = query.one(&self.database).await? else { return Ok(Admission::Unknown) };
        let query = Entity::<Node>::find().filter(column::Node::Id.eq(token.node_id.as_str()));
        let Some(node) = query.one(&self.database).await? else { return Ok(Admission::Unknown) };
        if node.declared_dead_at_ms.is_some() {
            return Ok(Admission::Dead);
        }
        let is_over = token.expires_at_ms.is_some_and(|at_ms| at_ms <= self.world.now_ms());
        if token.revoked_at_ms.is_some() || node.archived_at_ms.is_some() || is_over {
            return Ok(Admission::Revoked);
        }
        let expires_at_ms = token.expires_at_ms;
        Ok(Admission::Known(KnownNode { key: node.key, name: node.name, expires_at_ms }))
    }

    /// The number of a node's start; a new one becomes the newest.
    pub async fn node_start(&self, node: i64, epoch: u64) -> StorageResult<Start> {
        let epoch = format!("{epoch:016x}");
        if let Some(start) = self.known_start(node, &epoch).await? {
            return Ok(start);
        }
        let transaction = begin_write(&self.database).await?;
        let backend = transaction.get_database_backend();
        let lock = if backend == DbBackend::Postgres { " FOR UPDATE" } else { "" };
        let sql = format!("SELECT key FROM nodes WHERE key = $1{lock}");
        transaction
            .query_one_raw(Statement::from_sql_and_values(backend, sql, [node.into()]))
            .await?;
        let now_ms = self.world.now_ms();
        let insert = "INSERT INTO node_starts (node_key, epoch, start, begun_at_ms) VALUES ($1, $2, \
             (SELECT COALESCE(MAX(start), 0) + 1 FROM node_starts WHERE node_key = $1), $3) \
             ON CONFLICT (node_key, epoch) DO NOTHING";
        let values: [Value; 3] = [node.into(), epoch.as_str().into(), now_ms.into()];
        transaction.execute_raw(Statement::from_sql_and_values(backend, insert, values)).await?;
        let update = "UPDATE nodes SET epoch = $2 WHERE key = $1";
        let values: [Value; 2] = [node.into(), epoch.as_str().into()];
        transaction.execute_raw(Statement::from_sql_and_values(backend, update, values)).await?;
        let forget = "DELETE FROM node_starts WHERE node_key = $1 AND start <= \
             (SELECT MAX(start) FROM node_starts WHERE node_key = $1) - $2";
        let values: [Value; 2] = [node.into(), STARTS_KEPT.into()];
        transaction.execute_raw(Statement::from_sql_and_values(backend, forget, values)).await?;
        transaction.commit().await?;
        let start = self.known_start(node, &epoch).await?;
        start.ok_or_else(|| StorageError::Broken("a node's start was not kept".to_owned()))
    }

    async fn known_start(&self, node: i64, epoch: &str) -> StorageResult<Option<Start>> {
        let sql = "SELECT start, (SELECT MAX(start) FROM node_starts WHERE node_key = $1) AS newest \
             FROM node_starts WHERE node_key = $1 AND epoch = $2";
        let values: [Value; 2] = [node.into(), epoch.into()];
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let Some(row) = self.database.query_one_raw(statement).await? else { return Ok(None) };
        let (start, newest): (i64, i64) = (row.try_get("", "start")?, row.try_get("", "newest")?);
        let number = u64::try_from(start).unwrap_or_default();
        Ok(Some(if start == newest { Start::Current(number) } else { Start::Superseded }))
    }

    /// Writes down that a node hears of changes from here on, with what it has: who waits until nodes know of something waits
    /// for it, too, from now on and not from its first report.
    pub async fn node_connected(&self, node: i64, has: i64) -> StorageResult<()> {
        let sql = "UPDATE nodes SET applied_sequence = $2, last_seen_at_ms = $3 WHERE key = $1";
        let values: [Value; 3] = [node.into(), has.into(), self.world.now_ms().into()];
        let backend = self.database.get_database_backend();
        self.database.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        Ok(())
    }

    /// Writes down how a node is.
    pub async fn node_reported(&self, node: i64, report: &NodeReport) -> StorageResult<()> {
        let sql = "UPDATE nodes SET applied_sequence = $2, base_sequence = $3, rejected = $4, error = $5, \
             program = $6, last_seen_at_ms = $7 WHERE key = $1";
        let values: [Value; 7] = [
            node.into(),
            report.applied_sequence.into(),
            report.base_sequence.into(),
            report.rejected.into(),
            report.error.clone().into(),
            report.program.as_str().into(),
            self.world.now_ms().into(),
        ];
        let backend = self.database.get_database_backend();
        self.database.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        Ok(())
    }

    /// How far nodes are behind that were heard within [`HEARD_MS`].
    pub async fn nodes_lag(&self) -> StorageResult<NodesLag> {
        let sql = "SELECT count(*) AS reporting, MIN(applied_sequence) AS applied, \
             (SELECT sequence FROM outbox_head WHERE id = 1) AS head FROM nodes \
             WHERE archived_at_ms IS NULL AND declared_dead_at_ms IS NULL AND last_seen_at_ms > $1";
        let since: [Value; 1] = [self.world.now_ms().saturating_sub(HEARD_MS).into()];
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, since);
        let Some(row) = self.database.query_one_raw(statement).await? else {
            return Ok(NodesLag::default());
        };
        let (head, applied) =
            (row.try_get::<Option<i64>>("", "head")?, row.try_get::<Option<i64>>("", "applied")?);
        let lag =
            head.zip(applied).map_or(0, |(head, applied)| head.saturating_sub(applied).max(0));
        Ok(NodesLag { reporting: row.try_get("", "reporting")?, lag })
    }

    /// Whether other control planes may use this database at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.database.get_database_backend() == DbBackend::Postgres
    }

    /// Leaves mail for nodes that are connected elsewhere: node, start, bytes.
    pub async fn put_mail(&self, mail: &[(i64, u64, Vec<u8>)]) -> StorageResult<()> {
        let backend = self.database.get_database_backend();
        let now_ms = self.world.now_ms();
        let forget = "DELETE FROM node_mail WHERE created_at_ms < $1";
        let old: [Value; 1] = [now_ms.saturating_sub(MAIL_KEPT_MS).into()];
        self.database.execute_raw(Statement::from_sql_and_values(backend, forget, old)).await?;
        let insert =
            "INSERT INTO node_mail (node_key, start, reply, created_at_ms) VALUES ($1, $2, $3, $4)";
        for (node, start, reply) in mail {
            let start = i64::try_from(*start).unwrap_or_default();
            let values: [Value; 4] =
                [(*node).into(), start.into(), reply.clone().into(), now_ms.into()];
            let statement = Statement::from_sql_and_values(backend, insert, values);
            self.database.execute_raw(statement).await?;
        }
        Ok(())
    }

    /// Takes what was left for these nodes, oldest first.
    pub async fn take_mail(&self, nodes: &[i64]) -> StorageResult<Vec<(i64, u64, Vec<u8>)>> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let marks: Vec<String> = (1..=nodes.len()).map(|number| format!("${number}")).collect();
        let sql = format!(
            "DELETE FROM node_mail WHERE node_key IN ({}) RETURNING id, node_key, start, reply",
            marks.join(", ")
        );
        let values: Vec<Value> = nodes.iter().map(|node| (*node).into()).collect();
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let mut mail = Vec::new();
        for row in self.database.query_all_raw(statement).await? {
            let start: i64 = row.try_get("", "start")?;
            let id: i64 = row.try_get("", "id")?;
            let start = u64::try_from(start).unwrap_or_default();
            mail.push((id, row.try_get("", "node_key")?, start, row.try_get("", "reply")?));
        }
        mail.sort_unstable_by_key(|(id, ..)| *id);
        Ok(mail.into_iter().map(|(_, node, start, reply)| (node, start, reply)).collect())
    }

    /// Nodes that were declared dead and whose leases are not settled yet.
    pub async fn unburied(&self) -> StorageResult<Vec<i64>> {
        let query = Entity::<Node>::find()
            .filter(column::Node::DeclaredDeadAtMs.is_not_null())
            .filter(column::Node::BuriedAtMs.is_null());
        Ok(query.all(&self.database).await?.into_iter().map(|node| node.key).collect())
    }

    /// Says that a dead node's leases are settled.
    pub async fn bury(&self, node: i64) -> StorageResult<()> {
        let sql = "UPDATE nodes SET buried_at_ms = $2 WHERE key = $1";
        let values: [Value; 2] = [node.into(), self.world.now_ms().into()];
        let backend = self.database.get_database_backend();
        self.database.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        Ok(())
    }

    /// The name of this database's past; made by whoever asks first.
    pub async fn history(&self) -> StorageResult<u64> {
        let mut bytes = [0; 8];
        self.world.fill(&mut bytes);
        // Never 0, and positive in the database's signed numbers.
        let fresh = i64::from_be_bytes(bytes) & i64::MAX | 1;
        let backend = self.database.get_database_backend();
        let insert =
            "INSERT INTO installation (id, history) VALUES (1, $1) ON CONFLICT (id) DO NOTHING";
        let select = "SELECT history FROM installation WHERE id = 1";
        let mut row = self.database.query_one_raw(Statement::from_string(backend, select)).await?;
        if row.is_none() {
            let statement = Statement::from_sql_and_values(backend, insert, [fresh.into()]);
            self.database.execute_raw(statement).await?;
            row = self.database.query_one_raw(Statement::from_string(backend, select)).await?;
        }
        let history: Option<i64> = row.map(|row| row.try_get("", "history")).transpose()?;
        history
            .and_then(|history| u64::try_from(history).ok())
            .ok_or_else(|| StorageError::Broken("the database has no history".to_owned()))
    }

    /// Begins a new history, because a node knows of change `seen`, which this database of history `old` does not have:
    /// it was brought back from a backup. Numbers go on after `seen`, so that of two terms of an entitlement the later
    /// ones still have the higher number. False where somebody else did, or the change is there.
    pub async fn begin_history(&self, old: u64, seen: u64) -> StorageResult<bool> {
        let mut bytes = [0; 8];
        self.world.fill(&mut bytes);
        let fresh = i64::from_be_bytes(bytes) & i64::MAX | 1;
        let (Ok(old), Ok(seen)) = (i64::try_from(old), i64::try_from(seen)) else {
            return Ok(false);
        };
        let transaction = begin_write(&self.database).await?;
        let backend = transaction.get_database_backend();
        let advance = "UPDATE outbox_head SET sequence = $1 WHERE id = 1 AND sequence < $1";
        let statement = Statement::from_sql_and_values(backend, advance, [seen.into()]);
        let is_behind = transaction.execute_raw(statement).await?.rows_affected() == 1;
        let renew = "UPDATE installation SET history = $1 WHERE id = 1 AND history = $2";
        let values: [Value; 2] = [fresh.into(), old.into()];
        let statement = Statement::from_sql_and_values(backend, renew, values);
        let is_ours = transaction.execute_raw(statement).await?.rows_affected() == 1;
        if is_behind && is_ours {
            transaction.commit().await?;
        }
        Ok(is_behind && is_ours)
    }
}
