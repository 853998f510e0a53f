//! Lines passed on together are the same bytes as lines written one by one.

use proptest::prelude::*;

use crate::http1::{Limits, Parse, RequestHead, parse_request, write};

fn line() -> impl Strategy<Value = String> {
    // As most clients write it, and every other way that is allowed.
    let space = prop_oneof![4 => Just(" "), 1 => Just(""), 1 => Just("  "), 1 => Just("\t")];
    let after = prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just(" \t")];
    ("[a-zA-Z-]{1,12}", space, "[!-~]{0,9}( [!-~]{1,9})?", after)
        .prop_map(|(name, space, value, after)| format!("x{name}:{space}{value}{after}\r\n"))
}

proptest! {
    #[test]
    fn neighbours_go_in_one_copy_and_nothing_else_changes(
        lines in proptest::collection::vec((line(), any::<bool>()), 0..12),
    ) {
        let mut input = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        lines.iter().for_each(|(line, _)| input.extend_from_slice(line.as_bytes()));
        input.extend_from_slice(b"\r\n");
        let mut head = RequestHead::new();
        let parsed = parse_request(&input, 0, &Limits::default(), &mut head);
        prop_assert_eq!(parsed.ok(), Some(Parse::Complete { len: input.len() }));
        let request = head.view(&input);
        let passes = |index: usize| index == 0 || lines[index - 1].1;
        let (mut together, mut apart) = (b"start:".to_vec(), b"start:".to_vec());
        request.write_headers(&mut together, |line| passes(line.index));
        for line in request.headers().filter(|line| passes(line.index)) {
            write::header(&mut apart, line.name, line.value);
        }
        prop_assert_eq!(String::from_utf8(together), String::from_utf8(apart));
    }
}
