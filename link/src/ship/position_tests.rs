//! Positions written and read back; files that are none.

use super::*;

#[test]
fn what_is_stored_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = PositionFile::new(folder.path(), "ch");
    assert!(matches!(file.load().unwrap(), Found::Nothing));
    let mut progress = Progress {
        position: Position { segment: 3, offset: 77 },
        doubt_end: Some(Position { segment: 4, offset: 0 }),
        is_doubting: true,
        ..Progress::default()
    };
    progress.next.set(Stream { epoch: u64::MAX, shard: 3 }, 12);
    progress.next.set(Stream { epoch: 1, shard: 0 }, u64::MAX);
    file.store(&progress).unwrap();
    let Found::Progress(found) = file.load().unwrap() else { panic!("it is there") };
    assert_eq!(
        (found.position, found.doubt_end, found.is_doubting, found.next.list()),
        (progress.position, progress.doubt_end, true, progress.next.list())
    );
}

#[test]
fn a_damaged_file_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = PositionFile::new(folder.path(), "ch");
    file.store(&Progress::default()).unwrap();
    let good = fs::read(&file.path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file.path, &bad).unwrap();
        assert!(matches!(file.load().unwrap(), Found::Unusable(_)), "byte {at}");
        fs::write(&file.path, &good[..at]).unwrap();
        assert!(matches!(file.load().unwrap(), Found::Unusable(_)), "cut at {at}");
    }
}
