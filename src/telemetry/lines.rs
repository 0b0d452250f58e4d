//! Lines of logs on their way to standard error, which may be slow or stand still: whoever logs never waits for it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Lines that wait; more are lost.
const WAITING_MAX: usize = 8_192;

/// Takes lines and has a thread of its own write them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lines(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    has_lines: Condvar,
    has_written: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    is_writing: bool,
    /// Lines that did not fit, since the start.
    lost: u64,
}

impl Lines {
    /// Lines that end in `target`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn to(target: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let writer = Arc::clone(&queue);
        std::thread::Builder::new().name(String::from("tollgate-log")).spawn(move || writer.carry(target))?;
        Ok(Self(queue))
    }

    /// How many did not fit, since the start.
    pub(super) fn lost(&self) -> u64 {
        self.0.state.lock().lost
    }

    /// Waits until everything is written, no longer than `within`. Says whether it is.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let mut state = self.0.state.lock();
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        !self.0.has_written.wait_while_for(&mut state, is_busy, within).timed_out()
    }
}

/// The formatter hands over whole lines.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        if state.waiting.len() < WAITING_MAX {
            state.waiting.push_back(line.to_vec());
            self.0.has_lines.notify_one();
        } else {
            state.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn carry(&self, mut target: impl Write) {
        let mut told = 0;
        loop {
            let line = {
                let mut state = self.state.lock();
                self.has_lines.wait_while(&mut state, |state| state.waiting.is_empty());
                state.is_writing = true;
                state.waiting.pop_front().unwrap_or_default()
            };
            // A reader that is gone and a disk that is full are no reason to stop: the next line may go through.
            let _ = target.write_all(&line);
            let (lost, is_done) = {
                let mut state = self.state.lock();
                state.is_writing = false;
                self.has_written.notify_all();
                (state.lost, state.waiting.is_empty())
            };
            if is_done && lost > told {
                tracing::warn!(lines = lost - told, "lines of the log were lost: whoever reads it did not keep up");
                told = lost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    /// Stands still until it is told to go on.
    struct Slow {
        may_go_on: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.may_go_on.recv();
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_never_waits_and_what_does_not_fit_is_counted() {
        let (go_on, may_go_on) = sync_channel(0);
        let written = Arc::new(Mutex::new(Vec::new()));
        let lines = Lines::to(Slow { may_go_on, written: Arc::clone(&written) }).unwrap();
        for _ in 0..WAITING_MAX + 10 {
            lines.clone().write_all(b"x\n").unwrap();
        }
        // One may be with the writer already.
        assert!((9..=10).contains(&lines.lost()), "{}", lines.lost());
        assert!(!lines.flush(Duration::ZERO), "nothing is written yet");
        let lost = usize::try_from(lines.lost()).unwrap();
        drop(go_on);
        assert!(lines.flush(WITHIN));
        assert_eq!(written.lock().len(), 2 * (WAITING_MAX + 10 - lost));
    }
}
