//! The two files as they are written, and what can be concluded from those that the process before has left: what time it
//! is for the limits, and what may have been admitted without being in the windows.

use std::collections::HashMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use super::former::{FormerFigures, TierFigures};
use crate::actors::merchant::LimitTime;
use crate::clock::Clock;
use crate::domain::ids::MerchantId;
use crate::domain::limit::{LimiterSnapshot, PackedSnapshot, UnseenSpan};
use crate::domain::time::Timestamp;
use crate::storage::whole_file::WholeFiles;

/// The windows' file in the data directory.
const WINDOWS: &str = "windows";
/// The heartbeat's.
const HEARTBEAT: &str = "heartbeat";
/// The longest window of a limiter: what was admitted longer ago does not count any more.
pub(super) const LONGEST_WINDOW: Duration = Duration::from_secs(3600);
/// After a heartbeat so many intervals may pass before nothing is admitted any more ...
const ADMITTED_INTERVALS: u32 = 2;
/// ... and at least so much: disks that are slow for a moment are no reason to refuse.
const ADMITTED_MIN: Duration = Duration::from_secs(2);
/// Crashes within the longest window that are told apart; of more the oldest count as one.
const UNSEEN_MAX: usize = 16;

/// All times in it are of the limits' own time.
#[derive(Deserialize)]
pub(super) struct Windows {
    /// Every admission before this is in `merchants`.
    pub(super) complete_until: Timestamp,
    pub(super) merchants: HashMap<MerchantId, LimiterSnapshot>,
    /// As in the heartbeat, in case that is lost.
    #[serde(default)]
    pub(super) unseen: Vec<UnseenSpan>,
    #[serde(default)]
    pub(super) state: Option<State>,
}

/// The same to be written, unpacked one by one.
#[derive(Serialize)]
pub(super) struct PackedWindows {
    pub(super) complete_until: Timestamp,
    #[serde(serialize_with = "unpacked")]
    pub(super) merchants: Vec<(MerchantId, PackedSnapshot)>,
    pub(super) unseen: Vec<UnseenSpan>,
    pub(super) state: State,
}

fn unpacked<S: Serializer>(merchants: &[(MerchantId, PackedSnapshot)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(merchants.iter().map(|(merchant_id, packed)| (merchant_id, packed.unpack())))
}

/// All times in it are of the limits' own time.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Heartbeat {
    /// Whether the process stopped in order, so that nothing is missing.
    pub(super) clean: bool,
    /// Every admission before this is in the windows' file.
    pub(super) complete_until: Timestamp,
    pub(super) alive_at: Timestamp,
    /// What processes before it may have admitted, and merchants that were not active since have not been charged for.
    pub(super) unseen: Vec<UnseenSpan>,
    /// Missing in files of earlier programs, for which the limits' own time was the time of day.
    #[serde(default)]
    pub(super) state: Option<State>,
}

/// How things stood when a file was written.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) mark: Mark,
    /// Nothing was admitted before this that a window can still hold.
    pub(super) begun_at: Timestamp,
    /// How often the heartbeat is written.
    pub(super) interval_ms: u64,
    pub(super) tiers: TierFigures,
    #[serde(default)]
    pub(super) former: FormerFigures,
}

/// One moment by all clocks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    limit_time: Timestamp,
    /// The time of day.
    wall: Timestamp,
    steady_ms: i64,
    /// Which start of the machine the steady clock counts from.
    boot_id: Option<String>,
}

impl Mark {
    pub(super) fn now(time: &LimitTime, boot_id: Option<String>) -> Self {
        let (limit_time, steady_ms) = time.now_and_steady_ms();
        Self { limit_time, wall: time.clock().now(), steady_ms, boot_id }
    }

    pub(super) fn limit_time(&self) -> Timestamp {
        self.limit_time
    }

    /// What an earlier program has left, which only knew the time of day.
    fn of_wall(wall: Timestamp) -> Self {
        Self { limit_time: wall, wall, steady_ms: 0, boot_id: None }
    }

    /// How long ago it was. Since the same start of the machine the steady clock knows. After another one, or on another
    /// machine, nobody knows but the time of day; set back meanwhile, it says less.
    fn elapsed(&self, clock: &Clock) -> Duration {
        let steady_ms = i64::try_from(clock.steady().millis()).unwrap_or(i64::MAX);
        let is_same_boot = self.boot_id.is_some() && self.boot_id == clock.boot_id();
        match u64::try_from(steady_ms.saturating_sub(self.steady_ms)) {
            Ok(elapsed_ms) if is_same_boot => Duration::from_millis(elapsed_ms),
            _ => clock.now().since(self.wall),
        }
    }
}

/// What a file was found to hold.
enum Found<T> {
    Nothing,
    /// It is there, and nobody knows what it said.
    Unreadable,
    Read(T),
}

impl<T> Found<T> {
    fn read(&self) -> Option<&T> {
        if let Self::Read(content) = self { Some(content) } else { None }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// What the process before has left.
pub(super) struct Left {
    windows: Found<Windows>,
    heartbeat: Found<Heartbeat>,
}

impl Left {
    pub(super) fn read(files: &dyn WholeFiles) -> Self {
        Self { windows: read(files, WINDOWS), heartbeat: read(files, HEARTBEAT) }
    }

    /// Whether the next process will find windows, too, if nothing is written.
    pub(super) fn has_windows(&self) -> bool {
        self.windows.read().is_some()
    }

    /// The limits' own time, going on from what was left.
    pub(super) fn limit_time(&self, clock: &Clock) -> LimitTime {
        let of_state = |state: &State| state.mark.clone();
        let of_windows =
            |windows: &Windows| windows.state.as_ref().map_or_else(|| Mark::of_wall(windows.complete_until), of_state);
        let of_heartbeat = |heartbeat: &Heartbeat| {
            heartbeat.state.as_ref().map_or_else(|| Mark::of_wall(heartbeat.alive_at), of_state)
        };
        let marks = [self.windows.read().map(of_windows), self.heartbeat.read().map(of_heartbeat)];
        let last = marks.into_iter().flatten().max_by_key(|mark| mark.limit_time);
        let start = last.map_or_else(|| clock.now(), |mark| mark.limit_time.plus(mark.elapsed(clock)));
        LimitTime::starting_at(clock, start)
    }

    /// The spans in which earlier processes may have admitted what no snapshot knows. What can't be read counts as an hour in
    /// which anything may have been admitted, or as long as there have been windows.
    pub(super) fn unseen(&self, interval: Duration, now: Timestamp) -> Vec<UnseenSpan> {
        let windows = self.windows.read();
        let Some(heartbeat) = self.heartbeat.read() else {
            let mut spans = windows.map(|windows| windows.unseen.clone()).unwrap_or_default();
            match windows {
                Some(windows) => spans.push(UnseenSpan::new(windows.complete_until, now)),
                None if self.heartbeat.is_nothing() && self.windows.is_nothing() => {}
                None => spans.push(UnseenSpan::all_before(now)),
            }
            return recent(spans, now);
        };
        let mut spans = heartbeat.unseen.clone();
        if windows.is_none() {
            let all = UnseenSpan::all_before(heartbeat.alive_at.plus(Duration::from_millis(1)));
            spans.push(UnseenSpan { since: all.since.max(self.begun_at(now)), ..all });
        }
        if !heartbeat.clean {
            // Nothing was admitted once that was over, if the process has not ended before.
            let interval = heartbeat.state.as_ref().map_or(interval, |state| Duration::from_millis(state.interval_ms));
            spans.push(UnseenSpan::new(
                heartbeat.complete_until,
                heartbeat.alive_at.plus(admitted_after_heartbeat(interval)),
            ));
        }
        recent(spans, now)
    }

    /// Nothing was admitted before this that a window can still hold at `now` or later.
    pub(super) fn begun_at(&self, now: Timestamp) -> Timestamp {
        if self.heartbeat.is_nothing() && self.windows.is_nothing() {
            return now;
        }
        self.states().map(|state| state.begun_at).min().unwrap_or_else(|| UnseenSpan::all_before(now).since)
    }

    fn states(&self) -> impl Iterator<Item = &State> {
        let of_windows = self.windows.read().and_then(|windows| windows.state.as_ref());
        let of_heartbeat = self.heartbeat.read().and_then(|heartbeat| heartbeat.state.as_ref());
        of_windows.into_iter().chain(of_heartbeat)
    }

    /// Figures that may have been in force and are no more, now that `tiers` are.
    pub(super) fn former(&self, tiers: &TierFigures, now: Timestamp) -> FormerFigures {
        let Some(state) = self.states().max_by_key(|state| state.mark.limit_time) else {
            return FormerFigures::default();
        };
        let mut former = state.former.clone();
        former.note_tiers(&state.tiers, tiers, now);
        former
    }

    /// The windows. One that seems to come later is as late as can be.
    pub(super) fn snapshots(self, now: Timestamp) -> impl Iterator<Item = (MerchantId, LimiterSnapshot)> {
        let Found::Read(windows) = self.windows else { return HashMap::new().into_iter().map(not_after(now)) };
        windows.merchants.into_iter().map(not_after(now))
    }
}

fn not_after(now: Timestamp) -> impl Fn((MerchantId, LimiterSnapshot)) -> (MerchantId, LimiterSnapshot) {
    move |(merchant_id, snapshot)| {
        let saved_at = snapshot.saved_at.min(now);
        (merchant_id, LimiterSnapshot { saved_at, ..snapshot })
    }
}

/// What was damaged on the disk counts as not being there, which is told from a first start by the other file.
fn read<T: DeserializeOwned>(files: &dyn WholeFiles, name: &str) -> Found<T> {
    let error = match files.read(name) {
        Ok(None) => return Found::Nothing,
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(content) => return Found::Read(content),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    tracing::warn!(file = name, error, "what is known of merchants' windows can't be read; they count as used up");
    Found::Unreadable
}

pub(super) fn write_windows(files: &dyn WholeFiles, windows: &PackedWindows) -> std::io::Result<()> {
    files.write(WINDOWS, &serde_json::to_vec(windows)?)
}

/// Writes the heartbeat, or takes the old one away. The error that comes first is that of the writing, the other that of
/// taking it away.
pub(super) fn write_heartbeat(
    files: &dyn WholeFiles,
    heartbeat: &Heartbeat,
) -> Result<(), (std::io::Error, Option<std::io::Error>)> {
    let written = serde_json::to_vec(heartbeat).map_err(Into::into).and_then(|bytes| files.write(HEARTBEAT, &bytes));
    written.map_err(|error| (error, files.remove(HEARTBEAT).err()))
}

/// How long after a heartbeat something may be admitted, where one is written at every `interval`.
pub(super) fn admitted_after_heartbeat(interval: Duration) -> Duration {
    (interval * ADMITTED_INTERVALS).max(ADMITTED_MIN)
}

/// The spans that still count.
pub(super) fn recent(mut spans: Vec<UnseenSpan>, now: Timestamp) -> Vec<UnseenSpan> {
    for span in &mut spans {
        span.until = span.until.min(now);
    }
    spans.retain(|span| span.since < span.until && now.since(span.until) < LONGEST_WINDOW);
    while spans.len() > UNSEEN_MAX {
        let oldest = spans.remove(0);
        spans[0] = UnseenSpan::new(oldest.since.min(spans[0].since), oldest.until.max(spans[0].until));
    }
    spans
}
