//! Who comes near a limit is told so once, and the operator finds the fullest.

use super::*;
use crate::actors::merchant::NearLimit;
use crate::domain::limit::RefusedBy;

/// Remembers what it is told.
#[derive(Default)]
struct Notes {
    near: Mutex<Vec<(String, Policy, u8)>>,
    refused: Mutex<Vec<Policy>>,
    admitted: AtomicUsize,
    leases_expired: AtomicUsize,
    merchants: AtomicUsize,
}

impl LimitObserver for Notes {
    fn waited(&self, _waited: std::time::Duration) {}
    fn admitted(&self) {
        self.admitted.fetch_add(1, Ordering::SeqCst);
    }

    fn refused(&self, limit: Policy) {
        self.refused.lock().push(limit);
    }

    fn near(&self, near: NearLimit) {
        self.near.lock().push((near.merchant_id.to_string(), near.passed.policy, near.passed.percent));
    }

    fn leases_expired(&self, leases: u64) {
        self.leases_expired.fetch_add(usize::try_from(leases).unwrap(), Ordering::SeqCst);
    }

    fn merchant_came(&self) {
        self.merchants.fetch_add(1, Ordering::SeqCst);
    }

    fn merchant_went(&self) {
        self.merchants.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn observed() -> (Bench, Arc<Notes>) {
    observed_by(Clock::manual(START)).await
}

async fn observed_by(clock: Clock) -> (Bench, Arc<Notes>) {
    let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await.unwrap();
    let (shelf, notes) = (Arc::new(Shelf::default()), Arc::new(Notes::default()));
    let directory = MerchantDirectory::start_observed(
        SETTINGS,
        clock.clone(),
        Arc::clone(&shelf) as _,
        supervisor.clone(),
        NearSettings::new(&[80, 95], 600),
        Arc::clone(&notes) as _,
    );
    (Bench { directory, clock, shelf, supervisor }, notes)
}

fn told(limit: Policy, percent: u8) -> (String, Policy, u8) {
    (String::from("m_1"), limit, percent)
}

#[tokio::test]
async fn a_merchant_is_told_once_at_each_share_and_again_after_its_silence() {
    let (bench, notes) = observed().await;
    assert_eq!(bench.admitted(15).await, 15);
    assert!(notes.near.lock().is_empty());
    assert_eq!(bench.admitted(50).await, 5);
    let both = [told(Policy::Second, 80), told(Policy::Second, 95)];
    assert_eq!(*notes.near.lock(), both);
    // Put away and back again, it is still silent.
    assert!(bench.put_away().await);
    bench.clock.advance(Duration::from_secs(300));
    assert_eq!(bench.admitted(50).await, 20);
    assert_eq!(*notes.near.lock(), both);
    bench.clock.advance(Duration::from_secs(301));
    assert_eq!(bench.admitted(50).await, 20);
    assert_eq!(*notes.near.lock(), [both.clone(), both].concat());
}

#[tokio::test]
async fn what_is_charged_for_a_crash_is_not_told_about() {
    let (bench, notes) = observed().await;
    let until = START.plus(Duration::from_millis(1));
    *bench.shelf.unseen.lock() = vec![UnseenSpan::new(START.minus(Duration::from_secs(3_000)), until)];
    bench.clock.advance(Duration::from_secs(61));
    // The hour is charged in full, so that nothing is let through.
    assert_eq!(bench.admitted(1_000).await, 0);
    assert!(notes.near.lock().is_empty());
    // Likewise when one actor fails.
    let (bench, notes) = observed().await;
    assert_eq!(bench.admitted(3).await, 3);
    bench.fail().await;
    bench.clock.advance(Duration::from_millis(1_900));
    bench.admitted(50).await;
    bench.clock.advance(Duration::from_secs(3));
    assert_eq!(bench.admitted(50).await, 20);
    assert!(notes.near.lock().is_empty());
}

#[tokio::test]
async fn refusals_are_told_and_counted_by_limit_also_beside_the_mailbox() {
    let (bench, notes) = observed().await;
    let mut permits = Vec::new();
    for _ in 0..10 {
        permits.push(bench.admit().await.unwrap().permit);
    }
    assert_eq!(refusal(bench.admit().await).limit(), Policy::Concurrency);
    permits.truncate(4);
    assert_eq!(bench.admitted(13).await, 10);
    let usage = bench.usage().await.unwrap();
    assert_eq!((usage.today.admitted, usage.today.refused, usage.today.peak_concurrency), (20, 4, 10));
    assert_eq!(usage.today.refused_by, RefusedBy { second: 3, concurrency: 1, ..RefusedBy::default() });
    assert_eq!(*notes.refused.lock(), [Policy::Concurrency, Policy::Second, Policy::Second, Policy::Second]);
    assert_eq!(notes.admitted.load(Ordering::SeqCst), 20);
    drop(permits);
    assert!(bench.put_away().await);
    assert_eq!(bench.usage().await.unwrap().today, usage.today);
}

#[tokio::test]
async fn expired_permits_and_merchants_in_memory_are_told() {
    let (bench, notes) = observed().await;
    let lost: Vec<_> = [bench.admit().await.unwrap().permit, bench.admit().await.unwrap().permit].into();
    assert_eq!(notes.merchants.load(Ordering::SeqCst), 1);
    bench.clock.advance(Duration::from_secs(61));
    assert_eq!(bench.usage().await.unwrap().leases_expired_total, 2);
    assert!(bench.usage().await.unwrap().is_active);
    drop(lost);
    assert_eq!(notes.leases_expired.load(Ordering::SeqCst), 2, "never counted twice");
    assert!(bench.put_away().await);
    assert_eq!(notes.merchants.load(Ordering::SeqCst), 0);
    assert!(!bench.usage().await.unwrap().is_active);
}

#[tokio::test]
async fn the_fullest_come_first_as_they_stand_now() {
    let (bench, _notes) = observed().await;
    for (merchant, requests) in [("m_1", 4), ("m_2", 18), ("m_3", 9)] {
        for _ in 0..requests {
            drop(bench.directory.admit(request(merchant)).await.unwrap());
        }
    }
    let fullest = |found: Vec<FullMerchant>| -> Vec<(String, Policy, u32)> {
        let shown = |one: FullMerchant| (one.merchant_id.to_string(), one.view.most_used().0, one.view.most_used().1);
        found.into_iter().map(shown).collect()
    };
    let of = |merchant: &str, thousandths: u32| (String::from(merchant), Policy::Second, thousandths);
    let all = fullest(bench.directory.fullest(10, 0).await);
    assert_eq!(all, [of("m_2", 900), of("m_3", 450), of("m_1", 200)]);
    assert_eq!(fullest(bench.directory.fullest(1, 0).await), [of("m_2", 900)]);
    assert_eq!(fullest(bench.directory.fullest(10, 800).await), [of("m_2", 900)]);
    // Who was full is not any more, although it has not asked since.
    bench.clock.advance(Duration::from_secs(3));
    for _ in 0..2 {
        drop(bench.directory.admit(request("m_1")).await.unwrap());
    }
    assert_eq!(fullest(bench.directory.fullest(1, 0).await), [of("m_1", 100)]);
    assert!(bench.directory.fullest(10, 800).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn permits_of_a_merchant_that_asks_for_nothing_any_more_are_taken_back_in_time() {
    let (bench, notes) = observed_by(Clock::virtual_from(START)).await;
    let lost: Vec<_> = [bench.admit().await.unwrap().permit, bench.admit().await.unwrap().permit].into();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let running = bench.admit().await.unwrap().permit;
    tokio::time::sleep(Duration::from_secs(36)).await;
    assert_eq!(notes.leases_expired.load(Ordering::SeqCst), 2, "nobody has asked since");
    assert_eq!(bench.slot().held().leases.in_use(), 1);
    drop(lost);
    assert_eq!(bench.slot().held().leases.in_use(), 1, "a late return frees nothing");
    drop(running);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(notes.leases_expired.load(Ordering::SeqCst), 2, "counted once, and not what was given back");
    assert_eq!(bench.usage().await.unwrap().leases_expired_total, 2);
}
