//! What waits between the link and shards that do not listen has a bound.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{SendTimeoutError, bounded};
use policy::budget::Period;

use super::*;
use crate::config::JournalFull;
use crate::offcore::ledger;
use crate::offcore::policy_source::load;

const POLICY: &str = "[[sites]]\nslug = \"a\"\norigin = \"http://127.0.0.1:1\"\n";
/// No room for so long: the thread takes no more.
const STANDS_STILL: Duration = Duration::from_secs(1);
/// Far more than any bound here.
const SENT_MAX: u64 = 400_000;

fn reply(serial: u64) -> LeaseReply {
    let period = Period { id: PeriodId(1), start_s: 0, end_s: 60 };
    LeaseReply {
        id: EntitlementId(7),
        period,
        granted: 3,
        returned: 0,
        elsewhere: 0,
        recall: false,
        coming: false,
        lease_us: 0,
        current: period,
        serial,
        stamp_us: 1,
        share: None,
    }
}

#[test]
fn replies_for_shards_that_do_not_listen_wait_up_to_a_bound() {
    let snapshot = load(Path::new("test.toml"), POLICY.as_bytes(), 1).unwrap().snapshot;
    let (to_ledger, requests) = ledger::channel();
    // Nobody takes what is put into the only shard's inbox.
    let links = Arc::new(Links::new(1, Arc::new(snapshot), to_ledger).unwrap());
    let (to_link, _link) = mpsc::channel(1);
    let (replied, replies) = replies();
    let port = Port { requests: to_link, replies };
    let keeping = Keeping { carried: Arc::default(), log: None, full: JournalFull::default() };
    let mut carrier = Carrier::new(port, links, keeping);
    let (ends, words) = bounded(1);
    let thread = thread::spawn(move || {
        carrier.run(&requests, &words, Clock::start());
        carrier.undelivered.len()
    });
    let mut sent = 0;
    while sent < SENT_MAX {
        match replied.send_timeout(vec![reply(sent)], STANDS_STILL) {
            Ok(()) => sent += 1,
            Err(SendTimeoutError::Timeout(_)) => break,
            Err(SendTimeoutError::Disconnected(_)) => panic!("the thread has ended"),
        }
    }
    assert!(sent < SENT_MAX, "{sent} replies were taken in, and there is no end of it");
    // It hears all the same when it is told to end.
    ends.send(Vec::new()).unwrap();
    let undelivered = thread.join().unwrap();
    assert!((1..=WAITING_MAX).contains(&undelivered), "{undelivered}");
    assert!(sent as usize >= WAITING_MAX, "{sent} is less than there is room for");
}
