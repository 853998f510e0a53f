//! Rights are those that the client's calls need, and those that operators are told of.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Access, RIGHTS};

/// The beginnings of paths in the client's sources, up to an id, and whether something is changed there.
fn asked_for() -> BTreeSet<(String, bool)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/billing/stripe");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with("_tests.rs") || name == "rights.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for start in ["\"/v1/", "\"/v2/", "\"/oauth/"] {
            for (at, _) in text.match_indices(start) {
                let path = text[at + 1..].split(['"', '{']).next().unwrap();
                let path = path.trim_end_matches('/').to_owned();
                // A path is written where it is sent, or a few lines before.
                let is_changed = text[..at].ends_with("Call::post(");
                found.insert((path, is_changed));
            }
        }
    }
    found
}

#[test]
fn each_call_is_covered() {
    let asked_for = asked_for();
    assert!(asked_for.len() > 25, "{asked_for:?}");
    for (path, is_changed) in &asked_for {
        let is_covered = RIGHTS.iter().any(|right| {
            let is_below = right.paths.iter().any(|start| {
                path.strip_prefix(start)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            is_below && (!is_changed || right.access == Access::Write)
        });
        assert!(is_covered, "no right is named for {path}, changed {is_changed}");
    }
    for right in RIGHTS {
        for start in right.paths {
            let is_used = asked_for.iter().any(|(path, _)| path.starts_with(start));
            // The one that `payfence doctor` alone asks for.
            assert!(is_used || *start == "/v1/webhook_endpoints", "nothing asks for {start}");
        }
    }
}

#[test]
fn operators_are_told_of_each() {
    let text = include_str!("../../../../docs/OPERATIONS.md");
    let (_, table) = text.split_once("| right of a restricted key |").expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let rows: Vec<(&str, &str)> = rows
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            (cells.next().unwrap(), cells.next().unwrap())
        })
        .collect();
    let expected: Vec<(&str, &str)> =
        RIGHTS.iter().map(|right| (right.resource, right.access.as_str())).collect();
    assert_eq!(rows, expected);
}
