//! Configurations, and what of them is told.

use super::*;

#[test]
fn addresses_and_databases_that_cannot_work_are_refused() {
    let table = [
        ("http://127.0.0.1:8123", "payfence", true),
        ("https://clickhouse.example:8443/", "p_1", true),
        ("127.0.0.1:8123", "payfence", false),
        ("http://", "payfence", false),
        ("ftp://host", "payfence", false),
        ("http://user:secret@host", "payfence", false),
        ("http://host/path", "payfence", false),
        ("http://host?x=1", "payfence", false),
        ("http://host", "", false),
        ("http://host", "a`; DROP", false),
    ];
    for (url, database, is_well) in table {
        let mut config = ClickHouseConfig::new(url);
        config.database = database.into();
        let error = ClickHouseSink::new(config).err().map(|error| error.to_string());
        assert_eq!(error.is_none(), is_well, "{url} {database}: {error:?}");
        assert!(!error.unwrap_or_default().contains("secret"));
    }
}

#[test]
fn a_password_is_a_files_first_line_and_is_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "s3cret \nsecond\n").unwrap();
    let password = Password::from_file(&path).unwrap();
    assert_eq!((password.0.as_str(), format!("{password:?}").as_str()), ("s3cret ", "***"));
    std::fs::write(&path, "x".repeat(5_000)).unwrap();
    assert!(Password::from_file(&path).is_err());
}

#[test]
fn an_authority_that_cannot_be_read_is_named() {
    let mut config = ClickHouseConfig::new("https://localhost");
    config.ca_file = Some("/nowhere/ca.pem".into());
    let error = ClickHouseSink::new(config).err().unwrap().to_string();
    assert!(error.contains("/nowhere/ca.pem"), "{error}");
}
