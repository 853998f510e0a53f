//! wrk's reports, and what is taken from them.

use super::parse_wrk;

const HEAD: &str = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 4 connections\n";
const TAIL: &str = "Requests/sec:  65432.10\nTransfer/sec:     10.00MB\n";

fn check(middle: &str, status: u16, expected: Result<(u64, f64), &str>) {
    let text = format!("{HEAD}{middle}{TAIL}");
    match (parse_wrk(&text, status), expected) {
        (Ok(counted), Ok((requests, rate))) => {
            assert_eq!(counted.requests, requests);
            assert!((counted.requests_per_second - rate).abs() < 0.001);
        }
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (Ok(_), Err(part)) => panic!("no error, expected {part}: {text}"),
        (Err(error), Ok(_)) => panic!("{error}"),
    }
}

#[test]
fn reports() {
    let requests = "  65000 requests in 1.00s, 10.00MB read\n";
    let refused = "  Non-2xx or 3xx responses: 65000\n";
    check(requests, 200, Ok((65000, 65432.10)));
    check(&format!("{requests}{refused}"), 429, Ok((65000, 65432.10)));
    check(&format!("{requests}{refused}"), 200, Err("65000 of 65000 answers were refusals"));
    check(requests, 429, Err("0 of 65000 answers were refusals"));
    let errors = "  Socket errors: connect 0, read 3, write 0, timeout 0\n";
    check(&format!("{requests}{errors}"), 200, Err("broken transfers"));
    check("", 200, Err("wrk said something new"));
}
