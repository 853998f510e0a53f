//! What people see: pages to pay on, to onboard, to manage a subscription. Plain HTML forms.
//!
//! In: GET shows a page, POST does what its button says. Out: HTML, or a redirect to where the session returns to.
//! Always holds: every text from outside is escaped; whoever has the address may use the page, as with Stripe's.

pub mod checkout;
pub mod home;
pub mod html;
pub mod onboarding;
pub mod portal;

use crate::form;
use crate::gate::{Reply, Request};
use crate::params::Params;
use crate::state::State;

/// What a page gives back.
pub enum Page {
    /// Something to show, with its status.
    Show(u16, String),
    /// Somewhere else to go.
    Go(String),
}

/// Whether a path is a page's.
pub fn is_page(path: &str) -> bool {
    path == "/"
        || path.starts_with("/pages/")
        || path == "/oauth/authorize"
        || path == "/oauth/v2/authorize"
}

/// Serves a page.
pub fn serve(state: &mut State, request: &Request<'_>) -> Reply {
    state.run_due();
    let posted = request.method == "POST";
    let tree = form::parse(if posted { request.body } else { request.query.as_bytes() });
    let page = match tree {
        Err(error) => Page::Show(400, html::page("Bad request", &html::escape(&error.message))),
        Ok(tree) => route(state, request.path, posted, &Params::new(tree)),
    };
    state.moment = state.library_now;
    match page {
        Page::Show(status, body) => Reply::Answer {
            status,
            headers: vec![
                ("content-type", "text/html; charset=utf-8".to_owned()),
                ("cache-control", "no-store".to_owned()),
                // Redirects after a form's post may lead to any host, so `form-action` is left out.
                (
                    "content-security-policy",
                    "default-src 'none'; style-src 'unsafe-inline'".to_owned(),
                ),
            ],
            body,
        },
        Page::Go(to) => {
            Reply::Answer { status: 303, headers: vec![("location", to)], body: String::new() }
        }
    }
}

fn route(state: &mut State, path: &str, posted: bool, params: &Params) -> Page {
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("pages"), Some("checkout"), Some(id)) => checkout::serve(state, id, posted, params),
        (Some("pages"), Some("onboarding"), Some(id)) => onboarding::serve(state, id, posted),
        (Some("pages"), Some("invoice"), Some(id)) => checkout::invoice(state, id, posted, params),
        (Some("pages"), Some("portal"), Some(id)) => portal::serve(state, id, posted, params),
        (Some("oauth"), _, _) => onboarding::authorize(state, posted, params),
        (Some(""), None, None) => home::serve(state, posted, params),
        _ => Page::Show(404, html::page("Not found", "<p>There is no such page.</p>")),
    }
}
