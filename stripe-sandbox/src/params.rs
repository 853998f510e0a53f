//! The parameters of one call: which names there may be, and their values in the types wanted.
//!
//! In: a tree from a form or from JSON, and a route's list of names. Out: values, or the error Stripe gives for them.
//! Always holds: a name that is not in the list is refused with `parameter_unknown`, so that a misspelt parameter never
//! passes unnoticed; a form's values are strings, JSON's have types, and both read alike.
//!
//! Names are written `items[][price]`, `metadata{}` (a hash of any keys), `automatic_tax[enabled]`.

use crate::error::StripeError;
use serde_json::{Map, Value};

/// Names every call of v1 takes.
const EVERYWHERE: [&str; 1] = ["expand[]"];

/// The parameters below one place of the tree.
#[derive(Clone, Debug, Default)]
pub struct Params {
    tree: Map<String, Value>,
    prefix: String,
}

impl Params {
    /// The parameters of a request.
    pub fn new(tree: Map<String, Value>) -> Self {
        Self { tree, prefix: String::new() }
    }

    /// Refuses names that are not in `allowed`.
    ///
    /// # Errors
    /// `parameter_unknown` for the first such name.
    pub fn check_names(&self, allowed: &[&str]) -> Result<(), StripeError> {
        check(&Value::Object(self.tree.clone()), "", "", allowed)
    }

    /// How the parameter `path` (dots between names) is written in a request.
    pub fn name(&self, path: &str) -> String {
        let mut name = self.prefix.clone();
        for part in path.split('.') {
            if name.is_empty() { name.push_str(part) } else { name.push_str(&format!("[{part}]")) }
        }
        name
    }

    /// The value at `path`.
    pub fn value(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let mut at = self.tree.get(parts.next()?)?;
        for part in parts {
            at = at.get(part)?;
        }
        Some(at)
    }

    /// Whether the parameter is there at all.
    pub fn has(&self, path: &str) -> bool {
        self.value(path).is_some_and(|value| !value.is_null())
    }

    /// Whether it was sent empty, which unsets what it names.
    pub fn unsets(&self, path: &str) -> bool {
        matches!(self.value(path), Some(Value::String(text)) if text.is_empty())
    }

    /// A text; sent empty it counts as absent (see [`Self::unsets`]).
    ///
    /// # Errors
    /// A hash or a list where a text belongs.
    pub fn text(&self, path: &str) -> Result<Option<String>, StripeError> {
        match self.value(path) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Bool(value)) => Ok(Some(value.to_string())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(self.refused(path, "Invalid string")),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// `parameter_missing`, or a value that is no text.
    pub fn required(&self, path: &str) -> Result<String, StripeError> {
        if self.unsets(path) {
            let name = self.name(path);
            return Err(StripeError::coded(
                "parameter_invalid_empty",
                format!("You passed an empty string for '{name}'."),
            )
            .at(name));
        }
        self.text(path)?.ok_or_else(|| StripeError::required(&self.name(path)))
    }

    /// A whole number.
    ///
    /// # Errors
    /// `parameter_invalid_integer`.
    pub fn int(&self, path: &str) -> Result<Option<i64>, StripeError> {
        let Some(text) = self.text(path)? else { return Ok(None) };
        let name = self.name(path);
        text.parse().map(Some).map_err(|_| {
            StripeError::coded("parameter_invalid_integer", format!("Invalid integer: {text}"))
                .at(name)
        })
    }

    /// A whole number within bounds.
    ///
    /// # Errors
    /// As [`Self::int`], and a number out of bounds.
    pub fn int_within(&self, path: &str, low: i64, high: i64) -> Result<Option<i64>, StripeError> {
        match self.int(path)? {
            Some(number) if number < low || number > high => Err(self
                .refused(path, &format!("This value must be between {low} and {high}: {number}"))),
            other => Ok(other),
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// Anything else.
    pub fn flag(&self, path: &str) -> Result<Option<bool>, StripeError> {
        match self.text(path)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.refused(path, &format!("Invalid boolean: {other}"))),
        }
    }

    /// One of a few words.
    ///
    /// # Errors
    /// Another word.
    pub fn choice(&self, path: &str, words: &[&str]) -> Result<Option<String>, StripeError> {
        match self.text(path)? {
            Some(word) if !words.contains(&word.as_str()) => Err(self.refused(
                path,
                &format!("Invalid {}: must be one of {}", self.name(path), words.join(", ")),
            )),
            other => Ok(other),
        }
    }

    /// The parameters of each entry of a list.
    ///
    /// # Errors
    /// Something that is no list of hashes.
    pub fn list(&self, path: &str) -> Result<Vec<Params>, StripeError> {
        let entries = match self.value(path) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::String(text)) if text.is_empty() => return Ok(Vec::new()),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(self.refused(path, "Invalid array")),
        };
        let mut list = Vec::with_capacity(entries.len());
        for (number, entry) in entries.iter().enumerate() {
            let Value::Object(tree) = entry else {
                return Err(self.refused(path, "Invalid object"));
            };
            list.push(Params {
                tree: tree.clone(),
                prefix: format!("{}[{number}]", self.name(path)),
            });
        }
        Ok(list)
    }

    /// The parameters below a name; none if it is not there.
    ///
    /// # Errors
    /// A text where a hash belongs.
    pub fn hash(&self, path: &str) -> Result<Params, StripeError> {
        let tree = match self.value(path) {
            Some(Value::Object(tree)) => tree.clone(),
            None | Some(Value::Null) => Map::new(),
            Some(Value::String(text)) if text.is_empty() => Map::new(),
            Some(_) => return Err(self.refused(path, "Invalid object")),
        };
        Ok(Params { tree, prefix: self.name(path) })
    }

    /// The texts of a list.
    ///
    /// # Errors
    /// Something that is no list of texts.
    pub fn texts(&self, path: &str) -> Result<Vec<String>, StripeError> {
        match self.value(path) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(entries)) => entries
                .iter()
                .map(|entry| {
                    entry
                        .as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| self.refused(path, "Invalid array"))
                })
                .collect(),
            Some(_) => Err(self.refused(path, "Invalid array")),
        }
    }

    /// `metadata` merged into what there was: an empty value removes a key, an empty hash removes all.
    ///
    /// # Errors
    /// More than 50 keys, a key over 40 or a value over 500 characters.
    pub fn metadata(&self, path: &str, before: &Value) -> Result<Value, StripeError> {
        if self.unsets(path) {
            return Ok(Value::Object(Map::new()));
        }
        let mut merged = before.as_object().cloned().unwrap_or_default();
        for key in self.hash(path)?.tree.keys() {
            match self.text(&format!("{path}.{key}"))? {
                None => drop(merged.remove(key)),
                Some(value) => {
                    if key.chars().count() > 40 || value.chars().count() > 500 {
                        return Err(
                            self.refused(path, &format!("Metadata key or value too long: {key}"))
                        );
                    }
                    merged.insert(key.clone(), Value::String(value));
                }
            }
        }
        if merged.len() > 50 {
            return Err(self.refused(path, "Metadata can have up to 50 keys"));
        }
        Ok(Value::Object(merged))
    }

    /// Refuses the value of a parameter.
    pub fn refused(&self, path: &str, message: &str) -> StripeError {
        StripeError::invalid(message).at(self.name(path))
    }
}

fn check(value: &Value, name: &str, pattern: &str, allowed: &[&str]) -> Result<(), StripeError> {
    let known = |pattern: &str| EVERYWHERE.contains(&pattern) || allowed.contains(&pattern);
    if !pattern.is_empty() && known(&format!("{pattern}{{}}")) {
        return Ok(());
    }
    match value {
        Value::Object(tree) => {
            for (key, below) in tree {
                let (name, pattern) = if name.is_empty() {
                    (key.clone(), key.clone())
                } else {
                    (format!("{name}[{key}]"), format!("{pattern}[{key}]"))
                };
                check(below, &name, &pattern, allowed)?;
            }
            Ok(())
        }
        Value::Array(entries) => {
            for (number, below) in entries.iter().enumerate() {
                check(below, &format!("{name}[{number}]"), &format!("{pattern}[]"), allowed)?;
            }
            Ok(())
        }
        // A hash or a list may be unset by an empty text.
        _ if known(pattern) => Ok(()),
        Value::String(text) if text.is_empty() && unsettable(pattern, allowed) => Ok(()),
        _ => Err(StripeError::coded(
            "parameter_unknown",
            format!("Received unknown parameter: {name}"),
        )
        .at(name)),
    }
}

fn unsettable(pattern: &str, allowed: &[&str]) -> bool {
    allowed
        .iter()
        .any(|known| known.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('[')))
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
