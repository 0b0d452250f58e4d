//! Exports a store while it is in use, a page at a time.

use std::io::Write;

use crate::domain::time::Timestamp;
use crate::storage::export::{ExportHeader, ExportSummary, ExportWriter};
use crate::storage::view::View;
use crate::storage::{Scan, StoreError};

/// Rows read at once.
pub const PAGE_ROWS: usize = 128;

/// Writes all rows that readers see to `sink`, which the caller syncs. `go_on` is asked after each page, and may rest: a
/// scan that never rests takes the processor from requests. `None` when it said no.
///
/// # Errors
/// [`StoreError::Io`] when `sink` takes no more, and when the store can't be read.
pub fn dump<W: Write>(
    view: &View,
    made_at: Timestamp,
    sink: W,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<(ExportSummary, W)>, StoreError> {
    let header = ExportHeader { from: view.overlay().last_sequence(), made_at };
    let mut writer = ExportWriter::new(sink, header).map_err(|error| not_written(&error))?;
    let mut scan = Scan { start: Vec::new(), end: None, limit: PAGE_ROWS, reverse: false };
    loop {
        let page = view.scan(&scan)?;
        for row in &page {
            writer.row(row).map_err(|error| not_written(&error))?;
        }
        let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else { break };
        // The first key after it.
        scan.start = [last.key.as_slice(), &[0]].concat();
        if !go_on() {
            return Ok(None);
        }
    }
    // Read after the last page: what a page has shown was in the overlay before.
    let until = view.overlay().last_sequence();
    writer.finish(until).map(Some).map_err(|error| not_written(&error))
}

fn not_written(error: &std::io::Error) -> StoreError {
    StoreError::Io { context: "writing an export".to_owned(), message: error.to_string() }
}
