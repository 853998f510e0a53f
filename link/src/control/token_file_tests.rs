use std::fs;

use super::*;

fn token() -> NodeToken {
    NodeToken::make(getrandom::fill).expect("random bytes")
}

#[test]
fn a_changed_file_is_read_and_a_bad_one_leaves_the_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let (first, second) = (token(), token());
    fs::write(&path, format!("  {}\n", first.reveal())).expect("it is written");
    let mut file = TokenFile::open(&path).expect("a good file");
    assert_eq!(file.token(), &first);
    assert!(!file.refresh(), "nothing changed");
    for bad in ["", "pfn_short", "\u{ff}"] {
        fs::write(&path, bad).expect("it is written");
        assert!(!file.refresh(), "{bad}");
        assert_eq!(file.token(), &first, "{bad}");
    }
    fs::remove_file(&path).expect("it was there");
    assert!(!file.refresh());
    fs::write(&path, second.reveal()).expect("it is written");
    assert!(file.refresh());
    assert_eq!(file.token(), &second);
}

#[test]
fn a_file_without_a_token_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let missing = TokenFile::open(&path).expect_err("it is not there").to_string();
    assert!(missing.contains("--node-token-file"), "{missing}");
    let is_folder = TokenFile::open(folder.path()).expect_err("a folder").to_string();
    assert!(is_folder.contains("cannot read"), "{is_folder}");
    fs::write(&path, "pf_live_secretsecret").expect("it is written");
    let wrong = TokenFile::open(&path).expect_err("an API key").to_string();
    assert!(wrong.contains("`pfn_`") && !wrong.contains("secret"), "{wrong}");
}
