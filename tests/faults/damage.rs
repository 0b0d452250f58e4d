//! Flipped bits, cut files and missing files, in every file of a data directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tollgate::storage::reached::REACHED;

use crate::house::{Left, Verdict, Written, judge};

/// Places in a file beside its first and last bytes.
const PLACES: usize = 24;
/// The file that says which format a store has.
const FORMAT: &str = "FORMAT";
/// How a frame of the journal begins.
const FRAME_MAGIC: &[u8] = b"TGFRAME1";

/// What was done to a file.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    Flip(usize),
    Cut(usize),
    /// A journal file cut off where a frame begins.
    CutBetween(usize),
    Gone,
}

impl Damage {
    /// All that are tried on a file with this content.
    pub fn all(bytes: &[u8]) -> Vec<Self> {
        let length = bytes.len();
        // A segment is mostly zeros in the end; there is more to hit before.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(length, |last| last + 1);
        let spread = (0..PLACES).map(|place| used * place / PLACES + place * 5 % 13);
        let firsts = [0, 7, 8, 16, 18, 20, 24, 31, 32, 33, 40, 48, 50, 60, 72, 80, 90];
        let lasts = [used.saturating_sub(1), length.saturating_sub(1)];
        let mut places: Vec<usize> =
            firsts.into_iter().chain(spread).chain(lasts).filter(|place| *place < length).collect();
        places.sort_unstable();
        places.dedup();
        let mut all: Vec<Self> = places.into_iter().map(Self::Flip).collect();
        let cuts = [0, 1, 31, 33, used / 3, used / 2, used.saturating_sub(100), used.saturating_sub(1)];
        all.extend(cuts.into_iter().filter(|cut| *cut < length).map(Self::Cut));
        let frames: Vec<usize> = (0..used).step_by(8).filter(|at| bytes[*at..].starts_with(FRAME_MAGIC)).collect();
        all.extend(
            [frames.first(), frames.get(frames.len() / 2), frames.last()]
                .into_iter()
                .flatten()
                .map(|at| Self::CutBetween(*at)),
        );
        all.push(Self::Gone);
        all
    }

    /// Does it.
    pub fn do_to(self, path: &Path) {
        match self {
            Self::Flip(place) => {
                let mut bytes = fs::read(path).unwrap();
                bytes[place] ^= 1 << (place % 8);
                fs::write(path, bytes).unwrap();
            }
            Self::Cut(length) | Self::CutBetween(length) => {
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_len(length as u64).unwrap();
            }
            Self::Gone => fs::remove_file(path).unwrap(),
        }
    }
}

/// How often which verdict.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "printed")]
struct Counted {
    whole: usize,
    whole_after_another_start: usize,
    refused: usize,
    last_frame_missing: usize,
    tail_missing: usize,
}

/// Damages every file in turn. After a power cut the last segment of the journal is the only place where something may
/// go unnoticed: its last frame, or all behind a frame when it is cut off exactly there.
fn try_all(written: &Written) -> BTreeMap<String, Vec<String>> {
    let mut counted: BTreeMap<String, Counted> = BTreeMap::new();
    let mut losses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let files = written.files();
    let last_segment = files.iter().rfind(|path| path.extension().is_some_and(|is| is == "seg")).cloned();
    // A power cut leaves nothing else in another state than a kill does.
    let is_wanted = |path: &&PathBuf| !written.is_end_unknown || path.starts_with("journal") || path.ends_with(REACHED);
    for path in files.iter().filter(is_wanted) {
        let bytes = fs::read(written.directory.path().join(path)).unwrap();
        let name = path.display().to_string();
        let is_last_segment = Some(path) == last_segment.as_ref();
        for damage in Damage::all(&bytes) {
            let copy = written.copy();
            damage.do_to(&copy.path().join(path));
            let before = journal_of(copy.path());
            let verdict = judge(copy.path(), written);
            let is_untouched = journal_of(copy.path()) == before;
            let count = counted.entry(name.clone()).or_default();
            match verdict {
                Verdict::Whole => count.whole += 1,
                Verdict::WholeAfterAnotherStart => count.whole_after_another_start += 1,
                Verdict::LastFrameMissing if is_last_segment && written.is_end_unknown => count.last_frame_missing += 1,
                Verdict::SilentLoss(_)
                    if is_last_segment && written.is_end_unknown && matches!(damage, Damage::CutBetween(_)) =>
                {
                    count.tail_missing += 1;
                }
                Verdict::Refused(message)
                    if may_be_refused(path, &message) && is_untouched && is_helpful(&message, &name) =>
                {
                    count.refused += 1;
                }
                other => losses.entry(name.clone()).or_default().push(format!("{damage:?}: {other:?}")),
            }
        }
    }
    for (name, count) in &counted {
        eprintln!("{name}: {count:?}");
    }
    let undecidable: usize = counted.values().map(|count| count.last_frame_missing).sum();
    let cut: usize = counted.values().map(|count| count.tail_missing).sum();
    eprintln!(
        "can't be told from what was never acknowledged: {undecidable} in the last frame, {cut} cut off between frames"
    );
    losses
}

/// The journal can't be made again, and what is wrong with it has a place: a byte of a file, sequences, or a file. What
/// `FORMAT` says can't be made again either; what to write into it is told. Everything else can.
fn may_be_refused(path: &Path, message: &str) -> bool {
    let name = path.display().to_string();
    let has_number_after =
        |words: &str| message.split(words).skip(1).any(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    let is_missing = || message.contains("a part of the journal is missing") && message.contains(&name);
    let says_where = has_number_after("sequence ") || has_number_after("sequences ");
    let says_where = says_where || message.contains(&name) && has_number_after("at byte ") || is_missing();
    path.starts_with("journal") && says_where || path == Path::new(FORMAT) && message.contains("put this line into it")
}

/// The journal's files. Whoever refuses a store leaves them as they are: they are what is mended or copied.
fn journal_of(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(directory.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// A refusal names the file or the sequences that are missing, and what to do.
pub fn is_helpful(message: &str, name: &str) -> bool {
    let says_where = message.contains(name) || message.contains("sequence");
    let says_what_to_do = message.contains("backup") || message.contains("Put the missing files");
    says_where && says_what_to_do
}

#[tokio::test]
async fn damage_to_a_directory_that_was_left_by_a_kill_is_repaired_or_told_without_exception() {
    let losses = try_all(&Written::new(Left::Killed).await);
    assert!(losses.is_empty(), "{losses:#?}");
}

#[tokio::test]
async fn damage_after_a_power_cut_is_repaired_or_told_but_for_the_end() {
    let losses = try_all(&Written::new(Left::WithoutPower).await);
    assert!(losses.is_empty(), "{losses:#?}");
}

#[tokio::test]
async fn damage_to_a_directory_that_was_closed_is_repaired_or_told_without_exception() {
    let losses = try_all(&Written::new(Left::Closed).await);
    assert!(losses.is_empty(), "{losses:#?}");
}
