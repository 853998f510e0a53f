use super::*;

#[test]
fn a_query_is_read_as_it_was_written() {
    let query = StreamQuery { epoch: u64::MAX, history: 1, from: 7, base: 5, fresh: 9 };
    assert_eq!(StreamQuery::parse(&query.to_text()), Ok(query));
}

#[test]
fn a_query_from_anywhere_is_read_or_refused() {
    let none = StreamQuery::default();
    for (text, expected) in [
        ("", Ok(none)),
        ("from=12", Ok(StreamQuery { from: 12, ..none })),
        ("from=12&later=x&base=3", Ok(StreamQuery { from: 12, base: 3, ..none })),
        ("from=", Err(WireError::Query("from".into()))),
        ("from=-1", Err(WireError::Query("from".into()))),
        ("fresh=18446744073709551616", Err(WireError::Query("fresh".into()))),
        ("epoch=g", Err(WireError::Query("epoch".into()))),
    ] {
        assert_eq!(StreamQuery::parse(text), expected, "{text}");
    }
}
