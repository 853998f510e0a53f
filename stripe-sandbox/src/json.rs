//! Reading objects that are JSON throughout.
//!
//! In: objects of the store, paths with dots. Out: texts and numbers, empty or zero where there is nothing.
//! Always holds: names beginning with `_` are the sandbox's own notes on an object and never leave it.

use serde_json::{Map, Value};

/// The value at a path with dots; `null` if there is none.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |below, part| match part.parse::<usize>() {
        Ok(number) if below.is_array() => below.get(number).unwrap_or(&Value::Null),
        _ => below.get(part).unwrap_or(&Value::Null),
    })
}

/// The text at a path, or an empty one.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    at(value, path).as_str().unwrap_or("")
}

/// The whole number at a path, or zero.
pub fn int(value: &Value, path: &str) -> i64 {
    at(value, path).as_i64().unwrap_or(0)
}

/// Whether `true` stands at a path.
pub fn flag(value: &Value, path: &str) -> bool {
    at(value, path).as_bool().unwrap_or(false)
}

/// The entries of the list at a path.
pub fn entries<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// A text, or `null` for an empty one.
pub fn or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::from(text) }
}

/// The object as it leaves the sandbox: without the notes.
pub fn shown(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .iter()
                .filter(|(name, _)| !name.starts_with('_'))
                .map(|(name, below)| {
                    (name.clone(), if name == "metadata" { below.clone() } else { shown(below) })
                })
                .collect(),
        ),
        Value::Array(entries) => Value::Array(entries.iter().map(shown).collect()),
        other => other.clone(),
    }
}

/// What the members that changed were before (`data.previous_attributes` of an event).
pub fn previous(old: &Value, new: &Value) -> Value {
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut changed = Map::new();
    for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
        let before = old.get(name).unwrap_or(&Value::Null);
        if !name.starts_with('_') && new.get(name).unwrap_or(&Value::Null) != before {
            changed.insert(name.clone(), shown(before));
        }
    }
    Value::Object(changed)
}
