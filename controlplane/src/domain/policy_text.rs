//! Checking fields with the policy file's own reader.
//!
//! In: JSON of a site and its parts, in the words of the policy file. Out: the model, or faults by field.
//! Always holds: what passes here, a policy file would take too, with the same limits; no secret stands in a fault.
//!
//! The JSON is written as TOML and read back: each table of a list on a line of its own, so that where a message
//! speaks of a line, it can be told which of the rows was meant.

use policy::model::diagnostic::Diagnostic;
use policy::model::{Site, file};
use serde_json::{Map, Value as Json};

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, with `.` between names.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Fault {
    /// A fault of one field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A table of a list: the id that messages give it, and its keys.
pub type Part = (String, Map<String, Json>);

/// A site with parts, as the policy file would have it.
#[derive(Clone, Copy, Debug)]
pub struct SiteText<'a> {
    /// The keys of `[[sites]]`.
    pub site: &'a Map<String, Json>,
    /// `[[sites.resources]]`, each with the id that messages give it.
    pub resources: &'a [Part],
    /// `[[sites.plans]]`.
    pub plans: &'a [Part],
    /// `[[sites.subscriptions]]`, with their tokens in them.
    pub subscriptions: &'a [Part],
}

/// The keys whose values are dates, which TOML writes without quotes.
const INSTANTS: &[&str] = &["past_due_since", "period_anchor", "expires_at"];

/// Reads the site. `part` is the table whose faults are the caller's (`sites`, `sites.plans`, …): its name is cut off
/// what a fault names.
///
/// # Errors
/// All faults that the reader finds.
pub fn check(text: &SiteText<'_>, part: &str) -> Result<Site, Vec<Fault>> {
    let mut toml = String::from("[[sites]]\n");
    let mut names: Vec<&str> = vec!["the site"];
    for (key, value) in text.site {
        if value.is_null() {
            continue;
        }
        write_key(key, &mut toml);
        toml.push_str(" = ");
        write_value(key, value, &mut toml);
        toml.push('\n');
        names.push("the site");
    }
    let lists = [
        ("resources", text.resources),
        ("plans", text.plans),
        ("subscriptions", text.subscriptions),
    ];
    for (name, rows) in lists {
        if rows.is_empty() {
            continue;
        }
        toml.push_str(name);
        toml.push_str(" = [\n");
        names.push(name);
        for (id, row) in rows {
            write_table(row, &mut toml);
            toml.push_str(",\n");
            names.push(id);
        }
        toml.push_str("]\n");
        names.push(name);
    }
    match file::parse("request", toml.as_bytes()) {
        Ok(parsed) => parsed.policy.sites.into_iter().next().ok_or_else(Vec::new),
        Err(error) => {
            Err(error.faults.into_iter().map(|fault| fault_of(fault, part, &names)).collect())
        }
    }
}

/// In the caller's words: fields without the tables they stand in, rows by id and not by line.
fn fault_of(found: Diagnostic, part: &str, names: &[&str]) -> Fault {
    let field = found.key.strip_prefix(part).unwrap_or(&found.key);
    let field = field.trim_start_matches('.').trim_start_matches("sites.");
    let mut message = found.message;
    if let Some(at) = message.find("line ") {
        let rest = &message[at + 5..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let line: usize = rest[..digits].parse().unwrap_or_default();
        if let Some(name) = line.checked_sub(1).and_then(|at| names.get(at)) {
            message = format!("{}{name}{}", &message[..at], &rest[digits..]);
        }
    }
    Fault { field: field.to_owned(), message }
}

fn write_key(key: &str, toml: &mut String) {
    write_string(key, toml);
}

/// A basic string (TOML 1.0, "String"): what JSON escapes, TOML reads alike, but for DEL.
fn write_string(text: &str, toml: &mut String) {
    toml.push_str(&Json::from(text).to_string().replace('\u{7f}', "\\u007F"));
}

fn write_value(key: &str, value: &Json, toml: &mut String) {
    match value {
        Json::String(text) if INSTANTS.contains(&key) && is_instant(text) => toml.push_str(text),
        Json::String(text) => write_string(text, toml),
        Json::Array(items) => {
            toml.push('[');
            for item in items {
                write_value("", item, toml);
                toml.push(',');
            }
            toml.push(']');
        }
        Json::Object(entries) => write_table(entries, toml),
        Json::Null => toml.push_str("\"\""),
        Json::Bool(_) | Json::Number(_) => toml.push_str(&value.to_string()),
    }
}

/// Whether `text` is a date and time that TOML reads as such: jiff alone would take `[UTC]` at the end, too.
fn is_instant(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || b"TtZz:+-.".contains(&byte))
        && text.parse::<jiff::Timestamp>().is_ok()
}

fn write_table(entries: &Map<String, Json>, toml: &mut String) {
    toml.push_str("{ ");
    let mut is_first = true;
    for (key, value) in entries {
        if value.is_null() {
            continue;
        }
        if !is_first {
            toml.push_str(", ");
        }
        is_first = false;
        write_key(key, toml);
        toml.push_str(" = ");
        write_value(key, value, toml);
    }
    toml.push_str(" }");
}

#[cfg(test)]
#[path = "policy_text_tests.rs"]
mod tests;
