//! Tables of releases and limits; and this machine, which must pass or say what it lacks.

use super::*;

#[test]
fn kernels() {
    let check = |release: &str, expected: bool| {
        assert_eq!(check_kernel(release).is_ok(), expected, "{release}");
    };
    check("6.1.0-18-amd64", true);
    check("6.18.44", true);
    check("7.0-rc1", true);
    check("10.0", true);
    check("6.0.19", false);
    check("5.15.0-generic", false);
    check("6", false);
    check("linux", false);
    check("", false);
    let problem = check_kernel("5.10.0").unwrap_err().to_string();
    assert_eq!(
        problem,
        "the kernel is 5.10.0, older than 6.1: boot Linux 6.1 or newer (Debian 12 has it)"
    );
}

#[test]
fn limits() {
    let memlock = |limit_kib: Option<u64>, shards: usize| {
        check_memlock(limit_kib.map(|kib| kib * 1024), shards).is_ok()
    };
    assert!(memlock(None, 1024));
    assert!(memlock(Some(512), 1));
    assert!(!memlock(Some(511), 1));
    assert!(!memlock(Some(512), 2));
    assert!(check_open_files(None, 10).is_ok());
    assert!(check_open_files(Some(10), 10).is_ok());
    assert!(check_open_files(Some(9), 10).unwrap_err().to_string().contains("LimitNOFILE"));
}

#[test]
fn the_soft_limit_of_open_files_becomes_the_hard_one() {
    assert_eq!(raise_open_files(), getrlimit(Resource::Nofile).maximum);
}
