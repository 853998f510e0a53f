//! The ring over real sockets: an echo shard against plain blocking clients.

use std::cell::Cell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use super::super::{Group, Listener, Outbox, Socket, Tap, bind_listener};
use super::*;
use crate::runtime;

fn config() -> RingConfig {
    RingConfig { entries: 64, small: (4, 512), large: (2, 4096), clock: Clock::start() }
}

/// Runs `body` on a ring of its own until it is done.
fn on_ring<F, T>(body: F) -> thread::JoinHandle<io::Result<()>>
where
    F: FnOnce(Rc<Ring>) -> T + Send + 'static,
    T: Future<Output = ()> + 'static,
{
    on_ring_of(config(), body)
}

fn on_ring_of<F, T>(config: RingConfig, body: F) -> thread::JoinHandle<io::Result<()>>
where
    F: FnOnce(Rc<Ring>) -> T + Send + 'static,
    T: Future<Output = ()> + 'static,
{
    runtime::launch("test", None, move || async move {
        let ring = Ring::new(&config).expect("io_uring is there");
        let done = Rc::new(Cell::new(false));
        let task = body(Rc::clone(&ring));
        let flag = Rc::clone(&done);
        runtime::spawn(&ring, async move {
            task.await;
            flag.set(true);
        });
        while !done.get() {
            if ring.turn(|| true)? {
                runtime::yield_now().await;
            }
        }
        // What the last task left queued, its socket's close among it.
        ring.turn(|| false)?;
        Ok(())
    })
    .expect("a thread")
}

/// A shard that echoes on `connections` connections, each until its end; gives its address.
fn echo(connections: usize, group: Group) -> (SocketAddr, thread::JoinHandle<io::Result<()>>) {
    let fd = bind_listener("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = std::net::TcpListener::from(fd.try_clone().expect("a descriptor"))
        .local_addr()
        .expect("bound");
    let shard = on_ring(move |ring| async move {
        let mut listener = Listener::new(fd, Rc::clone(&ring));
        let open = Rc::new(Cell::new(connections));
        for _ in 0..connections {
            let socket =
                Socket::adopt(listener.accept().await.expect("a connection"), Rc::clone(&ring));
            let open = Rc::clone(&open);
            runtime::spawn(&ring, async move {
                echo_one(&socket, group).await;
                open.set(open.get() - 1);
            });
        }
        let timer = ring.timer();
        while open.get() > 0 {
            timer.set(ring.now_ns() + 1_000_000);
            timer.wait().await;
        }
    });
    (address, shard)
}

async fn echo_one(socket: &Socket, group: Group) {
    loop {
        let mut buffer = socket.recv(group).await.expect("the client is well");
        if buffer.is_empty() {
            return;
        }
        while !buffer.is_empty() {
            let (sent, back) = socket.send_received(buffer, 0).await;
            buffer = back.expect("the buffer comes back");
            buffer.advance(sent.expect("the client reads"));
        }
    }
}

#[test]
fn many_connections_echo_more_than_the_buffers_hold() {
    const CONNECTIONS: usize = 20;
    for group in [Group::Small, Group::Large] {
        let (address, shard) = echo(CONNECTIONS, group);
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|n| {
                thread::spawn(move || {
                    let mut stream = TcpStream::connect(address).expect("a listener");
                    let sent: Vec<u8> = (0..200_000).map(|i| ((i * 7 + n) % 251) as u8).collect();
                    let mut reader = stream.try_clone().expect("a descriptor");
                    let bytes = sent.clone();
                    let writer = thread::spawn(move || {
                        stream.write_all(&bytes).expect("the shard reads");
                        stream.shutdown(Shutdown::Write).expect("connected");
                    });
                    let mut received = Vec::new();
                    reader.read_to_end(&mut received).expect("the shard answers");
                    writer.join().expect("no panic");
                    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
                })
            })
            .collect();
        for client in clients {
            client.join().expect("the echo is whole");
        }
        shard.join().expect("no panic").expect("the ring is well");
    }
}

#[test]
fn a_race_lost_to_the_timer_leaves_the_connection_usable() {
    let fd = bind_listener("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = std::net::TcpListener::from(fd.try_clone().expect("a descriptor"))
        .local_addr()
        .expect("bound");
    let (timed_out, told) = mpsc::channel();
    let shard = on_ring(move |ring| async move {
        let mut listener = Listener::new(fd, Rc::clone(&ring));
        let socket =
            Socket::adopt(listener.accept().await.expect("a connection"), Rc::clone(&ring));
        let timer = ring.timer();
        timer.set(ring.now_ns() + 20_000_000);
        let receive = std::pin::pin!(socket.recv(Group::Small));
        assert!(timer.race(receive).await.is_none(), "nothing was sent");
        timed_out.send(()).expect("the test waits");
        echo_one(&socket, Group::Small).await;
    });
    let mut stream = TcpStream::connect(address).expect("a listener");
    told.recv().expect("the shard says so");
    stream.write_all(b"late").expect("connected");
    stream.shutdown(Shutdown::Write).expect("connected");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("an echo");
    assert_eq!(received, b"late");
    shard.join().expect("no panic").expect("the ring is well");
}

#[test]
fn a_client_that_does_not_read_is_not_received_from_without_end() {
    let fd = bind_listener("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = std::net::TcpListener::from(fd.try_clone().expect("a descriptor"))
        .local_addr()
        .expect("bound");
    let shard = on_ring(move |ring| async move {
        let mut listener = Listener::new(fd, Rc::clone(&ring));
        let socket =
            Socket::adopt(listener.accept().await.expect("a connection"), Rc::clone(&ring));
        socket.watch(Group::Small);
        let timer = ring.timer();
        timer.set(ring.now_ns() + 100_000_000);
        timer.wait().await;
        let key = socket.receiving.get().expect("watched").key;
        let untaken = ring.inner.borrow().slots[key.index as usize].queue.len();
        // One more for the end of the paused receive, one that was under way.
        assert!(
            (1..=UNTAKEN_MAX + 2).contains(&untaken),
            "{untaken} buffers were received untaken"
        );
        echo_one(&socket, Group::Small).await;
    });
    let mut stream = TcpStream::connect(address).expect("a listener");
    let mut reader = stream.try_clone().expect("a descriptor");
    let sent = vec![7u8; 100_000];
    let bytes = sent.clone();
    let writer = thread::spawn(move || {
        stream.write_all(&bytes).expect("the shard reads in the end");
        stream.shutdown(Shutdown::Write).expect("connected");
    });
    let mut received = Vec::new();
    reader.read_to_end(&mut received).expect("an echo");
    writer.join().expect("no panic");
    assert_eq!(received.len(), sent.len());
    shard.join().expect("no panic").expect("the ring is well");
}

/// Answers lines that begin with `!` itself, and counts them; leaves the others.
struct Answerer {
    outbox: Rc<Outbox>,
    seen: Cell<usize>,
}

impl Tap for Answerer {
    fn received(&self, bytes: &[u8]) -> bool {
        let is_mine = bytes.starts_with(b"!");
        if is_mine {
            self.seen.set(self.seen.get() + 1);
            assert!(self.outbox.is_idle());
            self.outbox.queue(b"tap\n".to_vec());
        }
        is_mine
    }
}

#[test]
fn a_tap_answers_what_is_its_own_and_leaves_the_rest_in_order() {
    let fd = bind_listener("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = std::net::TcpListener::from(fd.try_clone().expect("a descriptor"))
        .local_addr()
        .expect("bound");
    let shard = on_ring(move |ring| async move {
        let mut listener = Listener::new(fd, Rc::clone(&ring));
        let socket =
            Socket::adopt(listener.accept().await.expect("a connection"), Rc::clone(&ring));
        let tap = Rc::new(Answerer { outbox: Rc::clone(socket.outbox()), seen: Cell::new(0) });
        socket.tap(Rc::<Answerer>::clone(&tap));
        let first = socket.recv(Group::Small).await.expect("the client is well");
        assert!(first.starts_with(b"task"), "{:?}", &*first);
        let mut len = first.len();
        // More than the buffers hold, and the end in one go: all of it comes, behind what was left first.
        while len < 4 * 512 * 3 {
            let more = socket.recv(Group::Small).await.expect("the client is well");
            assert!(!more.is_empty(), "the end came after {len} bytes");
            len += more.len();
        }
        assert!(socket.recv(Group::Small).await.expect("an end").is_empty());
        assert_eq!(tap.seen.get(), 100);
    });
    let mut stream = TcpStream::connect(address).expect("a listener");
    for _ in 0..100 {
        stream.write_all(b"!\n").expect("connected");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("the tap answers");
        assert_eq!(&answer, b"tap\n");
    }
    let mut rest = vec![b't'; 4 * 512 * 3];
    rest[..4].copy_from_slice(b"task");
    stream.write_all(&rest).expect("connected");
    stream.shutdown(Shutdown::Write).expect("connected");
    shard.join().expect("no panic").expect("the ring is well");
}

/// Wakes the task rather than take anything.
struct Alarm(Timer);

impl Tap for Alarm {
    fn received(&self, _: &[u8]) -> bool {
        self.0.fire();
        false
    }
}

#[test]
fn a_turn_tells_that_a_tap_may_have_woken_a_task() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (asks, is_asked) = mpsc::channel::<()>();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        while is_asked.recv().is_ok() {
            stream.write_all(b"!").expect("connected");
        }
    });
    let shard = on_ring(move |ring| async move {
        let socket = Socket::for_address(&address, Rc::clone(&ring)).expect("a descriptor");
        socket.connect(address).await.expect("a listener");
        socket.tap(Rc::new(Alarm(ring.timer())));
        // What starts the receive and what was runnable before.
        ring.turn(|| false).expect("the ring is well");
        let is_told = ring.turn(|| false).expect("the ring is well");
        assert!(!is_told || ring.inner.borrow().longest_ns == 0, "nothing has come");
        asks.send(()).expect("the peer is well");
        while socket.is_quiet() {
            let is_told = ring.turn(|| true).expect("the ring is well");
            assert!(is_told || socket.is_quiet());
        }
        assert_eq!(&*socket.recv(Group::Small).await.expect("connected"), b"!");
    });
    shard.join().expect("no panic").expect("the ring is well");
    peer.join().expect("no panic");
}

/// Receives `len` bytes from each socket; the buffers are held, not given back.
async fn receive_from_each(sockets: &[Socket], len: usize) -> Vec<Vec<RecvBuf>> {
    let mut all = Vec::new();
    for socket in sockets {
        let mut held = Vec::new();
        while held.iter().map(|buffer: &RecvBuf| buffer.len()).sum::<usize>() < len {
            held.push(socket.recv(Group::Large).await.expect("the client is well"));
        }
        all.push(held);
    }
    all
}

fn bytes_of(connection: usize, round: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 7 + connection * 31 + round * 101) % 251) as u8).collect()
}

#[test]
fn buffers_that_nobody_needs_give_their_memory_back() {
    const CONNECTIONS: usize = 40;
    const BYTES: usize = 4096;
    let fd = bind_listener("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = std::net::TcpListener::from(fd.try_clone().expect("a descriptor"))
        .local_addr()
        .expect("bound");
    let (next, told) = mpsc::channel();
    let shard = on_ring(move |ring| async move {
        let group = Rc::clone(&ring.inner.borrow().groups[usize::from(Group::Large.id())]);
        let timer = ring.timer();
        let mut listener = Listener::new(fd, Rc::clone(&ring));
        let mut sockets = Vec::new();
        for _ in 0..CONNECTIONS {
            let accepted = listener.accept().await.expect("a connection");
            sockets.push(Socket::adopt(accepted, Rc::clone(&ring)));
        }
        let mut survivor: Vec<RecvBuf> = Vec::new();
        for round in 0..4 {
            let mut held = receive_from_each(&sockets, BYTES).await;
            for (connection, buffers) in held.iter().enumerate() {
                let received = buffers.iter().map(|buffer| &**buffer).collect::<Vec<_>>().concat();
                assert!(received == bytes_of(connection, round, BYTES), "round {round}");
            }
            assert!(group.resident_bytes() >= CONNECTIONS * BYTES, "round {round}");
            let last = held.swap_remove(7);
            drop(held);
            // What is held through it all is one buffer; two are kept for each that is needed.
            for _ in 0..1000 {
                ring.give_memory_back();
                timer.set(ring.now_ns() + 1);
                timer.wait().await;
                if group.resident_bytes() <= 4 * BYTES {
                    break;
                }
            }
            let left = group.resident_bytes();
            assert!(left <= 4 * BYTES, "round {round}: {left} bytes are still in memory");
            let received = last.iter().map(|buffer| &**buffer).collect::<Vec<_>>().concat();
            assert!(received == bytes_of(7, round, BYTES), "what is held stays as it was");
            if let Some(first) = survivor.first() {
                assert!(first.starts_with(&bytes_of(7, round - 1, 100)), "and for longer");
            }
            survivor = last;
            next.send(()).expect("the test waits");
        }
    });
    let mut streams: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(address).expect("a listener")).collect();
    for round in 0..4 {
        for (connection, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&bytes_of(connection, round, BYTES)).expect("the shard reads");
        }
        told.recv().expect("the shard says so");
    }
    shard.join().expect("no panic").expect("the ring is well");
}

#[path = "ring/messages_tests.rs"]
mod messages;
