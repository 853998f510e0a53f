use super::Params;
use crate::form;
use serde_json::json;

const ALLOWED: &[&str] =
    &["name", "items[][price]", "items[][quantity]", "metadata{}", "trial[end]", "pause[behavior]"];

fn of(text: &str) -> Params {
    Params::new(form::parse(text.as_bytes()).expect(text))
}

#[test]
fn unknown_names_are_refused() {
    for (text, unknown) in [
        ("name=a&items[0][price]=p&metadata[x]=y&expand[]=z", None),
        ("pause=", None),
        ("metadata=", None),
        ("nam=a", Some("nam")),
        ("items[0][prize]=p", Some("items[0][prize]")),
        ("items=p", Some("items")),
        ("trial[end][x]=1", Some("trial[end][x]")),
        ("name[x]=1", Some("name[x]")),
    ] {
        let found = of(text).check_names(ALLOWED).err();
        assert_eq!(found.as_ref().and_then(|error| error.param.as_deref()), unknown, "{text}");
        assert!(found.is_none_or(|error| error.code == Some("parameter_unknown")), "{text}");
    }
}

#[test]
fn values_have_the_type_wanted_or_are_refused() {
    let params = of("a=5&b=x&c=true&d=&e[0][f]=7&m[k]=v");
    assert_eq!(params.int("a"), Ok(Some(5)));
    assert_eq!(params.int("b").expect_err("no number").code, Some("parameter_invalid_integer"));
    assert_eq!(params.int("absent"), Ok(None));
    assert_eq!(params.flag("c"), Ok(Some(true)));
    assert!(params.flag("a").is_err(), "a number is no flag");
    assert_eq!(params.required("d").expect_err("empty").code, Some("parameter_invalid_empty"));
    assert_eq!(params.required("z").expect_err("absent").code, Some("parameter_missing"));
    assert!(params.unsets("d"), "sent empty");
    let entry = params.list("e").expect("a list").remove(0);
    assert_eq!(entry.int("f"), Ok(Some(7)));
    assert_eq!(
        entry.int_within("f", 8, 9).expect_err("out of bounds").param.as_deref(),
        Some("e[0][f]")
    );
    assert!(params.list("a").is_err(), "a text is no list");
    assert!(params.choice("b", &["y"]).is_err(), "another word");
}

#[test]
fn metadata_is_merged_key_by_key() {
    let before = json!({"a": "1", "b": "2"});
    for (text, after) in [
        ("metadata[a]=9", json!({"a": "9", "b": "2"})),
        ("metadata[a]=", json!({"b": "2"})),
        ("metadata=", json!({})),
        ("", json!({"a": "1", "b": "2"})),
    ] {
        assert_eq!(of(text).metadata("metadata", &before), Ok(after), "{text}");
    }
    assert!(
        of(&format!("metadata[k]={}", "x".repeat(501))).metadata("metadata", &json!({})).is_err()
    );
}
