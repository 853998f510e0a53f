//! What errors mean, and text in SQL.

use super::*;

#[test]
fn an_error_says_what_it_means_for_the_rows() {
    let bad = |text: &str| Error::BadResponse(text.into());
    let table = [
        (bad("Code: 27. DB::Exception: Cannot parse input"), Outcome::Rejected),
        (bad("Code: 469, e.displayText() = DB::Exception: Constraint"), Outcome::Rejected),
        (bad("Code: 395. DB::Exception: Value passed to 'throwIf'"), Outcome::NotTaken),
        (bad("Code: 516. DB::Exception: Authentication failed"), Outcome::NotTaken),
        (bad("Code: 252. DB::Exception: Too many parts"), Outcome::Doubtful),
        (bad("Code: 60. DB::Exception: Table of a view does not exist"), Outcome::Doubtful),
        (bad("502 Bad Gateway"), Outcome::Doubtful),
        (bad("Code: "), Outcome::Doubtful),
        (Error::TimedOut, Outcome::Doubtful),
        (Error::Network("reset".into()), Outcome::Doubtful),
    ];
    for (error, outcome) in table {
        let text = error.to_string();
        let found = sink_error(error);
        assert_eq!(found.outcome, outcome, "{text}");
        assert!(found.text.starts_with("ClickHouse: "), "{}", found.text);
    }
}

#[test]
fn texts_in_sql_stay_texts() {
    assert_eq!(quote(r"it's \ x"), r"'it\'s \\ x'");
}
