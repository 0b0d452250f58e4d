//! Holds the house to its plan: who may import whom, which crate is used where, and what a file may look like.

use std::path::{Path, PathBuf};

/// Rooms, and the rooms that each may import. What is not listed here may be imported by nobody but `main.rs`.
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("domain", &[]),
    ("config", &["domain"]),
    ("clock", &["domain"]),
    ("random", &["domain"]),
    ("telemetry", &["domain", "config", "clock", "random"]),
    ("storage", &["domain", "config", "clock", "random"]),
    ("channels", &["domain", "config", "clock", "random", "telemetry"]),
    ("delivery", &["domain", "config", "clock", "random"]),
    ("sandbox", &["domain", "config", "clock", "random"]),
    ("actors", &["domain", "config", "clock", "random", "telemetry", "storage", "channels", "delivery"]),
    ("ratelimit", &["domain", "clock", "actors"]),
    ("webhook", &["delivery"]),
    (
        "gateway",
        &["domain", "config", "clock", "random", "storage", "channels", "delivery", "actors", "sandbox", "telemetry"],
    ),
    ("api", &["domain", "config", "clock", "random", "gateway", "telemetry"]),
];

/// Crates that belong to some rooms only.
const CRATES: &[(&str, &[&str])] = &[
    ("sled", &["storage"]),
    ("ractor", &["actors"]),
    ("axum", &["api", "sandbox", "cli"]),
    ("askama", &["api"]),
    ("plotters", &["api"]),
    ("cookie", &["api"]),
    ("reqwest", &["channels", "cli", "telemetry", "gateway/external_sandbox.rs"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_http", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("clap", &["cli", "main.rs"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("anstream", &["cli"]),
    ("indicatif", &["cli"]),
    ("notify", &["cli/watch.rs"]),
    ("prometheus", &["gateway/metrics.rs"]),
    ("csv", &["api"]),
    ("maxminddb", &["gateway/countries.rs"]),
    ("utoipa_swagger_ui", &["api"]),
    ("webpki", &["channels", "cli/untrusted.rs", "gateway/certificates/pair.rs"]),
];

/// What the domain does without: it decides, and nothing else.
const NOT_IN_DOMAIN: [&str; 9] =
    ["tokio", "ractor", "axum", "sled", "reqwest", "rand", "std::fs", "std::net::Tcp", "async fn"];

struct Source {
    /// Relative to `src`.
    path: String,
    room: String,
    lines: Vec<String>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(read(&root, path));
            }
        }
    }
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

fn read(root: &Path, path: PathBuf) -> Source {
    let relative = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
    let room = relative.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
    let text = std::fs::read_to_string(&path).unwrap();
    Source { path: relative, room, lines: text.lines().map(str::to_owned).collect() }
}

/// Lines of code: comments do not import anything.
fn code(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source.lines.iter().enumerate().map(|(index, line)| (index + 1, line.as_str())).filter(|(_, line)| {
        let trimmed = line.trim_start();
        !trimmed.starts_with("//")
    })
}

/// Lines of code before the file's own tests.
fn code_without_tests(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let tests_start = source.lines.iter().position(|line| line.starts_with("#[cfg(test)]")).unwrap_or(usize::MAX);
    code(source).take_while(move |(number, _)| *number <= tests_start)
}

fn is_test_file(source: &Source) -> bool {
    source.path.ends_with("tests.rs") || source.path.contains("/tests/") || source.path.contains("conformance")
}

#[test]
fn nobody_imports_a_room_above_its_own() {
    let mut violations = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(room, _)| *room == source.room) else { continue };
        if is_test_file(&source) {
            continue;
        }
        for (number, line) in code_without_tests(&source) {
            for (start, _) in line.match_indices("crate::") {
                let rest = &line[start + "crate::".len()..];
                let target: String =
                    rest.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
                let is_room = MAY_IMPORT.iter().any(|(room, _)| *room == target)
                    || ["cli", "telemetry"].contains(&target.as_str());
                if is_room && target != source.room && !allowed.contains(&target.as_str()) {
                    violations.push(format!("{}:{number} imports {target}", source.path));
                }
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn crates_stay_in_their_rooms() {
    let mut violations = Vec::new();
    for source in sources() {
        for (number, line) in code_without_tests(&source) {
            for (name, rooms) in CRATES {
                let used = line.contains(&format!("use {name}::"))
                    || line.contains(&format!(" {name}::"))
                    || line.contains(&format!("({name}::"));
                let allowed = rooms.iter().any(|room| source.room == *room || source.path == *room);
                if used && !allowed && !is_test_file(&source) {
                    violations.push(format!("{}:{number} uses {name}", source.path));
                }
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn the_domain_only_decides() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.room == "domain" && !is_test_file(source)) {
        for (number, line) in code_without_tests(source) {
            for banned in NOT_IN_DOMAIN {
                let used = line.contains(&format!("{banned}::")) || (banned.contains(' ') && line.contains(banned));
                if used {
                    violations.push(format!("{}:{number} uses {banned}", source.path));
                }
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|source| !source.lines.first().is_some_and(|line| line.starts_with("//!")))
        .map(|source| source.path)
        .collect();
    assert!(silent.is_empty(), "files without a first line that says what they are: {}", silent.join(", "));
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.lines.len() > 800)
        .map(|source| format!("{} ({} lines)", source.path, source.lines.len()))
        .collect();
    assert!(long.is_empty(), "a file holds one noun; split these: {}", long.join(", "));
}

#[test]
fn nothing_is_left_unfinished_or_skipped() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut violations = Vec::new();
    let tests = std::fs::read_dir(root.join("tests/it")).unwrap().map(|entry| entry.unwrap().path());
    let here = sources().into_iter().map(|source| (source.path, source.lines.join("\n")));
    let there = tests
        .filter(|path| !path.ends_with("tidy.rs"))
        .map(|path| (path.to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap_or_default()));
    for (path, text) in here.chain(there) {
        for banned in ["todo!", "unimplemented!", "TODO", "FIXME", "#[ignore", "dbg!("] {
            if text.contains(banned) {
                violations.push(format!("{path} has {banned}"));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
