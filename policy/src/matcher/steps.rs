//! The single steps by which an origin may turn a path into the one it routes by.
//!
//! In: a path that begins with `/`. Out: the path after one step, appended to a buffer, or that it climbs above the root.
//! Always holds: what comes out begins with `/`, is no longer than what went in, and a second application of the same
//! step (decoding apart) changes nothing.

use super::answer::RejectCause;
use super::bytes::{hex_digit, hex_pair, is_unreserved};

/// One step. Appends to the buffer, which comes in empty.
pub(crate) type Step = fn(&[u8], &mut Vec<u8>) -> Result<(), RejectCause>;

fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.get(1..).unwrap_or_default().split(|byte| *byte == b'/')
}

/// Resolves `.` and `..` segments as RFC 3986, section 5.2.4, except that climbing above the root is an error.
pub(crate) fn resolve_dots(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    resolve(path, out, |segment| match segment {
        b"." => Dots::Here,
        b".." => Dots::Up,
        _ => Dots::None,
    })
}

/// The same, and a dot may be written `%2e`: what the WHATWG URL parser does, which leaves all other escapes alone.
pub(crate) fn resolve_encoded_dots(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    resolve(path, out, |segment| match strip_dot(segment) {
        None => Dots::None,
        Some([]) => Dots::Here,
        Some(rest) => match strip_dot(rest) {
            Some([]) => Dots::Up,
            _ => Dots::None,
        },
    })
}

enum Dots {
    None,
    Here,
    Up,
}

fn strip_dot(segment: &[u8]) -> Option<&[u8]> {
    match segment {
        [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => Some(rest),
        _ => None,
    }
}

fn resolve(
    path: &[u8],
    out: &mut Vec<u8>,
    classify: impl Fn(&[u8]) -> Dots,
) -> Result<(), RejectCause> {
    let mut ends_in_dots = false;
    for segment in segments(path) {
        ends_in_dots = true;
        match classify(segment) {
            Dots::Here => {}
            Dots::Up => {
                let parent = out.iter().rposition(|byte| *byte == b'/');
                out.truncate(parent.ok_or(RejectCause::AboveRoot)?);
            }
            Dots::None => {
                ends_in_dots = false;
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    if ends_in_dots {
        out.push(b'/');
    }
    Ok(())
}

/// Makes one slash of several.
pub(crate) fn merge_slashes(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    let mut rest = path;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"//") {
        let (front, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(front);
        let run = tail.iter().take_while(|byte| **byte == b'/').count();
        rest = tail.get(run - 1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Takes a backslash for a slash.
pub(crate) fn turn_backslashes(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    out.extend(path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }));
    Ok(())
}

/// Removes `;params` from every segment.
pub(crate) fn drop_params(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    for segment in segments(path) {
        out.push(b'/');
        out.extend_from_slice(until(segment, |byte| byte == b';'));
    }
    Ok(())
}

/// Removes `;params` from the last segment alone, where RFC 2396 and servers after it have them.
pub(crate) fn drop_last_params(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    let last = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    let (front, tail) = path.split_at_checked(last).unwrap_or((path, &[]));
    out.extend_from_slice(front);
    out.extend_from_slice(until(tail, |byte| byte == b';'));
    Ok(())
}

/// The front of `bytes`, up to the first that `ends` it.
fn until(bytes: &[u8], ends: impl Fn(u8) -> bool) -> &[u8] {
    let end = bytes.iter().position(|byte| ends(*byte)).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or_default()
}

/// Removes all slashes at the end; the root stays.
pub(crate) fn trim_slashes(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
    out.extend_from_slice(path.get(..end).unwrap_or(path));
    Ok(())
}

/// Ends the path at a `?` or `#`, as the second server of a chain does when the first forwards what it decoded.
pub(crate) fn cut_at_query(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    out.extend_from_slice(until(path, |byte| matches!(byte, b'?' | b'#')));
    Ok(())
}

/// Takes what follows two leading slashes for an authority, as every parser of relative references does (RFC 3986,
/// section 4.2), `new URL(path, base)` foremost.
pub(crate) fn drop_authority(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    if !path.starts_with(b"//") {
        out.extend_from_slice(path);
        return Ok(());
    }
    let mut rest = path.iter().skip_while(|byte| **byte == b'/').skip_while(|byte| **byte != b'/');
    out.push(*rest.next().unwrap_or(&b'/'));
    out.extend(rest);
    Ok(())
}

/// Writes overlong UTF-8 (RFC 3629, section 3: `C0 AF` for a slash) in its shortest form, as a decoder that does not
/// check it would read it.
pub(crate) fn mend_overlong(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some((letter, after)) = overlong(rest) {
            let mut buffer = [0; 4];
            out.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
            rest = after;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    Ok(())
}

/// The character that an overlong sequence at the front stands for, and what follows it.
fn overlong(bytes: &[u8]) -> Option<(char, &[u8])> {
    let (&lead, mut rest) = bytes.split_first()?;
    // (continuation bytes, bits of the lead, smallest value that needs so many bytes)
    let (more, bits, least) = match lead {
        0xC0..=0xDF => (1, 0x1F, 0x80),
        0xE0..=0xEF => (2, 0x0F, 0x800),
        0xF0..=0xF7 => (3, 0x07, 0x1_0000),
        0xF8..=0xFB => (4, 0x03, 0x20_0000),
        0xFC..=0xFD => (5, 0x01, 0x400_0000),
        _ => return None,
    };
    let mut value = u32::from(lead) & bits;
    for _ in 0..more {
        let (&byte, tail) = rest.split_first()?;
        if byte & 0xC0 != 0x80 {
            return None;
        }
        value = value << 6 | u32::from(byte & 0x3F);
        rest = tail;
    }
    if value >= least {
        return None;
    }
    Some((char::from_u32(value)?, rest))
}

/// Undoes every percent escape once. A `%` without two hex digits stays.
pub(crate) fn decode(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    undo_escapes(path, out, |_| true);
    Ok(())
}

/// Undoes every percent escape once but that of the slash: what a router does that splits first and decodes each
/// segment. The slash stays a part of its segment.
pub(crate) fn decode_segments(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    undo_escapes(path, out, |value| value != b'/');
    Ok(())
}

/// Undoes the escapes of unreserved characters once, the normalisation of RFC 3986, section 6.2.2.2, after which
/// another server may decode.
pub(crate) fn decode_unreserved(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    undo_escapes(path, out, is_unreserved);
    Ok(())
}

fn undo_escapes(path: &[u8], out: &mut Vec<u8>, undone: impl Fn(u8) -> bool) {
    let mut rest = path;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let (front, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(front);
        let tail = tail.get(1..).unwrap_or_default();
        match hex_pair(tail) {
            Some((value, after)) if undone(value) => {
                out.push(value);
                rest = after;
            }
            _ => {
                out.push(b'%');
                rest = tail;
            }
        }
    }
    out.extend_from_slice(rest);
}

/// Undoes every percent escape once, the `%uXXXX` of Microsoft's servers among them.
pub(crate) fn decode_with_u(path: &[u8], out: &mut Vec<u8>) -> Result<(), RejectCause> {
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%'
            && let Some((letter, after)) = u_escape(tail)
        {
            let mut buffer = [0; 4];
            out.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
            rest = after;
        } else if byte == b'%'
            && let Some((value, after)) = hex_pair(tail)
        {
            out.push(value);
            rest = after;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    Ok(())
}

/// Reads `uXXXX` at the front; half a surrogate pair reads as U+FFFD.
pub(crate) fn u_escape(bytes: &[u8]) -> Option<(char, &[u8])> {
    let [b'u' | b'U', a, b, c, d, rest @ ..] = bytes else { return None };
    let mut value = 0;
    for digit in [a, b, c, d] {
        value = value << 4 | u32::from(hex_digit(*digit)?);
    }
    Some((char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
