use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn args(data_dir: &Path) -> ControlplaneArgs {
    ControlplaneArgs { data_dir: Some(data_dir.to_owned()), ..ControlplaneArgs::default() }
}

#[test]
fn a_key_is_made_once_and_read_by_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let first = config(&args(&data_dir)).unwrap();
    assert_eq!(first.listen, LISTEN_DEFAULT);
    assert!(first.database_url.ends_with("data/controlplane.db"), "{}", first.database_url);
    let file = data_dir.join(KEYS_FILE);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mode = fs::metadata(&data_dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let sealed = first.keyring.seal("row", b"secret", &System);
    let second = config(&args(&data_dir)).unwrap();
    assert_eq!(second.keyring.open("row", &sealed).unwrap(), b"secret");
}

#[test]
fn a_certificate_and_its_key_go_together() {
    let directory = tempfile::tempdir().unwrap();
    let check = |certificate: Option<&str>, key: Option<&str>| {
        let args = ControlplaneArgs {
            tls_cert: certificate.map(PathBuf::from),
            tls_key: key.map(PathBuf::from),
            ..args(directory.path())
        };
        config(&args).map(|config| config.tls.map(|tls| (tls.certificate, tls.key)))
    };
    assert_eq!(check(None, None).unwrap(), None);
    let both = check(Some("a.crt"), Some("a.key")).unwrap();
    assert_eq!(both, Some((PathBuf::from("a.crt"), PathBuf::from("a.key"))));
    for (certificate, key) in [(Some("a.crt"), None), (None, Some("a.key"))] {
        assert!(check(certificate, key).unwrap_err().to_string().contains("--tls-key"));
    }
}

#[test]
fn a_named_key_file_must_be_there_and_good() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    let with_file =
        || ControlplaneArgs { secret_keys_file: Some(file.clone()), ..args(directory.path()) };
    assert!(config(&with_file()).is_err());
    fs::write(&file, "1:nonsense").unwrap();
    assert!(config(&with_file()).unwrap_err().to_string().contains("openssl rand"));
    fs::write(&file, Keyring::generate(&System)).unwrap();
    config(&with_file()).unwrap();
}
