//! Which request is found again.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use policy::decision::{Outcome, Reason};
use policy::ids::SiteIndex;

use super::*;
use crate::message::RequestIds;
use crate::shard::Listens;

const REQUEST: &[u8] = b"GET /paid/1 HTTP/1.1\r\nHost: shop.test\r\n\r\n";

fn peer(serial: u64) -> Peer {
    Peer {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_trusted: false,
        listens: Listens::Plain,
        tls: None,
        last: Cell::new(Last::Kept(serial)),
    }
}

fn judged(reason: Reason, now_s: i64) -> Judged {
    let site = SiteIndex(0);
    let decision = Decision {
        site,
        outcome: Outcome::Meter,
        reason,
        resource: None,
        token: None,
        subscription: None,
        plan: None,
        cost: 0,
        foreign_looked_up: false,
    };
    Judged { found: SiteMatch { site, prefix_len: 0 }, decision, now_s }
}

fn kept(serial: u64) -> Box<Kept> {
    Box::new(Kept {
        serial,
        bytes: REQUEST.to_vec(),
        head: RequestHead::new(),
        judged: judged(Reason::Ok, 1),
        for_origin: Vec::new(),
        id_at: 0,
    })
}

#[test]
fn the_same_bytes_of_the_same_connection_are_found() {
    let longer = [REQUEST, b"GET /"].concat();
    let other = [&REQUEST[..5], b"free", &REQUEST[9..]].concat();
    let last: &[u8] = b"GET /paid/1 HTTP/1.1\r\nHost: shop.test\r\n\r\t";
    let cases: [(&str, u64, &[u8], bool); 8] = [
        ("the same", 7, REQUEST, true),
        ("with what comes next behind it", 7, &longer, true),
        ("another path", 7, &other, false),
        ("a part of it", 7, &REQUEST[..20], false),
        ("another last byte", 7, last, false),
        ("nothing", 7, b"", false),
        ("of another connection", 8, REQUEST, false),
        ("of another connection, with the same place", 7 + SLOTS as u64, REQUEST, false),
    ];
    for (name, serial, bytes, expected) in cases {
        let mut again = Again::default();
        assert!(again.take(&peer(serial), bytes).is_none(), "{name}: nothing was kept");
        again.put(kept(7));
        let found = again.take(&peer(serial), bytes);
        assert_eq!(
            found.map(|found| found.head_len()),
            expected.then_some(REQUEST.len()),
            "{name}"
        );
    }
}

#[test]
fn a_bounded_number_is_kept_and_the_newest_stay() {
    let mut again = Again::default();
    let all = 3 * SLOTS as u64;
    for serial in 1..=all {
        again.put(kept(serial));
    }
    assert_eq!(again.slots.iter().flatten().count(), SLOTS);
    let found: Vec<u64> =
        (1..=all).filter(|serial| again.take(&peer(*serial), REQUEST).is_some()).collect();
    assert_eq!(found, (all - SLOTS as u64 + 1..=all).collect::<Vec<_>>());
}

#[test]
fn a_head_for_the_origin_is_given_under_its_own_decision_with_the_new_id() {
    let ids: [RequestId; 2] = {
        let mut ids = RequestIds::new([1, 2]);
        [ids.next_id(), ids.next_id()]
    };
    let [before, id] = ids.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let head = format!("GET /1 HTTP/1.1\r\nX-Guess: {id}\r\nPayFence-Request-Id: {before}\r\n\r\n");
    let written =
        ForOrigin { bytes: head.as_bytes(), id_at: head.find(&before).expect("it is there") };
    let longer = [head.as_bytes(), &[b'x'; HEAD_BYTES_MAX]].concat();
    let too_long = ForOrigin { bytes: &longer, ..written };
    let (now, later) = (judged(Reason::Ok, 1), judged(Reason::Ok, 2));
    let other = judged(Reason::Grace, 2);
    let cases = [
        ("not forwarded so far", vec![(now, None)], now, false),
        ("forwarded", vec![(now, Some(written))], now, true),
        ("then refused by its budget", vec![(now, Some(written)), (now, None)], now, true),
        ("decided so a second later", vec![(now, Some(written)), (later, None)], later, true),
        ("decided otherwise", vec![(now, Some(written))], other, false),
        ("and so since", vec![(now, Some(written)), (other, None)], other, false),
        ("and back", vec![(now, Some(written)), (other, None), (now, None)], now, false),
        ("written anew then", vec![(now, None), (other, Some(written))], other, true),
        ("too long", vec![(now, Some(written)), (other, Some(too_long))], other, false),
    ];
    for (name, times, asked, expected) in cases {
        let mut kept = kept(1);
        for (judged, for_origin) in times {
            kept.renew(judged, for_origin);
        }
        let mut out = b"before|".to_vec();
        assert_eq!(kept.write_request(&mut out, &asked.decision, &ids[1]), expected, "{name}");
        let given = if expected { head.replace(&before, &id) } else { String::new() };
        assert_eq!(String::from_utf8_lossy(&out), format!("before|{given}"), "{name}");
    }
}
