//! Exports of a gateway's store: one at a time, in the background, into a file of this machine; and from and into
//! directories that nobody has open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Clock;
use crate::config::StorageConfig;
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::storage::StoreError;
use crate::storage::dump::PAGE_ROWS;
use crate::storage::engine::Engine;
use crate::storage::export_file::{export_directory, export_running};

pub use crate::domain::audit::{Anchor, AuditHead, ChainProblem};
pub use crate::storage::export::ExportSummary;
pub use crate::storage::import::{Imported, import};
pub use crate::storage::verify::{
    VerifiedDirectory, VerifiedExport, directory as verify_directory, export as verify_export, is_data_directory,
};

/// The rest after each page of rows: a scan that never rests takes the processor from requests.
const PAGE_REST: Duration = Duration::from_millis(2);

/// Exports a data directory that nobody has open into a file that is not there yet. `on_rows` is told how many
/// rows were read.
///
/// # Errors
/// As for [`export_directory`].
pub fn write_offline(
    config: &StorageConfig,
    target: &Path,
    now: Timestamp,
    on_rows: &mut dyn FnMut(u64),
) -> Result<ExportSummary, StoreError> {
    let mut rows = 0;
    let mut count = || {
        rows += PAGE_ROWS as u64;
        on_rows(rows);
        true
    };
    export_directory(&config.dir, (config.cache_bytes, config.overlay_bytes_max), target, now, &mut count)
}

/// An export, as the operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportView {
    /// `none`, `running`, `done` or `failed`.
    pub state: String,
    /// The file.
    pub destination: Option<String>,
    /// Rows read so far.
    pub rows_read: u64,
    /// Rows in it, once it is done.
    pub rows: Option<u64>,
    /// Bytes of the file, once it is done.
    pub bytes: Option<u64>,
    /// Everything up to this sequence is in it and nothing behind, once it is done.
    pub sequence: Option<u64>,
    /// Why it failed.
    pub problem: Option<String>,
}

/// The exports of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Exports(Arc<Shared>);

struct Shared {
    engine: Arc<Engine>,
    directory: PathBuf,
    clock: Clock,
    view: Mutex<ExportView>,
}

impl Exports {
    pub(crate) fn new(engine: Arc<Engine>, directory: &Path, clock: Clock) -> Self {
        let view = Mutex::new(ExportView { state: "none".to_owned(), ..ExportView::default() });
        Self(Arc::new(Shared { engine, directory: directory.to_owned(), clock, view }))
    }

    /// How the last export went or goes.
    pub fn view(&self) -> ExportView {
        self.0.view.lock().clone()
    }

    /// Takes the turn for an export into a file of this machine that is not there yet. Look with [`Exports::view`] when it is
    /// done.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a path that is not absolute, [`GatewayError::InvalidState`] while another one
    /// runs.
    pub(crate) fn reserve(&self, destination: &str) -> Result<ReservedExport, GatewayError> {
        if !Path::new(destination).is_absolute() {
            return Err(GatewayError::field("destination", "must be an absolute path on the gateway's machine"));
        }
        let mut view = self.0.view.lock();
        if view.state == "running" {
            return Err(GatewayError::InvalidState { status: view.state.clone() });
        }
        let running = ExportView {
            state: "running".to_owned(),
            destination: Some(destination.to_owned()),
            ..ExportView::default()
        };
        let before = Some(std::mem::replace(&mut *view, running));
        Ok(ReservedExport { shared: Arc::clone(&self.0), destination: PathBuf::from(destination), before })
    }
}

/// The turn for an export that has not begun. Dropped, it is as if it had never been asked for.
pub(crate) struct ReservedExport {
    shared: Arc<Shared>,
    destination: PathBuf,
    /// What is shown if it does not begin.
    before: Option<ExportView>,
}

impl ReservedExport {
    /// Begins it, in the background.
    pub(crate) fn begin(mut self) -> ExportView {
        self.before = None;
        let (shared, destination) = (Arc::clone(&self.shared), self.destination.clone());
        let view = shared.view.lock().clone();
        tokio::task::spawn_blocking(move || shared.run(&destination));
        view
    }
}

impl Drop for ReservedExport {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            *self.shared.view.lock() = before;
        }
    }
}

impl Shared {
    fn run(&self, destination: &Path) {
        let mut rest = || {
            self.view.lock().rows_read += PAGE_ROWS as u64;
            std::thread::sleep(PAGE_REST);
            true
        };
        let written = export_running(&self.engine, &self.directory, destination, self.clock.now(), &mut rest);
        let mut view = self.view.lock();
        match written {
            Ok(summary) => {
                tracing::info!(destination = %destination.display(), sequence = summary.until, "exported");
                view.state = "done".to_owned();
                view.rows = Some(summary.rows);
                view.bytes = Some(summary.bytes);
                view.sequence = Some(summary.until);
            }
            Err(error) => {
                tracing::error!(destination = %destination.display(), %error, "the export failed");
                view.state = "failed".to_owned();
                view.problem = Some(error.to_string());
            }
        }
    }
}
