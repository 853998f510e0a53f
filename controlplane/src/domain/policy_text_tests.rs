use serde_json::json;

use super::*;

fn map(value: Json) -> Map<String, Json> {
    value.as_object().unwrap().clone()
}

fn check(site: Json, resources: Json, plans: Json, part: &str, expected: &str) {
    let rows = |rows: Json| -> Vec<(String, Map<String, Json>)> {
        let rows = rows.as_array().unwrap().clone().into_iter();
        (1..).zip(rows).map(|(at, row)| (format!("row_{at}"), map(row))).collect()
    };
    let (site, resources, plans) = (map(site), rows(resources), rows(plans));
    let text = SiteText { site: &site, resources: &resources, plans: &plans, subscriptions: &[] };
    let found = match super::check(&text, part) {
        Ok(_) => "ok".to_owned(),
        Err(faults) => {
            let lines = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message));
            lines.collect::<Vec<_>>().join("\n")
        }
    };
    assert_eq!(found, expected);
}

fn site() -> Json {
    json!({ "slug": "weather", "origin": "http://127.0.0.1:9" })
}

#[test]
fn faults_name_the_callers_field() {
    check(site(), json!([]), json!([]), "sites", "ok");
    check(
        json!({ "slug": "We", "origin": "http://127.0.0.1:9", "name": null }),
        json!([]),
        json!([]),
        "sites",
        "slug: expected 1 to 63 lower-case letters, digits and `-` (not first or last), as in \"weather\"",
    );
    check(
        site(),
        json!([]),
        json!([{ "id": "pro", "quota": { "requests": -1, "per": "month" } }]),
        "sites.plans",
        "quota.requests: expected an integer from 0 to 999999999999999, found -1",
    );
}

#[test]
fn a_message_names_rows_and_not_lines() {
    check(
        site(),
        json!([{ "pattern": "/b" }, { "pattern": "/a/*" }, { "pattern": "/a/*" }]),
        json!([]),
        "sites.resources",
        "pattern: matches the same paths as the pattern in row_2 for some of the same methods, and neither is the more specific; name other methods, or remove one",
    );
}

#[test]
fn text_of_any_kind_stays_text() {
    for text in
        ["a\"b", "a\\b", "tab\tnewline\n", "\u{7f}", "ü€😀", "'''", "\"\"\"", "]\n[[sites]]"]
    {
        let mut toml = String::new();
        write_string(text, &mut toml);
        let read: toml::Table = format!("x = {toml}").parse().unwrap();
        assert_eq!(read["x"].as_str(), Some(text), "{toml}");
    }
}

#[test]
fn only_dates_are_written_without_quotes() {
    let check = |text: &str, expected: bool| assert_eq!(is_instant(text), expected, "{text}");
    check("2026-11-01T00:00:00Z", true);
    check("2026-11-01T00:00:00.5+02:00", true);
    check("2026-11-01T00:00:00+00:00[UTC]", false);
    check("2026-11-01", false);
    check("1", false);
    check("2026-11-01T00:00:00Z\nrevoked = true", false);
}
