//! One call as its handler sees it.
//!
//! In: the state, the account, ids from the path, parameters. Out: an object, or a page of a list.
//! Always holds: a list is newest first, a page has at most 100 rows, and `has_more` is true only if there are more.

use crate::error::StripeError;
use crate::json::{int, text};
use crate::params::Params;
use crate::state::State;
use serde_json::{Value, json};

/// What a handler gives back.
pub type Answer = Result<Value, StripeError>;

/// One call.
pub struct Call<'a> {
    /// All that the sandbox knows.
    pub state: &'a mut State,
    /// The room: a connected account, or [`crate::state::PLATFORM`].
    pub account: String,
    /// What stood for `{…}` in the path.
    pub ids: Vec<String>,
    /// Path as it was asked for, for `url` of lists.
    pub path: String,
    /// The parameters, their names checked.
    pub params: Params,
}

impl Call<'_> {
    /// The first id of the path.
    pub fn id(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }

    /// Time of the present work.
    pub fn now(&self) -> i64 {
        self.state.moment
    }

    /// The object that the path names.
    ///
    /// # Errors
    /// `resource_missing`.
    pub fn fetch(&self, kind: &str) -> Answer {
        self.state.must(&self.account, kind, self.id())
    }

    /// The object that a parameter names, if it is there.
    ///
    /// # Errors
    /// `resource_missing` with that parameter.
    pub fn named(&self, kind: &str, path: &str) -> Result<Option<Value>, StripeError> {
        let Some(id) = self.params.text(path)? else { return Ok(None) };
        self.state.named(&self.account, kind, &id, &self.params.name(path)).map(Some)
    }

    /// A page of those of a kind that are `wanted`, by `created`, `limit`, `starting_after`, `ending_before`.
    ///
    /// # Errors
    /// A limit out of bounds, or a cursor that is no object.
    pub fn list(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Answer {
        let limit = self.params.int_within("limit", 1, 100)?.unwrap_or(10);
        let limit = usize::try_from(limit).unwrap_or(10);
        let (after, before) =
            (self.params.text("starting_after")?, self.params.text("ending_before")?);
        let created = Created::of(&self.params)?;
        let table = self.state.table(&self.account, kind);
        for (name, cursor) in [("starting_after", &after), ("ending_before", &before)] {
            let there = |id: &str| table.is_some_and(|table| table.get(id).is_some());
            if let Some(id) = cursor.as_deref().filter(|id| !there(id)) {
                return Err(StripeError::missing(kind, id).with_status(400).at(name));
            }
        }
        let Some(table) = table else { return Ok(self.page(Vec::new(), false)) };
        let keep = |row: &&Value| created.holds(int(row, "created")) && wanted(row);
        let mut rows: Vec<Value> = if before.is_some() {
            table.oldest(before.as_deref()).filter(keep).take(limit + 1).cloned().collect()
        } else {
            table.newest(after.as_deref()).filter(keep).take(limit + 1).cloned().collect()
        };
        let more = rows.len() > limit;
        rows.truncate(limit);
        if before.is_some() {
            rows.reverse();
        }
        Ok(self.page(rows, more))
    }

    /// A list object.
    pub fn page(&self, rows: Vec<Value>, has_more: bool) -> Value {
        json!({"object": "list", "data": rows, "has_more": has_more, "url": self.path})
    }

    /// A list's filter: rows whose member at `path` is the text of a parameter, if that is there.
    ///
    /// # Errors
    /// A parameter that is no text.
    pub fn filter(
        &self,
        param: &str,
    ) -> Result<impl Fn(&Value, &str) -> bool + use<>, StripeError> {
        let wanted = self.params.text(param)?;
        Ok(move |row: &Value, path: &str| {
            wanted.as_deref().is_none_or(|wanted| text(row, path) == wanted)
        })
    }
}

/// `created=…` or `created[gte]=…` of a list.
struct Created {
    low: i64,
    high: i64,
}

impl Created {
    fn of(params: &Params) -> Result<Self, StripeError> {
        if let Some(at) = params.value("created").filter(|value| !value.is_object()) {
            let at = at.as_str().and_then(|text| text.parse().ok()).or(at.as_i64());
            let at = at.ok_or_else(|| params.refused("created", "Invalid timestamp"))?;
            return Ok(Self { low: at, high: at });
        }
        let bound = |name: &str| params.int(&format!("created.{name}"));
        let above = bound("gt")?.map(|at| at.saturating_add(1));
        let below = bound("lt")?.map(|at| at.saturating_sub(1));
        Ok(Self {
            low: above.or(bound("gte")?).unwrap_or(i64::MIN),
            high: below.or(bound("lte")?).unwrap_or(i64::MAX),
        })
    }

    fn holds(&self, at: i64) -> bool {
        (self.low..=self.high).contains(&at)
    }
}
