//! The ledger's accounts: one row for each entitlement that was ever asked about.
//!
//! In: one report's requests. Out: the ledger's replies.
//! Always holds: what a report changes is one transaction, and replies are given only after it was committed; accounts
//! are changed under locks that everybody takes in the same order, so any number of control planes may serve; the time
//! is the database's, so that all of them have the same.
//!
//! A row's `state` is one byte of format (1) and the account in `postcard`.

use std::collections::BTreeMap;

use policy::budget::ledger::{Account, Authority, Borrower, LedgerNow, Posted};
use policy::budget::message::LeaseRequest;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement, Value};

use super::database::Transaction;
use super::error::{StorageError, StorageResult};
use super::policy_rows::VALUES_MAX;
use super::{Store, begin_write};
use super::{crossings, overage};

const FORMAT: u8 = 1;
/// Locks over all accounts; an account's is chosen by its id.
const LOCKS: u8 = 64;
/// The first of PostgreSQL's advisory locks that these are: `pfledger` in ASCII, with room after it.
const LOCK_BASE: i64 = 0x7066_6c65_6467_0000;
/// Periods that are over are kept for late reports, seconds: as long as what was used past a limit then can be charged.
const KEEP_S: i64 = crate::overage::OLDEST_S;
/// Accounts looked at in one transaction while a dead node's leases are settled.
const DEAD_PAGE: u64 = 500;

/// What came of one report.
#[derive(Debug, Default)]
pub struct Taken {
    /// The ledger's clock, Unix milliseconds.
    pub unix_ms: i64,
    /// What is to be said to whom.
    pub posted: Vec<Posted>,
}

/// Accounts by entitlement, in the order in which they are locked.
type Accounts = BTreeMap<u128, Account>;

impl Store {
    /// The ledger's clock, Unix milliseconds.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn ledger_now_ms(&self) -> StorageResult<i64> {
        now_ms(&self.database, &*self.world).await
    }

    /// Takes the requests of one start of a node, in order.
    pub async fn take_requests(
        &self,
        node: u64,
        start: u64,
        requests: &[LeaseRequest],
    ) -> StorageResult<Taken> {
        // Requests at the node wait for it.
        let transaction = begin_write(&self.database.urgent()).await?;
        let ids: Vec<u128> = requests.iter().map(|request| request.id.0).collect();
        lock(&transaction, &ids).await?;
        let unix_ms = now_ms(&transaction, &*self.world).await?;
        let now = LedgerNow { unix_ms, authority: Authority::Ledger };
        let mut accounts = load(&transaction, &ids).await?;
        let before = crossings::reached(accounts.iter());
        let mut posted = Vec::new();
        for request in requests {
            // Terms without a version are of a node that has forgotten all of it: where there is no account, there is
            // nothing to give back.
            if request.terms.version == 0 && !accounts.contains_key(&request.id.0) {
                continue;
            }
            let open = || Account::open(request, now);
            let account = accounts.entry(request.id.0).or_insert_with(open);
            let from = Borrower { node, start, shard: policy::budget::ShardId(0) };
            posted.extend(account.take(from, request, now));
            account.prune(unix_ms.div_euclid(1_000), KEEP_S);
        }
        store(&transaction, &accounts, unix_ms).await?;
        crossings::note(&before, &accounts, unix_ms, &transaction).await?;
        overage::note(&before, &accounts, unix_ms, &transaction).await?;
        transaction.commit().await?;
        Ok(Taken { unix_ms, posted })
    }

    /// Counts as used what a dead node held, at every account; answers what others are to be told. May be called again
    /// after an error: what was done stays done.
    pub async fn declare_dead(&self, node: u64) -> StorageResult<Taken> {
        let mut after: Vec<u8> = Vec::new();
        let mut taken = Taken::default();
        loop {
            let transaction = begin_write(&self.database).await?;
            let backend = transaction.get_database_backend();
            let sql = format!(
                "SELECT entitlement FROM ledger_accounts WHERE entitlement > $1 ORDER BY entitlement LIMIT {DEAD_PAGE}"
            );
            let statement = Statement::from_sql_and_values(backend, sql, [after.clone().into()]);
            let rows = transaction.query_all_raw(statement).await?;
            let mut ids = Vec::with_capacity(rows.len());
            for row in &rows {
                after = row.try_get("", "entitlement")?;
                ids.push(id_of(&after)?);
            }
            if ids.is_empty() {
                return Ok(taken);
            }
            lock(&transaction, &ids).await?;
            taken.unix_ms = now_ms(&transaction, &*self.world).await?;
            let now = LedgerNow { unix_ms: taken.unix_ms, authority: Authority::Ledger };
            let mut accounts = load(&transaction, &ids).await?;
            accounts.retain(|_, account| knows(account, node));
            let before = crossings::reached(accounts.iter());
            for account in accounts.values_mut() {
                taken.posted.extend(account.declare_dead(node, now));
            }
            store(&transaction, &accounts, taken.unix_ms).await?;
            crossings::note(&before, &accounts, taken.unix_ms, &transaction).await?;
            overage::note(&before, &accounts, taken.unix_ms, &transaction).await?;
            transaction.commit().await?;
        }
    }

    /// The account of one entitlement, as it is.
    pub async fn ledger_account(&self, entitlement: u128) -> StorageResult<Option<Account>> {
        Ok(load(&self.database, &[entitlement]).await?.remove(&entitlement))
    }
}

fn knows(account: &Account, node: u64) -> bool {
    account.books.iter().any(|books| books.leases.iter().any(|lease| lease.node == node))
        || account.members.iter().any(|member| member.node == node)
}

fn id_of(bytes: &[u8]) -> StorageResult<u128> {
    let bytes: [u8; 16] = bytes
        .try_into()
        .map_err(|_| StorageError::Broken("an entitlement in the ledger is no id".to_owned()))?;
    Ok(u128::from_be_bytes(bytes))
}

/// Locks accounts, those too that are not there yet, in the order that everybody keeps to. SQLite has one writer.
async fn lock(transaction: &Transaction, ids: &[u128]) -> StorageResult<()> {
    if transaction.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let mut locks: Vec<i64> = ids.iter().map(|id| (id % u128::from(LOCKS)) as i64).collect();
    locks.sort_unstable();
    locks.dedup();
    for number in locks {
        let sql = format!("SELECT pg_advisory_xact_lock({})", LOCK_BASE + number);
        transaction.execute_unprepared(&sql).await?;
    }
    Ok(())
}

async fn now_ms<C: sea_orm::ConnectionTrait>(
    database: &C,
    world: &dyn crate::world::World,
) -> StorageResult<i64> {
    if database.get_database_backend() != DbBackend::Postgres {
        return Ok(world.now_ms());
    }
    let sql = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT AS now_ms";
    let row = database.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    let row = row.ok_or_else(|| StorageError::Broken("the database has no clock".to_owned()))?;
    Ok(row.try_get("", "now_ms")?)
}

/// The account that a row's state is.
pub(super) fn read(state: &[u8]) -> StorageResult<Account> {
    let account =
        state.strip_prefix(&[FORMAT]).and_then(|bytes| postcard::from_bytes::<Account>(bytes).ok());
    account
        .ok_or_else(|| StorageError::Broken("an account of the ledger cannot be read".to_owned()))
}

async fn load<C: sea_orm::ConnectionTrait>(database: &C, ids: &[u128]) -> StorageResult<Accounts> {
    let mut accounts = Accounts::new();
    for ids in ids.chunks(VALUES_MAX) {
        let marks: Vec<String> = (1..=ids.len()).map(|number| format!("${number}")).collect();
        let sql = format!(
            "SELECT entitlement, state FROM ledger_accounts WHERE entitlement IN ({})",
            marks.join(", ")
        );
        let values: Vec<Value> = ids.iter().map(|id| id.to_be_bytes().to_vec().into()).collect();
        let backend = database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        for row in database.query_all_raw(statement).await? {
            let id: Vec<u8> = row.try_get("", "entitlement")?;
            let state: Vec<u8> = row.try_get("", "state")?;
            accounts.insert(id_of(&id)?, read(&state)?);
        }
    }
    Ok(accounts)
}

async fn store(transaction: &Transaction, accounts: &Accounts, unix_ms: i64) -> StorageResult<()> {
    let all: Vec<(&u128, &Account)> = accounts.iter().collect();
    for accounts in all.chunks(VALUES_MAX) {
        let mut values: Vec<Value> = Vec::with_capacity(3 * accounts.len());
        let mut marks = Vec::with_capacity(accounts.len());
        for (id, account) in accounts {
            let state = postcard::to_extend(account, vec![FORMAT]).map_err(|error| {
                StorageError::Broken(format!("an account of the ledger cannot be written: {error}"))
            })?;
            let at = values.len();
            marks.push(format!("(${}, ${}, ${})", at + 1, at + 2, at + 3));
            values.extend([id.to_be_bytes().to_vec().into(), state.into(), unix_ms.into()]);
        }
        let sql = format!(
            "INSERT INTO ledger_accounts (entitlement, state, updated_at_ms) VALUES {} ON CONFLICT (entitlement) \
             DO UPDATE SET state = excluded.state, updated_at_ms = excluded.updated_at_ms",
            marks.join(", ")
        );
        let backend = transaction.get_database_backend();
        transaction.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    }
    Ok(())
}
