//! Holds the written documents to the code and to each other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder with this extension.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let mut pages = files("docs", "md");
    let beside = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(beside.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    pages
}

/// What a heading is called in links, as the usual viewers do it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    page.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

/// Where the links of a page lead that are not to other sites.
fn links(page: &str) -> Vec<String> {
    let ends = page.match_indices("](").filter_map(|(start, _)| page[start + 2..].split(')').next());
    ends.map(|link| link.split(' ').next().unwrap_or_default().to_owned())
        .filter(|link| !link.contains("://") && !link.starts_with("mailto:"))
        .collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for path in pages() {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in links(&text) {
            checked += 1;
            let (file, wanted) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let is_there = target.exists()
                && (wanted.is_empty()
                    || std::fs::read_to_string(&target).is_ok_and(|page| anchors(&page).contains(wanted)));
            if !is_there {
                broken.push(format!("{}: {link}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(checked > 40, "only {checked} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_page_is_in_the_list_of_pages() {
    let list = std::fs::read_to_string(root().join("docs/README.md")).unwrap();
    let listed: BTreeSet<String> = links(&list).into_iter().collect();
    let names = files("docs", "md").into_iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
    let unlisted: Vec<String> = names.filter(|name| name != "README.md" && !listed.contains(name)).collect();
    assert_eq!(unlisted, Vec::<String>::new());
}

fn is_of_tests(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

#[test]
fn every_failure_code_of_ours_is_explained() {
    let page = std::fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let mut codes = BTreeSet::new();
    for room in ["src/channels", "src/domain", "src/gateway"] {
        for path in files(room, "rs").into_iter().filter(|path| !is_of_tests(path)) {
            let text = std::fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for (start, call) in code.match_indices("Failure::new(") {
                let argument = code[start + call.len()..].trim_start();
                codes.extend(argument.strip_prefix('"').and_then(|rest| rest.split('"').next()).map(str::to_owned));
            }
        }
    }
    assert!(codes.len() > 5, "{codes:?}");
    let unexplained: Vec<&String> = codes.iter().filter(|code| !page.contains(&format!("`{code}`"))).collect();
    assert!(unexplained.is_empty(), "not in docs/errors.md: {unexplained:?}");
}

/// What a page has to be typed or written into files.
fn blocks(page: &str) -> Vec<String> {
    page.split("```").skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_chinese_readme_has_the_same_commands() {
    let [english, chinese] =
        ["README.md", "README.zh-CN.md"].map(|page| std::fs::read_to_string(root().join(page)).unwrap());
    let (english, chinese) = (blocks(&english), blocks(&chinese));
    assert!(english.len() > 5);
    assert_eq!(chinese, english);
}

#[test]
fn both_readmes_have_every_command() {
    let told = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("--help").output().unwrap();
    let help = String::from_utf8(told.stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // What a name is followed by is further to the right.
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<&str> = names.filter(|name| !name.is_empty() && *name != "help").collect();
    assert!(names.len() > 20, "{names:?}");
    for (page, heading) in [("README.md", "\n## Commands\n"), ("README.zh-CN.md", "\n## 命令\n")] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let table = text.split(heading).nth(1).unwrap().split("\n## ").next().unwrap();
        let is_there = |name: &&&str| [' ', '`'].iter().any(|end| table.contains(&format!("`tollgate {name}{end}")));
        let missing: Vec<&&str> = names.iter().filter(|name| !is_there(name)).collect();
        assert!(missing.is_empty(), "{page} has no {missing:?}");
    }
}
