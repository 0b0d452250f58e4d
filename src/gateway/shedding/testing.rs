//! A gateway whose store and providers are as slow as a test wants them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::channels::{
    Call, Capabilities, Channel, ChargeAnswer, ChargeRequest, ChargeState, ProviderRefs, RefundAnswer, RefundRequest,
    RefundState, ResolveRequest,
};
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::{Deliver, DeliveryFuture, DeliveryRequest};
use crate::domain::audit::Operator;
use crate::domain::ids::ChannelName;
use crate::gateway::Gateway;
use crate::gateway::command::CreateMerchant;
use crate::gateway::outside::{DiskWork, MasterKey, Outside};
use crate::gateway::view::NewMerchantView;
use crate::random::Random;
use crate::storage::memory::MemoryStore;
use crate::storage::whole_file::DirectoryFiles;
use crate::storage::{Batch, CommitFuture, Health, Row, Scan, Store, StoreError, Versioned};

/// How long something takes.
#[derive(Clone, Default)]
pub(crate) struct Takes(Arc<AtomicU64>);

impl Takes {
    pub(crate) fn set(&self, takes: Duration) {
        self.0.store(u64::try_from(takes.as_millis()).unwrap(), Ordering::SeqCst);
    }

    async fn pass(&self) {
        let takes = Duration::from_millis(self.0.load(Ordering::SeqCst));
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
    }
}

struct SlowStore {
    inner: MemoryStore,
    takes: Takes,
    is_full: Arc<AtomicBool>,
}

impl Store for SlowStore {
    fn commit(&self, batch: Batch) -> CommitFuture {
        if self.is_full.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::Overloaded("too much is to be written")) });
        }
        let (committing, takes) = (self.inner.commit(batch), self.takes.clone());
        Box::pin(async move {
            takes.pass().await;
            committing.await
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        self.inner.scan(scan)
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        self.inner.failed()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

/// Approves everything in its own time.
struct SlowChannel(Takes);

impl SlowChannel {
    async fn approve(&self, charge: &ChargeRequest) -> ChargeAnswer {
        self.0.pass().await;
        let refs = ProviderRefs { channel_order_no: Some(charge.provider_key.clone()), ..ProviderRefs::default() };
        ChargeAnswer::with(ChargeState::Success { fee_minor: None }, refs)
    }
}

impl Channel for SlowChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities { charge: true, refund: true, ..Capabilities::default() }
    }

    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(self.approve(request))
    }

    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(self.approve(&request.charge))
    }

    fn refund<'a>(&'a self, _request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        Box::pin(async {
            self.0.pass().await;
            RefundAnswer { state: RefundState::Success, channel_refund_no: None }
        })
    }
}

struct NoNetwork;

impl Deliver for NoNetwork {
    fn deliver(&self, _request: DeliveryRequest) -> DeliveryFuture<'_> {
        Box::pin(std::future::pending())
    }
}

/// A gateway, and what it stands on.
pub(crate) struct Node {
    pub(crate) gateway: Gateway,
    /// How long a commit takes.
    pub(crate) commits: Takes,
    /// Whether every commit is refused.
    pub(crate) is_full: Arc<AtomicBool>,
    /// How long a call of a provider takes.
    pub(crate) providers: Takes,
    _directory: tempfile::TempDir,
}

impl Node {
    pub(crate) async fn start(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::embedded().unwrap();
        change(&mut config);
        let directory = tempfile::tempdir().unwrap();
        let (commits, providers, is_full) = (Takes::default(), Takes::default(), Arc::default());
        let channel = |name| (ChannelName::new(name), Arc::new(SlowChannel(providers.clone())) as Arc<dyn Channel>);
        let outside = Outside {
            store: Arc::new(SlowStore {
                inner: MemoryStore::new(),
                takes: commits.clone(),
                is_full: Arc::clone(&is_full),
            }),
            master_key: MasterKey::Given([7; 32]),
            windows: Arc::new(DirectoryFiles::new(directory.path())),
            disk_work: DiskWork::InPlace,
            channels: BTreeMap::from(["stripe", "alipay"].map(channel)),
            deliver: Arc::new(NoNetwork),
            admin_tokens: Vec::new(),
        };
        let gateway = Gateway::assemble(config, clock, Random::seeded(7), outside).await.unwrap();
        Self { gateway, commits, is_full, providers, _directory: directory }
    }

    /// A merchant of tier `premium`.
    pub(crate) async fn merchant(&self) -> NewMerchantView {
        let command = CreateMerchant {
            name: String::from("A shop"),
            tier: String::from("premium"),
            country: None,
            limits: None,
            channels: None,
        };
        self.gateway.merchants().create(command, &Operator::process("test")).await.unwrap()
    }

    /// Sheds as at this severity until the next look; without looks (`enabled = false`) for good.
    pub(crate) fn shed_as_at(&self, severity: u32) {
        self.gateway.0.shedding.put_in_force(severity);
    }

    /// How much is shed.
    pub(crate) fn severity(&self) -> u32 {
        self.gateway.0.shedding.severity.load(Ordering::Relaxed)
    }
}
