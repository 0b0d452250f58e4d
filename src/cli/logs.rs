//! The end of a command that logs: what was logged is written, unless nobody reads it.

use std::time::Duration;

use super::failure::{Failure, Outcome};
use crate::telemetry::LogControl;

/// How long the end of the process waits for whoever reads the logs.
const END_MAX: Duration = Duration::from_secs(1);

/// What a command ends with, once what it has logged is written or was waited for long enough.
pub(super) fn written(logs: &LogControl, ended: Result<Outcome, Failure>) -> Result<Outcome, Failure> {
    if !logs.flush(END_MAX) && ended.is_err() {
        // What is said about it would wait for the same reader, for ever.
        return Ok(Outcome::Failed);
    }
    ended
}
