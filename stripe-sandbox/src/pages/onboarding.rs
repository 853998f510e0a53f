//! An account owner's pages: onboarding, and connecting an account there is.
//!
//! In: a link's id, or OAuth's parameters. Out: an active account; a code for the platform.
//! Always holds: a link is spent when its page is opened; a spent or late one leads to `refresh_url`.

use super::{Page, html};
use crate::api::accounts;
use crate::json::{int, text};
use crate::params::Params;
use crate::state::{PLATFORM, State};
use serde_json::json;

/// `/pages/onboarding/{link}`.
pub fn serve(state: &mut State, id: &str, posted: bool) -> Page {
    let Some(mut link) = state.get(PLATFORM, "account_link", id) else {
        return Page::Show(404, html::page("Not found", "<p>There is no such link.</p>"));
    };
    if posted {
        if accounts::activate(state, text(&link, "_account")).is_err() {
            return Page::Show(404, html::page("Not found", "<p>There is no such account.</p>"));
        }
        let back = text(&link, "_return").to_owned();
        if back.is_empty() {
            return Page::Show(200, html::page("Done", "<p>The account can take cards now.</p>"));
        }
        return Page::Go(back);
    }
    if crate::json::flag(&link, "_spent") || int(&link, "expires_at") < state.moment {
        return Page::Go(text(&link, "_refresh").to_owned());
    }
    link["_spent"] = json!(true);
    // The row is there already, so the table cannot be full.
    let _ = state.put(PLATFORM, &link);
    let body = format!(
        "<p>Account {}</p><form method=\"post\">{}</form>",
        html::escape(text(&link, "_account")),
        html::button("complete", "Give all details and activate card payments"),
    );
    Page::Show(200, html::page("Set up your account", &body))
}

/// `/oauth/authorize`.
pub fn authorize(state: &mut State, posted: bool, params: &Params) -> Page {
    let read = |name: &str| params.text(name).ok().flatten().unwrap_or_default();
    let (client, back, token) = (read("client_id"), read("redirect_uri"), read("state"));
    if client != state.config.client_id {
        return Page::Show(
            400,
            html::page(
                "Not found",
                "<p>No application matches the supplied client identifier.</p>",
            ),
        );
    }
    if !posted {
        let hidden = [("client_id", &client), ("redirect_uri", &back), ("state", &token)]
            .map(|(name, value)| {
                format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", html::escape(value))
            })
            .concat();
        let body = format!(
            "<form method=\"post\">{hidden}{}{}</form>",
            html::button("connect", "Connect my account"),
            html::button("deny", "Deny"),
        );
        return Page::Show(200, html::page("Connect your account", &body));
    }
    let join = if back.contains('?') { '&' } else { '?' };
    let mut answer = form_urlencoded::Serializer::new(String::new());
    if read("choice") == "deny" {
        answer.append_pair("error", "access_denied");
        answer.append_pair("error_description", "The user denied your request");
    } else {
        // Whoever has none yet is given one.
        let account = match read("account") {
            none if none.is_empty() => accounts::own(state),
            account => Ok(account),
        };
        match account.and_then(|account| accounts::authorize(state, &account)) {
            Ok(code) => drop(answer.append_pair("code", &code).append_pair("scope", "read_write")),
            Err(error) => {
                return Page::Show(
                    error.status,
                    html::page("Not now", &html::escape(&error.message)),
                );
            }
        }
    }
    if !token.is_empty() {
        answer.append_pair("state", &token);
    }
    Page::Go(format!("{back}{join}{}", answer.finish()))
}
