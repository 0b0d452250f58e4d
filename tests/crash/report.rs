//! Says how far it is, and never ends without a word: whatever ends this program, the last line says why, and how often
//! the gateway had been killed and how much had been looked at by then.

use std::any::Any;
use std::future::Future;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::process;

/// Longest time for one step, such as one start with what is looked at after it. Most take a second.
const STEP_MAX: Duration = Duration::from_secs(240);
/// How often it is looked whether the step is still the same.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How far it is.
#[derive(Debug, Default)]
pub struct Report {
    step: Mutex<(String, u32)>,
    kills: AtomicUsize,
    checked: AtomicUsize,
}

impl Report {
    /// The next step begins.
    pub fn step(&self, what: impl Into<String>) {
        *self.step.lock() = (what.into(), 0);
    }

    /// The gateway was killed.
    pub fn killed(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer was compared with what had been answered before.
    pub fn checked(&self) {
        self.checked.fetch_add(1, Ordering::Relaxed);
    }

    /// One line of how far it is.
    pub fn so_far(&self) -> String {
        let (kills, checked) = (self.kills.load(Ordering::Relaxed), self.checked.load(Ordering::Relaxed));
        format!("{kills} kills, {checked} requests checked")
    }

    /// The step that has taken too long, if one has.
    fn overdue(&self) -> Option<String> {
        let mut step = self.step.lock();
        step.1 += 1;
        (LOOK_INTERVAL * step.1 > STEP_MAX).then(|| format!("no progress for {STEP_MAX:?}"))
    }
}

/// Writes a line at once. Nobody has to read it.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Runs a test, in a thread of its own that may hang, and says what came of it.
pub fn run<F: Future<Output = String>>(test: impl FnOnce(Arc<Report>) -> F + Send + 'static) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("crash: FAILED: there is no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let report = Arc::new(Report::default());
    let (ending, ended) = oneshot::channel();
    std::thread::spawn({
        let (handle, report) = (runtime.handle().clone(), Arc::clone(&report));
        move || {
            let result = catch_unwind(AssertUnwindSafe(|| handle.block_on(test(report))));
            // Nobody waits any more when it took too long.
            let _ = ending.send(result.map_err(|panic| words_of(&*panic)));
        }
    });
    let verdict = runtime.block_on(until_it_ends(ended, &report));
    // Those of a test that has ended are gone already.
    process::kill_all();
    match verdict {
        Ok(summary) => {
            say(&format!("{summary}\ncrash: ok: {}", report.so_far()));
            ExitCode::SUCCESS
        }
        Err(reason) => {
            let step = report.step.lock().0.clone();
            // All of it has been said when it panicked.
            let reason = reason.lines().next().unwrap_or_default();
            say(&format!("crash: FAILED after {}, at: {step}: {reason}", report.so_far()));
            ExitCode::FAILURE
        }
    }
}

async fn until_it_ends(
    mut ended: oneshot::Receiver<Result<String, String>>,
    report: &Report,
) -> Result<String, String> {
    let told = |kind| signal(kind).map_err(|error| format!("signals can't be watched: {error}"));
    let mut terminated = told(SignalKind::terminate())?;
    let mut interrupted = told(SignalKind::interrupt())?;
    let mut hung_up = told(SignalKind::hangup())?;
    loop {
        tokio::select! {
            ended = &mut ended => return ended.unwrap_or_else(|_| Err("its thread is gone".to_owned())),
            _ = terminated.recv() => return Err("this program was told to end (SIGTERM)".to_owned()),
            _ = interrupted.recv() => return Err("this program was interrupted (SIGINT)".to_owned()),
            _ = hung_up.recv() => return Err("this program's terminal is gone (SIGHUP)".to_owned()),
            () = tokio::time::sleep(LOOK_INTERVAL) => {
                if let Some(overdue) = report.overdue() {
                    return Err(overdue);
                }
            }
        }
    }
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().cloned();
    words
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic".to_owned())
}
