//! Tables of what is a change of the file and what is not, on real directories and links.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;

use super::*;

/// Watches `path` below a directory made by `prepare`, lets `act` happen, and tells what was seen of it.
fn seen(path: &str, prepare: impl Fn(&Path), act: impl Fn(&Path)) -> Activity {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    prepare(&root);
    let mut watch = watch(&root.join(path));
    assert_eq!(watch.take_activity(), Activity::None);
    act(&root);
    watch.take_activity()
}

fn one(path: &Path) -> WatchSet {
    WatchSet { files: vec![path.to_owned()], ..WatchSet::default() }
}

fn watch(path: &Path) -> FileWatch {
    FileWatch::new(one(path)).unwrap()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// A directory laid out as Kubernetes mounts a ConfigMap.
fn config_map(root: &Path) {
    fs::create_dir(root.join("..1")).unwrap();
    write(&root.join("..1/p.toml"), "one");
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/p.toml", root.join("p.toml")).unwrap();
}

fn swap_config_map(root: &Path, to: &str) {
    fs::create_dir(root.join(to)).unwrap();
    write(&root.join(to).join("p.toml"), to);
    symlink(to, root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
}

#[test]
fn a_plain_file() {
    let file = |root: &Path| write(&root.join("p.toml"), "one");
    let check = |act: &dyn Fn(&Path), expected: Activity| {
        assert_eq!(seen("p.toml", file, act), expected);
    };
    check(&|_| {}, Activity::None);
    check(&|root| write(&root.join("p.toml"), "two"), Activity::Changed);
    check(
        &|root| {
            write(&root.join("new"), "two");
            fs::rename(root.join("new"), root.join("p.toml")).unwrap();
        },
        Activity::Changed,
    );
    check(&|root| write(&root.join("other.toml"), "two"), Activity::None);
    check(&|root| drop(fs::read(root.join("p.toml")).unwrap()), Activity::None);
    check(&|root| fs::remove_file(root.join("p.toml")).unwrap(), Activity::None);
    check(
        &|root| {
            fs::remove_file(root.join("p.toml")).unwrap();
            write(&root.join("p.toml"), "two");
        },
        Activity::Changed,
    );
}

#[test]
fn a_file_that_is_being_written_is_not_changed_until_it_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.toml");
    write(&path, "one");
    let mut watch = watch(&path);
    let mut writer = File::create(&path).unwrap();
    assert_eq!(watch.take_activity(), Activity::BeingWritten);
    writer.write_all(b"half").unwrap();
    // Another file that is finished meanwhile does not make this one readable.
    write(&directory.path().join("other.toml"), "x");
    assert_eq!(watch.take_activity(), Activity::BeingWritten);
    drop(writer);
    assert_eq!(watch.take_activity(), Activity::Changed);
    assert_eq!(watch.take_activity(), Activity::None);
}

#[test]
fn links_on_the_way() {
    let check = |path: &str, prepare: &dyn Fn(&Path), act: &dyn Fn(&Path), expected: Activity| {
        assert_eq!(seen(path, prepare, act), expected, "{path}");
    };
    check("p.toml", &config_map, &|root| swap_config_map(root, "..2"), Activity::Changed);
    check("p.toml", &config_map, &|root| write(&root.join("..1/p.toml"), "x"), Activity::Changed);
    check("p.toml", &config_map, &|root| write(&root.join("..1/q.toml"), "x"), Activity::None);
    // A release directory that `current` points to, swapped without a rename.
    check(
        "current/p.toml",
        &|root| {
            for release in ["a", "b"] {
                fs::create_dir(root.join(release)).unwrap();
                write(&root.join(release).join("p.toml"), release);
            }
            symlink("a", root.join("current")).unwrap();
        },
        &|root| {
            fs::remove_file(root.join("current")).unwrap();
            symlink("b", root.join("current")).unwrap();
        },
        Activity::Changed,
    );
    // An absolute link to a file elsewhere.
    check(
        "here/p.toml",
        &|root| {
            fs::create_dir(root.join("here")).unwrap();
            write(&root.join("real.toml"), "one");
            symlink(root.join("real.toml"), root.join("here/p.toml")).unwrap();
        },
        &|root| write(&root.join("real.toml"), "two"),
        Activity::Changed,
    );
}

#[test]
fn after_a_swap_the_new_way_is_watched() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    config_map(&root);
    let mut watch = watch(&root.join("p.toml"));
    for round in 2..5 {
        swap_config_map(&root, &format!("..{round}"));
        fs::remove_dir_all(root.join(format!("..{}", round - 1))).unwrap();
        assert_eq!(watch.take_activity(), Activity::Changed, "round {round}");
        watch.refresh(one(&root.join("p.toml")));
    }
    write(&root.join("..4/p.toml"), "edited");
    assert_eq!(watch.take_activity(), Activity::Changed);
}

#[test]
fn a_circle_of_links_ends() {
    let directory = tempfile::tempdir().unwrap();
    symlink("b", directory.path().join("a")).unwrap();
    symlink("a", directory.path().join("b")).unwrap();
    assert!(FileWatch::new(one(&directory.path().join("a"))).is_ok());
}

#[test]
fn a_whole_folder() {
    let check = |act: &dyn Fn(&Path), expected: Activity| {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(&root.join("a.crt"), "one");
        let folders = vec![root.to_owned()];
        let files = vec![root.join("a.crt")];
        let mut watch = FileWatch::new(WatchSet { what: "", files, folders }).unwrap();
        act(root);
        assert_eq!(watch.take_activity(), expected);
    };
    check(&|_| {}, Activity::None);
    check(&|root| write(&root.join("new.crt"), "two"), Activity::Changed);
    check(&|root| write(&root.join("a.crt"), "two"), Activity::Changed);
    check(&|root| fs::remove_file(root.join("a.crt")).unwrap(), Activity::Changed);
    check(&|root| fs::rename(root.join("a.crt"), root.join("b.crt")).unwrap(), Activity::Changed);
    check(&|root| fs::create_dir(root.join("example.com")).unwrap(), Activity::Changed);
    check(&|root| drop(fs::read(root.join("a.crt")).unwrap()), Activity::None);
}

#[test]
fn a_log_that_is_never_closed_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let (pair, log) = (directory.path().join("a.crt"), directory.path().join("log"));
    write(&pair, "one");
    let folders = vec![directory.path().to_owned()];
    let mut watch =
        FileWatch::new(WatchSet { what: "", files: vec![pair.clone()], folders }).unwrap();
    let mut log = File::create(log).unwrap();
    log.write_all(b"line").unwrap();
    assert_eq!(watch.take_activity(), Activity::None);
    let mut writer = File::create(&pair).unwrap();
    writer.write_all(b"two").unwrap();
    assert_eq!(watch.take_activity(), Activity::BeingWritten);
    drop(writer);
    assert_eq!(watch.take_activity(), Activity::Changed);
}
