//! The ledger's clock from answers: never ahead, close where an answer was quick, followed when it steps.

use super::*;

#[test]
fn follows_the_ledger_and_is_never_ahead() {
    let clock = LedgerClock::default();
    assert_eq!(clock.unix_s(5_000_000), None);
    // (sent, received, the ledger's Unix ms, Unix s at 100 s of the monotonic clock)
    let cases = [
        // It took two seconds: up to two behind.
        (1_000_000, 3_000_000, 1_000_002_000, 1_000_099),
        // A quick one narrows it.
        (4_000_000, 4_001_000, 1_000_004_001, 1_000_100),
        // A slow one says nothing new.
        (5_000_000, 15_000_000, 1_000_006_000, 1_000_100),
        // The ledger's clock was set back, and forth.
        (20_000_000, 20_001_000, 900_020_001, 900_100),
        (30_000_000, 30_001_000, 1_100_030_001, 1_100_100),
    ];
    for (sent_us, received_us, ledger_unix_ms, expected_s) in cases {
        clock.observe(sent_us, received_us, ledger_unix_ms);
        assert_eq!(clock.unix_s(100_000_000), Some(expected_s), "{received_us}");
    }
}
