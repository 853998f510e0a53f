use std::fs;

use rcgen::{CertifiedKey as Made, generate_simple_self_signed};

use super::*;

fn made() -> (String, String) {
    let Made { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

#[test]
fn what_is_half_replaced_or_bad_is_not_served() {
    let directory = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        certificate: directory.path().join("site.crt"),
        key: directory.path().join("site.key"),
    };
    let (first, second) = (made(), made());
    fs::write(&files.certificate, &first.0).unwrap();
    fs::write(&files.key, &first.1).unwrap();
    let tls = Tls::read(files.clone()).unwrap();
    let mut seen = Seen::Files(tls.digest);
    let mut check = |file: &PathBuf, text: Option<&str>, expected: &(String, String)| {
        match text {
            Some(text) => fs::write(file, text).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
        seen = tls.look(seen);
        let expected = CertificateDer::from_pem_slice(expected.0.as_bytes()).unwrap();
        assert_eq!(tls.served.0.read().cert, [expected], "{}: {text:?}", file.display());
        seen
    };
    check(&files.certificate, Some(&second.0), &first);
    check(&files.certificate, None, &first);
    assert_eq!(check(&files.key, Some(&second.1), &first), Seen::Unreadable);
    check(&files.certificate, Some("nothing"), &first);
    check(&files.certificate, Some(&second.0), &second);
    check(&files.key, Some(&first.1), &second);
    check(&files.certificate, Some(&first.0), &first);
}

#[test]
fn what_is_wrong_is_said_with_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        certificate: directory.path().join("site.crt"),
        key: directory.path().join("site.key"),
    };
    let ((certificate, key), (_, other)) = (made(), made());
    let check = |certificate: &str, key: &str, expected: &str| {
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        match (Tls::read(files.clone()), expected) {
            (Ok(tls), "") => assert!(!format!("{tls:?}").contains("BEGIN"), "{tls:?}"),
            (Ok(_), _) => panic!("taken, instead of `{expected}`"),
            (Err(error), _) => {
                let told = error.to_string();
                assert!(!expected.is_empty() && told.contains(expected), "{told}");
            }
        }
    };
    check(&certificate, &key, "");
    check("", &key, "site.crt: holds no certificate");
    check(&key, &key, "site.crt: holds no certificate");
    check(&certificate[..200], &key, "site.crt: holds no certificate");
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    check(damaged, &key, "site.crt: holds no certificate");
    check(&certificate, "", "site.key: holds no private key");
    check(&certificate, &certificate, "site.key: holds no private key");
    check(&certificate, &other, "site.key: does not belong to the certificate");
    check(&" ".repeat(1 << 21), &key, "site.crt: cannot be read");
    // In one file, both are found.
    let both = format!("{key}{certificate}");
    check(&both, &both, "");
    fs::remove_file(&files.key).unwrap();
    let told = Tls::read(files.clone()).unwrap_err().to_string();
    assert!(told.contains("site.key: cannot be read"), "{told}");
}
