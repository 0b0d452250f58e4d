//! How far long work is: a bar on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::gateway::backups::Progress;

/// Looks of the bar of something whose size is known.
const BYTES: &str = "{msg} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
/// Looks of what is only counted.
const ROWS: &str = "{spinner} {msg} {human_pos}, {per_sec}";

/// A bar on standard error. It goes away with the value, so that only results stay.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Of bytes; `doing` is such as `copying`.
    pub(super) fn bytes(doing: &'static str) -> Self {
        Self::new(doing, BYTES)
    }

    /// Of a number of `things`, however many there are.
    pub(super) fn count(things: &'static str) -> Self {
        Self::new(things, ROWS)
    }

    /// Indicatif itself draws nothing where standard error is not a terminal.
    fn new(message: &'static str, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let bar = match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        bar.set_message(message);
        Self(bar)
    }

    /// So many bytes are done.
    pub(super) fn show(&self, Progress { bytes, bytes_total }: Progress) {
        if self.0.length() != Some(bytes_total) {
            self.0.set_length(bytes_total);
        }
        self.0.set_position(bytes.min(bytes_total));
    }

    /// So many are counted.
    pub(super) fn show_count(&self, count: u64) {
        self.0.set_position(count);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
