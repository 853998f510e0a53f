use proptest::prelude::*;

use super::*;

fn one(payload: &[u8]) -> Vec<u8> {
    encode(Kind::Heartbeat, &[payload]).expect("it is short")
}

#[test]
fn a_frame_is_these_bytes() {
    // CRC-32 of 02 00 00 00 05 68 69, as Python's zlib.crc32 has it.
    let crc = 0x9572_34ef_u32;
    let mut expected = vec![2, 0, 0, 0, 5];
    expected.extend_from_slice(&crc.to_le_bytes());
    expected.extend_from_slice(b"hi");
    assert_eq!(one(b"hi"), expected);
}

#[test]
fn no_changed_byte_goes_unseen() {
    let good = [one(b"first"), one(b"second")].concat();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let mut frames = Frames::new(1000);
            frames.put(&bad);
            let mut whole = 0;
            while let Ok(Some(frame)) = frames.next_frame() {
                assert!(
                    [&b"first"[..], b"second"].contains(&frame.payload.as_slice()),
                    "{at} {bit}"
                );
                whole += 1;
            }
            assert!(whole < 2, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn cuts_anywhere_are_no_frames() {
    let good = one(b"payload");
    for length in 0..good.len() {
        assert_eq!(only(&good[..length], 100), Err(FrameError::Cut), "{length}");
    }
    assert_eq!(only(&[good.clone(), vec![0]].concat(), 100), Err(FrameError::Cut));
    assert_eq!(only(&good, 100).map(|frame| frame.payload), Ok(b"payload".to_vec()));
}

#[test]
fn a_length_past_the_bound_is_refused_before_anything_is_kept() {
    let mut frames = Frames::new(64);
    frames.put(&[0xff; HEAD_BYTES]);
    let expected = FrameError::TooLong { bytes: 0xffff_ffff, bytes_max: 64 };
    assert_eq!(frames.next_frame(), Err(expected));
    frames.put(&[0; 1000]);
    assert_eq!(frames.next_frame(), Err(expected), "and so for ever");
    assert_eq!(frames.buffer.capacity(), 0, "nothing is kept");
}

proptest! {
    #[test]
    fn frames_come_out_of_any_pieces(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
        cuts in proptest::collection::vec(1..64_usize, 1..40),
    ) {
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| one(payload)).collect();
        let mut frames = Frames::new(200);
        let mut found = Vec::new();
        let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*cuts.next().expect("it cycles")));
            frames.put(piece);
            rest = after;
            while let Some(frame) = frames.next_frame().expect("they are good") {
                found.push(frame.payload);
            }
            prop_assert!(frames.buffer.len() < HEAD_BYTES + 200 + 64);
        }
        prop_assert!(frames.is_between());
        prop_assert_eq!(found, payloads);
    }

    #[test]
    fn anything_at_all_ends_well(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut frames = Frames::new(100);
        frames.put(&bytes);
        while let Ok(Some(frame)) = frames.next_frame() {
            prop_assert!(frame.payload.len() <= 100);
        }
    }
}
