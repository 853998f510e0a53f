//! The keys of `[[sites]]` that are about TLS.
//!
//! In: a site's table, its origin. Out: [`OriginTls`], [`Hsts`].
//! Always holds: what is said of TLS with an origin that is spoken to in the clear is a fault, never silently without
//! effect; a certificate never goes without its key.

use super::diagnostic::Sink;
use super::table::{Table, expected, number};
use super::tls::{
    self, ClientFiles, HSTS_MAX_AGE_S_MAX, HSTS_PRELOAD_MAX_AGE_S_MIN, Hsts, OriginTls, PINS_MAX,
    Pin,
};
use super::{Origin, Scheme};

const ORIGIN_KEYS: [&str; 4] =
    ["origin_ca", "origin_pins", "origin_client_cert", "origin_client_key"];

/// Keys of `hsts`.
pub(super) const HSTS_KEYS: &[&str] = &["max_age_seconds", "include_subdomains", "preload"];

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

/// Reads `hsts`.
pub(super) fn read_hsts(site: &Table<'_>, sink: &mut Sink<'_>) -> Option<Hsts> {
    let table = site.table("hsts", "sites.hsts", HSTS_KEYS, sink)?;
    let max_age_s = table.require("max_age_seconds", "a number of seconds", sink, |value| {
        number(value, 0..=u64::from(HSTS_MAX_AGE_S_MAX))
    });
    let include_subdomains = table.boolean("include_subdomains", sink).unwrap_or_default();
    let preload = table.boolean("preload", sink).unwrap_or_default();
    let max_age_s = u32::try_from(max_age_s?).ok()?;
    if preload && !(include_subdomains && max_age_s >= HSTS_PRELOAD_MAX_AGE_S_MIN) {
        let message = format!(
            "only allowed together with include_subdomains = true and max_age_seconds of \
             {HSTS_PRELOAD_MAX_AGE_S_MIN} at least: the lists that browsers come with take no other host"
        );
        table.fault("preload", message, sink);
    }
    Some(Hsts { max_age_s, include_subdomains, preload })
}
