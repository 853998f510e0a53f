//! The sandbox's own page: what time it is there, and buttons to move it.
//!
//! In: a button. Out: time moved, all that fell due done.
//! Always holds: time goes forward only.

use super::{Page, html};
use crate::params::Params;
use crate::state::State;
use jiff::Timestamp;

/// Buttons: what they post, what they say, how many seconds they move.
const MOVES: [(&str, &str, i64); 4] = [
    ("hour", "An hour later", 3_600),
    ("day", "A day later", 86_400),
    ("week", "A week later", 7 * 86_400),
    ("month", "31 days later", 31 * 86_400),
];

/// `/`.
pub fn serve(state: &mut State, posted: bool, params: &Params) -> Page {
    if posted {
        let choice = params.text("choice").ok().flatten().unwrap_or_default();
        let Some((_, _, seconds)) = MOVES.iter().find(|(name, _, _)| *name == choice) else {
            return Page::Show(400, html::page("Stripe sandbox", "<p>Nothing was chosen.</p>"));
        };
        state.clock.advance(*seconds);
        state.run_due();
        return Page::Go("/".to_owned());
    }
    let now =
        Timestamp::from_second(state.library_now).map(|at| at.to_string()).unwrap_or_default();
    let buttons: String = MOVES.iter().map(|(name, words, _)| html::button(name, words)).collect();
    let body = format!("<p>It is {now} here.</p><form method=\"post\">{buttons}</form>");
    Page::Show(200, html::page("Stripe sandbox", &body))
}
