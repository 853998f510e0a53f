//! Objects by account and kind, in the order they were made.
//!
//! In: JSON objects with `object` and `id`. Out: the same, by id or newest first.
//! Always holds: a room belongs to one account and nobody reads another's by mistake, since each look-up names its
//! room; a table has a bound.

use crate::error::StripeError;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Rows of one kind in one account, at most.
pub const ROWS_MAX: usize = 500_000;

/// All objects of one kind.
#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<u64, Value>,
    numbers: HashMap<String, u64>,
    next: u64,
}

impl Table {
    /// The object of this id.
    pub fn get(&self, id: &str) -> Option<&Value> {
        self.rows.get(self.numbers.get(id)?)
    }

    /// Puts an object in, or in place of the one of its id.
    ///
    /// # Errors
    /// The table is full.
    pub fn put(&mut self, id: &str, value: Value) -> Result<(), StripeError> {
        if let Some(number) = self.numbers.get(id) {
            self.rows.insert(*number, value);
            return Ok(());
        }
        if self.rows.len() >= ROWS_MAX {
            return Err(StripeError::invalid("The sandbox holds no more objects of this kind")
                .with_status(507));
        }
        self.numbers.insert(id.to_owned(), self.next);
        self.rows.insert(self.next, value);
        self.next += 1;
        Ok(())
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: &str) -> Option<Value> {
        let number = self.numbers.remove(id)?;
        self.rows.remove(&number)
    }

    /// Newest first, from after the object of this id on.
    pub fn newest(&self, after: Option<&str>) -> impl Iterator<Item = &Value> {
        let end = after.map_or(Some(u64::MAX), |id| self.numbers.get(id).copied()).unwrap_or(0);
        self.rows.range(..end).rev().map(|(_, value)| value)
    }

    /// Oldest first, from after the object of this id on.
    pub fn oldest(&self, after: Option<&str>) -> impl Iterator<Item = &Value> {
        let start = after.and_then(|id| self.numbers.get(id)).map_or(0, |number| number + 1);
        self.rows.range(start..).map(|(_, value)| value)
    }

    /// Forgets the oldest while `stale` says so; their ids.
    pub fn forget(&mut self, stale: impl Fn(&Value) -> bool) -> Vec<String> {
        let mut gone = Vec::new();
        while let Some(first) = self.rows.first_entry().filter(|first| stale(first.get())) {
            let row = first.remove();
            if let Some(id) = row.get("id").and_then(Value::as_str) {
                self.numbers.remove(id);
                gone.push(id.to_owned());
            }
        }
        gone
    }

    /// Forgets the very oldest; its id.
    pub fn forget_oldest(&mut self) -> Vec<String> {
        let oldest = self.rows.first_key_value();
        let id =
            oldest.and_then(|(_, row)| row.get("id")).and_then(Value::as_str).map(str::to_owned);
        if let Some(id) = &id {
            self.remove(id);
        }
        id.into_iter().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// All objects of one account.
#[derive(Debug, Default)]
pub struct Room {
    tables: HashMap<String, Table>,
}

impl Room {
    /// The objects of one kind (`object` of each).
    pub fn table(&self, kind: &str) -> Option<&Table> {
        self.tables.get(kind)
    }

    /// The same, to change.
    pub fn table_mut(&mut self, kind: &str) -> &mut Table {
        self.tables.entry(kind.to_owned()).or_default()
    }
}
