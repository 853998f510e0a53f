//! The ledger's messages through the link, and what happens to them when it fails.
//!
//! In: lease requests. Out: replies. Always holds: no request is lost, whatever fails on its way.

use std::time::Duration;

use link::wire::Why;
use policy::budget::message::{LeaseRequest, Totals};
use policy::budget::{Calendar, CarriedUse, EntitlementId, Overage, Period, PeriodId, Terms, Unit};

use crate::node::{Node, base};
use crate::server::{Fault, Server};

fn request(id: u128, need: u64, charged: u64) -> LeaseRequest {
    LeaseRequest {
        id: EntitlementId(id),
        period: Period { id: PeriodId(1), start_s: 0, end_s: i64::MAX },
        terms: Terms {
            version: 1,
            limit: Some(10),
            overage: Overage::Deny,
            calendar: Calendar { unit: Unit::Month, anchor_s: None },
            rate: None,
            concurrency: None,
        },
        totals: Totals { charged, ..Totals::default() },
        returned: 0,
        granted: 0,
        need,
        demand: 0,
        closed: false,
        carried: CarriedUse::default(),
        stamp_us: 0,
        share: None,
    }
}

fn start() -> (Server, Node, tempfile::TempDir) {
    let server = Server::start();
    server.set_base(1, base(&["one"]));
    let (token, folder) = (server.issue(), tempfile::tempdir().expect("a folder"));
    let node = Node::start(&[server.url()], &token, folder.path());
    node.reaches(1, &["one"]);
    (server, node, folder)
}

#[test]
fn a_lease_is_asked_for_and_granted() {
    let (server, node, _folder) = start();
    node.ledger.blocking_send(request(5, 2, 0)).expect("the link runs");
    node.wait("a reply", || !node.replies.lock().is_empty());
    let reply = node.replies.lock()[0];
    assert!(reply.id == EntitlementId(5) && reply.granted >= 2, "{reply:?}");
    let reports = server.reports();
    let last = reports.iter().find(|report| !report.requests.is_empty()).expect("it was asked");
    assert_eq!((last.epoch, last.sequence, last.base), (7, 1, 1));
}

#[test]
fn reports_come_without_being_asked_for_and_acknowledge() {
    let (server, node, _folder) = start();
    let last = server.publish(|_| b"two".to_vec());
    node.wait("an acknowledgement", || {
        server.reports().last().is_some_and(|report| report.sequence == last)
    });
    let numbers: Vec<u64> = server.reports().iter().map(|report| report.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}

#[test]
fn what_comes_into_force_is_acknowledged_before_the_next_report_is_due() {
    let server = Server::start();
    server.set_base(1, base(&["one"]));
    let (token, folder) = (server.issue(), tempfile::tempdir().expect("a folder"));
    let never = Duration::from_secs(86_400);
    let node = Node::start_that_reports(never, &[server.url()], &token, folder.path());
    let has_acknowledged =
        |sequence| server.reports().last().is_some_and(|report| report.sequence == sequence);
    node.wait("the base acknowledged", || has_acknowledged(1));
    let last = server.publish(|_| b"two".to_vec());
    node.wait("the change acknowledged", || has_acknowledged(last));
}

#[test]
fn no_request_is_lost_while_reports_fail() {
    for fault in [
        Fault::ReportGarbage,
        Fault::Status(500),
        Fault::Status(401),
        Fault::Refuse(503, Why::Unavailable),
    ] {
        let (server, node, _folder) = start();
        server.fail(fault.clone(), None);
        for id in 0..50 {
            node.ledger.blocking_send(request(id, 1, 0)).expect("the link runs");
        }
        node.wait("reports fail", || node.status().reports_failed >= 3);
        assert!(node.status().ledger_lag() > std::time::Duration::ZERO);
        server.mend();
        node.wait("all replies", || {
            let mut ids: Vec<u128> = node.replies.lock().iter().map(|reply| reply.id.0).collect();
            ids.sort_unstable();
            ids.dedup();
            ids.len() == 50
        });
        node.wait("nothing is owed", || node.status().ledger_waiting == 0);
        assert_eq!(node.status().ledger_lag(), std::time::Duration::ZERO, "{fault:?}");
    }
}

#[test]
fn a_recall_comes_by_the_stream() {
    let server = Server::start();
    server.set_base(1, base(&["one"]));
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let [first, second] = folders
        .each_ref()
        .map(|folder| Node::start(&[server.url()], &server.issue(), folder.path()));
    first.reaches(1, &["one"]);
    // One node takes all there is; when the other needs a unit, the first one is asked for its own.
    first.ledger.blocking_send(request(5, 10, 0)).expect("the link runs");
    first.wait("all units", || first.replies.lock().iter().any(|reply| reply.granted == 10));
    second.ledger.blocking_send(request(5, 1, 0)).expect("the link runs");
    first.wait("a recall", || first.replies.lock().iter().any(|reply| reply.recall));
    let returned = LeaseRequest { granted: 10, returned: 4, ..request(5, 0, 6) };
    first.ledger.blocking_send(returned).expect("the link runs");
    second.wait("a unit", || second.replies.lock().iter().any(|reply| reply.granted >= 1));
}

#[test]
fn what_waits_at_the_end_is_sent() {
    let (server, node, _folder) = start();
    node.ledger.blocking_send(request(9, 0, 3)).expect("the link runs");
    node.stop();
    let reports = server.reports();
    let mut told = reports.iter().flat_map(|report| &report.requests);
    assert_eq!(told.next_back().map(|request| request.totals.charged), Some(3));
}
