use super::{ATTEMPTS_MAX, WAIT_MAX_MS, jittered, wait_ms};

#[test]
fn waits_grow_to_a_bound_and_are_jittered() {
    let cases = [
        (0, 2_000),
        (1, 2_000),
        (2, 4_000),
        (3, 8_000),
        (13, 8_192_000),
        (14, WAIT_MAX_MS),
        (99, WAIT_MAX_MS),
    ];
    for (attempts, expected) in cases {
        assert_eq!(wait_ms(attempts), expected, "after {attempts}");
    }
    assert_eq!(jittered(2_000, 0), 1_000);
    assert_eq!(jittered(2_000, u16::MAX), 2_000);
    let total_ms: i64 = (1..ATTEMPTS_MAX).map(wait_ms).sum();
    assert!(total_ms / 3_600_000 >= 24, "Stripe away for a day is waited for: {total_ms} ms");
}
