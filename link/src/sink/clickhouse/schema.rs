//! The tables, and what brings them about.
//!
//! In: what the server says of itself, what it has. Out: tables, views, and a note of each step in `payfence_migrations`. Always
//! holds: steps may be taken by several nodes at once; none takes anything away.

use super::ClickHouseConfig;
use super::client::{Server, quote};
use crate::sink::SinkError;

/// The first version that gets the full form.
const FULL_FROM: (u32, u32) = (22, 8);

/// Which form of the schema a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `DateTime64`, `LowCardinality`, TTL.
    Full,
    /// Types that servers of 2018 have.
    Plain,
}

impl Dialect {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Plain => "reduced",
        }
    }

    /// The number of the last step.
    pub(super) const fn last_step(self) -> u32 {
        self.steps().len() as u32
    }

    const fn steps(self) -> [&'static str; 2] {
        match self {
            Self::Full => [
                include_str!("schema/0001_decisions_full.sql"),
                include_str!("schema/0002_roll_ups_full.sql"),
            ],
            Self::Plain => [
                include_str!("schema/0001_decisions_plain.sql"),
                include_str!("schema/0002_roll_ups_plain.sql"),
            ],
        }
    }
}

/// A roll-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Minute,
    Day,
}

impl View {
    pub(super) const ALL: [Self; 2] = [Self::Minute, Self::Day];

    /// Its bit in `decisions.roll_ups`.
    pub(super) const fn bit(self) -> u8 {
        match self {
            Self::Minute => 1,
            Self::Day => 2,
        }
    }

    /// The table with its rows.
    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::Minute => "decisions_per_minute_rows",
            Self::Day => "decisions_per_day_rows",
        }
    }

    /// The SELECT that fills it from the rows of `decisions` for which `condition` holds.
    pub(super) fn fill(self, condition: &str) -> String {
        let bucket = match self {
            Self::Minute => "toDateTime(toStartOfMinute(time), 'UTC')",
            Self::Day => "toDateTime(toDate(time, 'UTC'), 'UTC')",
        };
        include_str!("schema/fill_roll_up.sql")
            .trim_end()
            .replace("{{bucket}}", bucket)
            .replace("{{rows}}", condition)
    }

    /// Its columns, as [`View::fill`] gives them.
    pub(super) const COLUMNS: &'static str = "of_time, of_site, of_customer, of_subscription, of_period, of_plan, of_resource, of_verdict, of_reason, of_node, of_epoch, of_shard, seq_from, seq_to, rows, requests, charge_sum, request_bytes_sum, response_bytes_sum, total_us_state, origin_us_state";
}

/// Brings the schema about where it is missing.
///
/// # Errors
/// When the server cannot be asked, or refuses.
pub(super) async fn apply(
    server: &Server,
    config: &ClickHouseConfig,
) -> Result<Dialect, SinkError> {
    let database = &config.database;
    if let Err(error) =
        server.execute_anywhere(&format!("CREATE DATABASE IF NOT EXISTS {database}")).await
    {
        // It may be there, and the user without the right to make one.
        tracing::debug!("CREATE DATABASE: {error}");
    }
    let dialect = dialect(server, config).await?;
    server
        .execute("CREATE TABLE IF NOT EXISTS payfence_migrations (version UInt32, applied_at DateTime) ENGINE = MergeTree ORDER BY version")
        .await?;
    let done: Vec<u32> = server.rows("SELECT max(version) FROM payfence_migrations").await?;
    let done = done.first().copied().unwrap_or(0);
    for (version, step) in (1_u32..).zip(dialect.steps()) {
        if version <= done {
            continue;
        }
        for statement in statements(step) {
            server.execute(&statement).await?;
        }
        let note = format!(
            "INSERT INTO payfence_migrations (version, applied_at) SELECT {version}, now()"
        );
        server.execute(&note).await?;
    }
    keep_for(server, config, dialect).await?;
    Ok(dialect)
}

/// The form of the table that is there, or else what the server's version can do.
pub(super) async fn dialect(
    server: &Server,
    config: &ClickHouseConfig,
) -> Result<Dialect, SinkError> {
    let types: Vec<String> = server
        .rows_anywhere(&format!(
            "SELECT type FROM system.columns WHERE database = {} AND table = 'decisions' AND name = 'time'",
            quote(&config.database)
        ))
        .await?;
    if let Some(kind) = types.first() {
        let is_full = kind.starts_with("DateTime64");
        return Ok(if is_full { Dialect::Full } else { Dialect::Plain });
    }
    let version: Vec<String> = server.rows_anywhere("SELECT version()").await?;
    let version = version.first().map_or("", String::as_str);
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    Ok(if version >= FULL_FROM { Dialect::Full } else { Dialect::Plain })
}

/// Sets how long rows stay, where it was said and is not so already.
async fn keep_for(
    server: &Server,
    config: &ClickHouseConfig,
    dialect: Dialect,
) -> Result<(), SinkError> {
    let Some(days) = config.ttl_days else { return Ok(()) };
    if dialect == Dialect::Plain {
        tracing::warn!("the ClickHouse server is too old to drop rows by age: decisions are kept");
        return Ok(());
    }
    if days_kept(server, config).await? == Some(u32::from(days)) {
        return Ok(());
    }
    server
        .execute(&format!(
            "ALTER TABLE decisions MODIFY TTL toDateTime(time) + INTERVAL {days} DAY SETTINGS materialize_ttl_after_modify = 0"
        ))
        .await
}

/// The days after which rows go, where that was said as [`keep_for`] does.
pub(super) async fn days_kept(
    server: &Server,
    config: &ClickHouseConfig,
) -> Result<Option<u32>, SinkError> {
    let engine: Vec<String> = server
        .rows_anywhere(&format!(
            "SELECT engine_full FROM system.tables WHERE database = {} AND name = 'decisions'",
            quote(&config.database)
        ))
        .await?;
    Ok(engine.first().and_then(|engine| days_of(engine)))
}

/// The days in a table's definition.
fn days_of(engine: &str) -> Option<u32> {
    let (_, rest) = engine.split_once("TTL toDateTime(time) + toIntervalDay(")?;
    rest.split_once(')')?.0.parse().ok()
}

/// The statements of a step, without its comments.
fn statements(step: &str) -> Vec<String> {
    let mut text = String::new();
    for line in step.lines().filter(|line| !line.starts_with("--")) {
        text.push_str(line);
        text.push('\n');
    }
    for (view, name) in View::ALL.iter().zip(["{{fill_minute}}", "{{fill_day}}"]) {
        text = text.replace(name, &view.fill(&format!("bitAnd(roll_ups, {}) != 0", view.bit())));
    }
    let statements = text.split(";\n").map(str::trim).filter(|statement| !statement.is_empty());
    statements.map(str::to_owned).collect()
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
