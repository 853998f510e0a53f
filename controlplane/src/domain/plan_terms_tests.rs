use super::*;

#[test]
fn a_running_period_keeps_its_terms() {
    let revision = |key: i64, text: &str, until_ms: i64| PlanRevision {
        key,
        settings: text.to_owned(),
        applies_until_ms: until_ms,
        ..PlanRevision::default()
    };
    // "a" until 100, "b" until 200, "c" since.
    let revisions = [revision(1, "a", 100), revision(2, "b", 200)];
    let check = |immediate_from_ms: i64, period_start_ms: i64, expected: &str| {
        let plan = Plan { settings: "c".to_owned(), immediate_from_ms, ..Plan::default() };
        let earlier = earlier(&plan, &revisions);
        let found = earlier.iter().find(|revision| period_start_ms < revision.applies_until_ms);
        let found = found.map_or(plan.settings.as_str(), |revision| &revision.settings);
        assert_eq!(found, expected, "now at {immediate_from_ms}, period from {period_start_ms}");
    };
    check(0, 50, "a");
    check(0, 99, "a");
    check(0, 100, "b");
    check(0, 150, "b");
    check(0, 200, "c");
    check(0, 900, "c");
    // A change for all in between ends what went before it.
    check(150, 50, "b");
    check(150, 250, "c");
    check(200, 50, "c");
}
