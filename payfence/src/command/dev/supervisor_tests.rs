//! A part that dies ends the others, and the command with its reason.

use std::future::pending;

use super::*;

#[test]
fn a_part_that_dies_is_what_all_end_with() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let supervisor = Supervisor::start(&runtime).unwrap();
    assert!(!supervisor.is_stopping());
    assert_eq!(runtime.block_on(supervisor.unless_stopped(async { 7 })), Some(7));
    assert!(supervisor.outcome(Ok(())).is_ok());
    // By a signal to this very process, as the node hears of it.
    supervisor.died("the sample API", "its socket is gone");
    assert_eq!(runtime.block_on(supervisor.unless_stopped(pending::<()>())), None);
    assert!(supervisor.is_stopping());
    // One that dies of the end is not the reason, and is no second signal.
    supervisor.died("the control plane", "it was left alone");
    for ended in [Ok(()), Err(Failure::failed("something else"))] {
        let reason = supervisor.outcome(ended).unwrap_err().to_string();
        assert_eq!(reason, "the sample API died: its socket is gone");
    }
}
