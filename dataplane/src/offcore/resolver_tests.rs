//! The resolver as shards use it: literals, this machine's own name, a name server over UDP whose answer changes.

use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};

use super::*;

/// Far longer than any step takes, so that only a real failure meets it.
const DEADLINE: Duration = Duration::from_secs(20);

fn wakes(handle: &ResolverHandle) -> Receiver<()> {
    let (wake, woken) = channel();
    handle.subscribe(Box::new(move || {
        // The test that listened may have ended.
        let _ = wake.send(());
    }));
    woken
}

/// The first answer that is none of those before.
fn next(
    handle: &ResolverHandle,
    woken: &Receiver<()>,
    name: &str,
    before: &Resolution,
) -> Resolution {
    loop {
        let now = handle.lookup(name, 80);
        if now != Resolution::Pending && now != *before {
            return now;
        }
        woken.recv_timeout(DEADLINE).expect("the resolver wakes whoever waits");
    }
}

#[test]
fn literals_are_answered_at_once() {
    let resolver = Resolver::start().unwrap();
    let handle = resolver.handle();
    let check = |name: &str, address: &str| {
        let expected = Resolution::Ready(Arc::new([address.parse().unwrap()]));
        assert_eq!(handle.lookup(name, 80), expected);
    };
    check("127.0.0.1", "127.0.0.1:80");
    check("::1", "[::1]:80");
    check("[2001:db8::1]", "[2001:db8::1]:80");
}

#[test]
fn localhost_is_this_machine() {
    let resolver = Resolver::start().unwrap();
    let handle = resolver.handle();
    let woken = wakes(&handle);
    match next(&handle, &woken, "localhost", &Resolution::Pending) {
        Resolution::Ready(addresses) => {
            assert!(addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// A name server that answers A questions with one more address each time and a TTL of 0, and others with nothing.
fn name_server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut question = [0; 512];
        let mut answers = 0;
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            // The question ends after its name (labels up to the empty one), type and class (RFC 1035 section 4.1.2).
            let end = 12 + question[12..length].iter().position(|&byte| byte == 0).unwrap() + 5;
            let is_a = question[end - 4..end - 2] == [0, 1];
            let mut reply = question[..end].to_vec();
            // Response, recursion available, no error; one question, no other sections but the answers.
            reply[2..4].copy_from_slice(&[0x81, 0x80]);
            reply[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
            if is_a {
                answers += 1;
                // The name of the question, A, IN, TTL 0, four bytes of address.
                reply.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, answers]);
            }
            socket.send_to(&reply, from).unwrap();
        }
    });
    port
}

#[test]
fn a_name_follows_its_server() {
    let mut connection = ConnectionConfig::udp();
    connection.port = name_server();
    let server = NameServerConfig::new([127, 0, 0, 1].into(), true, vec![connection]);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let resolver = Resolver::with_source(SystemSource::with_name_servers(config)).unwrap();
    let handle = resolver.handle();
    let woken = wakes(&handle);
    let first = next(&handle, &woken, "origin.example.", &Resolution::Pending);
    assert_eq!(first, Resolution::Ready(Arc::new(["192.0.2.1:80".parse().unwrap()])));
    let second = next(&handle, &woken, "origin.example.", &first);
    assert_eq!(second, Resolution::Ready(Arc::new(["192.0.2.2:80".parse().unwrap()])));
}

#[test]
fn literals_and_names_out_of_reach_are_refused() {
    let resolver = Resolver::start_within(Reach::Public).unwrap();
    let handle = resolver.handle();
    for literal in ["127.0.0.1", "[::1]", "169.254.169.254", "::ffff:10.0.0.1"] {
        let answer = handle.lookup(literal, 80);
        assert!(matches!(answer, Resolution::Failed(_)), "{literal}: {answer:?}");
    }
    assert!(matches!(handle.lookup("8.8.8.8", 80), Resolution::Ready(_)));
    let woken = wakes(&handle);
    match next(&handle, &woken, "localhost", &Resolution::Pending) {
        Resolution::Failed(reason) => {
            assert!(reason.contains("--allow-private-origins"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
}
