//! Bytes of a control plane, or of a node, cut anywhere: frames and messages come out within their bounds, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use link::wire::{Frames, Pushed, Refusal, Report, ReportReply, StreamQuery};

/// No payload is longer here.
const BYTES_MAX: usize = 4_096;

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let mut frames = Frames::new(BYTES_MAX);
    let piece_bytes = usize::from(*first).max(1);
    for piece in bytes.chunks(piece_bytes) {
        frames.put(piece);
        while let Ok(Some(frame)) = frames.next_frame() {
            assert!(frame.payload.len() <= BYTES_MAX);
            if let Ok(pushed) = Pushed::decode(frame)
                && pushed != Pushed::Other
            {
                let again = pushed.encode().expect("what came in a frame fits one");
                let mut frames = Frames::new(again.len());
                frames.put(&again);
                let frame = frames.next_frame().expect("it is good").expect("it is whole");
                assert_eq!(Pushed::decode(frame), Ok(pushed));
            }
        }
    }
    let _ = (Report::decode(bytes), ReportReply::decode(bytes), Refusal::decode(bytes));
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(query) = StreamQuery::parse(text)
    {
        assert_eq!(StreamQuery::parse(&query.to_text()), Ok(query));
    }
});
