//! After a 101: bytes both ways, unread, until both sides have ended.
//!
//! In: two sockets, and what had come along with the heads. Out: the same bytes at the other side; an end of one side is passed on
//! as a half-close. Always holds: one buffer a direction; a side that is silent or takes nothing for too long ends the tunnel.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

use futures_lite::future;

use crate::net::{Group, RecvBuf, Timer};
use crate::stream::Stream;

use super::{Shard, relay};

/// One direction of a tunnel: its bytes, or the error that ends the whole.
async fn pump(
    shard: &Rc<Shard>,
    from: &Stream,
    to: &Stream,
    mut first: Option<RecvBuf>,
    (timer, group): (&Timer, Group),
    last_ns: &Cell<u64>,
) -> Result<u64, ()> {
    let quiet_ns = shard.settings.deadlines.quiet.as_nanos() as u64;
    let mut moved = 0;
    loop {
        let buffer = match first.take() {
            Some(buffer) => buffer,
            None => {
                timer.set(last_ns.get().saturating_add(quiet_ns));
                match timer.race(pin!(from.recv(group))).await {
                    Some(Ok(buffer)) => buffer,
                    Some(Err(_)) => return Err(()),
                    // The other direction may have been busy meanwhile.
                    None if shard.ring.now_ns() < last_ns.get().saturating_add(quiet_ns) => {
                        continue;
                    }
                    None => {
                        shard.metrics.timeouts.inc("stall");
                        return Err(());
                    }
                }
            }
        };
        if buffer.is_empty() {
            to.shutdown_write();
            return Ok(moved);
        }
        moved += buffer.len() as u64;
        last_ns.set(shard.ring.now_ns());
        relay::send_received(shard, to, buffer, timer).await.map_err(|_| ())?;
    }
}

/// One end of a tunnel.
pub(super) struct End<'a> {
    pub(super) stream: &'a Stream,
    pub(super) input: Option<RecvBuf>,
    pub(super) timer: &'a Timer,
}

/// Runs a tunnel to its end; the bytes that went to the origin and to the client, where both ended well.
pub(super) async fn run(shard: &Rc<Shard>, client: End<'_>, origin: End<'_>) -> Option<(u64, u64)> {
    shard.metrics.tunnels.inc();
    let last_ns = Cell::new(shard.ring.now_ns());
    let (client_way, origin_way) = ((client.timer, Group::Small), (origin.timer, Group::Large));
    let up = pump(shard, client.stream, origin.stream, client.input, client_way, &last_ns);
    let down = pump(shard, origin.stream, client.stream, origin.input, origin_way, &last_ns);
    let moved = future::try_zip(up, down).await.ok();
    shard.metrics.tunnels.dec();
    moved
}
