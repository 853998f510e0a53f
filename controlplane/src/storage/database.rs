//! The database, each call of which ends and leaves nothing behind.
//!
//! In: statements, on the pool or within a transaction. Out: their answers, or [`DbErr::Conn`] after [`ANSWER_MAX`]: a connection whose
//! other end is gone without a word answers nothing, for as long as TCP tries.
//! Always holds: the pool's connections have no transaction open. A future that is dropped while `BEGIN` is on its way would leave
//! one: the driver counts it only once it was answered, so nothing rolls it back, and whoever has the connection next works in
//! a transaction that nobody commits. So `BEGIN` is awaited by a task of its own; and where not even that is answered, no connection that
//! comes back within [`SUSPECT`] is used again. Where the database has one writer, whoever writes has its turn ([`Turns`]), from
//! before it has a connection until its transaction is over. The driver's own types do not leave this file and [`super::connect`].

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sea_orm::prelude::async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, RuntimeErr, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait as _,
};
use sqlx::PgPool;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use super::connect::ACQUIRE_TIMEOUT;
use super::turns::{Turn, Turns, Urgency};

/// How long a statement is waited for: longer than the database lets one run, so that whoever is alive has answered.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(15);
/// For how long after a `BEGIN` without an answer connections that come back are closed.
const SUSPECT: Duration = Duration::from_secs(10);

/// When the last `BEGIN` was given up.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspicion(Arc<Mutex<Option<Instant>>>);

impl Suspicion {
    fn raise(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    fn is_raised(&self) -> bool {
        self.0.lock().is_some_and(|at| at.elapsed() < SUSPECT)
    }

    /// Whether a connection that comes back can be used again: rolls back what is still open, and waits for what still runs.
    ///
    /// # Errors
    /// When it cannot: it is to be closed without a word.
    pub(super) async fn check(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let gone =
            |why: &str| sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why));
        if self.is_raised() {
            return Err(gone("it may have a transaction open that nobody ends"));
        }
        match tokio::time::timeout(ANSWER_MAX, sqlx::Connection::ping(connection)).await {
            Ok(answered) => answered.map(|()| true),
            Err(_) => Err(gone("it gives no answer")),
        }
    }
}

/// A pool. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Database {
    pools: Arc<Pools>,
    urgency: Urgency,
}

#[derive(Debug)]
struct Pools {
    all: DatabaseConnection,
    suspicion: Suspicion,
    /// Where the database has one writer, what is written goes here.
    writer: Option<Writer>,
}

/// The one connection that writes, so that it finds in its cache what it wrote last, and whose turn it is to have it.
#[derive(Debug)]
struct Writer {
    pool: DatabaseConnection,
    turns: Turns,
}

impl Database {
    /// One that many can write to at once.
    pub(super) fn new(pool: DatabaseConnection, suspicion: Suspicion) -> Self {
        Self::of(Pools { all: pool, suspicion, writer: None })
    }

    /// One that is read through `readers` and written through a pool of its own, of one connection.
    pub(super) fn with_writer(
        readers: DatabaseConnection,
        pool: DatabaseConnection,
        turns: Turns,
    ) -> Self {
        let writer = Some(Writer { pool, turns });
        Self::of(Pools { all: readers, suspicion: Suspicion::default(), writer })
    }

    fn of(pools: Pools) -> Self {
        Self { pools: Arc::new(pools), urgency: Urgency::default() }
    }

    /// The same, for whom somebody outside waits: what is written by it comes before what else waits to be written.
    pub(super) fn urgent(&self) -> Self {
        Self { urgency: Urgency::First, ..self.clone() }
    }

    /// Where to read or write, once it is one's turn.
    async fn way(&self, writes: bool) -> Result<(&DatabaseConnection, Option<Turn>), DbErr> {
        match &self.pools.writer {
            Some(writer) if writes => {
                Ok((&writer.pool, Some(writer.turns.take(self.urgency).await?)))
            }
            _ => Ok((&self.pools.all, None)),
        }
    }

    /// Begins a transaction, which is rolled back when it is dropped, and when this future is.
    pub(super) async fn begin(&self, options: TransactionOptions) -> Result<Transaction, DbErr> {
        let writes = options.sqlite_transaction_mode == Some(SqliteTransactionMode::Immediate);
        let (pool, turn) = self.way(writes).await?;
        let (pool, suspicion) = (pool.clone(), self.pools.suspicion.clone());
        let begun = tokio::spawn(async move {
            let mut begin = std::pin::pin!(pool.begin_with_options(options));
            tokio::select! {
                biased;
                begun = &mut begin => return begun,
                () = tokio::time::sleep(ACQUIRE_TIMEOUT + ANSWER_MAX) => {}
            }
            // Before the connection goes back, which it does with `begin`.
            suspicion.raise();
            Err(no_answer())
        });
        let begun = begun.await.unwrap_or_else(|error| Err(lost(error.to_string())));
        Ok(Transaction { inner: begun?, _turn: turn })
    }

    fn backend(&self) -> DbBackend {
        self.pools.all.get_database_backend()
    }

    /// PostgreSQL's own pool.
    pub(super) fn postgres(&self) -> &PgPool {
        self.pools.all.get_postgres_connection_pool()
    }

    /// Closes all connections, waiting for those in use.
    pub(super) async fn close(self) -> Result<(), DbErr> {
        let written = match &self.pools.writer {
            Some(writer) => writer.pool.close_by_ref().await,
            None => Ok(()),
        };
        self.pools.all.close_by_ref().await.and(written)
    }
}

/// A transaction. Dropped, it is rolled back.
#[derive(Debug)]
pub(super) struct Transaction {
    inner: DatabaseTransaction,
    // Given on after what is above is over.
    _turn: Option<Turn>,
}

impl Transaction {
    fn backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    /// Makes everything durable. After an error it is not known whether that was done.
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        answered(self.inner.commit()).await
    }
}

/// Either of them.
#[derive(Debug)]
pub(super) enum Executor<'c> {
    /// Each statement by itself.
    Pool(&'c Database),
    /// All as one.
    Open(&'c Transaction),
}

/// What comes of a call, within [`ANSWER_MAX`].
async fn answered<T>(call: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
    tokio::time::timeout(ANSWER_MAX, call).await.unwrap_or_else(|_| Err(no_answer()))
}

fn no_answer() -> DbErr {
    lost(format!("no answer within {} s", ANSWER_MAX.as_secs()))
}

fn lost(why: String) -> DbErr {
    DbErr::Conn(RuntimeErr::Internal(why))
}

/// Calls of what is within, each bounded.
macro_rules! bounded {
    ($outer:ty, $self:ident, $sql:ident => $way:expr) => {
        #[async_trait]
        impl ConnectionTrait for $outer {
            fn get_database_backend(&$self) -> DbBackend {
                $self.backend()
            }

            async fn execute_raw(&$self, statement: Statement) -> Result<ExecResult, DbErr> {
                let $sql = statement.sql.as_str();
                let (inner, _turn) = $way;
                answered(inner.execute_raw(statement)).await
            }

            async fn execute_unprepared(&$self, $sql: &str) -> Result<ExecResult, DbErr> {
                let (inner, _turn) = $way;
                answered(inner.execute_unprepared($sql)).await
            }

            async fn query_one_raw(&$self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
                let $sql = statement.sql.as_str();
                let (inner, _turn) = $way;
                answered(inner.query_one_raw(statement)).await
            }

            async fn query_all_raw(&$self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
                let $sql = statement.sql.as_str();
                let (inner, _turn) = $way;
                answered(inner.query_all_raw(statement)).await
            }
        }
    };
}

// Whatever is no plain `SELECT` may write.
bounded!(Database, self, sql => self.way(!sql.trim_start().starts_with("SELECT")).await?);
// A transaction has its turn already.
bounded!(Transaction, self, _sql => (&self.inner, ()));

/// As the one that it is, which has a bound already.
#[async_trait]
impl ConnectionTrait for Executor<'_> {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Pool(database) => database.get_database_backend(),
            Self::Open(transaction) => transaction.get_database_backend(),
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Pool(database) => database.execute_raw(statement).await,
            Self::Open(transaction) => transaction.execute_raw(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Pool(database) => database.execute_unprepared(sql).await,
            Self::Open(transaction) => transaction.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Pool(database) => database.query_one_raw(statement).await,
            Self::Open(transaction) => transaction.query_one_raw(statement).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Pool(database) => database.query_all_raw(statement).await,
            Self::Open(transaction) => transaction.query_all_raw(statement).await,
        }
    }
}
