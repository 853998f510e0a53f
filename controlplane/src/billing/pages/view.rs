//! What all pages look like.
//!
//! In: a title, a body. Out: HTML.
//! Always holds: a page has a language, one first heading, a way past its head for keyboards, text at a contrast of at least
//! 7:1 on its ground in light and dark (WCAG 2.2, 1.4.6), and no script.

use axum::response::{IntoResponse as _, Response};
use http::header;
use maud::{DOCTYPE, Markup, html};

/// Going on by itself.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// After so many seconds.
    pub seconds: u32,
    /// Where to.
    pub url: String,
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1a1a1a;--ground:#fff;--line:#767676;--deep:#0b3d91;--onDeep:#fff}\
@media(prefers-color-scheme:dark){:root{--ink:#f2f2f2;--ground:#161616;--line:#9a9a9a;--deep:#b9d2ff;--onDeep:#101010}}\
body{margin:0;font:1rem/1.6 system-ui,sans-serif;color:var(--ink);background:var(--ground)}\
main{max-width:60rem;margin:0 auto;padding:2rem 1rem}\
h1{font-size:1.8rem;line-height:1.2}\
ul.plans{list-style:none;padding:0;display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(16rem,1fr))}\
ul.plans>li{border:1px solid var(--line);border-radius:.5rem;padding:1rem}\
.price{font-size:1.3rem;font-weight:600}\
label{display:block;margin:.5rem 0 .2rem}\
input{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;color:inherit;background:transparent;border:1px solid var(--line);border-radius:.3rem}\
button,a.button{display:inline-block;font:inherit;font-weight:600;margin-top:.8rem;padding:.6rem 1.2rem;border:0;border-radius:.3rem;color:var(--onDeep);background:var(--deep);text-decoration:none;cursor:pointer}\
a{color:var(--deep)}\
:focus-visible{outline:3px solid var(--deep);outline-offset:2px}\
code,pre{font:1rem/1.5 ui-monospace,monospace;overflow-wrap:anywhere;white-space:pre-wrap}\
pre{border:1px solid var(--line);border-radius:.3rem;padding:.8rem}\
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:1rem}";

/// The one style sheet.
pub async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, STYLE).into_response()
}

/// A page.
#[must_use]
pub fn page(title: &str, refresh: Option<&Refresh>, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(Refresh { seconds, url }) = refresh {
                    meta http-equiv="refresh" content=(format!("{seconds};url={url}"));
                }
                title { (title) }
                link rel="stylesheet" href="/pay/style.css";
            }
            body {
                a.skip href="#content" { "Skip to content" }
                main id="content" {
                    h1 { (title) }
                    (body)
                }
            }
        }
    }
    .into_string()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
