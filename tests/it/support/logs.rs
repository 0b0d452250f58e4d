//! What is logged.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

/// There is one subscriber of a process.
static LOGS: OnceLock<LogBook> = OnceLock::new();

/// Everything that the tests of this binary log, from the first time on that one of them wants to read it.
#[derive(Clone, Default)]
pub struct LogBook(Arc<Mutex<Vec<u8>>>);

impl LogBook {
    /// The one of this process.
    pub fn open() -> Self {
        let book = LOGS.get_or_init(|| {
            let book = Self::default();
            let writer = book.clone();
            tracing_subscriber::fmt()
                .with_env_filter("tollgate=trace")
                .with_writer(move || writer.clone())
                .with_ansi(false)
                .init();
            book
        });
        book.clone()
    }

    /// What is in it so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl Write for LogBook {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
