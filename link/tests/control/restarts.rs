//! Servers and nodes that go and come back.
//!
//! In: ends and starts. Out: the policy in force. Always holds: a node starts with what it had; it follows whichever control plane is there.

use link::wire::Why;

use crate::node::{Node, base};
use crate::server::Server;

fn server() -> Server {
    let server = Server::start();
    server.set_base(1, base(&["one"]));
    server.publish(|_| b"two".to_vec());
    server
}

#[test]
fn a_node_starts_with_what_it_had_and_nobody_there() {
    let server = server();
    let (token, folder) = (server.issue(), tempfile::tempdir().expect("a folder"));
    let url = server.url();
    let node = Node::start(std::slice::from_ref(&url), &token, folder.path());
    node.reaches(2, &["one", "two"]);
    node.stop();
    let again = server.stop();
    let node = Node::start(&[url], &token, folder.path());
    assert_eq!(node.in_force(), (2, vec!["one".to_owned(), "two".to_owned()]));
    assert_eq!(node.status().last_contact(), None);
    node.wait("it tells why there is no stream", || node.status().error.is_some());
    let server = again();
    server.publish(|_| b"three".to_vec());
    node.reaches(3, &["one", "two", "three"]);
    assert_eq!(server.base_requests(), 1, "the base was here already");
}

#[test]
fn nodes_go_over_to_another_control_plane() {
    let first = server();
    let second = first.twin();
    let (token, folder) = (first.issue(), tempfile::tempdir().expect("a folder"));
    let node = Node::start(&[first.url(), second.url()], &token, folder.path());
    node.reaches(2, &["one", "two"]);
    assert_eq!(node.status().connected, Some(first.url()));
    let again = first.stop();
    second.publish(|_| b"three".to_vec());
    node.reaches(3, &["one", "two", "three"]);
    node.wait("the other one", || node.status().connected == Some(second.url()));
    let first = again();
    drop(second);
    first.publish(|_| b"four".to_vec());
    node.reaches(4, &["one", "two", "three", "four"]);
}

#[test]
fn a_node_that_was_away_for_too_long_gets_a_base() {
    let server = server();
    let (token, folder) = (server.issue(), tempfile::tempdir().expect("a folder"));
    let node = Node::start(&[server.url()], &token, folder.path());
    node.reaches(2, &["one", "two"]);
    node.stop();
    for _ in 0..5 {
        server.publish(|_| b"gone".to_vec());
    }
    server.set_base(7, base(&["seven"]));
    server.prune(7);
    server.publish(|_| b"eight".to_vec());
    let node = Node::start(&[server.url()], &token, folder.path());
    node.reaches(8, &["seven", "eight"]);
    node.never_went_back();
    let left = std::fs::read_dir(folder.path().join("policy")).expect("a folder").count();
    assert_eq!(left, 2, "one base and its log");
}

#[test]
fn a_new_base_takes_the_place_of_changes_without_a_gap() {
    let server = server();
    let (token, folder) = (server.issue(), tempfile::tempdir().expect("a folder"));
    let node = Node::start(&[server.url()], &token, folder.path());
    node.reaches(2, &["one", "two"]);
    server.publish(|_| b"three".to_vec());
    node.reaches(3, &["one", "two", "three"]);
    server.set_base(2, base(&["one+two"]));
    node.reaches(3, &["one+two", "three"]);
    node.stop();
    // Both are on disk now.
    let node = Node::start(&["http://127.0.0.1:9".to_owned()], &token, folder.path());
    assert_eq!(node.in_force(), (3, vec!["one+two".to_owned(), "three".to_owned()]));
}

#[test]
fn a_database_from_a_backup_is_followed_back() {
    let server = server();
    let (token, folder) = (server.issue(), tempfile::tempdir().expect("a folder"));
    let node = Node::start(&[server.url()], &token, folder.path());
    for text in ["three", "four"] {
        server.publish(|_| text.as_bytes().to_vec());
    }
    node.reaches(4, &["one", "two", "three", "four"]);
    let url = server.url();
    let again = server.stop();
    let server = again();
    server.restore(2);
    server.set_base(2, base(&["one", "two"]));
    assert_eq!(server.url(), url);
    node.reaches(2, &["one", "two"]);
    server.publish(|_| b"other".to_vec());
    node.reaches(3, &["one", "two", "other"]);
}

#[test]
fn a_revoked_node_says_so_and_serves_on_until_it_has_another_token() {
    let server = server();
    let (token, folder) = (server.issue(), tempfile::tempdir().expect("a folder"));
    let node = Node::start(&[server.url()], &token, folder.path());
    node.reaches(2, &["one", "two"]);
    server.revoke(&token);
    let alarm = || node.status().alarm.map(|alarm| alarm.why);
    node.wait("an alarm", || alarm() == Some(Why::TokenRevoked));
    node.wait("it is cut off", || node.status().connected.is_none());
    server.publish(|_| b"three".to_vec());
    assert_eq!(node.in_force().0, 2, "nothing more comes");
    let fresh = server.issue();
    std::fs::write(&node.token_file, fresh.reveal()).expect("it is written");
    node.reaches(3, &["one", "two", "three"]);
    assert_eq!(alarm(), None);
}

#[test]
fn an_unknown_token_is_an_alarm() {
    let (server, other) = (server(), Server::start());
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(&[server.url()], &other.issue(), folder.path());
    let alarm = || node.status().alarm.map(|alarm| alarm.why);
    node.wait("an alarm", || alarm() == Some(Why::TokenUnknown));
    assert_eq!(node.in_force(), (0, Vec::new()));
}
