//! The handshake of a client's connection.
//!
//! In: a connection whose listener takes TLS. Out: the same connection, its stream encrypted, or nothing: it is closed. Always holds: a
//! handshake has a deadline and its turn among others; who speaks plain HTTP is told so in plain HTTP.

use std::pin::pin;
use std::rc::Rc;

use policy::decision::Reason;

use crate::stream::{HandshakeError, Hello, Stream, TlsStream};
use crate::tls::Cause;

use super::connection::Connection;
use super::own_answer::malformed;
use super::peer::{Peer, TlsPeer};

/// Does the handshake of `connection`; `None` when it came to nothing.
pub(super) async fn begin(connection: Connection) -> Option<Connection> {
    let Connection { shard, stream, peer, mut input, read_timer, write_timer, idle } = connection;
    let (Stream::Plain(socket), Some(config)) = (stream, shard.tls.clone()) else { return None };
    let counts = &shard.metrics.client_handshakes;
    let Some(_under_way) = shard.handshakes.begin() else {
        counts.failed(None, Cause::Busy);
        return None;
    };
    read_timer.set(shard.deadline(shard.settings.deadlines.head));
    let begun = input.take().map_or_else(Vec::new, |bytes| bytes.to_vec());
    let turn = async || shard.handshakes.turn().await;
    let accept = TlsStream::accept(socket, config, begun, turn);
    let outcome = shard.unless_draining(pin!(read_timer.race(pin!(accept)))).await;
    match outcome {
        // The drain began first.
        None => None,
        Some(None) => {
            shard.metrics.timeouts.inc("handshake");
            counts.failed(None, Cause::Timeout);
            None
        }
        Some(Some(Ok(hello))) => {
            let Hello { stream, first, server_name, peer_subject } = hello;
            counts.done(stream.version(), stream.is_resumed());
            let tls = TlsPeer { server_name, subject: peer_subject };
            let peer = Peer { tls: Some(Rc::new(tls)), ..peer };
            if let Some(first) = first {
                input.add(first);
            }
            let stream = Stream::Tls(Box::new(stream));
            Some(Connection {
                shard: Rc::clone(&shard),
                stream,
                peer,
                input,
                read_timer,
                write_timer,
                idle,
            })
        }
        Some(Some(Err(HandshakeError::PlainHttp(socket)))) => {
            counts.failed(None, Cause::PlainHttp);
            let stream = Stream::Plain(socket);
            let shard = Rc::clone(&shard);
            let plain = Connection { shard, stream, peer, input, read_timer, write_timer, idle };
            refuse_plain(plain).await;
            None
        }
        Some(Some(Err(error))) => {
            counts.failed(error.version(), error.cause());
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

async fn refuse_plain(mut connection: Connection) {
    let shard = Rc::clone(&connection.shard);
    shard.metrics.malformed.inc("plain_http");
    let detail =
        "this port takes HTTPS, and the request came in plain HTTP; send it to an https:// address";
    let bytes = malformed(&shard, Reason::RequestMalformed, 400, &detail);
    if connection.send(bytes).await {
        connection.linger().await;
    }
}
