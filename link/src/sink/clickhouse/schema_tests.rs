//! Steps of the schema.

use super::*;

#[test]
fn no_step_takes_anything_away_and_each_may_be_taken_twice() {
    for dialect in [Dialect::Full, Dialect::Plain] {
        for step in dialect.steps() {
            let statements = statements(step);
            assert!(!statements.is_empty());
            for statement in statements {
                assert!(
                    statement.starts_with("CREATE ") && statement.contains(" IF NOT EXISTS "),
                    "{statement}"
                );
                assert!(!statement.contains("{{") && !statement.contains("--"), "{statement}");
            }
        }
    }
}

#[test]
fn a_roll_up_gives_the_columns_it_is_filled_with() {
    for view in View::ALL {
        let fill = view.fill("1");
        for column in View::COLUMNS.split(", ") {
            assert!(fill.contains(&format!(" AS {column}")), "{column}");
        }
    }
    assert_ne!(View::Minute.bit() & View::Day.bit(), View::Minute.bit());
}
