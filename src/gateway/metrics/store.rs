//! What Prometheus is told about the store.

use super::spread::Followed;
use super::{Figures, Gauge, IntCounter, IntGauge, advance, whole};
use crate::gateway::error::GatewayError;
use crate::storage::Health;

/// In seconds.
const MICROSECOND: f64 = 0.000_001;

/// What the store says of itself.
pub(super) struct StoreFigures {
    disk_free_bytes: Gauge,
    disk_low: IntGauge,
    disk_full: IntGauge,
    accepts_new: IntGauge,
    poisoned: IntGauge,
    left_open: IntGauge,
    committed_sequence: IntGauge,
    applied_sequence: IntGauge,
    overlay_bytes: IntGauge,
    base_bytes: IntGauge,
    base_made_timestamp_seconds: Gauge,
    journal_disk_bytes: IntGauge,
    journal_segments: IntGauge,
    journal_written_bytes: IntCounter,
    journal_frames: IntCounter,
    commits_waiting: IntGauge,
    commits_waiting_bytes: IntGauge,
    groups: Followed,
    syncs: Followed,
}

impl StoreFigures {
    pub(super) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        Ok(Self {
            disk_free_bytes: figures
                .decimal("store_disk_free_bytes", "Room left on the data directory's disk; NaN if unknown")?,
            disk_low: figures
                .gauge("store_disk_low", "1 while new work is refused because the disk has little room left")?,
            disk_full: figures.gauge(
                "store_disk_full",
                "1 while something did not fit and the ballast is given up or not there yet",
            )?,
            accepts_new: figures.gauge("store_accepts_new", "1 while batches that begin something new are taken")?,
            poisoned: figures
                .gauge("store_poisoned", "1 when the store has failed and the process must be started again")?,
            left_open: figures
                .gauge("store_left_open", "1 when the process before this one ended without closing the store")?,
            committed_sequence: figures.gauge("store_committed_sequence", "Sequence of the last durable commit")?,
            applied_sequence: figures
                .gauge("store_applied_sequence", "Sequence up to which the index has everything")?,
            overlay_bytes: figures.gauge("store_overlay_bytes", "Bytes in memory that the index does not have yet")?,
            base_bytes: figures
                .gauge("store_base_bytes", "Bytes of the base export that counts; 0 when there is none")?,
            base_made_timestamp_seconds: figures.decimal(
                "store_base_made_timestamp_seconds",
                "When the base export that counts was made; NaN without one",
            )?,
            journal_disk_bytes: figures.gauge("store_journal_disk_bytes", "Bytes of the journal's files")?,
            journal_segments: figures.gauge("store_journal_segments", "The journal's files")?,
            journal_written_bytes: figures
                .counter("store_journal_written_bytes_total", "Bytes written to the journal since the start")?,
            journal_frames: figures.counter(
                "store_journal_frames_total",
                "Frames written to the journal since the start, each with one sync",
            )?,
            commits_waiting: figures
                .gauge("store_commits_waiting", "Commits that wait for the frame after the one being written")?,
            commits_waiting_bytes: figures.gauge(
                "store_commits_waiting_bytes",
                "Bytes of the commits that wait, with those of the frame being written",
            )?,
            groups: Followed::new(
                figures,
                "store_commits_per_frame",
                "How many commits shared a frame and its sync",
                1.0,
            )?,
            syncs: Followed::new(
                figures,
                "store_sync_duration_seconds",
                "How long writing a frame to the journal and syncing it took",
                MICROSECOND,
            )?,
        })
    }

    pub(super) fn read(&self, health: &Health) {
        self.disk_free_bytes.set(health.disk.free_bytes.map_or(f64::NAN, |bytes| bytes as f64));
        self.disk_low.set(i64::from(health.disk.is_low));
        self.disk_full.set(i64::from(health.disk.is_full));
        self.accepts_new.set(i64::from(health.accepts_new));
        self.poisoned.set(i64::from(health.poisoned.is_some()));
        self.left_open.set(i64::from(health.was_left_open));
        self.committed_sequence.set(whole(health.committed));
        self.applied_sequence.set(whole(health.applied));
        self.overlay_bytes.set(whole(health.overlay_bytes));
        self.base_bytes.set(whole(health.disk.base.map_or(0, |base| base.bytes)));
        let made_at = health.disk.base.map(|base| base.made_at.unix_s() as f64);
        self.base_made_timestamp_seconds.set(made_at.unwrap_or(f64::NAN));
        self.journal_disk_bytes.set(whole(health.disk.journal_bytes));
        self.journal_segments.set(whole(health.disk.journal_segments));
        advance(&self.journal_written_bytes, health.journal_bytes_written);
        advance(&self.journal_frames, health.journal_frames_written);
        self.commits_waiting.set(whole(health.commits.waiting));
        self.commits_waiting_bytes.set(whole(health.commits.waiting_bytes));
        self.groups.set(&health.commits.groups);
        self.syncs.set(&health.commits.syncs);
    }
}
