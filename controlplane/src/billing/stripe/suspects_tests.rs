//! Suspects are taken once, and are bounded.

use super::super::Mode;
use super::{SUSPECTS_MAX, Suspects};

#[test]
fn each_is_taken_once_and_no_more_are_kept_than_there_is_room_for() {
    let suspects = Suspects::default();
    for _ in 0..2 {
        suspects.add(Mode::Test, "acct_1");
        suspects.add(Mode::Live, "acct_1");
    }
    let taken = suspects.take();
    let expected = [(Mode::Test, "acct_1".to_owned()), (Mode::Live, "acct_1".to_owned())];
    assert_eq!(taken, expected.into());
    assert!(suspects.take().is_empty());
    for number in 0..2 * SUSPECTS_MAX {
        suspects.add(Mode::Test, &format!("acct_{number}"));
    }
    assert_eq!(suspects.take().len(), SUSPECTS_MAX);
}
