//! Checks of fields that no policy file has.
//!
//! In: what a caller sent. Out: checked values, faults into a list.
//! Always holds: every fault of a request is found in one go.

use crate::api::time;
use crate::domain::policy_text::Fault;

/// The longest text, characters; as in the policy file, and as `maxLength` counts them.
const TEXT_CHARS_MAX: usize = 200;

/// Text for people.
pub fn check_text(field: &str, text: &str, faults: &mut Vec<Fault>) {
    let is_short = text.chars().take(TEXT_CHARS_MAX + 1).count() <= TEXT_CHARS_MAX;
    if text.trim().is_empty() || !is_short || text.chars().any(char::is_control) {
        let message = format!("expected 1 to {TEXT_CHARS_MAX} characters, no control characters");
        faults.push(Fault::new(field, message));
    }
}

/// Text for people, where it is given.
pub fn check_text_opt(field: &str, text: Option<&str>, faults: &mut Vec<Fault>) {
    if let Some(text) = text {
        check_text(field, text, faults);
    }
}

/// The longest address (RFC 5321 §4.5.3.1.3, less its angle brackets), bytes.
const EMAIL_BYTES_MAX: usize = 254;

/// An address of electronic mail, in lower case: two of them that differ in case alone are one person's.
pub fn check_email(text: &str, faults: &mut Vec<Fault>) -> String {
    let parts = text.split_once('@').filter(|(_, host)| !host.contains('@'));
    let is_whole = parts.is_some_and(|(local, host)| !local.is_empty() && !host.is_empty());
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_whole || !is_visible || text.len() > EMAIL_BYTES_MAX {
        let message =
            format!("expected NAME@HOST, at most {EMAIL_BYTES_MAX} visible ASCII characters");
        faults.push(Fault::new("email", message));
    }
    text.to_ascii_lowercase()
}

/// A name by which nodes, the origin and the log know something: as ids of the policy file.
pub fn check_reference(reference: Option<&str>, faults: &mut Vec<Fault>) {
    let Some(text) = reference else { return };
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if text.is_empty() || text.len() > TEXT_CHARS_MAX || !is_plain || text.trim() != text {
        let message = format!(
            "expected 1 to {TEXT_CHARS_MAX} printable ASCII characters, no space first or last, since it is sent in a header"
        );
        faults.push(Fault::new("reference", message));
    }
}

/// A time, where it is given.
pub fn instant_ms(field: &str, text: Option<&str>, faults: &mut Vec<Fault>) -> Option<i64> {
    match time::read(text?) {
        Ok(at_ms) => Some(at_ms),
        Err(message) => {
            faults.push(Fault::new(field, message));
            None
        }
    }
}

/// A time to come, where it is given.
pub fn expiry_ms(
    field: &str,
    text: Option<&str>,
    now_ms: i64,
    faults: &mut Vec<Fault>,
) -> Option<i64> {
    let at_ms = instant_ms(field, text, faults)?;
    if at_ms <= now_ms {
        faults.push(Fault::new(field, "expected a time to come; to refuse it at once, revoke it"));
    }
    Some(at_ms)
}
