//! Which request is found again.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use policy::decision::{Outcome, Reason};
use policy::ids::SiteIndex;

use super::*;
use crate::shard::Listens;

const REQUEST: &[u8] = b"GET /paid/1 HTTP/1.1\r\nHost: shop.test\r\n\r\n";

fn peer(refused: u64) -> Peer {
    Peer {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_trusted: false,
        listens: Listens::Plain,
        tls: None,
        refused: Cell::new(refused),
    }
}

fn refused(serial: u64) -> Box<Refused> {
    let site = SiteIndex(0);
    let decision = Decision {
        site,
        outcome: Outcome::Refuse,
        reason: Reason::TokenMissing,
        resource: None,
        token: None,
        subscription: None,
        plan: None,
        cost: 0,
        foreign_looked_up: false,
    };
    let judged = Judged { found: SiteMatch { site, prefix_len: 0 }, decision, now_s: 1 };
    Box::new(Refused { serial, bytes: REQUEST.to_vec(), head: RequestHead::new(), judged })
}

#[test]
fn the_same_bytes_of_the_same_connection_are_found() {
    let longer = [REQUEST, b"GET /"].concat();
    let other = [&REQUEST[..5], b"free", &REQUEST[9..]].concat();
    let cases: [(&str, u64, &[u8], bool); 6] = [
        ("the same", 7, REQUEST, true),
        ("with what comes next behind it", 7, &longer, true),
        ("another path", 7, &other, false),
        ("a part of it", 7, &REQUEST[..20], false),
        ("of another connection", 8, REQUEST, false),
        ("of another connection, with the same place", 7 + SLOTS as u64, REQUEST, false),
    ];
    for (name, serial, bytes, expected) in cases {
        let mut again = Again::default();
        assert!(again.take(&peer(serial), bytes).is_none(), "{name}: nothing was kept");
        again.put(refused(7));
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
        again.put(refused(serial));
    }
    assert_eq!(again.slots.iter().flatten().count(), SLOTS);
    let found: Vec<u64> =
        (1..=all).filter(|serial| again.take(&peer(*serial), REQUEST).is_some()).collect();
    assert_eq!(found, (all - SLOTS as u64 + 1..=all).collect::<Vec<_>>());
}
