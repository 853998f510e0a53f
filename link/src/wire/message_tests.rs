use policy::budget::{EntitlementId, Period, PeriodId};
use proptest::prelude::*;

use super::*;

fn reply() -> Reply {
    let period = Period { id: PeriodId(1), start_s: 0, end_s: 60 };
    Reply {
        id: EntitlementId(7),
        period,
        granted: 3,
        returned: 2,
        elsewhere: 1,
        recall: true,
        coming: false,
        lease_us: 3,
        current: period,
        serial: 5,
        stamp_us: 6,
        share: None,
    }
}

fn decode(bytes: &[u8]) -> Result<Pushed, WireError> {
    Pushed::decode(frame::only(bytes, frame::PAYLOAD_BYTES_MAX)?)
}

fn messages() -> Vec<Pushed> {
    vec![
        Pushed::Hello(Hello {
            protocol: crate::wire::PROTOCOL,
            heartbeat_ms: 1000,
            sequence: 9,
            history: 3,
            node: "n1".into(),
        }),
        Pushed::Base(BaseOffer { history: 3, sequence: 9, bytes: 1 << 30, sha256: [7; 32] }),
        Pushed::Delta(DeltaHead { from: 9, to: 12 }, b"the change".to_vec()),
        Pushed::Delta(DeltaHead { from: 0, to: u64::MAX }, Vec::new()),
        Pushed::Ledger(vec![reply(); 3]),
        Pushed::Heartbeat(Heartbeat { sequence: 12, unix_ms: -1 }),
        Pushed::Refusal(Refusal::new(Why::TokenRevoked, "revoked")),
    ]
}

#[test]
fn what_is_pushed_arrives_as_it_was() {
    for message in messages() {
        let bytes = message.encode().expect("it is short");
        assert_eq!(decode(&bytes), Ok(message));
    }
}

#[test]
fn a_newer_ends_frames_and_fields_are_passed_over() {
    let mut unknown = frame::encode(Kind::Heartbeat, &[b"?"]).expect("short");
    unknown[4] = 200;
    let crc = crc32fast::hash(&[&unknown[..5], b"?"].concat());
    unknown[5..9].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(decode(&unknown), Ok(Pushed::Other));
    let heartbeat = Heartbeat { sequence: 1, unix_ms: 2 };
    let payload = postcard::to_allocvec(&heartbeat).expect("it is written");
    let longer = frame::encode(Kind::Heartbeat, &[&payload, b"more"]).expect("short");
    assert_eq!(decode(&longer), Ok(Pushed::Heartbeat(heartbeat)));
}

#[test]
fn what_is_past_a_bound_is_refused() {
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let base =
        |sequence, bytes| Pushed::Base(BaseOffer { history: 3, sequence, bytes, sha256: [0; 32] });
    for message in [
        Pushed::Hello(Hello {
            protocol: crate::wire::PROTOCOL,
            heartbeat_ms: 1,
            sequence: 0,
            history: 3,
            node: long.clone(),
        }),
        base(0, 1),
        base(1, 0),
        base(1, BASE_BYTES_MAX + 1),
        Pushed::Delta(DeltaHead { from: 5, to: 5 }, Vec::new()),
        Pushed::Delta(DeltaHead { from: 6, to: 5 }, Vec::new()),
        Pushed::Ledger(vec![reply(); REPLIES_MAX + 1]),
        Pushed::Refusal(Refusal { why: Why::Gone, text: long.clone() }),
    ] {
        let bytes = message.encode().expect("it can be written");
        assert!(matches!(decode(&bytes), Err(WireError::Message { .. })), "{message:?}");
    }
    assert_eq!(Refusal::new(Why::Gone, &long).text.len(), TEXT_BYTES_MAX);
    let huge = Pushed::Delta(DeltaHead { from: 1, to: 2 }, vec![0; frame::PAYLOAD_BYTES_MAX]);
    assert!(matches!(huge.encode(), Err(WireError::Frame(FrameError::TooLong { .. }))));
}

fn report(requests: usize) -> Report {
    use policy::budget::message::{LeaseRequest, ShareClaim, Totals};
    use policy::budget::{Calendar, CarriedUse, Overage, RateTerms, Terms, Unit};
    let most = u64::MAX;
    let request = LeaseRequest {
        id: EntitlementId(u128::MAX),
        period: Period { id: PeriodId(most), start_s: i64::MIN, end_s: i64::MIN },
        terms: Terms {
            version: most,
            limit: Some(most),
            overage: Overage::Allow { cap: Some(most) },
            calendar: Calendar { unit: Unit::Year, anchor_s: Some(i64::MIN) },
            rate: Some(RateTerms { requests: most, unit: Unit::Year, burst: most }),
            concurrency: Some(u32::MAX),
        },
        totals: Totals { charged: most, refunded: most, corrected: most },
        returned: most,
        granted: most,
        need: most,
        demand: most,
        closed: true,
        carried: CarriedUse { units: most, whole: true, journal: most },
        stamp_us: most,
        share: Some(ShareClaim {
            serial: most,
            since_us: most,
            demand: most,
            given: most,
            taken: most,
            slots_held: u32::MAX,
            slots_want: u32::MAX,
            leaves: true,
        }),
    };
    Report {
        epoch: most,
        number: most,
        sequence: most,
        base: most,
        requests: vec![request; requests],
        has_more: true,
        figures: Figures {
            version: "v".repeat(TEXT_BYTES_MAX),
            rejected: most,
            error: Some("e".repeat(TEXT_BYTES_MAX)),
        },
    }
}

#[test]
fn the_largest_report_fits_and_a_larger_one_is_refused() {
    let full = report(REQUESTS_MAX);
    assert_eq!(Report::decode(&full.encode().expect("it fits")), Ok(full));
    let over = report(REQUESTS_MAX + 1).encode().expect("it can be written");
    assert!(matches!(Report::decode(&over), Err(WireError::Message { .. })));
    let reply = ReportReply { number: 1, unix_ms: 2, replies: vec![reply(); REPLIES_MAX] };
    assert_eq!(ReportReply::decode(&reply.encode().expect("it fits")), Ok(reply));
}

#[test]
fn a_body_of_another_kind_is_refused() {
    let refusal = Refusal::new(Why::Unavailable, "later").encode().expect("short");
    assert!(matches!(Report::decode(&refusal), Err(WireError::Message { .. })));
    assert!(matches!(ReportReply::decode(&refusal), Err(WireError::Message { .. })));
    assert_eq!(Refusal::decode(&refusal), Ok(Refusal::new(Why::Unavailable, "later")));
    let report = report(0).encode().expect("short");
    assert!(matches!(Refusal::decode(&report), Err(WireError::Message { .. })));
    assert!(matches!(decode(&report), Err(WireError::Message { .. })), "not in a stream");
}

proptest! {
    #[test]
    fn any_payload_of_any_kind_is_read_or_refused(
        kind in 0..20_u8, payload in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        // What matters is that neither panics nor allocates by what a length says.
        let _ = Pushed::decode(Frame { kind, payload: payload.clone() });
        if let Some(kind) = Kind::of(kind) {
            let body = frame::encode(kind, &[&payload]).expect("short");
            let _ = (Report::decode(&body), ReportReply::decode(&body), Refusal::decode(&body));
        }
    }
}
