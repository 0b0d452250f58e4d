//! Changes reach everybody, also when whoever asked for them has gone.

use std::pin::Pin;

use futures_util::FutureExt;
use tokio::sync::Semaphore;

use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::time::Timestamp;
use crate::gateway::auth::{Authentication, Credentials};
use crate::gateway::command::{ChangeLimits, ChangedLimits};
use crate::random::Random;
use crate::storage::memory::MemoryStore;
use crate::storage::vault::Vault;
use crate::storage::{CommitFuture, Health, Row, Store};

/// A store whose commits are done at once and acknowledged when the test lets them.
struct GatedStore {
    store: MemoryStore,
    acknowledgements: Arc<Semaphore>,
}

impl Store for GatedStore {
    fn commit(&self, batch: Batch) -> CommitFuture {
        let committed = self.store.commit(batch);
        let acknowledgements = Arc::clone(&self.acknowledgements);
        Box::pin(async move {
            let committed = committed.await;
            acknowledgements.acquire().await.unwrap().forget();
            committed
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.store.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        self.store.scan(scan)
    }

    fn health(&self) -> Health {
        self.store.health()
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        self.store.failed()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.store.close()
    }
}

fn by() -> Operator {
    Operator::process("test")
}

struct Bench {
    merchants: Merchants,
    authentication: Authentication,
    core: Core,
    acknowledgements: Arc<Semaphore>,
}

impl Bench {
    fn new() -> Self {
        let acknowledgements = Arc::new(Semaphore::new(0));
        let store = GatedStore { store: MemoryStore::new(), acknowledgements: Arc::clone(&acknowledgements) };
        let random = Random::seeded(1);
        let core = Core::new(
            Arc::new(store),
            Clock::manual(Timestamp::from_unix_s(1_737_715_200)),
            random.clone(),
            Config::embedded().unwrap(),
            Vault::with_key(&[7; 32], random),
        );
        let merchants = Merchants::new(core.clone(), Box::new(|_, _| Box::pin(async {})), Box::new(|_, _, _| {}));
        Self { merchants, authentication: Authentication::new(core.clone()), core, acknowledgements }
    }

    async fn merchant(&self) -> NewMerchantView {
        self.acknowledgements.add_permits(1);
        let command = CreateMerchant {
            name: "shop".to_owned(),
            tier: "starter".to_owned(),
            country: None,
            limits: None,
            channels: None,
        };
        self.merchants.create(command, &by()).await.unwrap()
    }

    fn authenticate(&self, key: &NewKeyView) -> Result<(), GatewayError> {
        let credentials = Credentials::Basic { key_id: &key.id, secret: &key.secret };
        self.authentication.check(&self.merchants, credentials).map(|_| ())
    }

    /// Begins a change, hangs up before it is acknowledged, and lets it end.
    async fn hang_up_during<T>(&self, change: impl Future<Output = Result<T, GatewayError>>) {
        let mut change = Box::pin(change);
        assert!(change.as_mut().now_or_never().is_none(), "the change waits for its acknowledgement");
        drop(change);
        self.acknowledgements.add_permits(1);
        self.core.tasks.close();
        self.core.tasks.wait().await;
    }
}

#[tokio::test]
async fn a_suspension_holds_although_the_operator_hung_up() {
    let bench = Bench::new();
    let made = bench.merchant().await;
    bench.authenticate(&made.key).unwrap();
    let suspend = UpdateMerchant { status: Some(MerchantStatus::Suspended), ..UpdateMerchant::default() };
    bench.hang_up_during(bench.merchants.update(&made.merchant.merchant_id, suspend, &by())).await;
    assert!(matches!(bench.authenticate(&made.key), Err(GatewayError::Forbidden(_))));
}

#[tokio::test]
async fn a_key_is_gone_although_the_operator_hung_up() {
    let bench = Bench::new();
    let made = bench.merchant().await;
    bench.authenticate(&made.key).unwrap();
    bench.hang_up_during(bench.merchants.delete_key(&made.merchant.merchant_id, &made.key.id, &by())).await;
    assert!(matches!(bench.authenticate(&made.key), Err(GatewayError::Unauthenticated)));
}

#[tokio::test]
async fn a_merchant_is_gone_although_the_operator_hung_up() {
    let bench = Bench::new();
    let made = bench.merchant().await;
    bench.authenticate(&made.key).unwrap();
    bench.hang_up_during(bench.merchants.delete(&made.merchant.merchant_id, &by())).await;
    assert!(matches!(bench.authenticate(&made.key), Err(GatewayError::Unauthenticated)));
}

#[tokio::test]
async fn a_merchant_that_is_removed_leaves_its_webhooks_to_a_job() {
    let bench = Bench::new();
    let made = bench.merchant().await;
    let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let noted = Arc::clone(&told);
    bench.merchants.tell_deleted(Box::new(move |planned| {
        noted.fetch_add(usize::from(planned.has_job()), std::sync::atomic::Ordering::SeqCst);
    }));
    bench.acknowledgements.add_permits(1);
    bench.merchants.delete(&made.merchant.merchant_id, &by()).await.unwrap();
    assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), 1);
    let jobs = bench.core.store.scan(&Scan::prefix(&keys::webhook_jobs(), 10)).unwrap();
    let [job] = jobs.as_slice() else { panic!("{jobs:?}") };
    let job: WebhookJob = decode(&job.versioned.value).unwrap();
    assert_eq!((job.kind, job.merchant_id.as_str()), (JobKind::Purge, made.merchant.merchant_id.as_str()));
    assert!(bench.core.store.get(&keys::webhook_job_open(&job.id)).unwrap().is_some());
}

#[tokio::test]
async fn a_key_that_its_merchant_does_not_list_opens_nothing() {
    let bench = Bench::new();
    let made = bench.merchant().await;
    bench.authenticate(&made.key).unwrap();
    let merchant_id = MerchantId::new(made.merchant.merchant_id.as_str());
    let (mut merchant, stored) = bench.merchants.0.read(&merchant_id).unwrap();
    merchant.keys.clear();
    let mut batch = Batch::new();
    batch.replace(keys::merchant(&merchant_id), stored.revision, encode(&merchant).unwrap());
    bench.acknowledgements.add_permits(1);
    bench.core.store.commit(batch).await.unwrap();
    bench.merchants.0.merchants.forget(&merchant_id);
    assert!(matches!(bench.authenticate(&made.key), Err(GatewayError::Unauthenticated)));
}

#[tokio::test]
async fn a_burst_below_the_rate_is_refused_whoever_sets_which() {
    let bench = Bench::new();
    let made = bench.merchant().await;
    bench.acknowledgements.add_permits(10);
    let by = by();
    let update = |command| bench.merchants.update(&made.merchant.merchant_id, command, &by);
    let limits = |per_second, burst| {
        let limits = ChangedLimits { per_second: Some(per_second), burst: Some(burst), ..ChangedLimits::default() };
        UpdateMerchant { limits: Some(ChangeLimits::Merge(limits)), ..UpdateMerchant::default() }
    };
    for refused in [limits(Some(30), None), limits(None, Some(9)), limits(Some(40), Some(39))] {
        match update(refused).await {
            Err(GatewayError::InvalidRequest(errors)) => assert_eq!(errors[0].field, "limits.burst"),
            other => panic!("{other:?}"),
        }
    }
    update(limits(Some(40), Some(40))).await.unwrap();
    update(limits(None, Some(10))).await.unwrap();
    let tier = UpdateMerchant { tier: Some("premium".to_owned()), ..UpdateMerchant::default() };
    assert!(update(tier).await.is_err(), "10 at once is less than premium's 500 a second");
}

#[tokio::test]
async fn a_change_of_one_limit_leaves_the_others() {
    let bench = Bench::new();
    let made = bench.merchant().await;
    bench.acknowledgements.add_permits(10);
    let by = by();
    let merchant_id = MerchantId::new(made.merchant.merchant_id.as_str());
    for (change, own, figures) in [
        // Per second, minute, hour, burst and in flight; tier starter has 10, 500, 10,000, 20 and 10.
        (r#"{"limits":{"per_hour":5}}"#, r#"{"per_hour":5}"#, [10, 500, 5, 20, 10]),
        (r#"{"limits":{"burst":200}}"#, r#"{"per_hour":5,"burst":200}"#, [10, 500, 5, 200, 10]),
        (r#"{"limits":{}}"#, r#"{"per_hour":5,"burst":200}"#, [10, 500, 5, 200, 10]),
        (r#"{"name":"Other"}"#, r#"{"per_hour":5,"burst":200}"#, [10, 500, 5, 200, 10]),
        (
            r#"{"limits":{"concurrent":3,"per_hour":null}}"#,
            r#"{"burst":200,"concurrent":3}"#,
            [10, 500, 10_000, 200, 3],
        ),
        (r#"{"limits":null}"#, "{}", [10, 500, 10_000, 20, 10]),
    ] {
        let command: UpdateMerchant = serde_json::from_str(change).unwrap();
        assert_eq!(serde_json::from_str::<UpdateMerchant>(&serde_json::to_string(&command).unwrap()).unwrap(), command);
        let view = bench.merchants.update(merchant_id.as_str(), command, &by).await.unwrap();
        assert_eq!(serde_json::to_string(&view.limits).unwrap(), own, "{change}");
        let known = bench.merchants.merchant(&merchant_id).unwrap().figures;
        let known = [known.per_second, known.per_minute, known.per_hour, known.burst, known.concurrent];
        assert_eq!(known, figures, "{change}");
    }
}

#[tokio::test]
async fn a_merchant_can_be_suspended_whatever_the_configuration_says_of_it() {
    let bench = Bench::new();
    let made = bench.merchant().await;
    bench.acknowledgements.add_permits(10);
    let merchant_id = MerchantId::new(made.merchant.merchant_id.as_str());
    let (mut merchant, stored) = bench.merchants.0.read(&merchant_id).unwrap();
    merchant.channels = vec![ChannelName::new("closed")];
    merchant.limits.burst = Some(1);
    let mut batch = Batch::new();
    batch.replace(keys::merchant(&merchant_id), stored.revision, encode(&merchant).unwrap());
    bench.core.store.commit(batch).await.unwrap();
    let suspend = UpdateMerchant { status: Some(MerchantStatus::Suspended), ..UpdateMerchant::default() };
    bench.merchants.update(merchant_id.as_str(), suspend, &by()).await.unwrap();
    let rename = UpdateMerchant { name: Some(String::new()), ..UpdateMerchant::default() };
    assert!(bench.merchants.update(merchant_id.as_str(), rename, &by()).await.is_err());
}

#[tokio::test]
async fn no_change_of_the_configuration_shuts_a_merchant_out() {
    let bench = Bench::new();
    let made = bench.merchant().await;
    bench.acknowledgements.add_permits(10);
    let merchant_id = made.merchant.merchant_id.as_str();
    let burst = ChangeLimits::Merge(ChangedLimits { burst: Some(Some(7_200)), ..ChangedLimits::default() });
    bench
        .merchants
        .update(merchant_id, UpdateMerchant { limits: Some(burst), ..UpdateMerchant::default() }, &by())
        .await
        .unwrap();

    let mut tiers = bench.core.config.tiers.clone();
    tiers.get_mut("starter").unwrap().per_second = 1;
    bench.merchants.change_tiers(&tiers);
    bench.authenticate(&made.key).unwrap();
    let id = MerchantId::new(merchant_id);
    assert_eq!(bench.merchants.merchant(&id).unwrap().figures.burst, 3_600, "an hour's worth is the most");

    tiers.remove("starter");
    bench.merchants.change_tiers(&tiers);
    bench.authenticate(&made.key).unwrap();
    assert_eq!(bench.merchants.merchant(&id).unwrap().figures.per_hour, 50_000, "the smallest tier that is left");
    let suspend = UpdateMerchant { status: Some(MerchantStatus::Suspended), ..UpdateMerchant::default() };
    bench.merchants.update(merchant_id, suspend, &by()).await.unwrap();
}
