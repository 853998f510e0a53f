//! Answers to what is no request: heads that cannot be understood, heads that do not come.
//!
//! In: a reason and what was wrong. Out: the bytes of an answer that ends the connection. Always holds: such answers know no site, are
//! counted by cause and are no decisions.

use std::fmt::Display;

use policy::decision::Reason;

use crate::http1::HeadError;
use crate::message::{self, Asker, Problem};

use super::Shard;
use super::planned::{Answer, Plan};

/// The answer to a head that did not arrive in time.
pub(super) fn head_timeout(shard: &Shard) -> Vec<u8> {
    shard.metrics.malformed.inc("timeout");
    malformed(shard, Reason::RequestTimeout, 408, &"the request's head did not arrive in time")
}

/// The answer to a head that cannot be understood one way only.
pub(super) fn malformed(
    shard: &Shard,
    reason: Reason,
    status: u16,
    detail: &dyn Display,
) -> Vec<u8> {
    let request_id = shard.request_ids.borrow_mut().next_id();
    let asker = Asker {
        site: None,
        origin_header: None,
        is_head: false,
        close: true,
        request_id: &request_id,
        token_sent: false,
        sends_hsts: false,
        http10_keep_alive: false,
    };
    let mut bytes = shard.take_spare();
    let problem = Problem {
        status: Some(status),
        detail: Some(detail),
        ..Problem::new(reason, shard.now().unix_s())
    };
    message::problem(&mut bytes, &asker, &problem);
    bytes
}

/// Row 0: what cannot be understood one way only is answered and the connection closed.
pub(super) fn refuse_head(shard: &Shard, error: HeadError, bytes: &[u8]) -> Plan {
    shard.metrics.malformed.inc(error.cause());
    let bytes_out = malformed(shard, Reason::RequestMalformed, error.status(), &error);
    Plan::Answer(Answer { bytes: bytes_out, head_len: bytes.len(), skip: 0, close: true })
}
