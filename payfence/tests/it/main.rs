//! End-to-end tests: the built `payfence dataplane` over real sockets, between raw clients and an origin that records
//! every byte it receives; nodes of a control plane, too.
//!
//! In: policy files and request bytes, as tables. Out: what clients saw and what the origin received.
//! Always holds: no test sleeps to synchronise; each waits for a condition with a deadline. Each test has a gateway of
//! its own, on a loopback address of its own.
//!
//! Without io_uring nothing here can run: plain `cargo test` then says so and leaves the tests out; under `./test`
//! (`PAYFENCE_TEST_FULL`) they fail.

mod bank;
mod buyer;
mod certificates;
mod client;
mod gateway;
mod origin;
mod plane;
mod policy;
mod stripe_api;
mod tls;
mod wait;
mod way;

mod analytics;
mod apply;
mod billing_commands;
mod connection_limits;
mod control;
mod cors;
mod deadlines;
mod decisions;
mod desync;
mod dev;
mod dev_selling;
mod doctor;
mod exact;
mod forwarding;
mod full_disk;
mod journal;
mod keep_alive;
mod malformed;
mod money;
mod origin_failures;
mod paths;
mod privacy;
mod quota;
mod real_client;
mod reload;
mod secret_keys;
mod sent_again;
mod shared_limits;
mod shutdown;
mod streaming;
mod tls_bad_clients;
mod tls_bodies;
mod tls_client_side;
mod tls_handshake_limit;
mod tls_origin_side;
mod tls_renegotiation;
mod two_planes;
mod usage;
mod warm;
