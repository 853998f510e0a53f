//! What a site says of TLS: how its origin is known and what it is shown, and what browsers are to remember.
//!
//! In: text of a policy. Out: names of PEM files, pins, the value of `Strict-Transport-Security`.
//! Always holds: nothing is read here: a file's name is kept as written, and whoever reads the file takes a relative one
//! from where the policy file is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The most pins of one site: today's key, its successor, and those of a few issuers.
pub const PINS_MAX: usize = 8;
/// The longest name of a file (Linux's `PATH_MAX` less its NUL), bytes.
const FILE_NAME_BYTES_MAX: usize = 4_095;
const PIN_PREFIX: &str = "sha256/";

/// The SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469 §2.4).
pub type Pin = [u8; 32];

/// What a site says of TLS with its origin. Without any of it: the public certificate authorities, no certificate of
/// the gateway's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginTls {
    /// A PEM file with the certificate authorities that are trusted in place of the public ones.
    pub ca: Option<String>,
    /// Where there are any, the origin must show one of them, besides a certificate that is good otherwise. At most
    /// [`PINS_MAX`], each once.
    pub pins: Vec<Pin>,
    /// What the gateway shows to the origin.
    pub client: Option<ClientFiles>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// A PEM file with the certificate, and those of its issuers after it.
    pub cert: String,
    /// A PEM file with its private key.
    pub key: String,
}

/// The longest time that browsers can be told to remember a site's HTTPS, seconds: ten years.
pub const HSTS_MAX_AGE_S_MAX: u32 = 10 * HSTS_PRELOAD_MAX_AGE_S_MIN;
/// The shortest with which the browsers' own lists take a host: a year.
pub const HSTS_PRELOAD_MAX_AGE_S_MIN: u32 = 365 * 86_400;

/// What browsers are to remember of a site's HTTPS (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hsts {
    /// For how long, seconds; at most [`HSTS_MAX_AGE_S_MAX`]. 0: no longer.
    pub max_age_s: u32,
    /// For all names below the host's too.
    pub include_subdomains: bool,
    /// The host may be put on the lists that browsers come with; only with `include_subdomains` and
    /// [`HSTS_PRELOAD_MAX_AGE_S_MIN`].
    pub preload: bool,
}

const HSTS_AGE: &str = "max-age=";
const HSTS_SUBDOMAINS: &str = "; includeSubDomains";
const HSTS_PRELOAD: &str = "; preload";

impl Hsts {
    /// The value of `Strict-Transport-Security` (RFC 6797 §6.1).
    #[must_use]
    pub fn field_value(&self) -> String {
        let subdomains = if self.include_subdomains { HSTS_SUBDOMAINS } else { "" };
        let preload = if self.preload { HSTS_PRELOAD } else { "" };
        format!("{HSTS_AGE}{}{subdomains}{preload}", self.max_age_s)
    }
}

/// Whether [`Hsts::field_value`] could have made this.
pub(crate) fn is_hsts_value(text: &str) -> bool {
    let rest = text.strip_suffix(HSTS_PRELOAD).unwrap_or(text);
    let rest = rest.strip_suffix(HSTS_SUBDOMAINS).unwrap_or(rest);
    rest.strip_prefix(HSTS_AGE).is_some_and(|age| {
        age.bytes().all(|byte| byte.is_ascii_digit())
            && age.parse::<u32>().is_ok_and(|age_s| age_s <= HSTS_MAX_AGE_S_MAX)
    })
}

/// Checks the name of a file.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn check_file_name(name: &str) -> Result<(), String> {
    let is_good = (1..=FILE_NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(char::is_control)
        && !name.ends_with('/');
    is_good.then_some(()).ok_or_else(|| {
        format!(
            "expected the name of a PEM file, absolute or relative to the policy file: 1 to \
             {FILE_NAME_BYTES_MAX} bytes of text without control characters, no `/` last"
        )
    })
}

/// Reads a pin: `sha256/` and the hash in base64 (RFC 4648 §4).
///
/// # Errors
/// A sentence that says what is allowed.
pub fn parse_pin(text: &str) -> Result<Pin, String> {
    let decoded =
        text.strip_prefix(PIN_PREFIX).and_then(|hash| STANDARD.decode(hash.as_bytes()).ok());
    decoded.and_then(|hash| Pin::try_from(hash).ok()).ok_or_else(|| {
        "expected \"sha256/\" and 44 characters of base64: the SHA-256 of the public key \
         (SubjectPublicKeyInfo) of a certificate that the origin shows"
            .to_owned()
    })
}

/// A pin as the policy file has it.
#[must_use]
pub fn pin_text(pin: &Pin) -> String {
    format!("{PIN_PREFIX}{}", STANDARD.encode(pin))
}
