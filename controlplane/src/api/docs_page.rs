//! The description of the API as a page for people.
//!
//! In: the OpenAPI document. Out: one HTML page without scripts.
//! Always holds: every text is escaped.

use std::fmt::Write as _;

use serde_json::Value as Json;

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
<title>PayFence control plane</title><style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
code{font:13px ui-monospace,monospace}section{border-top:1px solid #ccc;padding:.5rem 0}table{border-collapse:collapse}\
td,th{text-align:left;vertical-align:top;padding:.15rem .8rem .15rem 0}.m{display:inline-block;min-width:4.5rem;font-weight:600}</style>";

/// The page.
#[must_use]
pub fn page(document: &Json) -> String {
    let mut html = String::from(HEAD);
    let text = |value: &Json| escape(value.as_str().unwrap_or_default());
    let _ = write!(
        html,
        "<h1>{}</h1><p>{}</p><p>The same for programs: <a href=\"/openapi.json\">openapi.json</a></p>",
        text(&document["info"]["title"]),
        text(&document["info"]["description"])
    );
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            operation_of(path, method, operation, &mut html);
        }
    }
    html.push_str("<h2>Shapes</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        shape_of(name, schema, &mut html);
    }
    html
}

fn operation_of(path: &str, method: &str, operation: &Json, html: &mut String) {
    let _ = write!(
        html,
        "<section><code><span class=\"m\">{}</span>{}</code><p>{}</p>",
        escape(&method.to_ascii_uppercase()),
        escape(path),
        escape(operation["summary"].as_str().unwrap_or_default())
    );
    if let Some(description) = operation["description"].as_str() {
        let _ = write!(html, "<p>{}</p>", escape(description));
    }
    html.push_str("<table>");
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let _ = write!(
            html,
            "<tr><td><code>{}</code><td>{}<td>{}",
            escape(parameter["name"].as_str().unwrap_or_default()),
            escape(parameter["in"].as_str().unwrap_or_default()),
            escape(parameter["description"].as_str().unwrap_or_default())
        );
    }
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        for schema in content.values() {
            let _ = write!(html, "<tr><td>body<td><td>{}", type_of(&schema["schema"]));
        }
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let schema = response["content"].as_object().and_then(|content| content.values().next());
        let kind = schema.map(|schema| type_of(&schema["schema"])).unwrap_or_default();
        let description = escape(response["description"].as_str().unwrap_or_default());
        let _ = write!(html, "<tr><td>{}<td>{kind}<td>{description}", escape(status));
    }
    html.push_str("</table></section>");
}

fn shape_of(name: &str, schema: &Json, html: &mut String) {
    let _ = write!(html, "<section id=\"{0}\"><h3>{0}</h3>", escape(name));
    let _ = write!(
        html,
        "<p>{}</p><table>",
        escape(schema["description"].as_str().unwrap_or_default())
    );
    let all_of = schema["allOf"].as_array().into_iter().flatten();
    for part in std::iter::once(schema).chain(all_of) {
        if part["$ref"].is_string() {
            let _ = write!(html, "<tr><td colspan=\"3\">all of {}", type_of(part));
        }
        for (field, property) in part["properties"].as_object().into_iter().flatten() {
            let description = escape(property["description"].as_str().unwrap_or_default());
            let _ = write!(
                html,
                "<tr><td><code>{}</code><td>{}<td>{description}",
                escape(field),
                type_of(property)
            );
        }
    }
    for word in schema["enum"].as_array().into_iter().flatten() {
        let _ = write!(html, "<tr><td><code>{}</code>", escape(word.as_str().unwrap_or_default()));
    }
    html.push_str("</table></section>");
}

/// A schema in a few words, with links.
fn type_of(schema: &Json) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next()) {
        return format!("<a href=\"#{0}\">{0}</a>", escape(name));
    }
    for either in ["oneOf", "anyOf", "allOf"] {
        if let Some(parts) = schema[either].as_array() {
            return parts.iter().map(type_of).collect::<Vec<_>>().join(" or ");
        }
    }
    if schema["items"].is_object() {
        return format!("list of {}", type_of(&schema["items"]));
    }
    match &schema["type"] {
        Json::String(kind) => escape(kind),
        Json::Array(kinds) => {
            let kinds = kinds.iter().filter_map(Json::as_str).map(escape);
            kinds.collect::<Vec<_>>().join(" or ")
        }
        _ => String::new(),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}
