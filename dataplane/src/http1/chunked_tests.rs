//! Chunked bodies: a table of what is refused, and a slow obvious decoder as the reference.

use proptest::prelude::*;

use super::*;

type Trailers = Vec<(Vec<u8>, Vec<u8>)>;

/// What a body comes to: its data, its trailers, and how many bytes it took.
type Body = (Vec<u8>, Trailers, usize);

fn trailers_of(decoder: &ChunkDecoder) -> Trailers {
    decoder.trailers().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// Runs the decoder over pieces that end at `cuts`. `None`: the body goes on after the input.
fn decode(input: &[u8], cuts: impl Iterator<Item = usize>) -> Result<Option<Body>, ChunkError> {
    let mut decoder = ChunkDecoder::new();
    let mut data = Vec::new();
    let mut from = 0;
    for cut in cuts.chain([input.len()]) {
        let result = decoder.decode(&input[from..cut], &mut data)?;
        if result.done {
            return Ok(Some((data, trailers_of(&decoder), from + result.consumed)));
        }
        assert_eq!(result.consumed, cut - from);
        from = cut;
    }
    Ok(None)
}

fn check(input: &str, expected: Result<Option<(&str, usize)>, &str>) {
    let seen = |result: Result<Option<Body>, ChunkError>| {
        result
            .map(|body| body.map(|(data, _, len)| (String::from_utf8(data).expect("text"), len)))
            .map_err(ChunkError::cause)
    };
    let expected = expected.map(|body| body.map(|(data, len)| (data.to_owned(), len)));
    let input = input.as_bytes();
    assert_eq!(seen(decode(input, std::iter::empty())), expected, "{}", input.escape_ascii());
    assert_eq!(seen(decode(input, 0..input.len())), expected, "{}", input.escape_ascii());
}

#[test]
fn bodies_that_pass() {
    check("0\r\n\r\n", Ok(Some(("", 5))));
    check("000\r\n\r\nnext", Ok(Some(("", 7))));
    check("5\r\nhello\r\n0\r\n\r\nGET", Ok(Some(("hello", 15))));
    check("0a\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", Ok(Some(("0123456789x", 27))));
    check("A\r\n0123456789\r\n0\r\n\r\n", Ok(Some(("0123456789", 20))));
    check("0000000000000001\r\nx\r\n0\r\n\r\n", Ok(Some(("x", 26))));
    check("1;a\r\nx\r\n0;b=c\r\n\r\n", Ok(Some(("x", 17))));
    check("1 ; a = b ;c=\"d;\\\"\r\"\r\n", Err("chunk_line_ending"));
    check("1 ; a = b ;c=\"d; \\\" e\"\r\nx\r\n0\r\n\r\n", Ok(Some(("x", 32))));
    check("1;a=\"\u{e9}\"\t;b\r\nx\r\n0\r\n\r\n", Ok(Some(("x", 21))));
    check("4\r\n\r\n\r\n\r\n0\r\n\r\n", Ok(Some(("\r\n\r\n", 14))));
    check("0\r\nA: b\r\nC:\r\n\r\n", Ok(Some(("", 15))));
    for unfinished in
        ["", "5", "5\r", "5\r\n", "5\r\nhell", "5\r\nhello", "5\r\nhello\r\n", "0\r\n"]
    {
        check(unfinished, Ok(None));
    }
    for unfinished in
        ["0\r\n\r", "0\r\nA: b", "0\r\nA: b\r\n", "0\r\nA: b\r\n\r", "ffffffffffffffff\r\nx"]
    {
        check(unfinished, Ok(None));
    }
}

#[test]
fn bodies_that_are_refused() {
    for (input, cause) in [
        ("\r\n", "chunk_size"),
        ("g\r\n", "chunk_size"),
        ("0x10\r\n", "chunk_size"),
        ("+5\r\n", "chunk_size"),
        ("-1\r\n", "chunk_size"),
        (" 5\r\n", "chunk_size"),
        ("5.\r\n", "chunk_size"),
        ("5_0\r\n", "chunk_size"),
        (";a\r\n", "chunk_size"),
        ("\u{665}\r\n", "chunk_size"),
        ("5,5\r\n", "chunk_size"),
        ("10000000000000000\r\n", "chunk_size"),
        ("00000000000000001\r\n", "chunk_size"),
        ("fffffffffffffffff\r\n", "chunk_size"),
        ("5\n", "chunk_line_ending"),
        ("5\r5", "chunk_line_ending"),
        ("5\r\r\n", "chunk_line_ending"),
        ("5 \r\n", "chunk_line_ending"),
        ("5\t\n", "chunk_line_ending"),
        ("5 5\r\n", "chunk_extension"),
        ("5;\r\n", "chunk_line_ending"),
        ("5;;a\r\n", "chunk_extension"),
        ("5;a;\r\n", "chunk_line_ending"),
        ("5;=b\r\n", "chunk_extension"),
        ("5;a=\r\n", "chunk_line_ending"),
        ("5;a=b=c\r\n", "chunk_extension"),
        ("5;a b\r\n", "chunk_extension"),
        ("5;a=b c\r\n", "chunk_extension"),
        ("5;a=\"b\r\n", "chunk_line_ending"),
        ("5;a=\"b\"c\r\n", "chunk_extension"),
        ("5;a=\"\0\"\r\n", "chunk_extension"),
        ("5;a=\"\\\0\"\r\n", "chunk_extension"),
        ("5;a\0\r\n", "chunk_extension"),
        ("5;a\n", "chunk_line_ending"),
        ("5;a\rb\r\n", "chunk_line_ending"),
        ("5;a=b\n", "chunk_line_ending"),
        ("5;\nGET / HTTP/1.1\r\n", "chunk_line_ending"),
        ("1\r\nxx\r\n", "chunk_line_ending"),
        ("1\r\nx\n", "chunk_line_ending"),
        ("1\r\nx\r0", "chunk_line_ending"),
        ("1\r\nx0\r\n\r\n", "chunk_line_ending"),
        ("1\r\nx\r\n\r\n", "chunk_size"),
        ("0\n\n", "chunk_line_ending"),
        ("0\r\n\n", "chunk_trailer"),
        ("0\r\n\rx", "chunk_trailer"),
        ("0\r\nA: b\n", "chunk_trailer"),
        ("0\r\nA: b\rc\r\n\r\n", "chunk_trailer"),
        ("0\r\nA : b\r\n\r\n", "chunk_trailer"),
        ("0\r\nA: b\r\n c\r\n\r\n", "chunk_trailer"),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", "chunk_trailer"),
        ("0\r\nA: \0\r\n\r\n", "chunk_trailer"),
    ] {
        check(input, Err(cause));
    }
}

#[test]
fn bounds() {
    let extension = |len: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(len));
    assert!(decode(extension(EXTENSION_BYTES_MAX).as_bytes(), std::iter::empty()).is_ok());
    check(&extension(EXTENSION_BYTES_MAX + 1), Err("chunk_extension_too_long"));
    let trailer = |len: usize| format!("0\r\nA:{}\r\n\r\n", "b".repeat(len - 4));
    assert!(decode(trailer(TRAILER_BYTES_MAX).as_bytes(), std::iter::empty()).is_ok());
    let too_large = Err(ChunkError::Trailer(FieldError::TooLarge));
    assert_eq!(decode(trailer(TRAILER_BYTES_MAX + 1).as_bytes(), std::iter::empty()), too_large);
    let endless = [b"0\r\nA:".as_slice(), &[b'b'; TRAILER_BYTES_MAX]].concat();
    assert_eq!(decode(&endless, 0..endless.len()), too_large);
    let many = |count: usize| format!("0\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert!(decode(many(TRAILERS_MAX).as_bytes(), std::iter::empty()).is_ok());
    let too_many = Err(ChunkError::Trailer(FieldError::TooMany));
    assert_eq!(decode(many(TRAILERS_MAX + 1).as_bytes(), std::iter::empty()), too_many);
}

#[test]
fn an_error_is_final_and_leaves_the_output_alone() {
    let mut decoder = ChunkDecoder::new();
    let mut out = b"kept".to_vec();
    let passes = |_: &[u8]| true;
    assert_eq!(decoder.transcode(b"1\r\nxy", &mut out, passes), Err(ChunkError::LineEnding));
    assert_eq!(decoder.transcode(b"0\r\n\r\n", &mut out, passes), Err(ChunkError::LineEnding));
    assert_eq!(out, b"kept");
    decoder.reset();
    assert!(decoder.transcode(b"0\r\n\r\n", &mut out, passes).is_ok_and(|result| result.done));
}

#[test]
fn one_chunk_out_for_one_buffer_in() {
    let mut decoder = ChunkDecoder::new();
    let mut out = b"head|".to_vec();
    let passes =
        |name: &[u8]| crate::http1::headers::classify_response(name).name.passes_in_trailers();
    let first = decoder.transcode(b"1;x\r\na\r\n1\r\nb\r\n5\r\ncd", &mut out, passes);
    assert_eq!(first, Ok(Transcoded { consumed: 19, data_bytes: 4, done: false }));
    assert_eq!(out, b"head|4\r\nabcd\r\n");
    out.clear();
    let last = b"efg\r\n0\r\nA: b\r\nContent-Length: 9\r\nPayFence-Cost: 1\r\nTransfer_Encoding: x\r\n\r\nnext";
    let end = decoder.transcode(last, &mut out, passes);
    assert_eq!(end, Ok(Transcoded { consumed: last.len() - 4, data_bytes: 3, done: true }));
    assert_eq!(out, b"3\r\nefg\r\n0\r\nA: b\r\n\r\n");
    out.clear();
    decoder.reset();
    assert!(decoder.transcode(b"f", &mut out, passes).is_ok());
    assert_eq!(out, b"", "no data, no chunk: a chunk of size 0 would end the body");
}

/// The reference: RFC 9112 §7.1.3's loop over a complete body, one line after another. `None`:
/// not a complete, well-formed body. It knows no extensions beyond tokens, and no bounds.
fn reference(input: &[u8]) -> Option<Body> {
    let line_at = |at: usize| {
        let len = input.get(at..)?.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&input[at..at + len]).ok()?;
        Some((line.to_owned(), at + len + 2))
    };
    let token = |text: &str| !text.is_empty() && text.bytes().all(is_token_byte);
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let (line, next) = line_at(at)?;
        let mut parts = line.split(';');
        let size = parts.next()?;
        if !size.bytes().all(|byte| byte.is_ascii_hexdigit()) || size.len() > 16 {
            return None;
        }
        let size = usize::from_str_radix(size, 16).ok()?;
        if !parts.all(|part| match part.split_once('=') {
            Some((name, value)) => token(name) && token(value),
            None => token(part),
        }) {
            return None;
        }
        at = next;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size)?;
        data.extend_from_slice(input.get(at..end)?);
        at = end + 2;
        if input.get(end..at)? != b"\r\n" {
            return None;
        }
    }
    let mut trailers = Vec::new();
    loop {
        let (line, next) = line_at(at)?;
        at = next;
        if line.is_empty() {
            return Some((data, trailers, at));
        }
        let (name, value) = line.split_once(':')?;
        let controls = value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t');
        if !token(name) || controls {
            return None;
        }
        trailers.push((name.into(), value.trim_matches([' ', '\t']).into()));
    }
}

/// Pieces of chunked bodies, sound and unsound, without blanks and quotes around extensions.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "1\r\nx\r\n",
        "1\r\nx\r\n",
        "5\r\nhello\r\n",
        "a;b=c\r\n0123456789\r\n",
        "3;b;c\r\n\r\n\r\r\n",
        "02\r\nab\r\n",
        "2\r\nabc\r\n",
        "1\nx\r\n",
        "0\r\n",
        "0\r\n",
        "\r\n",
        "A: b\r\n",
        "A:\t b \r\n",
        "A : b\r\n",
        "g\r\n",
        "1;\r\nx\r\n",
        "ffffffffffffffffff\r\n",
        "A: b\n",
        "\r",
        "\n",
    ]);
    prop::collection::vec(piece, 0..10)
        .prop_map(|pieces| format!("{}0\r\n\r\n", pieces.concat()).into_bytes())
}

proptest! {
    #[test]
    fn like_the_reference(
        input in any_body(),
        cuts in prop::collection::btree_set(0usize..120, 0..10),
    ) {
        let cuts = cuts.into_iter().filter(|cut| *cut < input.len());
        prop_assert_eq!(decode(&input, cuts).ok().flatten(), reference(&input));
    }

    #[test]
    fn pieces_do_not_matter(
        tail in prop::collection::vec(any::<u8>(), 0..60),
        input in any_body(),
        cuts in prop::collection::btree_set(0usize..120, 0..10),
    ) {
        let input = [input, tail].concat();
        let cuts = cuts.into_iter().filter(|cut| *cut < input.len());
        prop_assert_eq!(decode(&input, cuts), decode(&input, std::iter::empty()));
    }

    #[test]
    fn what_is_written_decodes_back(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..6),
        cuts in prop::collection::btree_set(0usize..2000, 0..10),
    ) {
        let mut input = Vec::new();
        for chunk in &chunks {
            write::chunk(&mut input, chunk);
        }
        write::last_chunk(&mut input, [(b"A".as_slice(), b"b".as_slice())].into_iter(), |_| true);
        let mut decoder = ChunkDecoder::new();
        let mut again = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().filter(|cut| *cut < input.len()).chain([input.len()]) {
            decoder.transcode(&input[from..cut], &mut again, |_| true).expect("well formed");
            from = cut;
        }
        prop_assert!(decoder.is_done());
        let expected = (chunks.concat(), vec![(b"A".to_vec(), b"b".to_vec())], again.len());
        prop_assert_eq!(decode(&again, std::iter::empty()), Ok(Some(expected.clone())));
        prop_assert_eq!(reference(&again), Some(expected));
    }
}
