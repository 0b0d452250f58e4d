//! Lines of logs on their way to standard error, which may be slow or stand still: whoever logs never waits for it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Lines that wait; more are lost.
const WAITING_MAX: usize = 8_192;
/// Their bytes.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Wait before a target that takes nothing right now is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

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
    waiting_bytes: usize,
    is_writing: bool,
    /// Lines that did not fit or that the target did not take, since the start.
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

    /// How many did not fit or were not taken, since the start.
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
        if state.waiting.len() < WAITING_MAX && state.waiting_bytes + line.len() <= WAITING_BYTES_MAX {
            state.waiting.push_back(line.to_vec());
            state.waiting_bytes += line.len();
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
            let line = self.next();
            // A reader that is gone and a disk that is full are no reason to stop: the next line may go through.
            let is_written = write_whole(&mut target, &line).is_ok();
            let (lost, is_last) = {
                let mut state = self.state.lock();
                state.lost += u64::from(!is_written);
                (state.lost, state.waiting.is_empty())
            };
            // Only behind a line that went through, or each one about it would be the cause of another.
            if is_written && is_last && lost > told {
                tracing::warn!(lines = lost - told, "lines of the log were lost: whoever reads it did not keep up");
                told = lost;
            }
            // Not before: whoever waits for the end waits for that line, too.
            self.state.lock().is_writing = false;
            self.has_written.notify_all();
        }
    }

    /// Waits for a line. It is being written from then on.
    fn next(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        self.has_lines.wait_while(&mut state, |state| state.waiting.is_empty());
        state.is_writing = true;
        let line = state.waiting.pop_front().unwrap_or_default();
        state.waiting_bytes = state.waiting_bytes.saturating_sub(line.len());
        line
    }
}

/// Writes a line to its end. A target that takes nothing right now, such as a full pipe that somebody else has made
/// non-blocking, is waited for like any other.
fn write_whole(target: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match target.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => line = line.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(AGAIN_AFTER),
            Err(error) => return Err(error),
        }
    }
    Ok(())
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

    /// Answers each write in turn with what is listed, and takes what comes after it.
    struct Moody {
        answers: VecDeque<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Moody {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = self.answers.pop_front().unwrap_or(Ok(bytes.len()))?;
            self.written.lock().extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn moody(answers: impl IntoIterator<Item = io::Result<usize>>) -> (Lines, Arc<Mutex<Vec<u8>>>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let target = Moody { answers: answers.into_iter().collect(), written: Arc::clone(&written) };
        (Lines::to(target).unwrap(), written)
    }

    #[test]
    fn a_line_that_is_not_taken_is_lost_and_counted_and_the_next_one_goes_through() {
        let (mut lines, written) = moody([Err(io::ErrorKind::BrokenPipe.into()), Ok(0)]);
        for line in ["one\n", "two\n", "three\n"] {
            lines.write_all(line.as_bytes()).unwrap();
        }
        assert!(lines.flush(WITHIN));
        assert_eq!((lines.lost(), written.lock().as_slice()), (2, b"three\n".as_slice()));
    }

    #[test]
    fn a_target_that_takes_nothing_right_now_gets_every_byte_once() {
        let later = || Err(io::ErrorKind::WouldBlock.into());
        let (mut lines, written) = moody([later(), Ok(2), later(), Err(io::ErrorKind::Interrupted.into()), Ok(1)]);
        lines.write_all(b"a line\n").unwrap();
        assert!(lines.flush(WITHIN));
        assert_eq!((lines.lost(), written.lock().as_slice()), (0, b"a line\n".as_slice()));
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes() {
        let (go_on, may_go_on) = sync_channel(0);
        let lines = Lines::to(Slow { may_go_on, written: Arc::default() }).unwrap();
        let line = vec![b'x'; WAITING_BYTES_MAX / 4];
        for _ in 0..8 {
            lines.clone().write_all(&line).unwrap();
        }
        // One may be with the writer already.
        assert!((3..=4).contains(&lines.lost()), "{}", lines.lost());
        assert!(lines.0.state.lock().waiting_bytes <= WAITING_BYTES_MAX);
        drop(go_on);
        assert!(lines.flush(WITHIN));
        assert_eq!(lines.0.state.lock().waiting_bytes, 0);
    }
}
