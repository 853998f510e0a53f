//! The keys of `[[sites]]` that are about TLS.
//!
//! In: a site's table, its origin. Out: [`OriginTls`].
//! Always holds: what is said of TLS with an origin that is spoken to in the clear is a fault, never silently without
//! effect; a certificate never goes without its key.

use super::diagnostic::Sink;
use super::table::{Table, expected};
use super::tls::{self, ClientFiles, OriginTls, PINS_MAX, Pin};
use super::{Origin, Scheme};

const ORIGIN_KEYS: [&str; 4] =
    ["origin_ca", "origin_pins", "origin_client_cert", "origin_client_key"];

/// Reads the keys about the origin. `origin` is `None` where there was a fault in it.
pub(super) fn read_origin(
    table: &Table<'_>,
    origin: Option<&Origin>,
    sink: &mut Sink<'_>,
) -> OriginTls {
    if origin.is_some_and(|origin| origin.scheme == Scheme::Http) {
        for key in ORIGIN_KEYS.into_iter().filter(|key| table.has(key)) {
            let message = "only allowed together with an https origin; write origin = \
                           \"https://…\", or leave this key out";
            table.fault(key, message, sink);
        }
    }
    let cert = file(table, "origin_client_cert", sink);
    let key = file(table, "origin_client_key", sink);
    for (one, other) in
        [("origin_client_cert", "origin_client_key"), ("origin_client_key", "origin_client_cert")]
    {
        if table.has(one) && !table.has(other) {
            table.fault(one, format!("only allowed together with {other}"), sink);
        }
    }
    OriginTls {
        ca: file(table, "origin_ca", sink),
        pins: pins(table, sink),
        client: cert.zip(key).map(|(cert, key)| ClientFiles { cert, key }),
    }
}

fn file(table: &Table<'_>, name: &str, sink: &mut Sink<'_>) -> Option<String> {
    table.read(name, sink, |value| {
        let text = value.as_str().ok_or_else(|| expected("the name of a PEM file", value))?;
        tls::check_file_name(text).map(|()| text.to_owned())
    })
}

fn pins(table: &Table<'_>, sink: &mut Sink<'_>) -> Vec<Pin> {
    const KEY: &str = "origin_pins";
    if table.is_empty_list(KEY) {
        table.fault(KEY, "an empty list; leave the key out to pin nothing", sink);
    }
    let mut pins: Vec<Pin> = Vec::new();
    for (pin, offset) in table.list(KEY, PINS_MAX, sink, tls::parse_pin).unwrap_or_default() {
        if pins.contains(&pin) {
            sink.fault(offset, table.key(KEY), "the same pin twice");
        } else {
            pins.push(pin);
        }
    }
    pins
}
