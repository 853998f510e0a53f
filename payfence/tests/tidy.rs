//! Holds the style that no lint holds: how a file opens, how long files and functions may be, where `unsafe` may
//! stand, and what tests may not do.
//!
//! In: every Rust file of the repository. Out: one list of all that strays, with file and line.
//! Always holds: a rule looks at source lines alone, so it needs no build of what it checks.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
/// Rooms where `unsafe` may stand, each block with its `// SAFETY:` (a lint sees to that).
const UNSAFE_ROOMS: [&str; 3] =
    ["dataplane/src/net", "dataplane/src/journal", "policy/src/snapshot"];
/// The marks are written in halves, so that this file does not find itself.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

#[test]
fn the_source_keeps_its_style() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("payfence/ has a parent");
    let mut files = Vec::new();
    for room in [
        "policy",
        "link",
        "dataplane",
        "controlplane",
        "payfence",
        "bench",
        "fuzz",
        "stripe-sandbox",
    ] {
        collect(&root.join(room), &mut files);
    }
    assert!(files.len() > 10, "found only {} Rust files under {}", files.len(), root.display());
    let mut strays = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).expect("collected below the root");
        let text = fs::read_to_string(&file).expect("a source file is UTF-8");
        check_file(&name.to_string_lossy(), &text, &mut strays);
    }
    assert!(strays.is_empty(), "{} places stray:\n{}", strays.len(), strays.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

fn check_file(name: &str, text: &str, strays: &mut Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    let mut stray = |line: usize, what: String| strays.push(format!("{name}:{}: {what}", line + 1));
    let is_test = name.ends_with("_tests.rs") || name.contains("/tests/");
    if !name.ends_with("_tests.rs") && !lines.first().is_some_and(|line| line.starts_with("//!")) {
        stray(0, "opens without `//!` saying what it is for and what always holds".into());
    }
    if lines.len() > FILE_LINES_MAX {
        stray(0, format!("{} lines, {FILE_LINES_MAX} at most: split it", lines.len()));
    }
    let unsafe_allowed = UNSAFE_ROOMS.iter().any(|room| name.starts_with(room));
    let mut in_tests = is_test;
    for (number, line) in lines.iter().enumerate() {
        in_tests |= line.contains("#[cfg(test)]");
        let code = code_of(line);
        if !unsafe_allowed && has_unsafe(&code) {
            stray(number, "`unsafe` outside its rooms".into());
        }
        if code.contains("#[ignore") {
            stray(number, "an ignored test".into());
        }
        if in_tests && code.contains("sleep(") {
            stray(number, "a sleep in a test: wait for a condition with a deadline".into());
        }
        if UNFINISHED.iter().any(|mark| line.contains(mark)) {
            stray(number, "unfinished work is an issue, not a comment".into());
        }
    }
    for (start, length) in functions(&lines) {
        if length > FUNCTION_LINES_MAX {
            stray(start, format!("a function of {length} lines, {FUNCTION_LINES_MAX} at most"));
        }
    }
}

/// The line without its comment and without what its strings hold (a `//` in a URL is no comment).
fn code_of(line: &str) -> String {
    let mut code = String::with_capacity(line.len());
    let mut in_string = false;
    let mut before = '\0';
    for character in line.chars() {
        match character {
            '"' if before != '\\' && before != '\'' => in_string = !in_string,
            '/' if before == '/' && !in_string => break,
            _ if !in_string => code.push(character),
            _ => {}
        }
        before = character;
    }
    code
}

fn has_unsafe(code: &str) -> bool {
    code.split("unsafe ").skip(1).any(|after| {
        ["{", "fn ", "impl ", "trait ", "extern "].iter().any(|word| after.starts_with(word))
    })
}

/// Start line and length of every function that has a body; rustfmt puts its `}` at the indent of its `fn`.
fn functions(lines: &[&str]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        if !is_function(line) {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        let mut ends = lines.iter().enumerate().skip(start);
        let end = ends.find(|(at, line)| {
            **line == closing || (*at == start && (line.ends_with('}') || line.ends_with(';')))
        });
        if let Some((end, _)) = end {
            found.push((start, end - start + 1));
        }
    }
    found
}

fn is_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.by_ref().find(|word| {
        !(word.starts_with("pub")
            || ["const", "async", "unsafe", "crate)", "extern"].contains(word))
    }) == Some("fn")
}

#[test]
fn the_rules_see_what_they_should() {
    let check = |name: &str, text: &str, expected: &str| {
        let mut strays = Vec::new();
        check_file(name, text, &mut strays);
        assert_eq!(strays.join("\n"), expected, "{text}");
    };
    let long =
        |lines: usize| format!("//! x\npub fn f() {{\n{}}}\n", "    a();\n".repeat(lines - 2));
    check("a/src/b.rs", "//! x\nfn f() {}\n", "");
    check(
        "a/src/b.rs",
        "fn f() {}\n",
        "a/src/b.rs:1: opens without `//!` saying what it is for and what always holds",
    );
    check("a/src/b.rs", &long(70), "");
    check("a/src/b.rs", &long(71), "a/src/b.rs:2: a function of 71 lines, 70 at most");
    check("a/src/b.rs", "//! x\nunsafe { f() }\n", "a/src/b.rs:2: `unsafe` outside its rooms");
    check("a/src/b.rs", "//! x\n// unsafe { f() }\n", "");
    check("dataplane/src/net/b.rs", "//! x\nunsafe { f() }\n", "");
    check(
        "a/src/b_tests.rs",
        "    std::thread::sleep(x);\n",
        "a/src/b_tests.rs:1: a sleep in a test: wait for a condition with a deadline",
    );
    check(
        "a/src/b.rs",
        "//! x\nlet u = \"http://x\"; unsafe { f() }\n",
        "a/src/b.rs:2: `unsafe` outside its rooms",
    );
}
