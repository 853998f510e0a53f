//! The spool written, filled, cut off and opened again.

use super::fixture::*;
use super::*;

#[test]
fn what_was_appended_is_read_over_segments_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut seq = 0;
    for _ in 0..3 {
        let mut spool = spool(folder.path());
        for _ in 0..50 {
            let (head, rows) = block(0, seq, 7);
            let before = spool.position();
            let after = spool.append(&head, &rows).unwrap();
            assert!(before < after && after == spool.position());
            seq += 7;
            if spool.needs_rotation() {
                let start = spool.rotate([]).unwrap();
                assert_eq!((start, spool.synced()), (spool.position(), start));
            }
        }
    }
    let (seqs, losses) = read_all(&mut Reader::open(folder.path(), Position::START));
    assert_eq!(seqs, (0..seq).collect::<Vec<_>>());
    assert_eq!(losses, []);
    assert!(segments::list(folder.path()).unwrap().len() > 5);
}
