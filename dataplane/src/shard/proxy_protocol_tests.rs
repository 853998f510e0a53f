//! PROXY headers, whole and broken, at every split.

use super::*;

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend((rest.len() as u16).to_be_bytes());
    bytes.extend(rest);
    bytes
}

#[test]
fn headers_are_read_as_the_protocol_says() {
    let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0, 80];
    let mut v6 = [0u8; 36];
    v6[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    let v6_client: IpAddr = "2001:db8::".parse().expect("an address");
    let with_extension = [&v4[..], &[4, 0, 1, 9]].concat();
    let client = |text: &str| text.parse::<IpAddr>().ok();
    let rows: &[(&str, Vec<u8>, Preface)] = &[
        ("http", b"GET / HTTP/1.1\r\n".to_vec(), Preface::None),
        ("empty line first", b"\r\nGET / HTTP/1.1\r\n".to_vec(), Preface::None),
        ("v4", header(0x21, 0x11, &v4), Preface::Header { len: 28, client: client("192.0.2.7") }),
        ("v6", header(0x21, 0x21, &v6), Preface::Header { len: 52, client: Some(v6_client) }),
        (
            "extensions",
            header(0x21, 0x11, &with_extension),
            Preface::Header { len: 32, client: client("192.0.2.7") },
        ),
        ("local", header(0x20, 0, &[]), Preface::Header { len: 16, client: None }),
        ("unix", header(0x21, 0x31, &[0; 216]), Preface::Header { len: 232, client: None }),
        ("version 1 nibble", header(0x11, 0x11, &v4), Preface::Malformed),
        ("unknown command", header(0x25, 0x11, &v4), Preface::Malformed),
        ("short v4", header(0x21, 0x11, &v4[..8]), Preface::Malformed),
        ("short v6", header(0x21, 0x21, &v4), Preface::Malformed),
        ("too long", header(0x21, 0x11, &[0; 4000]), Preface::Malformed),
    ];
    for (name, bytes, expected) in rows {
        assert_eq!(&read(bytes), expected, "{name}");
    }
}

#[test]
fn every_beginning_of_a_header_waits_for_more() {
    let whole = header(0x21, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0, 80]);
    for len in 1..whole.len() {
        assert_eq!(read(&whole[..len]), Preface::Partial, "{len} bytes");
    }
}
