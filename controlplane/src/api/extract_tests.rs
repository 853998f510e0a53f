use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::domain::object::optional;

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    name: String,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    inner: Option<Inner>,
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    count: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

fn told<T: std::fmt::Debug>(result: Result<T, Problem>) -> String {
    let Err(problem) = result else { return "ok".to_owned() };
    let text = format!("{problem:?}");
    let fields = text.split("errors: [").nth(1).unwrap_or_default();
    let field = fields.split('"').nth(1).unwrap_or_default().to_owned();
    format!("{} {field}", problem.status().as_u16())
}

#[test]
fn a_wrong_body_names_its_field() {
    let check = |body: &str, expected: &str| {
        assert_eq!(told(parse::<Sample>(body.as_bytes())), expected, "{body}")
    };
    check(r#"{"name":"a"}"#, "ok");
    check(r#"{"name":1}"#, "422 name");
    check("{}", "422 name");
    check(r#"{"name":"a","nmae":"b"}"#, "422 nmae");
    check(r#"{"name":"a","inner":{"count":300}}"#, "422 inner.count");
    check(r#"{"name":"a","inner":{"count":3,"x":1}}"#, "422 inner.x");
    check(r#"{"name":"a","inner":{}}"#, "422 inner.count");
    check(r#"{"name":"a"}{}"#, "400 ");
    check(r#"{"name":"#, "400 ");
    check("[]", "422 .");
    check(r#"["a"]"#, "422 .");
    check(r#"{"name":"a","inner":[3]}"#, "422 inner");
    check("nonsense", "400 ");
    check(&"[".repeat(17), "400 ");
}

#[test]
fn a_patch_takes_away_what_is_known_alone() {
    let current = Sample {
        name: "a".to_owned(),
        inner: Some(Inner { count: 1, note: Some("b".to_owned()) }),
    };
    let check = |patch: &str, expected: &str| {
        let patched = Patched(serde_json::from_str(patch).unwrap());
        assert_eq!(told(patched.onto(&current)), expected, "{patch}");
    };
    check("{}", "ok");
    check(r#"{"inner":null}"#, "ok");
    check(r#"{"inner":{"note":null}}"#, "ok");
    check(r#"{"name":null}"#, "422 name");
    check(r#"{"inner":{"count":null}}"#, "422 inner.count");
    check(r#"{"":null}"#, "422 ");
    check(r#"{"nmae":null}"#, "422 nmae");
    check(r#"{"a/b~c":null}"#, "422 a/b~c");
    check(r#"{"inner":{"notes":null}}"#, "422 inner.notes");
    let many: Map<String, Json> = (0..129).map(|n| (format!("n{n}"), Json::Null)).collect();
    check(&Json::Object(many).to_string(), "400 ");
}

#[test]
fn depth_is_of_brackets_outside_strings() {
    let check =
        |text: &str, expected: usize| assert_eq!(depth(text.as_bytes()), expected, "{text}");
    check("1", 0);
    check(r#"{"a":[{}]}"#, 3);
    check(r#"["[[[[","\"[[["]"#, 1);
    check(r#"[[],[],[]]"#, 2);
    check("]]]][", 1);
}

#[test]
fn a_patch_merges() {
    let current =
        Sample { name: "a".into(), inner: Some(Inner { count: 1, note: Some("n".into()) }) };
    let patch = |value: Json| Patched(value.as_object().unwrap().clone()).onto(&current);
    assert_eq!(patch(json!({})).unwrap(), current);
    assert_eq!(patch(json!({ "name": "b" })).unwrap().name, "b");
    assert_eq!(patch(json!({ "inner": null })).unwrap().inner, None);
    let inner = patch(json!({ "inner": { "note": null } })).unwrap().inner.unwrap();
    assert_eq!(inner, Inner { count: 1, note: None });
    assert_eq!(told(patch(json!({ "name": null }))), "422 name");
    assert_eq!(told(patch(json!({ "inner": { "count": "x" } }))), "422 inner.count");
    assert_eq!(told(patch(json!({ "other": 1 }))), "422 other");
}

#[test]
fn if_match_compares_versions() {
    let check = |value: Option<&str>, expected: bool| {
        assert_eq!(IfMatch(value.map(ToOwned::to_owned)).check(3).is_ok(), expected, "{value:?}");
    };
    check(None, true);
    check(Some("\"v3\""), true);
    check(Some("\"v1\", \"v3\""), true);
    check(Some("*"), true);
    check(Some("\"v2\""), false);
    check(Some("W/\"v3\""), false);
    check(Some(""), false);
}
