//! What waits for a stream has a bound, and a stream that another has replaced gets nothing.

use policy::budget::{EntitlementId, LeaseReply, Period, PeriodId};

use super::*;

fn reply(serial: u64) -> LeaseReply {
    let period = Period { id: PeriodId(1), start_s: 0, end_s: 60 };
    LeaseReply {
        id: EntitlementId(u128::from(serial)),
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
fn a_mailbox_that_nobody_empties_keeps_the_newest_up_to_a_frame_full() {
    let mailboxes = Mailboxes::default();
    let mailbox = mailboxes.open(7, 1);
    let all = REPLIES_MAX as u64 + 10;
    for serial in 1..=all {
        mailbox.put(reply(serial));
    }
    let taken: Vec<u64> = mailbox.take().iter().map(|reply| reply.serial).collect();
    assert_eq!(taken.len(), REPLIES_MAX);
    assert_eq!((taken[0], taken[REPLIES_MAX - 1]), (11, all));
    assert!(taken.is_sorted());
    assert!(mailbox.take().is_empty());
}

#[test]
fn a_node_has_one_stream_the_last_that_came() {
    let mailboxes = Mailboxes::default();
    let first = mailboxes.open(7, 1);
    let second = mailboxes.open(7, 2);
    assert!(!mailboxes.holds(7, &first) && mailboxes.holds(7, &second));
    // The first one's end takes nothing from the second.
    mailboxes.close(7, &first);
    assert!(mailboxes.holds(7, &second));
    let bytes = postcard::to_allocvec(&reply(1)).unwrap();
    mailboxes.deliver(7, 2, &bytes);
    assert_eq!(second.take().len(), 1);
    mailboxes.deliver(7, 2, b"no reply");
    mailboxes.deliver(8, 1, &bytes);
    assert!(second.take().is_empty() && first.take().is_empty());
    mailboxes.close(7, &second);
    assert!(mailboxes.nodes().is_empty());
}
