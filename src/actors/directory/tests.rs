//! Admission through the directory: exact, bounded, and without loss when merchants come and go or fail.

mod near;

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::*;
use crate::actors::merchant::Loaded;
use crate::actors::supervisor::RestartBudget;
use crate::domain::limit::{LimiterSnapshot, Policy, UnseenSpan};
use crate::domain::time::Timestamp;

const STARTER: LimitFigures =
    LimitFigures { per_second: 10, per_minute: 500, per_hour: 10_000, burst: 20, concurrent: 10 };
const SETTINGS: DirectorySettings = DirectorySettings {
    lease: Duration::from_secs(60),
    merchants_active_max: 8,
    idle: Duration::from_secs(600),
    mailbox_max: 64,
    mailboxes_total_max: 1_024,
    claims_max: 64,
    snapshot_interval: Duration::from_secs(5),
};
const HOUR: Duration = Duration::from_secs(3_600);
const START: Timestamp = Timestamp::from_unix_ms(1_737_715_200_000);

/// Snapshots in memory, which can be full.
#[derive(Default)]
struct Shelf {
    snapshots: Mutex<HashMap<MerchantId, LimiterSnapshot>>,
    full: AtomicBool,
    breaks: AtomicBool,
    unnoted: AtomicBool,
    unseen: Mutex<Vec<UnseenSpan>>,
    complete_until: Mutex<Option<Timestamp>>,
    /// How often an actor has asked what it starts with.
    loads: AtomicUsize,
}

impl LimiterSnapshots for Shelf {
    fn load(&self, merchant_id: &MerchantId) -> Loaded {
        self.loads.fetch_add(1, Ordering::SeqCst);
        Loaded { snapshot: self.snapshots.lock().get(merchant_id).cloned(), unseen: self.unseen.lock().clone() }
    }

    fn save(&self, merchant_id: &MerchantId, snapshot: LimiterSnapshot) -> bool {
        assert!(!self.breaks.load(Ordering::SeqCst), "told to break");
        if self.full.load(Ordering::SeqCst) {
            return false;
        }
        self.snapshots.lock().insert(merchant_id.clone(), snapshot);
        true
    }

    fn complete(&self, until: Timestamp) {
        *self.complete_until.lock() = Some(until);
    }

    fn is_noted(&self) -> bool {
        !self.unnoted.load(Ordering::SeqCst)
    }
}

struct Bench {
    directory: MerchantDirectory,
    clock: Clock,
    shelf: Arc<Shelf>,
    supervisor: Supervisor,
}

impl Bench {
    async fn start(settings: DirectorySettings, clock: Clock) -> Self {
        let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await.unwrap();
        let shelf = Arc::new(Shelf::default());
        let snapshots: Arc<dyn LimiterSnapshots> = Arc::clone(&shelf) as _;
        let directory = MerchantDirectory::start(settings, clock.clone(), snapshots, supervisor.clone());
        Self { directory, clock, shelf, supervisor }
    }

    async fn manual() -> Self {
        Self::start(SETTINGS, Clock::manual(START)).await
    }

    async fn admit(&self) -> Result<Admitted, Refused> {
        self.directory.admit(request("m_1")).await
    }

    /// How many of `asked` requests are let through, each ended at once.
    async fn admitted(&self, asked: usize) -> usize {
        let mut admitted = 0;
        for _ in 0..asked {
            admitted += usize::from(self.admit().await.is_ok());
        }
        admitted
    }

    fn slot(&self) -> Arc<Slot> {
        self.directory.inner.find(&MerchantId::new("m_1")).unwrap()
    }

    async fn put_away(&self) -> bool {
        self.directory.inner.put_away(&self.slot()).await
    }

    /// Makes the merchant's actor fail and waits for the one that takes its place.
    async fn fail(&self) {
        let before = self.supervisor.restarts_total();
        assert!(self.slot().send(MerchantMessage::Fail).is_ok());
        self.restarted_since(before).await;
    }

    async fn restarted_since(&self, before: u64) {
        while self.supervisor.restarts_total() == before || self.usage().await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    async fn usage(&self) -> Result<MerchantUsage, Refused> {
        self.directory.usage(&MerchantId::new("m_1"), STARTER, Some(1)).await
    }
}

fn request(merchant: &str) -> AdmitRequest {
    AdmitRequest {
        merchant_id: MerchantId::new(merchant),
        figures: STARTER,
        revision: Some(1),
        idempotency: None,
        cost: 1,
    }
}

fn refusal(answer: Result<Admitted, Refused>) -> crate::domain::limit::Refusal {
    match answer {
        Err(Refused::Limited(refusal)) => refusal,
        other => panic!("expected a refusal by a limit, got {other:?}"),
    }
}

#[tokio::test]
async fn the_burst_passes_and_refusals_beside_the_mailbox_are_exact_and_counted() {
    let bench = Bench::manual().await;
    assert_eq!(bench.admitted(20).await, 20);
    let first = refusal(bench.admit().await);
    assert_eq!((first.limit(), first.retry_after_s()), (Policy::Second, 2));
    bench.clock.advance(Duration::from_millis(1_500));
    let beside = refusal(bench.admit().await);
    assert_eq!((beside.limit(), beside.wait()), (Policy::Second, Duration::from_millis(500)));
    bench.clock.advance(Duration::from_millis(499));
    assert_eq!(bench.admitted(50).await, 0);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.admitted(50).await, 20);
    let usage = bench.usage().await.unwrap();
    assert_eq!((usage.today.admitted, usage.today.refused), (40, 2 + 50 + 30));
    assert_eq!((usage.view.second.used, usage.view.hour.used, usage.view.concurrency.used), (20, 40, 0));
}

#[tokio::test]
async fn a_permit_comes_back_however_its_request_ends() {
    let bench = Bench::manual().await;
    let mut permits = Vec::new();
    for _ in 0..10 {
        permits.push(bench.admit().await.unwrap().permit);
    }
    assert_eq!(refusal(bench.admit().await).limit(), Policy::Concurrency);
    let in_a_task = permits.pop().unwrap();
    let panicked = tokio::spawn(async move {
        let _permit = in_a_task;
        panic!("the request fails");
    });
    assert!(panicked.await.is_err());
    drop(bench.admit().await.unwrap());
    permits.clear();
    assert_eq!(bench.usage().await.unwrap().view.concurrency.used, 0);
}

#[tokio::test]
async fn a_grant_that_nobody_takes_is_given_back() {
    let bench = Bench::manual().await;
    drop(bench.admit().await.unwrap());
    for _ in 0..15 {
        let mut asking = Box::pin(bench.admit());
        assert!(futures_util::poll!(&mut asking).is_pending());
        // The client goes away: sometimes before the actor has looked, sometimes after it has answered.
        tokio::task::yield_now().await;
        drop(asking);
    }
    let usage = bench.usage().await.unwrap();
    assert_eq!(usage.view.concurrency.used, 0);
    assert!(bench.slot().is_free() && bench.directory.queued() == 0);
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_a_late_return_frees_nothing() {
    let bench = Bench::manual().await;
    let lost = bench.admit().await.unwrap().permit;
    bench.clock.advance(Duration::from_secs(60));
    let running = bench.admit().await.unwrap();
    assert_eq!(running.view.concurrency.used, 1);
    drop(lost);
    let usage = bench.usage().await.unwrap();
    assert_eq!((usage.view.concurrency.used, usage.leases_expired_total), (1, 1));
}

#[tokio::test]
async fn an_idempotency_key_is_worked_on_once_at_a_time() {
    let bench = Bench::manual().await;
    let keyed = || AdmitRequest { idempotency: Some(42), ..request("m_1") };
    let Admitted { permit, claim, .. } = bench.directory.admit(keyed()).await.unwrap();
    drop(permit);
    match bench.directory.admit(keyed()).await {
        Err(Refused::IdempotencyInProgress(view)) => {
            assert_eq!((view.second.used, view.concurrency.used), (2, 0), "it counted, and is not in flight");
        }
        other => panic!("expected the key to be taken, got {other:?}"),
    }
    let other_key = AdmitRequest { idempotency: Some(43), ..request("m_1") };
    assert!(bench.directory.admit(other_key).await.is_ok());
    bench.fail().await;
    bench.clock.advance(Duration::from_secs(4));
    let again = bench.directory.admit(keyed()).await;
    assert!(matches!(again, Err(Refused::IdempotencyInProgress(_))), "also after the actor failed: {again:?}");
    drop(claim);
    assert!(bench.directory.admit(keyed()).await.is_ok());
}

#[tokio::test]
async fn other_limits_hold_at_once_also_for_a_blocked_merchant() {
    let bench = Bench::manual().await;
    assert_eq!(bench.admitted(25).await, 20);
    let business = LimitFigures { burst: 100, per_second: 50, ..STARTER };
    bench.directory.update_limits(&MerchantId::new("m_1"), business, 2);
    assert_eq!(bench.admitted(100).await, 80, "a caller that does not know yet is let through too");
    let lowered = AdmitRequest { figures: STARTER, revision: Some(3), ..request("m_1") };
    let refused = refusal(bench.directory.admit(lowered).await);
    assert_eq!((refused.view.second.limit, refused.view.second.used), (20, 100));
    let raised = AdmitRequest { figures: LimitFigures { burst: 101, ..business }, revision: Some(4), ..request("m_1") };
    assert!(bench.directory.admit(raised).await.is_ok(), "a request brings its own limits");
}

#[tokio::test]
async fn a_merchant_that_was_put_away_goes_on_where_it_was() {
    let bench = Bench::manual().await;
    let admitted = bench.admit().await.unwrap();
    assert!(!bench.put_away().await, "a request is in flight");
    drop(admitted);
    assert_eq!(bench.admitted(14).await, 14);
    bench.shelf.full.store(true, Ordering::SeqCst);
    assert!(!bench.put_away().await, "there is no room for its state");
    assert_eq!(bench.admitted(1).await, 1);
    bench.shelf.full.store(false, Ordering::SeqCst);
    assert!(bench.put_away().await);
    assert_eq!(bench.directory.active(), 0);
    assert_eq!(bench.usage().await.unwrap().today.admitted, 16, "read without starting an actor");
    assert_eq!(bench.directory.active(), 0);
    assert_eq!(bench.admitted(10).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merchants_that_come_and_go_under_load_are_never_let_through_too_often() {
    let bench = Arc::new(Bench::manual().await);
    let put_away = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (bench, put_away) = (Arc::clone(&bench), Arc::clone(&put_away));
        tasks.spawn(async move {
            let (mut asked, mut admitted) = (0, 0);
            // Until it has come and gone often enough, however slowly that goes.
            while asked < 200 || (put_away.load(Ordering::SeqCst) < 20 && asked < 1_000_000) {
                admitted += bench.admitted(10).await;
                asked += 10;
                tokio::task::yield_now().await;
            }
            admitted
        });
    }
    let (sweeper, counter) = (Arc::clone(&bench), Arc::clone(&put_away));
    let sweeping = tokio::spawn(async move {
        loop {
            let found = sweeper.directory.inner.find(&MerchantId::new("m_1"));
            if let Some(slot) = found
                && sweeper.directory.inner.put_away(&slot).await
            {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            tokio::task::yield_now().await;
        }
    });
    let admitted: usize = tasks.join_all().await.into_iter().sum();
    sweeping.abort();
    assert_eq!(admitted, 20);
    assert!(put_away.load(Ordering::SeqCst) >= 20, "it was put away while requests came");
}

#[tokio::test]
async fn a_failed_actor_is_followed_by_one_that_knows_what_is_in_flight_and_is_charged_for_the_gap() {
    let bench = Bench::manual().await;
    let permit = bench.admit().await.unwrap().permit;
    bench.clock.advance(Duration::from_secs(3));
    bench.fail().await;
    let usage = bench.usage().await.unwrap();
    assert_eq!(usage.view.concurrency.used, 1);
    assert_eq!(usage.view.second.used, 20, "the failed one may have admitted as much");
    drop(permit);
    assert_eq!(bench.usage().await.unwrap().view.concurrency.used, 0);
    bench.clock.advance(Duration::from_secs(2));
    assert_eq!(bench.admitted(20).await, 20);

    assert_eq!(bench.directory.snapshot_all().await, 0);
    bench.clock.advance(Duration::from_secs(30));
    let before = bench.usage().await.unwrap().view;
    bench.fail().await;
    let after = bench.usage().await.unwrap().view;
    assert_eq!(after.hour.used, before.hour.used, "nothing was unsaved, so nothing is charged");
    assert_eq!(after.second.used, 0);
}

#[tokio::test]
async fn after_a_crash_every_merchant_is_charged_at_its_first_request() {
    let bench = Bench::manual().await;
    let crashed = UnseenSpan::new(START.minus(Duration::from_secs(3)), START.minus(Duration::from_secs(1)));
    *bench.shelf.unseen.lock() = vec![crashed];
    let refused = refusal(bench.admit().await);
    assert_eq!((refused.limit(), refused.wait()), (Policy::Second, Duration::from_secs(1)));
}

#[tokio::test]
async fn every_bound_is_kept_and_answers_at_once() {
    let settings = DirectorySettings { mailbox_max: 4, mailboxes_total_max: 6, merchants_active_max: 2, ..SETTINGS };
    let bench = Bench::start(settings, Clock::manual(START)).await;
    for merchant in ["m_1", "m_2"] {
        drop(bench.directory.admit(request(merchant)).await.unwrap());
    }
    assert_eq!(bench.directory.admit(request("m_3")).await.unwrap_err(), Refused::Overloaded(FULL));
    // Ten at once for each of two merchants, before any actor has a turn.
    let asked = ["m_1", "m_2"].into_iter().flat_map(|merchant| [merchant; 10]);
    let answers = futures_util::future::join_all(asked.map(|merchant| bench.directory.admit(request(merchant)))).await;
    let busy = |answers: &[Result<Admitted, Refused>]| {
        answers.iter().filter(|answer| matches!(answer, Err(Refused::Overloaded(BUSY)))).count()
    };
    assert_eq!((busy(&answers[..10]), busy(&answers[10..])), (6, 8));
    drop(answers);
    assert_eq!(bench.directory.queued(), 0);

    let keyed = |key| AdmitRequest { idempotency: Some(key), ..request("m_1") };
    bench.clock.advance(Duration::from_secs(100));
    let few = DirectorySettings { claims_max: 2, ..SETTINGS };
    let bench = Bench::start(few, Clock::manual(START)).await;
    let _claims =
        [bench.directory.admit(keyed(1)).await.unwrap().claim, bench.directory.admit(keyed(2)).await.unwrap().claim];
    assert!(matches!(bench.directory.admit(keyed(3)).await, Err(Refused::Overloaded(_))));
}

#[tokio::test(start_paused = true)]
async fn the_housekeeper_saves_what_has_changed_and_makes_room() {
    let settings = DirectorySettings { merchants_active_max: 2, idle: Duration::from_secs(60), ..SETTINGS };
    let bench = Bench::start(settings, Clock::virtual_from(START)).await;
    assert_eq!(bench.admitted(3).await, 3);
    assert!(bench.shelf.snapshots.lock().is_empty());
    tokio::time::sleep(Duration::from_secs(6)).await;
    let saved = bench.shelf.snapshots.lock().get(&MerchantId::new("m_1")).cloned().unwrap();
    assert_eq!(saved.days[0].admitted, 3);
    drop(bench.directory.admit(request("m_2")).await.unwrap());
    assert!(matches!(bench.directory.admit(request("m_3")).await, Err(Refused::Overloaded(_))));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(bench.directory.admit(request("m_3")).await.is_ok());
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(bench.directory.active(), 0, "idle merchants are put away");
    assert_eq!(bench.supervisor.children(), 0);
}

#[tokio::test(start_paused = true)]
async fn windows_are_not_called_complete_before_every_merchant_was_saved() {
    let bench = Bench::start(SETTINGS, Clock::virtual_from(START)).await;
    bench.shelf.full.store(true, Ordering::SeqCst);
    assert_eq!(bench.admitted(1).await, 1);
    drop(bench.directory.admit(request("m_2")).await.unwrap());
    let complete_until = || bench.shelf.complete_until.lock().unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(complete_until() <= START.plus(Duration::from_millis(1)), "nothing could be saved");
    bench.shelf.full.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(complete_until() >= START.plus(Duration::from_secs(30)));
}

#[tokio::test]
async fn stopping_hands_everything_over_and_lets_nothing_through() {
    let bench = Bench::manual().await;
    // From the beginning, since the housekeeper looks at the merchants in its own time.
    bench.shelf.full.store(true, Ordering::SeqCst);
    assert_eq!(bench.admitted(5).await, 5);
    assert_eq!(bench.directory.snapshot_all().await, 1);
    bench.shelf.full.store(false, Ordering::SeqCst);
    assert_eq!(bench.directory.stop().await, 0);
    assert_eq!(bench.admit().await.unwrap_err(), Refused::Overloaded(CLOSING));
    assert_eq!(bench.shelf.snapshots.lock().len(), 1);
    bench.supervisor.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_cost_that_never_fits_is_told_so() {
    let bench = Bench::manual().await;
    let dear = AdmitRequest { cost: 21, ..request("m_1") };
    assert_eq!(bench.directory.admit(dear).await.unwrap_err(), Refused::CostTooLarge { cost_max: 20 });
}

/// What is kept beside the mailbox is the answer to one request that counts for one.
#[tokio::test]
async fn a_dear_request_is_told_its_own_wait_also_while_cheap_ones_are_refused() {
    let bench = Bench::manual().await;
    let asked = async |cost| bench.directory.admit(AdmitRequest { cost, ..request("m_1") }).await;
    assert_eq!(bench.admitted(10).await, 10);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.admitted(50).await, 10);
    let wait_ms = async |cost| refusal(asked(cost).await).wait().as_millis();
    assert_eq!(
        [wait_ms(1).await, wait_ms(10).await, wait_ms(11).await, wait_ms(20).await],
        [1_000, 1_000, 2_000, 2_000]
    );
    assert_eq!(asked(21).await.unwrap_err(), Refused::CostTooLarge { cost_max: 20 });
    bench.clock.advance(Duration::from_millis(500));
    assert_eq!([wait_ms(1).await, wait_ms(11).await, wait_ms(1).await], [500, 1_500, 500]);
    let usage = bench.usage().await.unwrap();
    assert_eq!((usage.today.admitted, usage.today.refused), (20, 40 + 4 + 3), "each is counted once");
}

#[tokio::test]
async fn a_look_shows_the_figures_that_hold_now_and_puts_them_in_force() {
    let bench = Bench::manual().await;
    assert_eq!(bench.admitted(25).await, 20);
    let merchant = MerchantId::new("m_1");
    let larger = LimitFigures { burst: 30, per_minute: 600, concurrent: 7, ..STARTER };
    let look = async |figures, revision| bench.directory.usage(&merchant, figures, Some(revision)).await.unwrap().view;
    let view = look(larger, 2).await;
    assert_eq!((view.figures(), view.second.used), (larger, 20));
    assert_eq!(look(STARTER, 1).await.figures(), larger, "an older one changes nothing");
    assert_eq!(bench.admitted(50).await, 10);
    assert_eq!(look(STARTER, 3).await.figures(), STARTER);
    let inactive = bench.directory.usage(&MerchantId::new("m_2"), larger, Some(1)).await.unwrap();
    assert_eq!((inactive.view.figures(), inactive.is_active), (larger, false));
}

#[tokio::test]
async fn a_request_that_goes_away_while_the_actor_starts_leaves_one_actor() {
    let bench = Bench::manual().await;
    assert!(futures_util::FutureExt::now_or_never(bench.admit()).is_none(), "the start is in a task of its own");
    assert_eq!(bench.admitted(3).await, 3);
    assert_eq!(bench.shelf.loads.load(Ordering::SeqCst), 1);
    assert_eq!(bench.supervisor.children(), 1);
    assert!(bench.put_away().await, "nobody holds the merchant any more");
}

#[tokio::test]
async fn how_long_a_request_waited_for_its_decision_is_known() {
    let bench = Bench::manual().await;
    drop(bench.admit().await.unwrap());
    assert_eq!(bench.directory.take_longest_wait(), Duration::ZERO);
    for waits_ms in [80, 30] {
        let mut admitting = std::pin::pin!(bench.admit());
        // On one thread the actor can't have decided before this returns.
        assert!(futures_util::poll!(admitting.as_mut()).is_pending());
        bench.clock.advance(Duration::from_millis(waits_ms));
        admitting.await.unwrap();
    }
    assert_eq!(bench.directory.take_longest_wait(), Duration::from_millis(80));
    assert_eq!(bench.directory.take_longest_wait(), Duration::ZERO);
}

/// Set while nobody looks, and what is steady goes on.
fn clock_steps() -> [fn(&Clock); 3] {
    [|_| {}, |clock| clock.set_forward(HOUR), |clock| clock.set_back(HOUR)]
}

#[tokio::test(start_paused = true)]
async fn setting_the_clock_changes_nothing_for_a_merchant_that_is_out_of_memory() {
    for step in clock_steps() {
        let bench = Bench::start(SETTINGS, Clock::virtual_from(START)).await;
        assert_eq!(bench.admitted(30).await, 20);
        assert!(bench.put_away().await);
        step(&bench.clock);
        tokio::time::advance(Duration::from_millis(1_900)).await;
        assert_eq!(bench.usage().await.unwrap().view.second.used, 20);
        assert_eq!(bench.admitted(30).await, 0, "the burst was 1.9 s ago, whatever the clock says");
        assert!(bench.put_away().await);
        step(&bench.clock);
        tokio::time::advance(Duration::from_millis(102)).await;
        assert_eq!(bench.admitted(30).await, 20, "and no longer ago either");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_actor_is_followed_by_one_that_is_charged_whatever_the_clock_was_set_to() {
    for step in clock_steps() {
        let bench = Bench::start(SETTINGS, Clock::virtual_from(START)).await;
        assert_eq!(bench.admitted(1).await, 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        step(&bench.clock);
        bench.fail().await;
        assert_eq!(bench.usage().await.unwrap().view.second.used, 20, "it may have admitted a burst since");
        tokio::time::advance(Duration::from_millis(1_900)).await;
        assert_eq!(bench.admitted(1).await, 0);
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(bench.admitted(1).await, 1);
    }
}

#[tokio::test]
async fn a_failed_actor_is_followed_by_one_that_is_charged_by_the_limits_of_the_failed_one() {
    let bench = Bench::manual().await;
    let fast = LimitFigures { burst: 200, per_second: 100, ..STARTER };
    let asks = |figures, revision| AdmitRequest { figures, revision: Some(revision), ..request("m_1") };
    assert!(bench.directory.admit(asks(fast, 2)).await.is_ok());
    assert!(bench.directory.admit(asks(STARTER, 3)).await.is_ok());
    bench.clock.advance(Duration::from_secs(1));
    bench.fail().await;
    let view = bench.usage().await.unwrap().view;
    assert_eq!((view.second.limit, view.minute.used), (20, 301), "a burst of 200 and 1.001 s at 100 a second");
    // What was handed over since is exact again.
    assert_eq!(bench.directory.snapshot_all().await, 0);
    bench.clock.advance(Duration::from_secs(120));
    drop(bench.directory.admit(asks(STARTER, 3)).await.unwrap());
    bench.clock.advance(Duration::from_secs(120));
    bench.fail().await;
    assert_eq!(bench.usage().await.unwrap().view.minute.used, most_of(120_101));
}

/// What a merchant with `STARTER` may have been let through in a minute of a span.
fn most_of(length_ms: u32) -> u32 {
    (STARTER.burst * length_ms.div_ceil(2_000)).min(STARTER.per_minute)
}

#[tokio::test]
async fn an_actor_that_fails_while_it_hands_over_is_charged_for() {
    let bench = Bench::manual().await;
    assert_eq!(bench.admitted(3).await, 3);
    bench.shelf.breaks.store(true, Ordering::SeqCst);
    let before = bench.supervisor.restarts_total();
    assert_eq!(bench.directory.snapshot_all().await, 1);
    bench.shelf.breaks.store(false, Ordering::SeqCst);
    bench.restarted_since(before).await;
    assert_eq!(bench.usage().await.unwrap().view.second.used, 20, "nobody has what it had");
}

#[tokio::test(start_paused = true)]
async fn a_merchant_that_was_quiet_does_not_make_windows_incomplete_since_it_was_last_saved() {
    let bench = Bench::start(SETTINGS, Clock::virtual_from(START)).await;
    assert_eq!(bench.admitted(1).await, 1);
    tokio::time::sleep(Duration::from_secs(152)).await;
    assert_eq!(bench.admitted(1).await, 1);
    let mut complete_until = START;
    for second in 152_u64..170 {
        let told = bench.shelf.complete_until.lock().unwrap();
        assert!(told >= complete_until, "it goes back");
        complete_until = told;
        let behind = START.plus(Duration::from_secs(second)).since(told);
        assert!(behind <= Duration::from_millis(10_100), "{behind:?} at {second} s");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // As little is charged to the merchant itself when its actor fails.
    assert_eq!(bench.admitted(1).await, 1);
    bench.fail().await;
    assert_eq!(bench.usage().await.unwrap().view.hour.used, 2 + 20);
}

#[tokio::test]
async fn nothing_is_let_through_that_could_not_be_charged_for() {
    let bench = Bench::manual().await;
    bench.shelf.unnoted.store(true, Ordering::SeqCst);
    assert_eq!(bench.admit().await.unwrap_err(), Refused::Overloaded(NOT_NOTED));
    bench.shelf.unnoted.store(false, Ordering::SeqCst);
    assert!(bench.admit().await.is_ok());
    // Also when that ends while the request waits for its decision.
    let mut admitting = std::pin::pin!(bench.admit());
    assert!(futures_util::poll!(admitting.as_mut()).is_pending());
    bench.shelf.unnoted.store(true, Ordering::SeqCst);
    assert_eq!(admitting.await.unwrap_err(), Refused::Overloaded(NOT_NOTED));
    bench.shelf.unnoted.store(false, Ordering::SeqCst);
    assert_eq!(bench.usage().await.unwrap().view.second.used, 1, "nothing was consumed");
}
