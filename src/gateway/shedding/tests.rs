//! What makes a whole gateway shed and what does not, on virtual time.

use serde_json::json;

use super::testing::Node;
use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::audit::Operator;
use crate::domain::time::Timestamp;
use crate::gateway::answer::{Reply, StoredAnswer};
use crate::gateway::auth::{Caller, Credentials};
use crate::gateway::idempotency::Origin;

const START: Timestamp = Timestamp::from_unix_s(1_790_000_000);

struct Shop {
    node: Node,
    caller: Caller,
}

impl Shop {
    async fn open(change: impl FnOnce(&mut Config)) -> Self {
        let node = Node::start(Clock::virtual_from(START), change).await;
        let key = node.merchant().await.key;
        let credentials = Credentials::Basic { key_id: &key.id, secret: &key.secret };
        let caller = node.gateway.authenticate(credentials).unwrap();
        Self { node, caller }
    }

    /// Begins five payments a second for so long, without waiting for them.
    async fn trade(&self, round: &str, seconds: u64) {
        for number in 0..seconds * 5 {
            let (gateway, caller) = (self.node.gateway.clone(), self.caller.clone());
            let order_no = format!("{round}-{number}");
            tokio::spawn(async move {
                let command = json!({ "order_no": order_no, "amount": 900, "currency": "USD", "channel": "stripe" });
                let renderer = Arc::new(|_: &Reply| StoredAnswer { status: 200, body: String::new() });
                let origin = Origin { idempotency: None, claim: None, permit: None, renderer };
                let paid = gateway.payments().create(&caller, origin, serde_json::from_value(command).unwrap());
                // What became of it is another test's matter.
                let _ = paid.await;
            });
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Lets a request wait for its merchant's limits: time goes by between its asking and their answer.
    async fn wait_for_limits(&self, delay: Duration) {
        let mut admitting = std::pin::pin!(self.node.gateway.admit(&self.caller, None));
        assert!(futures_util::poll!(admitting.as_mut()).is_pending());
        tokio::time::advance(delay).await;
        admitting.await.unwrap();
    }

    /// Lets 700 ms go by in one step, so that the look due after half a second is 200 ms late, and the process use its one
    /// processor for so long meanwhile.
    async fn late_timer(&self, used: Duration) {
        self.node.gateway.clock().use_processors(used);
        tokio::time::advance(Duration::from_millis(700)).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    /// How many of a thousand requests of each worth are let in.
    fn let_in(&self) -> [usize; 5] {
        Worth::ALL.map(|worth| (0..1_000).filter(|_| self.node.gateway.check_load(worth).is_ok()).count())
    }

    fn figure(&self, name: &str) -> f64 {
        let text = self.node.gateway.metrics().text().unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_provider_sheds_nothing() {
    let shop = Shop::open(|_| {}).await;
    shop.node.providers.set(Duration::from_secs(8));
    for round in 0..6 {
        shop.trade(&format!("O-{round}"), 10).await;
        assert_eq!(shop.node.severity(), 0);
    }
    assert_eq!(shop.let_in(), [1_000; 5]);
    assert_eq!(shop.figure("tollgate_commit_seconds"), 0.0);
    shop.node.gateway.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_sheds_by_worth_slowly_and_stops_more_slowly() {
    let shop = Shop::open(|_| {}).await;
    shop.trade("before", 5).await;
    assert_eq!(shop.node.severity(), 0);
    shop.node.commits.set(Duration::from_secs(3));
    let mut before = 0;
    for second in 0..30 {
        shop.trade(&format!("slow-{second}"), 1).await;
        let severity = shop.node.severity();
        assert!((before..=before + 75).contains(&severity), "{before} to {severity}: at most 50 a second");
        before = severity;
        let [lists, queries, manages, creates, finishes] = shop.let_in();
        assert!(lists <= queries && queries <= manages && manages <= creates && creates <= finishes);
        assert!(severity <= 200 || lists == 0, "{severity} {lists}");
        assert!(severity >= 600 || creates == 1_000, "{severity} {creates}");
    }
    assert_eq!(before, 1_000);
    let [.., creates, finishes] = shop.let_in();
    assert!(creates == 0 && (50..=150).contains(&finishes), "{creates} {finishes}");
    assert!(shop.figure("tollgate_commit_seconds") >= 3.0);
    assert_eq!(shop.figure("tollgate_shedding_severity"), 1_000.0);
    assert!(shop.figure("tollgate_shed_requests_total{worth=\"list\"}") > 1_000.0);

    shop.node.commits.set(Duration::ZERO);
    // What waits for the disk is done first.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut before = shop.node.severity();
    for second in 0..70 {
        shop.trade(&format!("after-{second}"), 1).await;
        let severity = shop.node.severity();
        assert!(severity <= before && before - severity <= 26, "{before} to {severity}: at most 17 a second");
        before = severity;
    }
    assert_eq!(before, 0);
    assert_eq!(shop.let_in(), [1_000; 5]);
    shop.node.gateway.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_sheds_although_no_commit_ends() {
    let shop = Shop::open(|_| {}).await;
    shop.node.commits.set(Duration::from_secs(10_000));
    shop.trade("O", 1).await;
    tokio::time::sleep(Duration::from_secs(22)).await;
    assert_eq!(shop.node.severity(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn other_targets_hold_at_once_and_off_is_off() {
    let shop = Shop::open(|_| {}).await;
    let by = Operator::process("signal");
    let mut config = shop.node.gateway.config().clone();
    shop.node.commits.set(Duration::from_secs(2));
    shop.trade("slow", 10).await;
    assert!(shop.node.severity() > 200);
    config.limits.adaptive.commit_ms = 30_000;
    assert_eq!(shop.node.gateway.reload(&config, &by).await.unwrap().applied, ["limits.adaptive.commit_ms"]);
    let before = shop.node.severity();
    shop.trade("allowed", 5).await;
    assert!((1..before).contains(&shop.node.severity()), "it falls, slowly");
    config.limits.adaptive.enabled = false;
    config.limits.adaptive.commit_ms = 500;
    shop.node.gateway.reload(&config, &by).await.unwrap();
    assert_eq!(shop.node.severity(), 0);
    shop.trade("slow-again", 10).await;
    assert_eq!(shop.let_in(), [1_000; 5]);
    shop.node.gateway.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_for_limits_sheds_as_much_as_it_calls_for() {
    let shop = Shop::open(|_| {}).await;
    // From now on the merchant's limits are in memory.
    shop.wait_for_limits(Duration::ZERO).await;
    // One wait between each look and the next.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..60 {
        shop.wait_for_limits(Duration::from_millis(100)).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(shop.figure("tollgate_mailbox_delay_seconds"), 0.1);
    assert_eq!(shop.node.severity(), 250, "twice the target");
    let [lists, _, manages, creates, finishes] = shop.let_in();
    assert_eq!((lists, manages, creates, finishes), (0, 1_000, 1_000, 1_000));
    // Shorter waits, as short as they may be: it goes on as long as before, less and less.
    for _ in 0..180 {
        shop.wait_for_limits(Duration::from_millis(50)).await;
        tokio::time::sleep(Duration::from_millis(450)).await;
    }
    assert_eq!(shop.figure("tollgate_mailbox_delay_seconds"), 0.05);
    assert_eq!(shop.node.severity(), 0);
    shop.node.gateway.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn late_timers_shed_while_the_processors_are_all_in_use_and_only_then() {
    let shop = Shop::open(|_| {}).await;
    for _ in 0..50 {
        shop.late_timer(Duration::ZERO).await;
        assert_eq!(shop.node.severity(), 0);
    }
    assert_eq!(shop.figure("tollgate_timer_lag_seconds"), 0.2);
    for _ in 0..50 {
        shop.late_timer(Duration::from_millis(700)).await;
    }
    assert_eq!(shop.figure("tollgate_processor_ratio"), 1.0);
    assert_eq!(shop.node.severity(), 750, "four times the target");
    let [lists, queries, manages, creates, finishes] = shop.let_in();
    assert_eq!((lists, queries, manages, finishes), (0, 0, 0, 1_000));
    assert!((150..=350).contains(&creates), "{creates}");
    // Something else makes them late.
    let before = shop.node.severity();
    shop.late_timer(Duration::from_millis(300)).await;
    assert!(shop.node.severity() < before);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(shop.node.severity(), 0);
    shop.node.gateway.stop().await.unwrap();
}

#[test]
fn the_watch_tells_lateness_and_the_share_of_all_processors() {
    let ms = Duration::from_millis;
    let mut watch = Watch { looked_at: Monotonic::from_micros(7_000), used: ms(100) };
    let mut look_within =
        |at_ms: u64, used_ms, allowed| watch.look(Monotonic::from_micros(at_ms * 1_000), ms(used_ms), allowed);
    let two = Allowance { permille: 2_000, was_throttled: false };
    let mut look = |at_ms, used_ms| look_within(at_ms, used_ms, two);
    assert_eq!(look(507, 600), (ms(500), ms(0), 500));
    assert_eq!(look(1_107, 1_800), (ms(600), ms(100), 1_000));
    // A clock that stands still.
    assert_eq!(look(1_107, 1_800), (ms(0), ms(0), 0));
    // Half of one is all that it may use.
    let half = Allowance { permille: 500, was_throttled: false };
    assert_eq!(look_within(1_607, 2_050, half), (ms(500), ms(0), 1_000));
    assert_eq!(look_within(2_107, 2_175, half), (ms(500), ms(0), 500));
    // Held back at once, although it used little over all.
    let held_back = Allowance { was_throttled: true, ..two };
    assert_eq!(look_within(2_607, 2_275, held_back), (ms(500), ms(0), 1_000));
    assert_eq!(look_within(3_107, 4_275, held_back), (ms(500), ms(0), 2_000));
}
