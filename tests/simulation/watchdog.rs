//! Runs a seed in a thread of its own and waits for it, in real time: one in which time stands still, because something
//! turns in a circle or waits for itself, would otherwise keep the whole program from ending and never be named.

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Once};
use std::time::Duration;

use crate::life::{self, Outcome};
use crate::world::World;

/// A seed takes less than a second. This is for a machine on which everybody else has something to do, too.
const PATIENCE_S: u64 = 30;
/// How often it is looked whether the thread has the processor, and the time between two looks.
const LOOKS: u32 = 20;
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Runs a seed. One that does not end, ends the process: nothing else ends a thread.
pub fn run(seed: u64) -> Outcome {
    let patience = Duration::from_secs(crate::number("TOLLGATE_SIM_PATIENCE_S").unwrap_or(PATIENCE_S));
    let world = World::new(seed);
    let (begun, thread_path) = sync_channel(1);
    let (done, ended) = sync_channel::<()>(1);
    let thread = std::thread::spawn({
        let world = Arc::clone(&world);
        move || {
            let _ = begun.send(std::fs::read_link("/proc/thread-self").unwrap_or_default());
            // Dropped when the thread panics, too.
            let _done = done;
            watch_panics();
            WORLD.set(Some(Arc::clone(&world)));
            life::run(&world)
        }
    });
    if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        let doing = doing(&thread_path.try_recv().unwrap_or_default());
        give_up(&format!("seed {seed} has not ended after {} s of real time; {doing}\n{}", patience.as_secs(), {
            let shown = world.describe();
            shown.unwrap_or_else(|| "what it did is locked, and stays so".to_owned())
        }));
    }
    // A panic has been noted.
    thread.join().unwrap_or_else(|_| life::outcome_of(&world))
}

thread_local! {
    /// The world that this thread's seed runs in.
    static WORLD: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// Notes panics with the world that they happen in. Those of tasks would go by unseen: whoever waits for the task is told
/// an error, and mostly nobody does.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            WORLD.with(|world| {
                if let Some(world) = world.try_borrow().ok().as_deref().and_then(Option::as_ref) {
                    world.note_panic(format!("it panicked: {info}"));
                }
            });
            before(info);
        }));
    });
}

/// Whether a thread uses the processor or waits.
fn doing(thread: &Path) -> String {
    let stat: PathBuf = Path::new("/proc").join(thread).join("stat");
    let mut runs = 0;
    for _ in 0..LOOKS {
        let text = std::fs::read_to_string(&stat).unwrap_or_default();
        // The state stands behind the name, which is in brackets.
        let state = text.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
        runs += u32::from(state == Some('R'));
        std::thread::sleep(LOOK_INTERVAL);
    }
    let seems = if runs > LOOKS / 2 { "it turns in a circle" } else { "it waits for something that does not come" };
    format!("its thread had or wanted the processor at {runs} of {LOOKS} looks: {seems}")
}

/// Ends the process with a message that the test harness does not hold back.
fn give_up(message: &str) -> ! {
    let _ = writeln!(std::io::stderr().lock(), "\n{message}");
    std::process::abort();
}
