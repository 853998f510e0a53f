//! A way over TCP that can go silent and come back.
//!
//! In: connections. Out: the same bytes at another address, later where the way was silent. Always holds: connections stay as they are
//! through a silence, and what was under way arrives after it, late as it is; no more of it is kept than a piece for each direction.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::wait::own_address;

/// What of a way is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Nothing.
    None,
    /// What is asked goes through, answers do not.
    Answers,
    /// Both directions, and no connection is taken.
    All,
}

/// A way to an address; its threads end with the test's process.
#[derive(Clone)]
pub struct Way {
    pub address: SocketAddr,
    state: Arc<(Mutex<Silence>, Condvar)>,
}

impl Way {
    /// A way there, on which all goes through.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(own_address()).expect("an address of its own");
        let address = listener.local_addr().expect("a socket has an address");
        let way = Self { address, state: Arc::new((Mutex::new(Silence::None), Condvar::new())) };
        let accepting = way.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                accepting.wait_while(|silence| silence == Silence::All);
                // Nobody may listen there: the client then sees its connection end.
                let Ok(server) = TcpStream::connect(server) else { continue };
                accepting.join(client.expect("a connection"), server);
            }
        });
        way
    }

    /// From now on.
    pub fn set(&self, silence: Silence) {
        *self.state.0.lock().expect("no panic") = silence;
        self.state.1.notify_all();
    }

    fn wait_while(&self, is_silent: impl Fn(Silence) -> bool) {
        let state = self.state.0.lock().expect("no panic");
        drop(self.state.1.wait_while(state, |silence| is_silent(*silence)).expect("no panic"));
    }

    fn join(&self, client: TcpStream, server: TcpStream) {
        let clone = |stream: &TcpStream| stream.try_clone().expect("a socket");
        let (asked, there) = (clone(&client), clone(&server));
        let way = self.clone();
        std::thread::spawn(move || way.carry(asked, there, |silence| silence == Silence::All));
        let way = self.clone();
        std::thread::spawn(move || way.carry(server, client, |silence| silence != Silence::None));
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, is_silent: impl Fn(Silence) -> bool) {
        let mut piece = [0; 16_384];
        loop {
            let read = from.read(&mut piece).unwrap_or(0);
            self.wait_while(&is_silent);
            if read == 0 || to.write_all(&piece[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    }
}
