//! Policy files for tests: one standard site, to which a test adds its plans and subscriptions.
//!
//! In: an origin's address. Out: TOML, and tokens made here without the product's own code.

use std::net::SocketAddr;

/// A subscription for each of the standard plans, named as they are, with a token of the same name.
pub const STANDARD: &str = r#"
[[sites.resources]]
pattern = "/paid/*"

[[sites.resources]]
pattern = "/dear/*"
cost = 5

[[sites.resources]]
pattern = "/blocked/*"
access = "blocked"

[[sites.plans]]
id = "plenty"
quota = { requests = 1000000, per = "year" }
rate_limit = { requests = 1000000, per = "second" }

[[sites.plans]]
id = "unlimited"
"#;

/// The standard site with `more` site keys, then the standard resources, plans and subscriptions, then `tables`.
pub fn site(origin: SocketAddr, more: &str, tables: &str) -> String {
    site_of(&format!("http://{origin}"), more, tables)
}

/// The same with an origin by its URL.
pub fn site_of(origin: &str, more: &str, tables: &str) -> String {
    let head = format!(
        "[[sites]]\nslug = \"shop\"\nname = \"Shop\"\norigin = \"{origin}\"\n\
         hosts = [\"shop.test\"]\n{more}\n"
    );
    let standard = ["plenty", "unlimited"].map(|plan| subscription(plan, plan, ""));
    format!("{head}{STANDARD}\n{}\n{tables}\n", standard.concat())
}

/// An active subscription `name` of `plan`, with a token of the same name; `more` are further keys.
pub fn subscription(name: &str, plan: &str, more: &str) -> String {
    let status = if more.contains("status") { "" } else { "status = \"active\"\n" };
    let tokens = if more.contains("tokens") {
        String::new()
    } else {
        format!("tokens = [ {{ id = \"tok_{name}\", value = \"{}\" }} ]\n", token(name))
    };
    format!(
        "[[sites.subscriptions]]\nid = \"sub_{name}\"\nplan = \"{plan}\"\n\
         customer = \"{name}\"\n{status}{tokens}{more}\n"
    )
}

/// A plan with these keys.
pub fn plan(id: &str, keys: &str) -> String {
    format!("[[sites.plans]]\nid = \"{id}\"\n{keys}\n")
}

/// The token that belongs to `name`, with a right checksum (PRODUCT.md, Token).
pub fn token(name: &str) -> String {
    let kept: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    with_checksum(&format!("pf_test_{kept:0>32}"))
}

/// `text` with its CRC-32 in base62, six characters.
pub fn with_checksum(text: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc32(text.as_bytes());
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    format!("{text}{}", String::from_utf8_lossy(&digits))
}

/// Authorization with the token of `name`.
pub fn bearer(name: &str) -> String {
    format!("Bearer {}", token(name))
}

/// Bit by bit, so that it shares nothing with what it checks.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn checksums_are_those_of_zlib() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    let token = token("acme");
    assert_eq!(token.len(), "pf_test_".len() + 32 + 6, "{token}");
}
