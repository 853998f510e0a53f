//! Reading one table of a policy file: keys to checked values.
//!
//! In: a parsed TOML table with the places of its keys and values. Out: values, or nothing after a fault was noted.
//! Always holds: a key that is not asked for by name in the table's list of keys is a fault; reading goes on after a
//! fault, so that one run shows all of them.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Sink;

/// A value with its place.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// The longest id, name or other plain string, characters.
pub(super) const TEXT_CHARS_MAX: usize = 200;

/// A table of the file.
pub(super) struct Table<'t> {
    /// The tables it stands in, as `sites.plans`.
    path: &'static str,
    /// Byte offset of the table's beginning.
    pub(super) offset: usize,
    entries: &'t DeTable<'t>,
}

impl<'t> Table<'t> {
    /// Opens `entries` and notes every key that is not among `keys`.
    pub(super) fn open(
        path: &'static str,
        offset: usize,
        entries: &'t DeTable<'t>,
        keys: &[&str],
        sink: &mut Sink<'_>,
    ) -> Self {
        let table = Self { path, offset, entries };
        for (key, _) in entries.iter() {
            let name: &str = key.get_ref();
            if !keys.contains(&name) {
                let message = format!("unknown key; {}", suggestion(name, keys));
                sink.fault(key.span().start, table.key(name), message);
            }
        }
        table
    }

    /// The full name of a key.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The byte offset of a key's value, or of the table where it is absent.
    pub(super) fn offset_of(&self, name: &str) -> usize {
        self.entries.get(name).map_or(self.offset, |value| value.span().start)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Notes a fault at a key's value.
    pub(super) fn fault(&self, name: &str, message: impl Into<String>, sink: &mut Sink<'_>) {
        sink.fault(self.offset_of(name), self.key(name), message);
    }

    /// Reads a key with `read`; `None` where it is absent or `read` found a fault, which is noted.
    pub(super) fn read<T>(
        &self,
        name: &str,
        sink: &mut Sink<'_>,
        read: impl FnOnce(&'t DeValue<'t>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.entries.get(name)?;
        match read(value.get_ref()) {
            Ok(read) => Some(read),
            Err(message) => {
                self.fault(name, message, sink);
                None
            }
        }
    }

    /// As [`Table::read`], but the key must be there.
    pub(super) fn require<T>(
        &self,
        name: &str,
        what: &str,
        sink: &mut Sink<'_>,
        read: impl FnOnce(&'t DeValue<'t>) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(name) {
            self.fault(name, format!("missing; expected {what}"), sink);
        }
        self.read(name, sink, read)
    }

    pub(super) fn boolean(&self, name: &str, sink: &mut Sink<'_>) -> Option<bool> {
        self.read(name, sink, |value| {
            value.as_bool().ok_or_else(|| expected("true or false", value))
        })
    }

    /// An integer within bounds.
    pub(super) fn number(
        &self,
        name: &str,
        bounds: RangeInclusive<u64>,
        sink: &mut Sink<'_>,
    ) -> Option<u64> {
        self.read(name, sink, |value| number(value, bounds))
    }

    /// One of a list of words.
    pub(super) fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
        sink: &mut Sink<'_>,
    ) -> Option<T> {
        self.read(name, sink, |value| word(value, words))
    }

    /// An offset date-time as Unix seconds.
    pub(super) fn instant_s(&self, name: &str, sink: &mut Sink<'_>) -> Option<i64> {
        self.read(name, sink, instant_s)
    }

    /// The strings of an array, each through `read`, with their places.
    pub(super) fn list<T>(
        &self,
        name: &str,
        items_max: usize,
        sink: &mut Sink<'_>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<(T, usize)>> {
        let values = self.array(name, "an array of strings", items_max, sink)?;
        let mut items = Vec::with_capacity(values.len());
        for value in values {
            let item = value
                .get_ref()
                .as_str()
                .ok_or_else(|| expected("a string", value.get_ref()))
                .and_then(&read);
            match item {
                Ok(item) => items.push((item, value.span().start)),
                Err(message) => {
                    let entry = value
                        .get_ref()
                        .as_str()
                        .map_or(String::new(), |text| format!("{}: ", quote(text)));
                    sink.fault(value.span().start, self.key(name), entry + &message);
                }
            }
        }
        Some(items)
    }

    /// Whether a key is an array without entries.
    pub(super) fn is_empty_list(&self, name: &str) -> bool {
        let array = self.entries.get(name).and_then(|value| value.get_ref().as_array());
        array.is_some_and(|array| array.is_empty())
    }

    /// The tables of an array of tables or an array of inline tables; none where the key is absent.
    pub(super) fn tables(
        &self,
        name: &str,
        path: &'static str,
        keys: &[&str],
        items_max: usize,
        sink: &mut Sink<'_>,
    ) -> Vec<Table<'t>> {
        let values = self.array(name, "an array of tables", items_max, sink).unwrap_or_default();
        let mut tables = Vec::with_capacity(values.len());
        for value in values {
            match value.get_ref() {
                DeValue::Table(entries) => {
                    tables.push(Table::open(path, value.span().start, entries, keys, sink));
                }
                other => {
                    sink.fault(value.span().start, self.key(name), expected("a table", other));
                }
            }
        }
        tables
    }

    /// An inline table.
    pub(super) fn table(
        &self,
        name: &str,
        path: &'static str,
        keys: &[&str],
        sink: &mut Sink<'_>,
    ) -> Option<Table<'t>> {
        let offset = self.offset_of(name);
        let entries = self
            .read(name, sink, |value| value.as_table().ok_or_else(|| expected("a table", value)))?;
        Some(Table::open(path, offset, entries, keys, sink))
    }

    /// All entries of a table whose keys are the user's own.
    pub(super) fn entries(
        &self,
        name: &str,
        sink: &mut Sink<'_>,
    ) -> Option<impl Iterator<Item = (&'t str, &'t Value<'t>)> + use<'t>> {
        let entries = self
            .read(name, sink, |value| value.as_table().ok_or_else(|| expected("a table", value)))?;
        Some(entries.iter().map(|(key, value)| (&**key.get_ref(), value)))
    }

    fn array(
        &self,
        name: &str,
        what: &str,
        items_max: usize,
        sink: &mut Sink<'_>,
    ) -> Option<Vec<&'t Value<'t>>> {
        self.read(name, sink, |value| {
            let array = value.as_array().ok_or_else(|| expected(what, value))?;
            if array.len() > items_max {
                return Err(format!("{} entries; at most {items_max} are allowed", array.len()));
            }
            Ok(array.iter().collect())
        })
    }
}

/// "expected …, found …".
pub(super) fn expected(what: &str, found: &DeValue<'_>) -> String {
    let found = match found {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    format!("expected {what}, found {found}")
}

/// A string of 1 to [`TEXT_CHARS_MAX`] characters, no control characters.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| expected("a string", value))?;
    let is_short = text.chars().take(TEXT_CHARS_MAX + 1).count() <= TEXT_CHARS_MAX;
    if text.trim().is_empty() || !is_short || text.chars().any(char::is_control) {
        return Err(format!("expected 1 to {TEXT_CHARS_MAX} characters, no control characters"));
    }
    Ok(text.to_owned())
}

/// A string that can be the value of a header as it stands: visible ASCII, spaces within.
pub(super) fn header_text(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| expected("a string", value))?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if text.is_empty() || text.len() > TEXT_CHARS_MAX || !is_plain || text.trim() != text {
        return Err(format!(
            "expected 1 to {TEXT_CHARS_MAX} printable ASCII characters, no space first or last, \
             since it is sent in a header"
        ));
    }
    Ok(text.to_owned())
}

/// An integer within bounds.
pub(super) fn number(value: &DeValue<'_>, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let what = format!("an integer from {} to {}", bounds.start(), bounds.end());
    let integer = value.as_integer().ok_or_else(|| expected(&what, value))?;
    match u64::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(format!("expected {what}, found {integer}")),
    }
}

/// One of a list of words.
pub(super) fn word<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, String> {
    let allowed = || words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>();
    let text = value
        .as_str()
        .ok_or_else(|| expected(&format!("one of {}", allowed().join(", ")), value))?;
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        format!("{} is not allowed; expected one of {}", quote(text), allowed().join(", "))
    })
}

/// An offset date-time as Unix seconds, any fraction cut off.
fn instant_s(value: &DeValue<'_>) -> Result<i64, String> {
    const WHAT: &str =
        "a date and time with an offset from 1970 to 9999, as in 2026-11-01T00:00:00Z";
    let DeValue::Datetime(datetime) = value else {
        return Err(expected(&format!("{WHAT}, without quotes"), value));
    };
    let instant = datetime.to_string().parse::<jiff::Timestamp>();
    match instant.map(jiff::Timestamp::as_second) {
        Ok(seconds) if seconds >= 0 => Ok(seconds),
        _ => Err(format!("expected {WHAT}, found {datetime}")),
    }
}

/// A user's text in a message: quoted, escaped and cut.
pub(super) fn quote(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}

/// What to say of an unknown key: the key that was probably meant, or all that are allowed.
fn suggestion(name: &str, keys: &[&str]) -> String {
    let near = keys.iter().find(|key| is_near(name, key));
    match near {
        Some(key) => format!("did you mean `{key}`? Allowed: {}", keys.join(", ")),
        None => format!("allowed: {}", keys.join(", ")),
    }
}

/// Whether two words differ by one character put in, left out, changed or swapped, or by case and `-` for `_` alone.
fn is_near(left: &str, right: &str) -> bool {
    let fold = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let (left, right) = (fold(left), fold(right));
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let prefix = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    let (left, right) =
        (left.get(prefix..).unwrap_or_default(), right.get(prefix..).unwrap_or_default());
    let suffix = left.iter().rev().zip(right.iter().rev()).take_while(|(a, b)| a == b).count();
    match (left.len() - suffix, right.len() - suffix) {
        (0 | 1, 0 | 1) => true,
        (2, 2) => left.first() == right.get(1) && left.get(1) == right.first(),
        _ => false,
    }
}
