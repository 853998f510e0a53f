//! Rows written and read back; bytes that are none.

use proptest::prelude::*;

use super::*;

fn opened() -> Opened<'static> {
    Opened {
        opened_at: 4_096,
        time_ns: 1_795_478_400_123_456_789,
        request_id: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
        account: Some(Account {
            entitlement: EntitlementId(u128::MAX - 1),
            period: Period { id: PeriodId(7), start_s: -5, end_s: 1_800_000_000 },
        }),
        reason: Reason::Ok,
        charge: 3,
        remaining: Some(97),
        protocol: Protocol::Http11,
        client: Some("203.0.113.7".parse().unwrap()),
        texts: Texts {
            site: "weather",
            subscriber: Some(Subscriber {
                customer: "acme",
                subscription: "sub_acme",
                token_id: "tok_1",
            }),
            plan: Some("pro"),
            resource: Some("/api/v1/*"),
            method: "GET",
            path: "/api/v1/now",
        },
    }
}

const ENDED: Ended = Ended {
    reason: Reason::OriginTimeout,
    status: Some(504),
    charge: 0,
    remaining: Some(100),
    request_bytes: 1 << 40,
    response_bytes: 12,
    origin_us: Some(3_000_000),
    total_us: 3_000_100,
};

#[test]
fn an_open_row_is_ended_in_place() {
    let mut bytes = b"before".to_vec();
    write_open(&mut bytes, &opened());
    let row = &mut bytes[6..];
    let (open, rest) = read(row).unwrap();
    assert_eq!((open.stage, open.opened, rest.len()), (Stage::Open, opened(), 0));
    assert_eq!(opened_at(row), Some(4_096));
    let before = row.len();
    assert!(write_end(row, &ENDED));
    let (done, _) = read(row).unwrap();
    assert_eq!((done.stage, done.ended, row.len()), (Stage::Done, ENDED, before));
    assert_eq!(done.opened.texts, opened().texts);
    let mut digits = [0; 32];
    let origin = Origin { node: "n1", epoch: 1, shard: 2, seq: 3 };
    let record = done.record(origin, &mut digits);
    assert_eq!(record.request_id, "0123456789abcdef0123456789abcdef");
    assert_eq!((record.verdict, record.status), (Reason::OriginTimeout.verdict(), Some(504)));
    assert_eq!((record.site, record.path, record.seq), ("weather", "/api/v1/now", 3));
}

#[test]
fn what_a_crash_cut_off_stays_charged_without_a_status() {
    let mut row = Vec::new();
    write_open(&mut row, &opened());
    assert!(write_cut(&mut row));
    let (cut, _) = read(&row).unwrap();
    assert_eq!((cut.stage, cut.ended.status, cut.ended.charge), (Stage::Cut, None, 3));
    assert!(!write_cut(&mut [0; FIXED_BYTES - 1]));
}

#[test]
fn long_texts_are_cut_with_a_mark_at_a_character() {
    for (path, whole) in [
        ("/".repeat(TEXT_BYTES_MAX), true),
        ("/".repeat(TEXT_BYTES_MAX + 1), false),
        ("é".repeat(TEXT_BYTES_MAX), false),
    ] {
        let mut row = Vec::new();
        write_open(
            &mut row,
            &Opened { texts: Texts { path: &path, ..opened().texts }, ..opened() },
        );
        let kept = read(&row).unwrap().0.opened.texts.path;
        assert!(kept.len() <= TEXT_BYTES_MAX);
        assert_eq!(kept == path, whole);
        assert_eq!(kept.ends_with(CUT_MARK), !whole);
        assert!(path.starts_with(kept.trim_end_matches(CUT_MARK)));
    }
}

#[test]
fn a_row_with_nothing_known_but_its_refusal() {
    let bare = Opened {
        account: None,
        remaining: None,
        client: None,
        texts: Texts { site: "s", method: "GET", path: "/", ..Texts::default() },
        ..opened()
    };
    let mut row = Vec::new();
    write_open(&mut row, &bare);
    assert_eq!(row.len(), FIXED_BYTES + 5);
    assert_eq!(read(&row).unwrap().0.opened, bare);
    let v6 = Opened { client: Some("2001:db8::1".parse().unwrap()), ..bare };
    row.clear();
    write_open(&mut row, &v6);
    assert_eq!(read(&row).unwrap().0.opened.client, v6.client);
}

#[test]
fn every_cut_and_every_wrong_enum_is_malformed() {
    let mut row = Vec::new();
    write_open(&mut row, &opened());
    for length in 0..row.len() {
        assert!(read(&row[..length]).is_err(), "{length}");
    }
    for at in [at::STAGE, at::REASON, at::PROTOCOL, at::LENGTH + 3, at::TEXTS + 1] {
        let mut wrong = row.clone();
        wrong[at] = 0xff;
        assert!(read(&wrong).is_err(), "{at}");
    }
    let last = row.len() - 1;
    row[last] = 0xff;
    assert!(read(&row).is_err(), "a text that is not UTF-8");
    row.clear();
    write_open(&mut row, &Opened { texts: Texts { method: "é", ..opened().texts }, ..opened() });
    assert!(read(&row).is_ok());
    // The site takes the first half of the method's character.
    row[at::TEXTS] += 1;
    row[at::TEXTS + 2] -= 1;
    assert!(read(&row).is_err(), "a text that ends within a character");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&bytes);
        let _ = write_cut(&mut bytes);
        let length = u32::try_from(bytes.len()).unwrap();
        if let Some(start) = bytes.first_chunk_mut() {
            *start = length.to_le_bytes();
        }
        let _ = read(&bytes);
    }
}
