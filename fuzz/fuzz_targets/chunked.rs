//! Chunked bodies: no input panics, cuts change nothing, and what is written again decodes to the same data.

#![no_main]

use arbitrary::Arbitrary;
use dataplane::http1::ChunkDecoder;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    body: Vec<u8>,
    cuts: Vec<u8>,
}

/// Data and bytes consumed where the body is complete; `None` where it is refused or goes on.
fn decode(pieces: &[&[u8]]) -> Option<(Vec<u8>, usize)> {
    let (mut decoder, mut data, mut consumed) = (ChunkDecoder::new(), Vec::new(), 0);
    for piece in pieces {
        let done = decoder.decode(piece, &mut data).ok()?;
        consumed += done.consumed;
        if done.done {
            return Some((data, consumed));
        }
    }
    None
}

fuzz_target!(|input: Input| {
    let body = input.body.as_slice();
    let whole = decode(&[body]);
    let mut pieces = Vec::new();
    let mut rest = body;
    for cut in &input.cuts {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(decode(&pieces), whole, "cuts {:?}", input.cuts);

    let (mut decoder, mut out) = (ChunkDecoder::new(), Vec::new());
    let mut done = false;
    for piece in &pieces {
        match decoder.transcode(piece, &mut out, |_| true) {
            Ok(step) if step.done => {
                done = true;
                break;
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
    if done {
        let (data, consumed) = decode(&[&out]).expect("what is written is well-formed");
        assert_eq!(Some(data), whole.map(|(data, _)| data));
        assert_eq!(consumed, out.len());
    }
});
