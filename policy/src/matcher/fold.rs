//! Unicode simple case folding (CaseFolding.txt, status C and S) over bytes that may not be UTF-8.
//!
//! In: any bytes. Out: the same with every letter folded; bytes that are not UTF-8 stay as they are.
//! Always holds: folding twice changes nothing more, and it never makes or removes a `/`, `\`, `.`, `;` or `%`, so
//! it may be done after every other step.

/// Appends `bytes`, folded, to `out`.
pub(crate) fn fold_into(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let mut buffer = [0; 4];
            out.extend_from_slice(fold_char(letter).encode_utf8(&mut buffer).as_bytes());
        }
        out.extend_from_slice(chunk.invalid());
    }
}

fn fold_char(letter: char) -> char {
    if letter.is_ascii() {
        return letter.to_ascii_lowercase();
    }
    unicode_case_mapping::case_folded(letter)
        .and_then(|folded| char::from_u32(folded.get()))
        .unwrap_or(letter)
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
