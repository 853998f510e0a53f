//! Messages over real sockets: their ends, slow peers, sockets that are gone.

use super::super::taps::FEW;
use super::*;

#[test]
fn a_queued_message_goes_with_the_turn_and_its_memory_comes_back() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (read, is_read) = std::sync::mpsc::channel();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut message = [0; 8];
        stream.read_exact(&mut message).expect("a message");
        // It leaves bytes unread, so that its end resets the connection.
        read.send(message).expect("a receiver");
    });
    let shard = on_ring(move |ring| async move {
        let socket = Socket::for_address(&address, Rc::clone(&ring)).expect("a descriptor");
        socket.connect(address).await.expect("a listener");
        assert!(socket.is_clear() && socket.take_memory().is_none());
        socket.outbox().queue_and_keep(b"message, and more".to_vec());
        assert!(!socket.is_clear() && socket.take_memory().is_none(), "it has not gone yet");
        assert!(socket.outbox().gone().await);
        assert!(socket.is_clear());
        assert_eq!(socket.take_memory().expect("what was sent"), b"message, and more");
        assert!(socket.recv(Group::Small).await.is_err(), "the peer resets");
        socket.outbox().queue_and_keep(b"to nobody".to_vec());
        assert!(!socket.outbox().gone().await);
        assert!(!socket.is_clear() && socket.outbox().is_broken());
        assert_eq!(socket.take_memory().expect("to be sent again"), b"to nobody");
    });
    assert_eq!(&is_read.recv().expect("a message"), b"message,");
    peer.join().expect("no panic");
    shard.join().expect("no panic").expect("the ring is well");
}

/// Counts what comes.
#[derive(Default)]
struct Counter(Cell<usize>);

impl Tap for Counter {
    fn received(&self, bytes: &[u8]) -> bool {
        self.0.set(self.0.get() + bytes.len());
        true
    }
}

/// A turn that came back for the end of a message alone would be one more for each.
#[test]
fn the_end_of_a_message_alone_ends_no_wait() {
    const ROUNDS: usize = 200;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_nodelay(true).expect("connected");
        let mut byte = [0];
        while stream.read(&mut byte).expect("connected") > 0 {
            stream.write_all(&byte).expect("connected");
        }
    });
    let shard = on_ring(move |ring| async move {
        let socket = Socket::for_address(&address, Rc::clone(&ring)).expect("a descriptor");
        socket.connect(address).await.expect("a listener");
        socket.outbox().queue(b"?".to_vec());
        assert_eq!(&*socket.recv(Group::Small).await.expect("an answer"), b"?");
        let counter = Rc::new(Counter::default());
        socket.tap(Rc::<Counter>::clone(&counter));
        let mut at_once = 0;
        for round in 0..ROUNDS {
            socket.outbox().queue(b"?".to_vec());
            ring.turn(|| true).expect("the ring is well");
            at_once += usize::from(counter.0.get() > round);
            while counter.0.get() <= round {
                ring.turn(|| true).expect("the ring is well");
            }
            assert!(socket.outbox().is_idle(), "its end came first");
        }
        // A sleep may end early, by its longest time, on a machine that does other things.
        assert!(at_once > ROUNDS / 2, "{at_once} turns brought a message's end and its answer");
    });
    shard.join().expect("no panic").expect("the ring is well");
    peer.join().expect("no panic");
}

/// A call that comes while messages are handed over must not be lost: mail would lie until the sleep is over.
#[test]
fn a_call_that_comes_with_messages_ends_the_wait() {
    const ROUNDS: usize = 20;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let shard = on_ring(move |ring| async move {
        let socket = Socket::for_address(&address, Rc::clone(&ring)).expect("a descriptor");
        socket.connect(address).await.expect("a listener");
        let ring_fd = types::Fd(ring.fd());
        let waits_out = |is_called: bool| {
            socket.outbox().queue(b"to one who does not answer".to_vec());
            if is_called {
                let call = opcode::MsgRingData::new(ring_fd, 0, WAKE, None);
                ring.submit_unattended(call.build());
            }
            ring.turn(|| true).expect("the ring is well");
            assert!(socket.outbox().is_idle(), "its end is known when the wait is over");
            ring.inner.borrow().longest_ns == 0
        };
        ring.turn(|| false).expect("the ring is well");
        assert!(waits_out(false), "nothing else ends this wait");
        let lost = (0..ROUNDS).filter(|_| waits_out(true)).count();
        // The timer may end a wait just as it begins.
        assert!(lost <= 1, "{lost} calls ended no wait");
    });
    shard.join().expect("no panic").expect("the ring is well");
    drop(listener);
}

/// What the socket takes in parts, and what it takes nothing of at first, arrives whole and in order.
#[test]
fn a_message_to_a_slow_peer_goes_on_where_it_stopped() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let long: Vec<u8> = (0..16_u32 << 20).map(|at| (at / 3 % 251) as u8).collect();
    let expected = long.clone();
    let (filled, is_filled) = mpsc::channel::<usize>();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let filling = is_filled.recv().expect("the shard is well");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("connected");
        assert!(all[..filling].iter().all(|byte| *byte == b'.'));
        assert_eq!(&all[filling..filling + 5], b"short");
        assert!(all[filling + 5..] == expected[..], "{} bytes", all.len());
    });
    let shard = on_ring(move |ring| async move {
        let socket = Socket::for_address(&address, Rc::clone(&ring)).expect("a descriptor");
        socket.connect(address).await.expect("a listener");
        let mut filling = 0;
        loop {
            let sent = socket.try_send(&[b'.'; 1000]).expect("connected");
            filling += sent;
            if sent == 0 {
                break;
            }
        }
        let before = ring.in_flight();
        socket.outbox().queue_and_keep(b"short".to_vec());
        ring.turn(|| false).expect("the ring is well");
        assert!(!socket.outbox().is_idle(), "there is no room");
        assert_eq!(ring.in_flight(), before + 1);
        filled.send(filling).expect("the peer is well");
        assert!(socket.outbox().gone().await);
        assert_eq!(socket.take_memory().expect("what was sent"), b"short");
        socket.outbox().queue_and_keep(long.clone());
        assert!(socket.outbox().gone().await);
        assert_eq!(ring.in_flight(), before);
        assert!(socket.take_memory().expect("what was sent") == long);
    });
    shard.join().expect("no panic").expect("the ring is well");
    peer.join().expect("no panic");
}

/// Sends the same to whoever says something.
struct Sender {
    outbox: Rc<Outbox>,
    message: Rc<[u8]>,
    sent: Rc<Cell<usize>>,
}

impl Tap for Sender {
    fn received(&self, bytes: &[u8]) -> bool {
        if !bytes.is_empty() {
            self.sent.set(self.sent.get() + 1);
            self.outbox.queue(self.message.to_vec());
        }
        !bytes.is_empty()
    }
}

/// Whether few are shown what came, and send at once, or many, whose messages go together: all arrive whole.
#[test]
fn what_taps_send_arrives_whether_few_or_many_were_shown() {
    const MANY: usize = 3 * FEW;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    // The last is more than sockets have room for.
    let messages = [10, 5_000, 3 << 20].map(|len| (0..len).map(|at| (at % 251) as u8).collect());
    for message in messages {
        let message: Vec<u8> = message;
        let sent = message.clone();
        let (said, have_said) = mpsc::channel::<usize>();
        let (is_told, told) = mpsc::channel::<bool>();
        // A buffer for each: nobody would begin a receive anew that found none.
        let config = RingConfig { small: (64, 512), ..config() };
        let shard = on_ring_of(config, move |ring| async move {
            let message: Rc<[u8]> = sent.into();
            let mut sockets = Vec::new();
            let total = Rc::new(Cell::new(0));
            for _ in 0..MANY {
                let socket = Socket::for_address(&address, Rc::clone(&ring)).expect("a descriptor");
                socket.connect(address).await.expect("a listener");
                let (outbox, message) = (Rc::clone(socket.outbox()), Rc::clone(&message));
                socket.tap(Rc::new(Sender { outbox, message, sent: Rc::clone(&total) }));
                sockets.push(socket);
            }
            ring.turn(|| false).expect("the ring is well");
            while let Ok(count) = have_said.recv() {
                let is_busy = |socket: &Socket| !socket.outbox().is_idle();
                let mut went_together = false;
                while total.get() < count || sockets.iter().any(is_busy) {
                    ring.turn(|| true).expect("the ring is well");
                    went_together |= !ring.inner.borrow().offered.is_empty();
                }
                is_told.send(went_together).expect("the test waits");
                total.set(0);
            }
        });
        let mut peers: Vec<TcpStream> =
            (0..MANY).map(|_| listener.accept().expect("a connection").0).collect();
        for count in [1, FEW, MANY] {
            for peer in &mut peers[..count] {
                peer.write_all(b"?").expect("connected");
            }
            said.send(count).expect("the shard is well");
            for peer in &mut peers[..count] {
                let mut received = vec![0; message.len()];
                peer.read_exact(&mut received).expect("connected");
                assert!(received == message);
            }
            let went_together = told.recv().expect("the shard is well");
            assert!(went_together == (count == MANY) || message.len() > 5_000, "{count}");
        }
        drop(said);
        shard.join().expect("no panic").expect("the ring is well");
    }
}

/// Messages of a socket that is gone leave nothing behind, whether they went, found no room, or waited for some.
#[test]
fn a_message_whose_socket_is_gone_frees_its_slot() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let shard = on_ring(move |ring| async move {
        for (is_full, is_offered) in [(false, false), (true, false), (true, true), (false, false)] {
            let socket = Socket::for_address(&address, Rc::clone(&ring)).expect("a descriptor");
            socket.connect(address).await.expect("a listener");
            while is_full && socket.try_send(&[b'.'; 1000]).expect("connected") > 0 {}
            socket.outbox().queue(b"late".to_vec());
            if is_offered {
                ring.turn(|| false).expect("the ring is well");
                assert!(!socket.outbox().is_idle(), "there is no room");
            }
            drop(socket);
            while ring.in_flight() > 0 {
                ring.turn(|| true).expect("the ring is well");
            }
            let inner = ring.inner.borrow();
            assert_eq!(inner.free.len(), inner.slots.len(), "every slot is free");
            assert!(inner.offered.is_empty());
        }
    });
    let mut received = Vec::new();
    let (mut first, _) = listener.accept().expect("a connection");
    first.read_to_end(&mut received).expect("connected");
    assert_eq!(received, b"late");
    shard.join().expect("no panic").expect("the ring is well");
}
