//! The signals by which the operating system and its users ask a process to stop or to look again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// Listens for signals from when it is made.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// By default a write beyond the largest file that is allowed ends the process. Taken over, it fails like one on a
    /// full disk, and what has begun can be finished.
    _file_too_large: Signal,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To stop in good order.
    Stop,
    /// To look at the configuration again.
    Reload,
}

impl Signals {
    /// Takes SIGTERM, SIGINT, SIGHUP and SIGXFSZ over from their default, which ends the process at once.
    pub(super) fn listen() -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::Failed(format!("signals can't be listened for: {error}"));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            hang_up: signal(SignalKind::hangup()).map_err(failed)?,
            _file_too_large: signal(SignalKind::from_raw(libc::SIGXFSZ)).map_err(failed)?,
        })
    }

    /// The next thing asked for.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    /// Ready when asked to stop.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
