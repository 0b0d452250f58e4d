//! Damage to the base export and to the file that names it: with the index intact, and with the index lost, when the base is
//! what everything hangs on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::damage::{Damage, is_helpful};
use crate::house::{Journal, Verdict, Written, judge};

/// The file that says which base counts.
const BASE: &str = "BASE";

/// Where the base is, below the directory.
fn base_of(written: &Written) -> PathBuf {
    let mut found = written.files().into_iter().filter(|path| path.extension().is_some_and(|is| is == "tgx"));
    let base = found.next().unwrap();
    assert_eq!(found.next(), None, "one base only");
    base
}

/// Damages a file in every way, and looks at what a start makes of it; with `is_index_lost` it has to be rebuilt.
fn try_all(written: &Written, path: &Path, is_index_lost: bool, judge_verdict: &dyn Fn(Damage, Verdict)) -> usize {
    let bytes = fs::read(written.directory.path().join(path)).unwrap();
    let all = Damage::all(&bytes);
    for damage in &all {
        let copy = written.copy();
        damage.do_to(&copy.path().join(path));
        if is_index_lost {
            fs::remove_dir_all(copy.path().join("index")).unwrap();
        }
        judge_verdict(*damage, judge(copy.path(), written));
    }
    all.len()
}

#[tokio::test]
async fn a_damaged_base_is_made_good_by_a_journal_that_reaches_back() {
    let written = Written::with_base(Journal::Whole).await;
    for path in [base_of(&written), PathBuf::from(BASE)] {
        for is_index_lost in [false, true] {
            let tried = try_all(&written, &path, is_index_lost, &|damage, verdict| {
                assert_eq!(verdict, Verdict::Whole, "{damage:?}, index lost: {is_index_lost}");
            });
            eprintln!("{}, index lost: {is_index_lost}: {tried} whole", path.display());
        }
    }
}

#[tokio::test]
async fn a_damaged_base_that_everything_hangs_on_is_refused() {
    let written = Written::with_base(Journal::BehindBase).await;
    let base = base_of(&written);
    let name = base.display().to_string();
    let tried = try_all(&written, &base, true, &|damage, verdict| match verdict {
        Verdict::Refused(message) => {
            assert!(message.contains(&name) && is_helpful(&message, &name), "{damage:?}: {message}");
            let says_where = message.contains("byte") || message.contains("is not there");
            assert!(says_where || message.contains("name says") || message.contains("format"), "{damage:?}: {message}");
        }
        other => panic!("{damage:?}: {other:?}"),
    });
    eprintln!("{name}, index lost: {tried} refused");
    // As long as there is the index, or the base only has to be found, nothing is missing.
    for (path, is_index_lost) in [(base, false), (PathBuf::from(BASE), false), (PathBuf::from(BASE), true)] {
        let tried = try_all(&written, &path, is_index_lost, &|damage, verdict| {
            assert_eq!(verdict, Verdict::Whole, "{}: {damage:?}, index lost: {is_index_lost}", path.display());
        });
        eprintln!("{}, index lost: {is_index_lost}: {tried} whole", path.display());
    }
}

#[tokio::test]
async fn without_base_and_index_a_shortened_journal_is_refused() {
    let written = Written::with_base(Journal::BehindBase).await;
    let base = base_of(&written);
    let copy = written.copy();
    for path in [Path::new(BASE), &base] {
        fs::remove_file(copy.path().join(path)).unwrap();
    }
    assert_eq!(judge(copy.path(), &written), Verdict::Whole, "the index has it");
    fs::remove_dir_all(copy.path().join("index")).unwrap();
    match judge(copy.path(), &written) {
        Verdict::Refused(message) => {
            assert!(message.contains("base/") && message.contains("Put the missing files"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}
