//! Answers in pieces, quantiles, and the schedule against a real server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use super::{Answer, Latencies, Load, open_loop, schedule};
use crate::load::Request;
use crate::near_origin::NearOrigin;

#[test]
fn an_answer_is_whole_at_its_last_byte_however_it_is_cut() {
    let whole = b"HTTP/1.1 429 Too Many\r\nContent-Length: 5\r\nX: y\r\n\r\nhello";
    for cut in 1..whole.len() {
        let mut answer = Answer::default();
        assert_eq!(answer.feed(&whole[..cut]).unwrap(), None, "{cut}");
        assert_eq!(answer.feed(&whole[cut..]).unwrap(), Some(429), "{cut}");
        assert_eq!(answer.feed(whole).unwrap(), Some(429), "the next one on the connection");
    }
    assert!(Answer::default().feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab").is_err());
    assert!(Answer::default().feed(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
}

#[test]
fn quantiles() {
    let latencies = Latencies { ns: (1..=1000).map(|us| us * 1000).collect(), set_aside: 0 };
    for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
        assert!((latencies.quantile_us(share) - expected).abs() < 0.001, "{share}");
    }
    assert!(Latencies::new(&[], &[]).quantile_us(0.5).abs() < 0.001);
}

#[test]
fn every_request_of_the_schedule_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|read| read > 0) {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    let request =
        Request { path: "/".into(), token: None, status: 200, is_tls: false, differs: false };
    let second = Duration::from_secs(1);
    let load =
        |request| Load { address: &address, request, connections: 4, rate: 500.0, span: second };
    let latencies = open_loop(&load(&request), None, &[]).unwrap();
    assert_eq!(latencies.ns.len(), 500);
    let wrong = Request { status: 429, ..request.clone() };
    assert!(open_loop(&load(&wrong), None, &[]).is_err());
}

#[test]
fn an_origin_on_the_same_thread_is_served_beside_the_load() {
    let mut origin = NearOrigin::bind(&[("100B", 100)]).unwrap();
    let address = origin.address().to_owned();
    let request =
        Request { path: "/100B".into(), token: None, status: 200, is_tls: false, differs: false };
    let span = Duration::from_millis(500);
    let load = Load { address: &address, request: &request, connections: 4, rate: 2_000.0, span };
    let latencies = open_loop(&load, Some(&mut origin), &[]).unwrap();
    assert_eq!(latencies.ns.len(), 1_000);
    let again = open_loop(&load, Some(&mut origin), &[]).unwrap();
    assert_eq!(again.ns.len(), 1_000, "connections of the last time have ended");
}

#[test]
fn schedules_keep_their_rate() {
    for is_random in [false, true] {
        let due = schedule(10_000.0, 20_000, is_random);
        assert!(due.is_sorted());
        let last = due.last().unwrap().as_secs_f64();
        assert!((last - 2.0).abs() < 0.1, "{is_random}: {last}");
        let gaps = due.windows(2).map(|two| (two[1] - two[0]).as_secs_f64() * 10_000.0);
        let short = gaps.filter(|gap| *gap < 0.5).count();
        // Of gaps at random 39 in a hundred are below half of the mean.
        let expected = if is_random { 7_600..8_200 } else { 0..1 };
        assert!(expected.contains(&short), "{is_random}: {short}");
    }
}

#[test]
fn requests_that_differ_do_so_each_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut heads = Vec::new();
        let mut request = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut request) {
            heads.push(String::from_utf8_lossy(&request[..read]).into_owned());
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
        heads
    });
    let request =
        Request { path: "/".into(), token: Some("t"), status: 200, is_tls: false, differs: true };
    let span = Duration::from_millis(100);
    let load = Load { address: &address, request: &request, connections: 1, rate: 100.0, span };
    open_loop(&load, None, &[]).unwrap();
    let heads = server.join().unwrap();
    let ids: Vec<_> = heads
        .iter()
        .map(|head| head.split_once("\r\ntraceparent: 00-").expect("a trace id").1)
        .map(|rest| rest.split_once("-b7ad6b7169203331-01\r\n\r\n").expect("its end").0)
        .collect();
    assert!(ids.len() >= 10 && ids.iter().all(|id| id.len() == 32), "{ids:?}");
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len(), "{ids:?}");
}
