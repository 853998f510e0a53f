use super::parse;
use serde_json::{Value, json};

#[test]
fn names_with_brackets_become_a_tree() {
    for (text, expected) in [
        ("", json!({})),
        ("a=1&b=", json!({"a": "1", "b": ""})),
        (
            "items[0][price]=p&items[0][quantity]=2",
            json!({"items": [{"price": "p", "quantity": "2"}]}),
        ),
        (
            "items%5B1%5D%5Bprice%5D=b&items[0][price]=a",
            json!({"items": [{"price": "a"}, {"price": "b"}]}),
        ),
        ("expand[]=x&expand[]=y", json!({"expand": ["x", "y"]})),
        ("metadata[plan_id]=gold+plus", json!({"metadata": {"plan_id": "gold plus"}})),
        ("created[gte]=5", json!({"created": {"gte": "5"}})),
        ("items[10]=k&items[2]=b", json!({"items": ["b", "k"]})),
    ] {
        assert_eq!(parse(text.as_bytes()).map(Value::Object), Ok(expected), "{text}");
    }
}

#[test]
fn malformed_names_are_refused() {
    for text in ["a[=1", "[a]=1", "a[b]c=1", "a=1&a[b]=2", "a[b][c][d][e][f][g][h][i]=1"] {
        let refused = parse(text.as_bytes()).expect_err(text);
        assert_eq!(refused.status, 400, "{text}: {refused:?}");
    }
    let many = "a[]=1&".repeat(super::PARAMETERS_MAX + 1);
    assert!(parse(many.as_bytes()).is_err(), "too many parameters");
}
