//! What single bytes mean in a path, and how escapes are read.
//!
//! In: bytes. Out: classes and values.
//! Always holds: nothing here allocates, and nothing depends on policy.

/// The value of one hex digit, of either case.
pub(crate) const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Reads two hex digits at the front: their value, and what follows.
pub(crate) fn hex_pair(bytes: &[u8]) -> Option<(u8, &[u8])> {
    match bytes {
        [high, low, rest @ ..] => Some((hex_digit(*high)? << 4 | hex_digit(*low)?, rest)),
        _ => None,
    }
}

/// Whether a byte means the same escaped or not: `unreserved` of RFC 3986, section 2.3.
pub(crate) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a byte may stand in a path segment as it is: `pchar` of RFC 3986, section 3.3, less the percent sign.
/// Every other byte an honest client has to escape.
pub(crate) const fn may_stand_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}
