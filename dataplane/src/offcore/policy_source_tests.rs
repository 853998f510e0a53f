//! From text to snapshot and origins' names, and the words for what is wrong.

use super::*;

const TWO_SITES: &str = r#"
[[sites]]
slug = "one"
name = "One"
origin = "http://origin.example:9000/base"

[[sites]]
slug = "two"
name = "Two"
origin = "http://origin.example:9000"
token_query = "key"

[[sites]]
slug = "three"
name = "Three"
origin = "http://127.0.0.1:9001"
"#;

#[test]
fn a_file_becomes_a_snapshot_with_its_origins() {
    let loaded = load(Path::new("p.toml"), TWO_SITES.as_bytes(), 7).unwrap();
    assert_eq!(loaded.snapshot.sequence(), 7);
    assert_eq!(
        origin_names(&loaded.snapshot),
        [("127.0.0.1".to_owned(), 9001), ("origin.example".to_owned(), 9000)]
    );
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
}

#[test]
fn a_fault_names_file_and_line() {
    let error = load(Path::new("dir/p.toml"), b"[[sites]]\nslug = 5\n", 1).unwrap_err();
    assert!(error.starts_with("dir/p.toml: line "), "{error}");
}
