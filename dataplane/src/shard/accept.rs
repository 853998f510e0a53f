//! Accepting: each shard has its own listeners; the kernel spreads connections, unevenly.
//!
//! In: listeners. Out: connections served here, or handed to the emptiest shard before anything was read. Always holds: a
//! connection past the node's limit is closed at once and counted; running out of descriptors pauses accepting.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::net::{Listener, Socket};
use crate::runtime;

use super::links::Mail;
use super::peer::Listens;
use super::{Shard, connection};

/// How long accepting pauses when the system has no descriptor to give.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts on `listener`, which takes what `listens` says, until the shard drains.
pub(super) async fn accept(shard: Rc<Shard>, listener: OwnedFd, listens: Listens) {
    let mut listener = Listener::new(listener, Rc::clone(&shard.ring));
    let timer = shard.ring.timer();
    let _listing = shard.tasks.list().await;
    loop {
        match shard.unless_draining(pin!(listener.accept())).await {
            None => return,
            Some(Ok(fd)) => place(&shard, fd, listens),
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept connections for a moment; is the limit of open files too low?");
                timer.set(shard.deadline(PAUSE));
                timer.wait().await;
            }
        }
    }
}

fn place(shard: &Rc<Shard>, fd: OwnedFd, listens: Listens) {
    shard.metrics.connections_accepted.inc();
    let socket = Socket::adopt(fd, Rc::clone(&shard.ring));
    if shard.links.connections() >= shard.settings.connections_max {
        shard.metrics.connections_refused.inc();
        return;
    }
    let Some(peer) = socket.peer() else { return };
    let home = shard.links.place(shard.index());
    if home == shard.index() {
        serve(shard, socket, peer, listens);
        return;
    }
    match shard.links.put(home, Mail::Connection(socket.release(), peer, listens)) {
        Ok(()) => {
            shard.metrics.connections_handed_over.inc();
            shard.links.waker(home).wake_through(&shard.ring);
        }
        Err(Mail::Connection(fd, peer, listens)) => {
            serve(shard, Socket::adopt(fd, Rc::clone(&shard.ring)), peer, listens);
        }
        Err(Mail::Budget(..)) => unreachable!("a full inbox gives back what was put in"),
    }
}

/// Serves a connection on this shard.
pub(super) fn serve(shard: &Rc<Shard>, socket: Socket, peer: SocketAddr, listens: Listens) {
    // Goes with the task rather than around it: a wrapper would hold the task's state twice.
    let here = Here::new(Rc::clone(shard));
    runtime::spawn(&shard.ring, connection::serve(here, socket, peer, listens));
}

/// Counts a connection as this shard's while it lives.
pub(super) struct Here(Rc<Shard>);

impl Here {
    pub(super) const fn shard(&self) -> &Rc<Shard> {
        &self.0
    }

    fn new(shard: Rc<Shard>) -> Self {
        shard.connections.set(shard.connections.get() + 1);
        shard.links.connection_opened(shard.index());
        shard.metrics.connections.inc();
        Self(shard)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.links.connection_closed(self.0.index());
        self.0.metrics.connections.dec();
    }
}
