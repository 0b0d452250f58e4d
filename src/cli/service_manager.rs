//! What the service manager (systemd) is told of this process: that it is ready, reads its configuration again, stops, and
//! is alive. Without one ($NOTIFY_SOCKET is not set) nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

use super::context::Context;
use super::healthcheck::Probe;

/// The environment variable that names the service manager's socket.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// The service manager hears so many times within the time after which it would start the process again.
const PER_INTERVAL: u32 = 3;
/// One look at the process takes this long at most, or as long as there is between two of them.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// Who watches over this process, if anybody does.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServiceManager {
    is_there: bool,
}

impl ServiceManager {
    /// The one that the environment names.
    pub(super) fn of(context: &Context) -> Self {
        Self { is_there: context.variable(SOCKET_VARIABLE).is_some() }
    }

    /// That requests are taken; `status` is shown to people who ask for the service's.
    pub(super) fn ready(self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// That the configuration is being read again. [`ServiceManager::ready`] ends it, whatever came of it.
    pub(super) fn reloading(self) {
        match NotifyState::monotonic_usec_now() {
            // In one message: the time says which request to reload it answers.
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager can't be told of the reload"),
        }
    }

    /// That it stops.
    pub(super) fn stopping(self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping: requests under way are answered")]);
    }

    /// That it ends, and why.
    pub(super) fn failed(self, reason: &str) {
        // Its lines are told one by one.
        self.tell(&[NotifyState::Stopping, NotifyState::Status(&reason.replace('\n', " "))]);
    }

    /// Says regularly that the process is alive, as long as it answers `probe` anything, if the service manager wants to
    /// know. Ends when it is aborted.
    pub(super) fn watch(self, probe: Probe) -> Option<JoinHandle<()>> {
        let interval = sd_notify::watchdog_enabled().filter(|interval| self.is_there && !interval.is_zero())?;
        let pause = interval / PER_INTERVAL;
        tracing::info!(watchdog_s = interval.as_secs_f64(), "the service manager is told that the process is alive");
        Some(tokio::spawn(async move {
            loop {
                match probe.is_answered(pause.min(PROBE_TIMEOUT_MAX)).await {
                    Ok(()) => self.tell(&[NotifyState::Watchdog]),
                    Err(problem) => tracing::warn!(
                        problem,
                        "the process does not answer itself; the service manager is not told that it is alive"
                    ),
                }
                tokio::time::sleep(pause).await;
            }
        }))
    }

    fn tell(self, states: &[NotifyState<'_>]) {
        if !self.is_there {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            tracing::warn!(%error, "the service manager can't be told how the process is doing");
        }
    }
}
