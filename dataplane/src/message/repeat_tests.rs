//! Repeated answers against those written each time.

use proptest::prelude::*;

use super::super::fixture::{NOW_S, figures, snapshot};
use super::*;
use crate::message::RequestIds;

/// Two values a field, so that most answers come again and any two differ in few fields.
#[derive(Debug, Clone, Copy)]
struct Asked {
    reason: Reason,
    has_site: bool,
    origin: bool,
    bits: u16,
}

impl Asked {
    fn bit(self, bit: u32) -> bool {
        self.bits >> bit & 1 == 1
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let reasons = [Reason::QuotaExhausted, Reason::RateLimited, Reason::TokenMissing];
    // Most bits are mostly zero.
    let bits = (any::<u16>(), any::<u16>(), any::<u16>()).prop_map(|(a, b, c)| a & b & c);
    (
        prop::sample::select(reasons.to_vec()),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.1),
        bits,
    )
        .prop_map(|(reason, has_site, origin, bits)| Asked { reason, has_site, origin, bits })
}

proptest! {
    #[test]
    fn what_is_repeated_is_what_would_be_written(asked in prop::collection::vec(asked(), 1..200)) {
        let snapshot = snapshot("cors_origins = [\"https://app.example\"]\nhsts = { max_age_seconds = 60 }", "");
        let mut ids = RequestIds::new([1, 2]);
        let mut repeats = Repeats::default();
        for asked in asked {
            let request_id = ids.next_id();
            let asker = Asker {
                site: snapshot.site_by_slug("weather").filter(|_| asked.has_site),
                origin_header: asked.origin.then_some(b"https://app.example"),
                is_head: asked.bit(0),
                close: asked.bit(1),
                request_id: &request_id,
                token_sent: asked.bit(2),
                sends_hsts: asked.bit(3),
                http10_keep_alive: asked.bit(4),
            };
            let mut figures = figures();
            figures.used += u64::from(asked.bit(5));
            figures.remaining = Some(u64::from(asked.bit(6)));
            figures.period.end_s += i64::from(asked.bit(7));
            let the = Problem {
                figures: (!asked.bit(8)).then_some(&figures),
                retry_after_s: Some(1 + u64::from(asked.bit(9))),
                concurrency: Some(1 + u32::from(asked.bit(10))),
                status: asked.bit(11).then_some(400),
                detail: asked.bit(12).then_some(&"another text"),
                ..Problem::new(asked.reason, NOW_S + i64::from(asked.bit(13)))
            };
            let (mut expected, mut given) = (b"before|".to_vec(), b"before|".to_vec());
            let body_bytes = problem(&mut expected, &asker, &the);
            prop_assert_eq!(repeats.problem(&mut given, &asker, &the), body_bytes);
            prop_assert_eq!(given, expected);
        }
    }
}

#[test]
fn an_answer_is_kept_when_it_came_twice() {
    let snapshot = snapshot("", "");
    let mut ids = RequestIds::new([1, 2]);
    let mut repeats = Repeats::default();
    let figures = figures();
    let mut kept = || {
        let request_id = ids.next_id();
        let asker = Asker {
            site: snapshot.site_by_slug("weather"),
            origin_header: None,
            is_head: false,
            close: false,
            request_id: &request_id,
            token_sent: true,
            sends_hsts: false,
            http10_keep_alive: false,
        };
        let the =
            Problem { figures: Some(&figures), ..Problem::new(Reason::QuotaExhausted, NOW_S) };
        repeats.problem(&mut Vec::new(), &asker, &the);
        let slots = repeats.slots.iter().flatten();
        slots
            .map(|slot| (slot.bytes.is_empty(), slot.ids_at.iter().flatten().count()))
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(), [(true, 0)]);
    assert_eq!(kept(), [(false, 2)]);
    assert_eq!(kept(), [(false, 2)]);
}
