//! One seed: lives of a process with a crash between them, and a last one in which nothing goes wrong any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tollgate::channels::Channel;
use tollgate::config::Config;
use tollgate::domain::ids::ChannelName;
use tollgate::domain::pre_auth::OnExpiry;
use tollgate::gateway::Gateway;
use tollgate::gateway::outside::{DiskWork, MasterKey, Outside};
use tollgate::storage::Store;

use crate::clients::{client, operator, perform, set_up, wake_all};
use crate::growth::{LOW_SPACE_BYTES, Moment, back_up_once, check_audit, check_journal, check_rebuilt};
use crate::model::{check_books, check_known, excuse_repetitions, unrest};
use crate::notices::{self, check_notices};
use crate::pre_auths::check_rows;
use crate::provider::SimChannel;
use crate::receiver::SimReceiver;
use crate::store::{BALLAST_BYTES, SimStore};
use crate::webhooks::check_webhooks;
use crate::world::{Dice, World};

/// Most time, in true seconds, until everything is quiet.
const QUIET_WITHIN_S: u64 = 4 * 3600;
/// Longer than any life can take.
const LIFE_MAX: Duration = Duration::from_secs(12 * 3600);
/// How long the store may take to notice that there is room again.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);
/// Lives in which the store is backed up, if they last that long: a backup goes to a real disk, which takes real time.
const BACKUPS_PERCENT: u64 = 10;

/// Stands still in the way asked for, to show that somebody notices.
async fn stall(world: &World, store: &SimStore) {
    match std::env::var("TOLLGATE_SIM_STALL").as_deref() {
        Ok("loop") => loop {
            std::hint::spin_loop();
        },
        Ok("turns") => loop {
            let _ = store.get(b"nothing");
            tokio::task::yield_now().await;
        },
        Ok("locked") => {
            let lock = parking_lot::Mutex::new(());
            let _held = lock.lock();
            drop(lock.lock());
        }
        Ok("waits") => std::future::pending::<()>().await,
        _ => world.step().await,
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The machine loses power.
    PowerCut,
    /// The process is killed.
    Kill,
    /// It is told to stop, and does.
    Stop,
}

/// What came of a seed.
pub struct Outcome {
    pub violation: Option<String>,
    pub hash: (u64, u64),
    pub tail: String,
    pub payments: usize,
    /// Bases that were made, lives after which segments had left the journal, and backups that were restored.
    pub growth: [u64; 3],
    /// Calls of the store.
    pub calls: u64,
    /// How often something was done, or went wrong.
    pub counts: BTreeMap<&'static str, u64>,
}

pub fn outcome_of(world: &World) -> Outcome {
    let payments = world.model.lock().payments.len();
    Outcome {
        violation: world.violation(),
        hash: world.hash(),
        tail: world.tail(),
        payments,
        growth: world.growth(),
        calls: world.calls(),
        counts: world.counts(),
    }
}

/// Runs the seed of a world that has just been made.
pub fn run(world: &Arc<World>) -> Outcome {
    let lives = world.dice.between(2, 4);
    for life in 0..=lives {
        let is_last = life == lives;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let end = runtime.block_on(async {
            let end = match tokio::time::timeout(LIFE_MAX, live(world, life, is_last)).await {
                Ok(end) => end,
                Err(_) => {
                    world.violate(format!("life {life} goes on for {} hours", LIFE_MAX.as_secs() / 3_600));
                    End::Kill
                }
            };
            world.trace(&format!("life {life} ends: {end:?}"));
            // Within the runtime, whose time it is.
            let off_ms = if world.dice.chance(8) { 300_000 } else { 20_000 };
            world.end_life(Duration::from_millis(world.dice.between(1, off_ms)));
            end
        });
        // Everything that the process had is gone with it.
        drop(runtime);
        if world.violation().is_some() {
            break;
        }
        let chance = world.dice.random();
        world.count(match end {
            End::PowerCut => "power cuts",
            End::Kill => "kills",
            End::Stop => "stops",
        });
        match end {
            End::PowerCut => {
                world.files.crash(chance);
                world.index.crash(chance);
                if world.dice.chance(50) {
                    world.windows.lose();
                }
            }
            End::Kill => {
                world.files.kill();
                world.index.crash(chance);
            }
            End::Stop => world.files.kill(),
        }
        if !is_last && world.dice.chance(8) {
            // It is rebuilt from the base and the journal behind it.
            world.trace("the index is lost");
            world.count("indexes lost");
            world.index.clear();
        }
        world.index.set_full(false);
        world.files.set_no_handles(false);
    }
    if world.violation().is_none() {
        check_rebuilt(world);
    }
    outcome_of(world)
}

fn config(seed: u64) -> Config {
    let mut config = Config::embedded().unwrap();
    // Lives are minutes long, and so are holds.
    config.pre_auth.unconfirmed_expires_s = 90;
    (config.pre_auth.expiring_before_s, config.pre_auth.on_expiry_before_s) = (120, 60);
    if seed % 5 == 2 {
        // Who waits for providers to tell asks seldom.
        (config.payments.resolve_first_ms, config.payments.resolve_early_max_ms) = (20_000, 60_000);
    }
    config.pre_auth.on_expiry = if seed.is_multiple_of(4) { OnExpiry::Capture } else { OnExpiry::Release };
    config.limits.snapshot_interval_ms = 10_000;
    // There are few webhooks: with the default no breaker would ever open.
    config.webhook.breaker_min = 2;
    for tier in config.tiers.values_mut() {
        (tier.per_second, tier.per_minute, tier.per_hour, tier.burst) = (5_000, 250_000, 2_500_000, 10_000);
    }
    config
}

fn outside(world: &Arc<World>, store: Arc<SimStore>) -> Outside {
    let channel = |name| Arc::new(SimChannel::new(name, world)) as Arc<dyn Channel>;
    let channels: BTreeMap<ChannelName, Arc<dyn Channel>> =
        ["stripe", "alipay"].into_iter().map(|name| (ChannelName::new(name), channel(name))).collect();
    Outside {
        store,
        master_key: MasterKey::Given([7; 32]),
        windows: Arc::new(world.windows.clone()),
        disk_work: DiskWork::InPlace,
        channels,
        deliver: Arc::new(SimReceiver { world: Arc::clone(world) }),
        admin_tokens: Vec::new(),
    }
}

/// One life within its runtime.
async fn live(world: &Arc<World>, life: u64, is_last: bool) -> End {
    let clock = world.begin_life(life);
    world.received.in_flight.lock().clear();
    world.received.leave_alone(world, BTreeMap::new());
    world.set_faults(!is_last);
    if !is_last && world.dice.chance(25) {
        // While it opens, or soon after.
        world.files.power_off_after_syncs(world.dice.below(12));
    }
    let dice = Dice::new(world.seed, 100 + life);
    let store = match SimStore::open(world, &dice, clock.clone()) {
        Ok(store) => store,
        Err(error) => {
            world.trace(&format!("does not open: {error}"));
            if world.has_power() {
                world.violate(format!("the store does not open: {error}"));
            }
            return End::PowerCut;
        }
    };
    let assembled =
        Gateway::assemble(config(world.seed), clock, dice.random().clone(), outside(world, Arc::clone(&store)));
    let gateway = tokio::select! {
        biased;
        () = world.crashed() => return cut(world),
        assembled = assembled => match assembled {
            Ok(gateway) => gateway,
            Err(error) => {
                world.trace(&format!("the gateway does not open: {error}"));
                if store.health().poisoned.is_none() && world.has_power() && !world.has_disk_faults() {
                    world.violate(format!("the gateway does not open: {error}"));
                }
                return cut(world);
            }
        },
    };
    let work = async {
        stall(world, &store).await;
        if is_last {
            last_life(world, &gateway, &store, &dice).await
        } else {
            busy_life(world, &gateway, &store, &dice).await
        }
    };
    tokio::select! {
        biased;
        () = world.crashed() => cut(world),
        end = work => end,
    }
}

fn cut(world: &World) -> End {
    if world.has_power() && world.dice.chance(50) { End::Kill } else { End::PowerCut }
}

/// The first merchants, then everything at once until something ends it.
async fn busy_life(world: &Arc<World>, gateway: &Gateway, store: &Arc<SimStore>, dice: &Dice) -> End {
    if !recovered(world, gateway, store, dice).await {
        return cut(world);
    }
    arm(world, dice);
    for number in 0..dice.between(2, 5) {
        let merchant = usize::try_from(number % 2).unwrap();
        let dice = Dice::new(world.seed, 1_000 + 100 * world.life() + number);
        tokio::spawn(client(Arc::clone(world), gateway.clone(), dice, merchant));
    }
    let notices_dice = Dice::new(world.seed, 6_000 + world.life());
    tokio::spawn(notices::tell(Arc::clone(world), gateway.clone(), notices_dice));
    tokio::spawn(operator(Arc::clone(world), gateway.clone(), Dice::new(world.seed, 2_000 + world.life())));
    tokio::spawn(trouble(Arc::clone(world), Dice::new(world.seed, 3_000 + world.life())));
    if dice.chance(BACKUPS_PERCENT) {
        tokio::spawn(back_up_once(Arc::clone(store), Dice::new(world.seed, 5_000 + world.life())));
    }
    let length = Duration::from_millis(dice.between(50, if dice.chance(30) { 120_000 } else { 15_000 }));
    tokio::select! {
        biased;
        reason = gateway.failed() => {
            world.trace(&format!("process ends: {reason}"));
            // Answers that are on their way arrive.
            tokio::time::sleep(Duration::from_millis(5)).await;
            return cut(world);
        }
        () = tokio::time::sleep(length) => {}
    }
    if dice.chance(20) {
        return stop(world, gateway).await;
    }
    cut(world)
}

async fn stop(world: &Arc<World>, gateway: &Gateway) -> End {
    let troubles = world.troubles();
    match gateway.stop().await {
        Ok(()) => End::Stop,
        Err(error) => {
            world.trace(&format!("not stopped in order: {error}"));
            if !world.has_disk_faults() && !world.had_trouble_since(troubles) && world.has_power() {
                world.violate(format!("it does not stop in order: {error}"));
            }
            cut(world)
        }
    }
}

/// What must be so after every opening. False when the process dies meanwhile.
async fn recovered(world: &Arc<World>, gateway: &Gateway, store: &SimStore, dice: &Dice) -> bool {
    let is_new = world.model.lock().shops.is_empty();
    if is_new {
        if let Err(error) = set_up(world, gateway).await {
            world.trace(&format!("not set up: {error}"));
            // Half of it may be there; nobody was told.
            let mut model = world.model.lock();
            (model.shops, model.audited) = Default::default();
            return false;
        }
        return true;
    }
    for _ in 0..world.ledger.holds.lapsed_between(world.off_since_us(), world.now_us()) {
        world.count("holds ran out while off");
    }
    excuse_repetitions(world, gateway);
    check_known(world, gateway);
    check_audit(world, store);
    check_webhooks(world, store);
    check_rows(world, store);
    check_notices(world, store);
    let answered: Vec<usize> = {
        let model = world.model.lock();
        (0..model.sent.len()).filter(|index| model.sent[*index].answer.is_some()).collect()
    };
    for _ in 0..3 {
        if let Some(index) = dice.pick(&answered) {
            perform(world, gateway, *index, Duration::from_secs(50)).await;
        }
    }
    true
}

/// What is going to go wrong in this life.
fn arm(world: &World, dice: &Dice) {
    match dice.below(12) {
        0..=2 => return world.files.power_off_after_syncs(dice.below(150)),
        3 => world.files.fail_write_after(dice.below(120)),
        4 => world.files.fail_sync_after(dice.below(120)),
        5..=8 => return world.crash_in_steps(dice.below(400)),
        _ => return,
    }
    world.note_disk_faults();
}

/// Troubles that pass: a full disk, a full index, no file handles, a clock that is set.
async fn trouble(world: Arc<World>, dice: Dice) {
    loop {
        tokio::time::sleep(Duration::from_millis(dice.between(500, 30_000))).await;
        let length = Duration::from_millis(dice.between(100, 8_000));
        match dice.below(10) {
            0 => {
                world.begin_trouble();
                world.count("full disks");
                world.trace("the disk is full");
                let room = if dice.chance(50) { 0 } else { dice.below(2 * BALLAST_BYTES) };
                world.files.set_space_bytes(Some(world.files.used_bytes() + room));
                tokio::time::sleep(length).await;
                world.files.set_space_bytes(None);
                world.trace("the disk has room");
                passes(&world).await;
            }
            1 => {
                world.begin_trouble();
                world.count("full indexes");
                world.trace("the index is full");
                world.index.set_unreadable_when_full(dice.chance(50));
                world.index.set_full(true);
                tokio::time::sleep(length).await;
                world.index.set_full(false);
                passes(&world).await;
            }
            2 => {
                world.begin_trouble();
                world.count("no file handles");
                world.trace("no file handles");
                world.files.set_no_handles(true);
                tokio::time::sleep(length).await;
                world.files.set_no_handles(false);
                passes(&world).await;
            }
            // Less than the mark, and enough for what has begun.
            3 => {
                world.trace("the disk has little room");
                world.count("little room");
                let room = dice.between(LOW_SPACE_BYTES / 2, LOW_SPACE_BYTES - 1);
                world.files.set_space_bytes(Some(world.files.used_bytes() + room));
                tokio::time::sleep(length).await;
                world.files.set_space_bytes(None);
                world.trace("the disk has much room");
            }
            4..=6 => {
                let by_ms = i64::try_from(dice.below(60_000)).unwrap() - 30_000;
                // What a provider may do late is bounded by the time of day, so that it is never far ahead.
                if (world.skew_ms() + by_ms).abs() < 100_000 {
                    world.trace(&format!("the clock is set by {by_ms} ms"));
                    world.jump(by_ms);
                    world.count("clocks set");
                }
            }
            _ => {}
        }
    }
}

/// What went wrong is over, and soon the store has noticed.
async fn passes(world: &World) {
    tokio::time::sleep(NOTICED_WITHIN).await;
    world.end_trouble();
}

/// Nothing goes wrong any more: everything comes to an end, and the books are compared.
async fn last_life(world: &Arc<World>, gateway: &Gateway, store: &SimStore, dice: &Dice) -> End {
    if !recovered(world, gateway, store, dice).await {
        world.violate("the last life was not set up".to_owned());
        return End::Kill;
    }
    if let Err(error) = wake_all(world, gateway).await {
        world.violate(format!("merchants can't be woken: {error}"));
        return End::Kill;
    }
    world.ledger.settle_soon(world.now_us());
    let began_us = world.now_us();
    let mut open = vec!["not looked yet".to_owned()];
    while !open.is_empty() && world.now_us() - began_us < QUIET_WITHIN_S * 1_000_000 {
        tokio::time::sleep(Duration::from_secs(45)).await;
        world.ledger.settle_soon(world.now_us());
        open = unrest(world, gateway).await;
        let notices = check_notices(world, store);
        if notices > 0 {
            open.push(format!("{notices} notices"));
        }
    }
    world.trace(&format!("quiet after {} s", (world.now_us() - began_us) / 1_000_000));
    if !open.is_empty() {
        world.violate(format!("still under way: {open:?}"));
        return End::Kill;
    }
    check_known(world, gateway);
    check_books(world, gateway);
    check_audit(world, store);
    check_webhooks(world, store);
    check_rows(world, store);
    check_journal(world, store);
    // Every answer is the same as it was.
    let sent = world.model.lock().sent.len();
    for index in 0..sent {
        let is_answered = world.model.lock().sent[index].answer.is_some();
        if is_answered {
            perform(world, gateway, index, Duration::from_secs(50)).await;
        }
    }
    let rows = store.moment();
    let end = stop(world, gateway).await;
    if let Ok(Moment { rows, .. }) = rows {
        world.leave(rows);
    }
    end
}
