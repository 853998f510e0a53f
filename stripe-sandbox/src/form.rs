//! Stripe's form encoding: names with brackets become a tree.
//!
//! In: a query or a body, `items[0][price]=p&expand[]=x&metadata[k]=v`. Out: JSON with strings as leaves.
//! Always holds: depth and number of parameters are bounded; a hash whose keys are all numbers, or empty, is a list.

use crate::error::StripeError;
use serde_json::{Map, Value};

/// Parameters of one request at most.
pub const PARAMETERS_MAX: usize = 2000;
/// Brackets of one name at most.
const DEPTH_MAX: usize = 8;

/// Parses `text` into an object.
///
/// # Errors
/// A malformed name, or too many parameters, as Stripe refuses it.
pub fn parse(text: &[u8]) -> Result<Map<String, Value>, StripeError> {
    let mut tree = Map::new();
    for (count, (name, value)) in form_urlencoded::parse(text).enumerate() {
        if count >= PARAMETERS_MAX {
            return Err(StripeError::invalid("Too many parameters"));
        }
        let path = path_of(&name)?;
        insert(&mut tree, &path, value.into_owned(), &name)?;
    }
    Ok(tree.into_iter().map(|(name, value)| (name, with_lists(value))).collect())
}

fn path_of(name: &str) -> Result<Vec<&str>, StripeError> {
    let refused = || StripeError::invalid(format!("Invalid parameter name: {name}"));
    let Some(open) = name.find('[') else { return Ok(vec![name]) };
    let (first, mut rest) = name.split_at(open);
    let mut path = vec![first];
    while let Some(inner) = rest.strip_prefix('[') {
        let close = inner.find(']').ok_or_else(refused)?;
        let (key, after) = inner.split_at(close);
        path.push(key);
        rest = after.get(1..).unwrap_or("");
    }
    if first.is_empty() || !rest.is_empty() || path.len() > DEPTH_MAX {
        return Err(refused());
    }
    Ok(path)
}

fn insert(
    tree: &mut Map<String, Value>,
    path: &[&str],
    value: String,
    name: &str,
) -> Result<(), StripeError> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    // `a[]=x&a[]=y` are two entries of one list.
    let key = if first.is_empty() { tree.len().to_string() } else { (*first).to_owned() };
    if rest.is_empty() {
        tree.insert(key, Value::String(value));
        return Ok(());
    }
    let below = tree.entry(key).or_insert_with(|| Value::Object(Map::new()));
    match below {
        Value::Object(below) => insert(below, rest, value, name),
        _ => Err(StripeError::invalid(format!(
            "Invalid parameter: {name} is both a value and a hash"
        ))),
    }
}

fn with_lists(value: Value) -> Value {
    let Value::Object(object) = value else { return value };
    let mut numbered = Vec::with_capacity(object.len());
    for key in object.keys() {
        match key.parse::<usize>() {
            Ok(number) => numbered.push((number, key.clone())),
            Err(_) => break,
        }
    }
    if numbered.len() == object.len() && !numbered.is_empty() {
        numbered.sort_unstable();
        let mut object = object;
        let entries = numbered.iter().filter_map(|(_, key)| object.remove(key));
        return Value::Array(entries.map(with_lists).collect());
    }
    Value::Object(object.into_iter().map(|(key, value)| (key, with_lists(value))).collect())
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
