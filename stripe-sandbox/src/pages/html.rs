//! HTML, the little there is.
//!
//! In: titles, bodies, amounts. Out: text.
//! Always holds: [`escape`] makes any text safe between tags and in quoted attributes.

/// A text between tags or in quotes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A whole page; `body` is HTML.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title} · Stripe sandbox</title><style>body{{font:1rem/1.5 \
         system-ui,sans-serif;max-width:32rem;margin:2rem auto;padding:0 1rem}}button{{display:block;width:100%;\
         margin:.5rem 0;padding:.6rem;font:inherit}}[role=alert]{{color:#a00}}</style></head><body><main><h1>{title}\
         </h1>{body}<hr><p><small>A stand-in for Stripe: no card is charged.</small></p></main></body></html>",
        title = escape(title),
    )
}

/// A button in a form of its own; `choice` is what it posts.
pub fn button(choice: &str, words: &str) -> String {
    format!("<button name=\"choice\" value=\"{}\">{}</button>", escape(choice), escape(words))
}

/// An amount of minor units, for people.
pub fn amount(minor: i64, currency: &str) -> String {
    const ZERO: &[&str] = &[
        "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv",
        "xaf", "xof", "xpf",
    ];
    let code = currency.to_uppercase();
    if ZERO.contains(&currency) {
        return format!("{minor} {code}");
    }
    let sign = if minor < 0 { "-" } else { "" };
    format!("{sign}{}.{:02} {code}", minor.abs() / 100, minor.abs() % 100)
}
