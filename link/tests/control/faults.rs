//! Every way in which a stream or a base can be wrong.
//!
//! In: a fault, once or a few times. Out: the policy in force after it. Always holds: one `check`, many rows.

use link::wire::{BaseOffer, DeltaHead, Hello, PROTOCOL, Pushed, Refusal, Why};

use crate::node::{Node, base};
use crate::server::{Fault, Server};

fn word(text: &str) -> impl FnOnce(DeltaHead) -> Vec<u8> {
    let text = text.to_owned();
    move |_| text.into_bytes()
}

/// A server with a base at 10 and three changes after it.
fn server() -> Server {
    let server = Server::start();
    server.set_base(10, base(&["ten"]));
    for text in ["eleven", "twelve", "thirteen"] {
        server.publish(word(text));
    }
    server
}

const ALL: [&str; 4] = ["ten", "eleven", "twelve", "thirteen"];

/// What a new node comes to when this happens to it so often.
fn check(fault: Fault, times: u32) -> Node {
    let server = server();
    let token = server.issue();
    server.fail(fault.clone(), Some(times));
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(&[server.url()], &token, folder.path());
    node.reaches(13, &ALL);
    node.never_went_back();
    let last = server.publish(word("fourteen"));
    node.wait("the next change", || node.in_force().0 == last);
    node
}

fn frames(messages: &[Pushed]) -> Vec<u8> {
    messages.iter().flat_map(|message| message.encode().expect("it is short")).collect()
}

fn hello() -> Pushed {
    let node = "n".to_owned();
    Pushed::Hello(Hello { protocol: PROTOCOL, heartbeat_ms: 40, sequence: 13, history: 1, node })
}

#[test]
fn a_stream_may_break_at_any_byte() {
    // The greeting and the offer of the base, and a bit of what follows.
    for at in 0..90 {
        check(Fault::CutAt(at), 1);
    }
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    for at in 0..90 {
        check(Fault::Flip(at), 1);
    }
}

#[test]
fn a_stream_that_says_nonsense_is_left() {
    let delta = Pushed::Delta(DeltaHead { from: 10, to: 11 }, b"forged".to_vec());
    let wrong_version = Pushed::Hello(Hello {
        protocol: PROTOCOL + 1,
        heartbeat_ms: 40,
        sequence: 0,
        history: 1,
        node: "n".into(),
    });
    for (what, bytes) in [
        ("silence", Vec::new()),
        ("a greeting and then silence", frames(&[hello()])),
        ("no greeting", frames(&[delta])),
        ("a length of 4 GiB", vec![0xff; 64]),
        ("text", b"HTTP/1.1 200 OK\r\n\r\nhello, this is no frame at all".to_vec()),
        ("it cannot now", frames(&[Pushed::Refusal(Refusal::new(Why::Unavailable, "later"))])),
        ("a report", {
            let mut frame = frames(&[hello()]);
            frame.extend(
                link::wire::ReportReply { number: 1, unix_ms: 0, replies: Vec::new() }
                    .encode()
                    .expect("short"),
            );
            frame
        }),
    ] {
        let node = check(Fault::Bytes(bytes), 2);
        assert!(node.refused().is_empty(), "{what}: {:?}", node.refused());
        assert_eq!(node.status().alarm, None, "{what}");
    }
    // A version is refused for longer than a test takes.
    let server = server();
    server.fail(Fault::Bytes(frames(&[wrong_version])), None);
    let (token, folder) = (server.issue(), tempfile::tempdir().expect("a folder"));
    let node = Node::start(&[server.url()], &token, folder.path());
    let alarm = || node.status().alarm.map(|alarm| alarm.why);
    node.wait("an alarm", || alarm() == Some(Why::Protocol));
    assert_eq!(node.in_force(), (0, Vec::new()));
}

#[test]
fn a_slow_stream_is_left_and_so_are_answers_of_other_servers() {
    for (fault, times) in [
        (Fault::Drip, 1),
        (Fault::Status(500), 3),
        (Fault::Status(401), 3),
        (Fault::Status(403), 3),
        (Fault::Status(302), 3),
        (Fault::Status(404), 3),
        (Fault::Refuse(503, Why::Unavailable), 3),
        (Fault::Refuse(410, Why::Gone), 3),
    ] {
        let node = check(fault.clone(), times);
        assert_eq!(node.status().alarm, None, "{fault:?}");
    }
}

#[test]
fn a_base_that_breaks_off_goes_on_where_it_was() {
    for (fault, times) in [
        (Fault::BaseCutAt(0), 2),
        (Fault::BaseCutAt(1), 5),
        (Fault::BaseCutAt(5), 1),
        (Fault::BaseGone, 1),
    ] {
        let node = check(fault.clone(), times);
        assert!(node.refused().is_empty(), "{fault:?}");
    }
}

#[test]
fn a_base_of_a_server_without_ranges_begins_anew() {
    let server = server();
    let token = server.issue();
    let folder = tempfile::tempdir().expect("a folder");
    let policy = folder.path().join("policy");
    std::fs::create_dir(&policy).expect("a folder");
    // What an earlier start has left of it.
    let sha = sha2::Sha256::digest(base(&["ten"]));
    let sha: String = sha.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(policy.join(format!("{:020}-{sha}.part", 10)), &base(&["ten"])[..4])
        .expect("written");
    server.fail(Fault::BaseWithoutRanges, None);
    let node = Node::start(&[server.url()], &token, folder.path());
    node.reaches(13, &ALL);
}

use sha2::Digest as _;

#[test]
fn a_base_with_wrong_bytes_is_refused_and_fetched_again() {
    let node = check(Fault::BaseWrong, 1);
    let refused = node.refused();
    assert!(refused.len() == 1 && refused[0].contains("hash"), "{refused:?}");
    assert_eq!(node.status().rejected, 1);
    assert_eq!(node.status().rejected_error, None, "a good one came after it");
}

#[test]
fn a_base_that_fails_its_own_checks_leaves_the_old_policy() {
    let server = server();
    let token = server.issue();
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(&[server.url()], &token, folder.path());
    node.reaches(13, &ALL);
    server.set_base(13, b"rubbish".to_vec());
    node.wait("a refusal", || node.status().rejected == 1);
    assert_eq!(node.in_force().0, 13);
    assert!(node.status().rejected_error.is_some_and(|error| error.contains("it is no base")));
    // A good one of the same sequence puts things right, and changes go on.
    server.set_base(13, base(&ALL));
    node.wait("the new base", || node.status().rejected_error.is_none());
    assert_eq!(node.status().base, 13);
    server.publish(word("fourteen"));
    node.reaches(14, &["ten", "eleven", "twelve", "thirteen", "fourteen"]);
    node.never_went_back();
}

#[test]
fn a_change_that_is_refused_waits_for_a_base_with_it() {
    let server = server();
    let token = server.issue();
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(&[server.url()], &token, folder.path());
    node.reaches(13, &ALL);
    server.publish(word("bad"));
    node.wait("a refusal", || node.status().rejected > 0);
    assert_eq!(node.in_force().0, 13, "the old one stays");
    node.wait("a fresh base is asked for", || {
        server.queries().last().is_some_and(|query| query.fresh == 14)
    });
    server.set_base(14, base(&["ten", "eleven", "twelve", "thirteen", "better"]));
    node.reaches(14, &["ten", "eleven", "twelve", "thirteen", "better"]);
    server.publish(word("fifteen"));
    node.wait("the next change", || node.in_force().0 == 15);
    node.never_went_back();
}

#[test]
fn changes_twice_old_and_out_of_order_come_out_right() {
    let server = server();
    let token = server.issue();
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(&[server.url()], &token, folder.path());
    node.reaches(13, &ALL);
    let delta =
        |from, to, text: &str| Pushed::Delta(DeltaHead { from, to }, text.as_bytes().to_vec());
    let offer = BaseOffer { history: 1, sequence: 9, bytes: 4, sha256: [0; 32] };
    for (what, messages) in [
        ("one that is in force", vec![delta(12, 13, "thirteen")]),
        ("an old one", vec![delta(3, 4, "four")]),
        ("a gap", vec![delta(15, 16, "sixteen")]),
        ("one that overlaps, all of it old", vec![delta(10, 13, "bad")]),
        ("a base that is not there", vec![Pushed::Base(offer)]),
    ] {
        let streams = server.queries().len();
        let messages = [vec![hello()], messages].concat();
        server.fail(Fault::Bytes(frames(&messages)), Some(1));
        // The stream that runs is good: it ends with its server.
        server.cut();
        node.wait(what, || server.queries().len() >= streams + 2);
        assert_eq!(node.in_force(), (13, ALL.map(str::to_owned).to_vec()), "{what}");
        assert!(node.refused().is_empty(), "{what}");
    }
    assert_eq!(node.status().gaps, 1);
    // Another control plane has cut the next change so that it begins earlier: it leads on all the same.
    server.fail(Fault::Bytes(frames(&[hello(), delta(11, 14, "fourteen")])), Some(1));
    server.cut();
    node.wait("the next change", || node.in_force().0 == 14);
    server.publish(word("fourteen"));
    server.publish(word("fifteen"));
    node.wait("one after it", || node.in_force().0 == 15);
    assert_eq!((node.status().gaps, node.in_force().1.len()), (1, ALL.len() + 2));
}
