//! Panics as lines of the log: where, and what was said if that is a fixed text. A message that is put together when it
//! happens may hold what belongs in no log, such as a part of a body, and is left out. What follows a panic is as ever.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::time::Duration;

use crate::telemetry::lines::Lines;

/// The thread on whose panic the process ends.
const MAIN_THREAD: &str = "main";
/// How long its end waits for whoever reads the log.
const END_MAX: Duration = Duration::from_secs(1);

/// Has every panic of this process logged, in place of text on standard error. That would also wait, on the thread that
/// panics, for a reader of standard error who stands still.
pub(super) fn log_all(lines: Lines) {
    std::panic::set_hook(Box::new(move |panic| {
        log(panic);
        if std::thread::current().name() == Some(MAIN_THREAD) {
            lines.flush(END_MAX);
        }
    }));
}

fn log(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(|place| format!("{}:{}:{}", place.file(), place.line(), place.column()));
    let said = panic.payload().downcast_ref::<&'static str>().copied();
    // Of names of functions and lines; there is one where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let thread = std::thread::current();
    tracing::error!(place, said, thread = thread.name(), backtrace, "a panic");
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, set_hook, take_hook};
    use std::sync::Arc;

    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::logs::tests::logs;

    #[test]
    fn a_panic_is_one_line_without_what_it_was_about() {
        let (written, _control, subscriber) = logs(LogFormat::Json, "info");
        // Others of these tests may panic meanwhile, and want that to be seen.
        let (here, others) = (std::thread::current().id(), Arc::new(take_hook()));
        let former = Arc::clone(&others);
        set_hook(Box::new(move |panic| if std::thread::current().id() == here { log(panic) } else { former(panic) }));
        let (fixed, made) = tracing::subscriber::with_default(subscriber, || {
            let card = "4242424242424242";
            let fixed = catch_unwind(|| panic!("a fixed text")).is_err();
            let fixed = fixed.then(|| written.take());
            let made = catch_unwind(|| panic!("not a card: {card}")).is_err();
            (fixed.unwrap(), made.then(|| written.take()).unwrap())
        });
        set_hook(Box::new(move |panic| others(panic)));
        for (text, said) in [(&fixed, Some("a fixed text")), (&made, None)] {
            assert_eq!(text.lines().count(), 1, "{text}");
            let line: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &"a panic".into()));
            assert!(line["place"].as_str().unwrap().contains("src/telemetry/panics.rs:"), "{text}");
            assert_eq!(line["said"].as_str(), said, "{text}");
        }
        assert!(!made.contains("4242"), "{made}");
    }
}
