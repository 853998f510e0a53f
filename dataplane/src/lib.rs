//! One node: thread-per-core shards that take requests in, decide on them and pass them to their origin.
#![deny(unsafe_code)]

pub mod clock;
pub mod config;
pub mod http1;
pub mod journal;
pub mod message;
pub mod metrics;
pub mod net;
pub mod node;
pub mod offcore;
pub mod preflight;
pub mod runtime;
pub mod shard;
pub mod stream;
pub mod tls;

pub use config::Config;
pub use node::{Error, run};
