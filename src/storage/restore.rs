//! Makes a data directory from a backup, up to a point of its journal; see `new_directory`. It is *held*: see `held`. The
//! index is rebuilt when it is opened.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::domain::audit::{AuditHead, ChainProblem};
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::storage::StoreError;
use crate::storage::backup::{Manifest, OnProgress, SegmentCopy, VerifiedBackup, create, failed, finish, verify};
use crate::storage::base::{self, Base};
use crate::storage::files::DiskFiles;
use crate::storage::format;
use crate::storage::held::{Held, HeldFile};
use crate::storage::manifest::{base_of, segment_of};
use crate::storage::new_directory::{NewDirectory, RESTORING, check_free};
use crate::storage::segment_reader::{FoundFrame, SegmentReader};
use crate::storage::segments;
use crate::storage::walk::Walk;

/// Up to where something is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The last commit with at most this sequence.
    Sequence(u64),
    /// The last commit that was made at this time or before, as the machine's clock had it.
    Time(Timestamp),
}

/// Frames before the restore point whose times are looked at. There are about as many payments at the most, so that asking
/// from the earliest of them on costs little.
const FRAMES_SEEN: usize = 10_000;

/// Up to where a backup is restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// `None` for the end of the backup.
    pub until: Option<Until>,
    /// From when on providers are asked at the latest.
    pub ask_since: Option<Timestamp>,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the backup has.
    pub manifest: Manifest,
    /// Sequence of the last commit that was restored.
    pub until_sequence: u64,
    /// When that was made.
    pub until_time: Timestamp,
    /// From when on the providers will be asked what they have.
    pub asked_since: Timestamp,
    /// The end of the audit's chain in the whole backup, or what is wrong with it.
    pub audit: Result<AuditHead, ChainProblem>,
}

/// Restores a backup into `directory`, which must be empty or not there.
///
/// # Errors
/// [`StoreError::Invalid`] when the directory is not empty or the backup can't be restored to that point,
/// [`StoreError::Corrupt`] when the backup is damaged or of a newer format, [`StoreError::Io`].
pub fn restore(
    backup: &Path,
    directory: &Path,
    point: Point,
    now: Timestamp,
    random: &Random,
    on_progress: OnProgress<'_>,
) -> Result<Restored, StoreError> {
    check_free(directory)?;
    let VerifiedBackup { manifest, audit } = verify(backup, None, on_progress)?;
    let source = DiskFiles::read_only(backup);
    let until = match point.until {
        None => manifest.last_sequence,
        Some(Until::Sequence(sequence)) => sequence,
        Some(Until::Time(time)) => last_until(&source, &manifest, time)?,
    };
    if !(manifest.first_sequence..=manifest.last_sequence).contains(&until) {
        return Err(out_of_range(&manifest));
    }
    let times = Times::look(&source, &manifest, until)?;
    let known = [times.earliest(), manifest.held_since, point.ask_since, Some(manifest.made_at), Some(now)];
    // What the providers were not asked about when the backup was made, they are asked about now.
    let since = known.into_iter().flatten().min().unwrap_or(now);
    let new = NewDirectory::begin(directory, RESTORING)?;
    let held = fill(new.place(), backup, &manifest, until, since, now, random)?;
    new.finish()?;
    let (until_sequence, until_time) = (held.restored_until_sequence, held.restored_until_time);
    Ok(Restored { manifest, until_sequence, until_time, asked_since: held.asked_since(), audit })
}

/// Makes the directory, and answers the mark that is in it.
fn fill(
    place: &Path,
    backup: &Path,
    manifest: &Manifest,
    until: u64,
    since: Timestamp,
    now: Timestamp,
    random: &Random,
) -> Result<Held, StoreError> {
    let files = DiskFiles::new(place);
    format::note(&files, manifest.store_format)?;
    let mut walk = Walk::new(manifest.made_at);
    copy_files(place, backup, manifest, until, &mut walk)?;
    let until_sequence = walk.end.last_sequence.max(manifest.base_from);
    if until_sequence < manifest.first_sequence || until_sequence == 0 {
        return Err(out_of_range(manifest));
    }
    let from = manifest.files.iter().find_map(|file| base_of(&file.path));
    let base = from.map(|from| base::verify(&files, from)).transpose()?;
    if let Some(base) = &base {
        base::note(&files, base)?;
    }
    if !walk.has_begun {
        // Without a frame the journal would not say that the store begins behind the base.
        let begun = segments::create_sealed(&files, until_sequence + 1, now, random);
        begun.map_err(|error| failed(&place.join(segments::DIRECTORY), &error))?;
    }
    let base_time = base.filter(|_| !walk.has_begun).map(|Base { made_at, .. }| made_at);
    let held = Held {
        restored_until_sequence: until_sequence,
        restored_until_time: base_time.unwrap_or(walk.time),
        since: Some(base_time.map_or(since, |made_at| made_at.min(since))),
        made_at: now,
        confirmed: std::collections::BTreeMap::new(),
    };
    HeldFile::of(place).write(&held)?;
    Ok(held)
}

fn copy_files(place: &Path, backup: &Path, manifest: &Manifest, until: u64, walk: &mut Walk) -> Result<(), StoreError> {
    let source = DiskFiles::read_only(backup);
    let mut is_over = false;
    for file in &manifest.files {
        match segment_of(&file.path) {
            Some(_) if is_over => {}
            Some(first) => {
                let mut reader = SegmentReader::open(&source, first)?;
                let mut copy = SegmentCopy::new(place, &reader);
                let end = walk.segment(&mut reader, until, &mut |found, _| copy.add(found.stored))?;
                is_over = end < reader.length();
                copy.finish()?;
            }
            None => copy_file(&backup.join(&file.path), &place.join(&file.path))?,
        }
    }
    Ok(())
}

/// When the frames around the restore point were made. A machine's clock may have been wrong for a while: what was made
/// later, or shortly before, and says an earlier time shows that the point was not after that.
#[derive(Default)]
struct Times {
    /// Of the last frames before the point.
    before: VecDeque<Timestamp>,
    /// The earliest of all frames behind the point.
    behind: Option<Timestamp>,
}

impl Times {
    fn look(source: &DiskFiles, manifest: &Manifest, until: u64) -> Result<Self, StoreError> {
        let mut times = Self::default();
        for_each_frame(source, manifest, &mut |found| {
            let Some(at) = found.frame.at else { return };
            if found.last_sequence() > until {
                times.behind = Some(times.behind.map_or(at, |earliest| earliest.min(at)));
                return;
            }
            if times.before.len() == FRAMES_SEEN {
                times.before.pop_front();
            }
            times.before.push_back(at);
        })?;
        Ok(times)
    }

    fn earliest(&self) -> Option<Timestamp> {
        self.before.iter().copied().chain(self.behind).min()
    }
}

/// The last sequence that was committed at `time` or before, 0 for none. The whole journal is looked through: behind what was
/// written while the clock was ahead there may be more.
fn last_until(source: &DiskFiles, manifest: &Manifest, time: Timestamp) -> Result<u64, StoreError> {
    let mut last = 0;
    for_each_frame(source, manifest, &mut |found| {
        if found.frame.at.is_none_or(|at| at <= time) {
            last = found.last_sequence();
        }
    })?;
    Ok(last)
}

fn for_each_frame(
    source: &DiskFiles,
    manifest: &Manifest,
    see: &mut dyn FnMut(&FoundFrame<'_>),
) -> Result<(), StoreError> {
    for first in manifest.files.iter().filter_map(|file| segment_of(&file.path)) {
        let mut reader = SegmentReader::open(source, first)?;
        while let Some(found) = reader.next_frame()? {
            see(&found);
        }
    }
    Ok(())
}

/// Copies a file, durably.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut source = File::open(from).map_err(|error| failed(from, &error))?;
    let mut target = create(to)?;
    io::copy(&mut source, &mut target).map_err(|error| failed(to, &error))?;
    finish(to, &target)
}

fn out_of_range(manifest: &Manifest) -> StoreError {
    StoreError::Invalid(format!(
        "this backup can be restored to sequences {} to {} (the last was committed at {}); for an earlier point use an \
         earlier backup",
        manifest.first_sequence.max(1),
        manifest.last_sequence,
        manifest.last_time.rfc3339()
    ))
}
