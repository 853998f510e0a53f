use super::with;

#[test]
fn a_mark_stands_for_one_subject_and_goes_with_its_cause() {
    let cases = [
        (None, Some("gone"), Some(r#"{"price/a":"gone"}"#)),
        (Some(r#"{"price/a":"gone"}"#), None, None),
        (
            Some(r#"{"product/b":"off"}"#),
            Some("gone"),
            Some(r#"{"price/a":"gone","product/b":"off"}"#),
        ),
        (Some(r#"{"price/a":"gone","product/b":"off"}"#), None, Some(r#"{"product/b":"off"}"#)),
        (None, None, None),
    ];
    for (drift, what, expected) in cases {
        assert_eq!(with(drift, "price/a", what).as_deref(), expected, "{drift:?} {what:?}");
    }
}
