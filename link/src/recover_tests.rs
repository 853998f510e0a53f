//! Tests.

use super::*;
use crate::spool::fixture::{account, block, done_row, head, open_row, spool};

#[test]
fn use_and_open_requests_are_as_the_spool_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = spool(folder.path());
    let (mut first, mut rows) = block(0, 0, 20);
    rows.extend(open_row(50, 3, "/slow"));
    rows.extend(open_row(51, 4, "/slower"));
    spool.append(&first, &rows).unwrap();
    first = head(1, 0, 20, 1);
    spool.append(&first, &done_row(50, 3, 5, "/slow")).unwrap();
    drop(spool);
    let recovered = recover(folder.path(), folder.path(), 100).unwrap();
    assert!(recovered.is_use_complete() && recovered.problems.is_empty());
    assert_eq!((recovered.rows, recovered.books.len()), (21, 10));
    let units = |entitlement| {
        let account = account(entitlement);
        recovered.books.units(account.entitlement, account.period.id)
    };
    assert_eq!((units(3), units(4)), (7, 2));
    let stream = Stream { epoch: 1, shard: 0 };
    assert_eq!(recovered.streams[&stream], StreamEnd { next_seq: 21, ring_position: 21 });
    let open: Vec<_> = recovered.open.keys().copied().collect();
    assert_eq!(open, [OpenRequest { stream, opened_at: 51 }]);
}
