//! All calls there are: method, path, parameters, handler.
//!
//! In: method and path. Out: the route, and the ids in the path.
//! Always holds: the tables here are what the check against the official typed parameters reads, so no handler reads a
//! parameter that is not named with its route.

use crate::api;
use crate::call::{Answer, Call};

/// One call.
#[derive(Clone, Copy)]
pub struct Route {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// `{id}` stands for an id.
    pub path: &'static str,
    /// Names of parameters, as [`crate::params`] writes them.
    pub parameters: &'static [&'static str],
    /// What answers it.
    pub handler: fn(&mut Call<'_>) -> Answer,
}

/// A route, for the tables.
pub const fn route(
    method: &'static str,
    path: &'static str,
    parameters: &'static [&'static str],
    handler: fn(&mut Call<'_>) -> Answer,
) -> Route {
    Route { method, path, parameters, handler }
}

/// Every route.
pub fn all() -> impl Iterator<Item = &'static Route> {
    api::TABLES.iter().flat_map(|table| table.iter())
}

/// The route of a request, and the ids in its path.
pub fn find(method: &str, path: &str) -> Option<(&'static Route, Vec<String>)> {
    all()
        .filter(|route| route.method == method)
        .find_map(|route| Some((route, ids(route.path, path)?)))
}

fn ids(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(found),
            (Some(part), Some(id)) if part.starts_with('{') && !id.is_empty() => {
                found.push(unescaped(id))
            }
            (Some(part), Some(other)) if part == other => {}
            _ => return None,
        }
    }
}

fn unescaped(part: &str) -> String {
    // A path part has no `&`, `=` or `+` of its own meaning once these are escaped.
    let guarded = part.replace('+', "%2B");
    form_urlencoded::parse(guarded.as_bytes())
        .next()
        .map_or_else(String::new, |(name, _)| name.into_owned())
}
