//! The whole gateway on virtual time: the real journal, committer, overlay and applier on simulated files, the real
//! gateway with its actors and its delivery logic, and around it providers, receivers, clients and an operator that are
//! drawn from a seed, like everything that goes wrong. What was acknowledged is remembered and must stay so, at every
//! answer, after every recovery, and at the end.
//!
//! `TOLLGATE_SIM_SEEDS=N` runs N seeds in place of the usual number, `TOLLGATE_SIM_SEED=S` only that one,
//! `TOLLGATE_SIM_TRACE=1` prints all that happens. A seed that does not end is named after `TOLLGATE_SIM_PATIENCE_S` (30)
//! and ends the program; `TOLLGATE_SIM_STALL` makes one stand still.
//!
//! That it catches what it is there for was shown by breaking the code by hand, one place at a time, with 300 seeds each.
//! The first seeds that failed, and what they said:
//!
//! | broken | seed | said |
//! |---|---|---|
//! | acknowledge before fdatasync: no `sync_data` (`storage/journal.rs`, `write`) | 1 | the store does not open: a frame is not right, and a later segment shows that it was |
//! | the same: answers first, then the sync (`storage/committer.rs`, `flush`) | 3, 36 | the same, shown by the index; a payment was `success` and is `pending` |
//! | the same: each frame is synced before the next is written | 1, 6 | the same; the provider has a charge, and we don't |
//! | skip a checksum (`storage/frame.rs`, `parse` takes any) | 7 | the store does not open: a frame's payload can't be read |
//! | drop the notification's row (`gateway/webhooks/mod.rs`, no put of it) | 1 | an event has arrived under no id |
//! | drop its due entry instead | 1 | still under way, until patience ends |
//! | leave the due entry when the notification has ended (`actors/webhook/rows.rs`, no delete of it) | 1, 3 | only the index has a webhook that waits |
//! | retry under a new key on an unknown outcome: when asking (`gateway/payments/reconcile.rs`, `ask`) | 1, 4 | a payment was charged 2 times |
//! | the same: when charging (`gateway/payments/carry.rs`, `charge`) | 1, 8 | canceled, but open at the provider; an order was charged twice |
//! | forget at the start that an endpoint's breaker is open (`domain/webhook/health.rs`, `at_start`) | 8, 52 | an endpoint is asked although its breaker was open |
//! | evaluate a precondition without the group (`storage/committer.rs`, `in_frame` finds nothing) | 17 | an order was charged twice |
//!
//! The same for pre-auths, with 60 seeds each, before providers told anything of their own accord. The seeds of both tables
//! are those of the world as it was then.
//!
//! | broken | seed | said |
//! |---|---|---|
//! | send a capture again under a new key (`gateway/pre_auths/works.rs`, `ask`) | 12, 18 | a capture, though one was, or may be, done |
//! | take it for a refusal that nobody knows what became of a capture (`domain/pre_auth/transition.rs`, `under_way`) | 14, 20 | held again is told twice |
//! | what is not there yet never will be (`gateway/pre_auths/works.rs`, `question`, nothing settles) | 11, 25 | failed, and its provider has it |
//! | send the request for a hold once more, as if it were the first (`domain/pre_auth/begin.rs`, `ask`) | 2, 4 | sent for the first time once more |
//! | keep the order number of what has expired (`gateway/pre_auths/rows.rs`, `replace`) | 1, 3 | it holds its order number |
//! | leave the due entry of what has moved on (the same) | 1, 3 | only the index has a pre-auth that is due |
//! | write an answer anew in place of keeping it (`gateway/pre_auths/client.rs`, `answer_about`) | 7, 11 | an answer was another |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the trace of a seed that is looked at")]

#[path = "simulation/clients.rs"]
mod clients;
#[path = "simulation/growth.rs"]
mod growth;
#[path = "simulation/holds.rs"]
mod holds;
#[path = "simulation/life.rs"]
mod life;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/notices.rs"]
mod notices;
#[path = "simulation/pre_auths.rs"]
mod pre_auths;
#[path = "simulation/provider.rs"]
mod provider;
#[path = "simulation/receiver.rs"]
mod receiver;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/watchdog.rs"]
mod watchdog;
#[path = "simulation/webhooks.rs"]
mod webhooks;
#[path = "simulation/world.rs"]
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use std::collections::BTreeMap;
use std::process::Command;

use life::Outcome;
use parking_lot::Mutex;

const SEEDS: u64 = 500;

/// What has to be done, and has to go wrong, in so many of a hundred seeds on average at least. Most of it is so more
/// often than once in each.
const FLOORS: [(&str, u64); 39] = [
    ("payments", 300),
    ("refunds", 50),
    ("cancellations", 30),
    ("repetitions", 100),
    ("clients hang up", 10),
    ("merchants changed", 30),
    ("keys rotated", 20),
    ("endpoints made", 20),
    ("endpoints changed", 10),
    ("answers of providers lost", 100),
    ("receivers down", 50),
    ("webhooks refused", 100),
    ("webhooks without an answer", 20),
    ("webhooks whose answer is lost", 20),
    ("receivers silent for minutes", 10),
    ("receivers gone", 4),
    ("power cuts", 50),
    ("kills", 50),
    ("stops", 20),
    ("failed stores", 5),
    ("indexes lost", 5),
    ("full disks", 5),
    ("full indexes", 5),
    ("no file handles", 5),
    ("little room", 5),
    ("clocks set", 20),
    ("jobs", 60),
    ("jobs that went on", 20),
    ("breakers open at a start", 5),
    ("pre-auths", 300),
    ("pre-auths asked about", 100),
    ("captures", 25),
    ("pre-auths canceled", 40),
    ("refunds of pre-auths", 6),
    ("holds expired", 35),
    ("holds ran out while off", 1),
    ("payers too late", 40),
    ("notices", 1_000),
    ("notices forged", 100),
];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

fn explain(seed: u64, outcome: &Outcome) -> String {
    let violation = outcome.violation.as_deref().unwrap_or("nothing");
    format!(
        "seed {seed}: {violation}\nto see it again: TOLLGATE_SIM_SEED={seed} cargo test --test simulation\n{}",
        outcome.tail
    )
}

#[test]
fn nothing_acknowledged_is_lost_and_nobody_is_charged_twice() {
    let (first, end) = match number("TOLLGATE_SIM_SEED") {
        Some(seed) => (seed, seed + 1),
        None => (1, 1 + number("TOLLGATE_SIM_SEEDS").unwrap_or(SEEDS)),
    };
    let next = AtomicU64::new(first);
    let payments = AtomicU64::new(0);
    let growth = [const { AtomicU64::new(0) }; 3];
    let calls_max = AtomicU64::new(0);
    let counts = Mutex::<BTreeMap<&str, u64>>::default();
    let failed = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::SeqCst);
                        if seed >= end || failed.len() > 2 {
                            return failed;
                        }
                        let outcome = watchdog::run(seed);
                        payments.fetch_add(outcome.payments as u64, Ordering::SeqCst);
                        for (all, count) in growth.iter().zip(outcome.growth) {
                            all.fetch_add(count, Ordering::SeqCst);
                        }
                        for (what, count) in &outcome.counts {
                            *counts.lock().entry(what).or_default() += count;
                        }
                        calls_max.fetch_max(outcome.calls, Ordering::SeqCst);
                        if outcome.violation.is_some() {
                            failed.push(explain(seed, &outcome));
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    let (seeds, payments) = (end - first, payments.into_inner());
    let [bases, retired, backups] = growth.map(AtomicU64::into_inner);
    println!(
        "{seeds} seeds: {payments} payments, {bases} bases made, {retired} journals shortened, {backups} backups restored, \
         at most {calls_max:?} calls of the store"
    );
    let counts = counts.into_inner();
    println!("{counts:?}");
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    if seeds >= 200 {
        for (what, of_a_hundred) in FLOORS {
            let count = counts.get(what).copied().unwrap_or(0);
            assert!(count >= seeds * of_a_hundred / 100, "{what}: {count} in {seeds} seeds say little: {counts:?}");
        }
    }
    // One seed alone may end before it has begun.
    assert!(seeds < 20 || payments >= seeds, "the clients did next to nothing");
    assert!(
        seeds < 200 || bases.min(retired).min(backups) >= seeds / 20,
        "the store was hardly kept small or backed up"
    );
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in [3, 17, 40] {
        let (once, again) = (watchdog::run(seed), watchdog::run(seed));
        assert_eq!(once.hash, again.hash, "{}\n\n--- and again:\n{}", explain(seed, &once), again.tail);
    }
}

/// Runs this program with a seed that stands still. Returns what it says when it has given up.
fn stalled(how: &str, patience_s: u64) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["nothing_acknowledged", "--nocapture"]);
    command.env("TOLLGATE_SIM_STALL", how).env("TOLLGATE_SIM_SEED", "7");
    command.env("TOLLGATE_SIM_PATIENCE_S", patience_s.to_string());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("TOLLGATE_SIM_SEED=7 "), "{said}");
    said
}

#[test]
fn a_seed_in_which_time_stands_still_is_named() {
    for (how, patience_s, expected) in [
        ("turns", 60, "time stands still while the store is called"),
        ("waits", 60, "goes on for 12 hours"),
        ("loop", 1, "it turns in a circle"),
        ("locked", 1, "it waits for something that does not come"),
    ] {
        let said = stalled(how, patience_s);
        assert!(said.contains(expected), "{how}: {said}");
    }
}
