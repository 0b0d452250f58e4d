//! How long the disk takes to make an append durable, on the same file system and in the same run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use crate::report::percentile;

/// About what a frame of the journal has.
const APPEND_BYTES: usize = 16 * 1024;
const APPENDS_A_SAMPLE: usize = 60;
const FILE_BYTES: u64 = 16 << 20;

/// A file filled with zeros, and what was measured on it.
pub struct Disk {
    file: File,
    offset: u64,
    syncs_us: Vec<u32>,
}

impl Disk {
    pub fn create(dir: &Path) -> Self {
        let file = File::create(dir.join("append")).expect("a file");
        file.write_all_at(&vec![0; usize::try_from(FILE_BYTES).expect("a length")], 0).expect("zeros");
        file.sync_all().expect("a sync");
        Self { file, offset: 0, syncs_us: Vec::new() }
    }

    /// Appends and syncs a few times, while nothing else runs.
    pub fn sample(&mut self) {
        let bytes = vec![7; APPEND_BYTES];
        for _ in 0..APPENDS_A_SAMPLE {
            if self.offset + APPEND_BYTES as u64 > FILE_BYTES {
                self.offset = 0;
            }
            let started = Instant::now();
            self.file.write_all_at(&bytes, self.offset).expect("an append");
            self.file.sync_data().expect("a sync");
            self.syncs_us.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
            self.offset += APPEND_BYTES as u64;
        }
    }

    /// In milliseconds.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        let mut sorted = self.syncs_us.clone();
        sorted.sort_unstable();
        f64::from(percentile(&sorted, percent)) / 1000.0
    }
}
