//! ClickHouse, the real one: today's engine (`chdb`, behind a small HTTP server) and the server of 2018 that Debian has.
//!
//! In: `PAYFENCE_TEST_CHDB`, a Python with chdb, and `clickhouse-server` on the path or in /usr/sbin. Out: failures. Always holds:
//! every server is a test's own, on a free port, in a folder that goes with it; without `PAYFENCE_TEST_SERVICES=1` what is missing
//! is said and passed over, with it that is a failure.

mod compare;
mod engine;
mod faults;
mod kills;
mod proxy;
mod queries;
mod repair;
mod schema;
mod shipping;
