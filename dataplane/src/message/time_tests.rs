//! Moments against a library's.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use proptest::prelude::*;

use super::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("ASCII")
}

fn check(time_s: i64) {
    let time = Timestamp::from_second(time_s).expect("within jiff's years");
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&time).expect("year 1 or later");
    assert_eq!(written(|out| date_header(out, time_s)), format!("Date: {date}\r\n"));
    assert_eq!(written(|out| json_time(out, time_s)), format!("\"{time}\""));
}

#[test]
fn turns_of_the_calendar() {
    for time_s in [
        0,
        -1,
        951_782_400,   // 29 February 2000
        1_709_251_199, // the last second of 29 February 2024
        4_107_542_400, // 1 March 2100, a year without 29 February
        WRITABLE_S.start,
        253_402_207_200, // jiff's last moment is in this day
    ] {
        check(time_s);
    }
}

#[test]
fn what_cannot_be_written() {
    for time_s in [i64::MIN, WRITABLE_S.start - 1, WRITABLE_S.end, i64::MAX] {
        assert_eq!(written(|out| date_header(out, time_s)), "");
        assert_eq!(written(|out| json_time(out, time_s)), "null");
    }
}

proptest! {
    #[test]
    fn any_moment(time_s in WRITABLE_S.start..253_402_207_200) {
        check(time_s);
    }
}
