//! Signals sent to this very process reach the handler, in their own thread.

use std::sync::mpsc::channel;
use std::time::Duration;

use signal_hook::low_level::raise;

use super::*;

#[test]
fn hang_up_reloads_each_time_and_the_first_request_to_stop_drains() {
    let (heard, hears) = channel();
    let _thread = SignalThread::start(move |request| heard.send(request).unwrap()).unwrap();
    let check = |signal: i32, expected: Request| {
        raise(signal).unwrap();
        assert_eq!(hears.recv_timeout(Duration::from_secs(20)), Ok(expected));
    };
    check(SIGHUP, Request::Reload);
    check(SIGHUP, Request::Reload);
    check(SIGTERM, Request::Drain);
    check(SIGHUP, Request::Reload);
}
