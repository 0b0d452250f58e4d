//! A payment capability of its own for each test.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::actors::router::{RouterHandle, setup_from_config};
use crate::actors::supervisor::{RestartBudget, Supervisor};
use crate::channels::{
    Call, Capabilities, Channel, ChargeAnswer, ChargeRequest, ChargeState, ListError, ListPage, ListedCharge,
    ListedRefund, ProviderRefs, RefundAnswer, RefundRequest, RefundState, ResolveRequest,
};
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::{Deliver, DeliveryFuture, DeliveryRequest};
use crate::domain::ids::{KeyId, MerchantId};
use crate::domain::limit::LimitFigures;
use crate::domain::merchant::{LimitOverrides, Merchant, MerchantStatus};
use crate::domain::time::Timestamp;
use crate::gateway::answer::{Answered, Renderer, Reply, StoredAnswer};
use crate::gateway::auth::Caller;
use crate::gateway::channels::ChannelSet;
use crate::gateway::command::{CreatePayment, CreateRefund};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::{IdempotencyKey, Origin};
use crate::gateway::installation::ProviderKeys;
use crate::gateway::merchants::KnownMerchant;
use crate::gateway::payments::{Payments, Refunds};
use crate::gateway::pre_auths::PreAuths;
use crate::gateway::view::PaymentView;
use crate::gateway::webhooks::Webhooks;
use crate::random::Random;
use crate::storage::memory::MemoryStore;
use crate::storage::vault::Vault;
use crate::storage::{Batch, CommitFuture, Health, Row, Scan, Store, StoreError, Urgency, Versioned, keys};

pub(in crate::gateway) const START: Timestamp = Timestamp::from_unix_s(1_790_000_000);

/// How a commit that finishes something fails.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) enum Failure {
    /// Nothing is stored.
    NoRoom,
    /// It is stored, and nobody knows.
    StoredUnknown,
    /// Somebody else was first, and nothing is stored.
    Conflict,
}

/// A store in memory that can be told to fail.
#[derive(Default)]
pub(in crate::gateway) struct UnsteadyStore {
    inner: MemoryStore,
    failures: Mutex<VecDeque<Failure>>,
    scan_failures: AtomicUsize,
    /// Looks at what is due.
    pub(super) due_scans: AtomicUsize,
}

impl UnsteadyStore {
    /// The next commits that finish something fail like this.
    pub(in crate::gateway) fn fail(&self, failures: impl IntoIterator<Item = Failure>) {
        self.failures.lock().extend(failures);
    }

    /// The next scans fail.
    pub(super) fn fail_scans(&self, count: usize) {
        self.scan_failures.store(count, Ordering::SeqCst);
    }

    pub(in crate::gateway) fn recover(&self) {
        self.failures.lock().clear();
        self.fail_scans(0);
    }
}

impl Store for UnsteadyStore {
    fn commit(&self, batch: Batch) -> CommitFuture {
        let failure = (batch.urgency == Urgency::Finish).then(|| self.failures.lock().pop_front()).flatten();
        match failure {
            None => self.inner.commit(batch),
            Some(Failure::Conflict) => Box::pin(async { Err(StoreError::Precondition { index: 0 }) }),
            Some(Failure::NoRoom) => Box::pin(async { Err(StoreError::Overloaded("full")) }),
            Some(Failure::StoredUnknown) => {
                let stored = self.inner.commit(batch);
                Box::pin(async { stored.await.and(Err(StoreError::Indeterminate(String::from("who knows")))) })
            }
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        let one_less = |left: usize| left.checked_sub(1);
        if self.scan_failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            return Err(StoreError::Io { context: String::from("x"), message: String::from("unreadable") });
        }
        if scan.start.starts_with(&keys::payments_due()) {
            self.due_scans.fetch_add(1, Ordering::SeqCst);
        }
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

/// What a channel does when it is asked, and how long it takes for it.
pub(super) struct Script {
    pub(super) charge: ChargeState,
    pub(super) resolve: ChargeState,
    pub(super) refund: RefundState,
    pub(super) takes: Duration,
    /// What its tokens begin with.
    pub(super) tokens: &'static str,
    /// Whether its questions send what may move money.
    pub(super) asking_sends_money: bool,
}

impl Default for Script {
    fn default() -> Self {
        let success = ChargeState::Success { fee_minor: None };
        Self {
            charge: success.clone(),
            resolve: success,
            refund: RefundState::Success,
            takes: Duration::ZERO,
            tokens: "",
            asking_sends_money: false,
        }
    }
}

/// What a provider says about a charge that is looked for: the key of the only one that it has, and where that stands.
type Found = Result<Option<(String, ChargeState)>, ListError>;

/// A channel that does what its script says and counts.
#[derive(Default)]
pub(super) struct ScriptedChannel {
    script: Mutex<Script>,
    pub(super) charges: AtomicUsize,
    pub(super) resolves: AtomicUsize,
    pub(super) refunds: AtomicUsize,
    /// Questions that were to close what they asked about.
    pub(super) closing: AtomicUsize,
    /// How old the keys were of what it was last asked about, at most.
    pub(super) key_ages: Mutex<Vec<Option<Duration>>>,
    /// Whether what it was last asked about can't be on its way any more.
    pub(super) settled: Mutex<Vec<bool>>,
    /// Where it was told, with each charge and question, to send what it has to tell.
    pub(super) notify_urls: Mutex<Vec<Option<String>>>,
    listed: Mutex<Option<Vec<ListedCharge>>>,
    listed_refunds: Mutex<Vec<ListedRefund>>,
    /// Lists of charges that were read.
    pub(super) lists: AtomicUsize,
    found: Mutex<Option<Found>>,
    /// Questions about charges that were forgotten here.
    pub(super) finds: AtomicUsize,
    in_flight: AtomicUsize,
    pub(super) most_in_flight: AtomicUsize,
    refunding: Mutex<HashSet<String>>,
    /// Refunds that were sent while they were being sent.
    pub(super) refunds_doubled: AtomicUsize,
}

impl ScriptedChannel {
    pub(super) fn new(script: Script) -> Arc<Self> {
        Arc::new(Self { script: Mutex::new(script), ..Self::default() })
    }

    /// What its provider lists; `None` when it has no list.
    pub(super) fn list(&self, charges: Option<Vec<ListedCharge>>) {
        *self.listed.lock() = charges;
    }

    /// What its provider lists beside charges, the newest first.
    pub(super) fn list_refunds(&self, refunds: Vec<ListedRefund>) {
        *self.listed_refunds.lock() = refunds;
    }

    /// What its provider says about charges that are looked for: none but the one with this key.
    pub(super) fn find(&self, found: Found) {
        *self.found.lock() = Some(found);
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock());
    }

    async fn work(&self, counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::SeqCst);
        let in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        let takes = self.script.lock().takes;
        tokio::time::sleep(takes).await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    fn answer(&self, state: &ChargeState, charge: &ChargeRequest) -> ChargeAnswer {
        let refs = ProviderRefs { channel_order_no: Some(charge.provider_key.clone()), ..ProviderRefs::default() };
        ChargeAnswer::with(state.clone(), refs)
    }
}

impl Channel for ScriptedChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities { charge: true, refund: true, ..Capabilities::default() }
    }

    fn takes_token(&self, token: &str) -> bool {
        token.starts_with(self.script.lock().tokens)
    }

    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(async move {
            self.notify_urls.lock().push(request.notify_url.clone());
            self.work(&self.charges).await;
            let state = self.script.lock().charge.clone();
            self.answer(&state, request)
        })
    }

    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(async move {
            if request.close {
                self.closing.fetch_add(1, Ordering::SeqCst);
            }
            self.key_ages.lock().push(request.key_age());
            self.settled.lock().push(request.is_settled());
            self.notify_urls.lock().push(request.charge.notify_url.clone());
            self.work(&self.resolves).await;
            let (state, sent_money) = {
                let script = self.script.lock();
                (script.resolve.clone(), script.asking_sends_money)
            };
            ChargeAnswer { sent_money, ..self.answer(&state, &request.charge) }
        })
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        Box::pin(async move {
            if !self.refunding.lock().insert(request.refund_reference.clone()) {
                self.refunds_doubled.fetch_add(1, Ordering::SeqCst);
            }
            self.key_ages.lock().push(request.key_age());
            self.settled.lock().push(request.is_settled());
            self.work(&self.refunds).await;
            self.refunding.lock().remove(&request.refund_reference);
            RefundAnswer { state: self.script.lock().refund.clone(), channel_refund_no: None }
        })
    }

    fn find_charge<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, Result<Option<ChargeAnswer>, ListError>> {
        Box::pin(async move {
            self.finds.fetch_add(1, Ordering::SeqCst);
            let found = self.found.lock().clone().unwrap_or(Err(ListError::NotSupported))?;
            let found = found.filter(|(key, _)| *key == request.charge.provider_key);
            Ok(found.map(|(_, state)| self.answer(&state, &request.charge)))
        })
    }

    fn list_charges<'a>(
        &'a self,
        _since: Timestamp,
        _after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedCharge>, ListError>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        let listed = self.listed.lock().clone();
        let page = listed.map(|items| ListPage { items, next: None }).ok_or(ListError::NotSupported);
        Box::pin(std::future::ready(page))
    }

    fn list_refunds<'a>(
        &'a self,
        since: Timestamp,
        _after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedRefund>, ListError>> {
        let mut items = self.listed_refunds.lock().clone();
        items.retain(|refund| refund.created_at >= since);
        Box::pin(std::future::ready(Ok(ListPage { items, next: None })))
    }
}

/// Sends nothing.
pub(in crate::gateway) struct NoNetwork;

impl Deliver for NoNetwork {
    fn deliver(&self, _request: DeliveryRequest) -> DeliveryFuture<'_> {
        Box::pin(std::future::pending())
    }
}

/// Payments over two channels, `stripe` and `alipay`, as one process has them.
pub(super) struct Fixture {
    pub(super) payments: Payments,
    pub(super) pre_auths: PreAuths,
    pub(super) store: Arc<UnsteadyStore>,
    pub(super) core: Core,
    pub(super) stripe: Arc<ScriptedChannel>,
    pub(super) alipay: Arc<ScriptedChannel>,
    pub(super) caller: Caller,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::over(Arc::default(), &Clock::virtual_from(START), |_| {}).await
    }

    /// A process that finds this store. The clock is the test's.
    pub(super) async fn over(store: Arc<UnsteadyStore>, clock: &Clock, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::embedded().unwrap();
        change(&mut config);
        let random = Random::seeded(u64::try_from(clock.now().unix_ms()).unwrap());
        let core = Core::new(
            Arc::clone(&store) as Arc<dyn Store>,
            clock.clone(),
            random.clone(),
            config,
            Vault::with_key(&[7; 32], random),
        );
        let (stripe, alipay) = (ScriptedChannel::new(Script::default()), ScriptedChannel::new(Script::default()));
        let channels =
            [("stripe", Arc::clone(&stripe) as Arc<dyn Channel>), ("alipay", Arc::clone(&alipay) as Arc<dyn Channel>)];
        let configured = channels.into_iter().filter(|(name, _)| core.config.channels.contains_key(*name));
        let channels = Arc::new(ChannelSet::of(configured));
        let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await.unwrap();
        let setup = setup_from_config(&core.config, &channels.abilities()).unwrap();
        let router = RouterHandle::start(setup, clock.clone(), &supervisor).await.unwrap();
        let webhooks = Webhooks::start(core.clone(), Arc::new(NoNetwork)).await.unwrap();
        let keys = ProviderKeys::for_tests();
        let payments =
            Payments::new(core.clone(), router.clone(), Arc::clone(&channels), webhooks.clone(), keys.clone()).unwrap();
        let pre_auths = PreAuths::new(core.clone(), payments.clone(), router, channels, webhooks, keys).unwrap();
        Self { payments, pre_auths, store, core, stripe, alipay, caller: caller() }
    }

    pub(super) async fn pay(&self, order_no: &str) -> Result<Answered, GatewayError> {
        self.pay_with(order_no, |_| {}).await
    }

    /// Pays by way of `stripe` unless the change says otherwise, under a key that is the order's.
    pub(super) async fn pay_with(
        &self,
        order_no: &str,
        change: impl FnOnce(&mut CreatePayment),
    ) -> Result<Answered, GatewayError> {
        let mut command: CreatePayment = serde_json::from_value(serde_json::json!({
            "order_no": order_no, "amount": 900, "currency": "USD", "channel": "stripe",
        }))
        .unwrap();
        change(&mut command);
        self.payments.create(&self.caller, origin(order_no), command).await
    }

    /// The same order and key as [`Fixture::pay`], sent with another body.
    pub(super) async fn pay_with_body(&self, order_no: &str, body: &[u8]) -> Result<Answered, GatewayError> {
        let idempotency = IdempotencyKey::new("POST", "/x", order_no, body).unwrap();
        let origin = Origin { idempotency: Some(idempotency), claim: None, permit: None, renderer: renderer() };
        let command = serde_json::from_value(serde_json::json!({
            "order_no": order_no, "amount": 900, "currency": "USD", "channel": "stripe",
        }))
        .unwrap();
        self.payments.create(&self.caller, origin, command).await
    }

    pub(super) async fn refund(&self, payment_no: &str, key: &str) -> Result<Answered, GatewayError> {
        let command = CreateRefund { amount: Some(100), reason: None };
        Refunds::new(self.payments.clone()).create(&self.caller, origin(key), payment_no, command).await
    }

    pub(super) async fn cancel(&self, payment_no: &str, key: &str) -> Result<Answered, GatewayError> {
        self.payments.cancel(&self.caller, origin(key), payment_no).await
    }

    /// All payments, newest first.
    pub(super) fn all(&self) -> Vec<PaymentView> {
        self.page(None).items
    }

    pub(super) fn page(&self, cursor: Option<String>) -> crate::gateway::page::Page<PaymentView> {
        let page = crate::gateway::page::PageRequest { limit: Some(100), cursor };
        self.payments.list(&self.caller, &Default::default(), &page).unwrap()
    }

    pub(super) fn only(&self) -> PaymentView {
        let [only] = self.all().try_into().unwrap();
        only
    }
}

/// Lets virtual time pass, and with it everything that waits for less.
pub(super) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The status and payment status of an answer.
pub(super) fn told(answered: &Answered) -> (u16, &str) {
    (answered.answer.status, answered.answer.body.split(' ').next().unwrap())
}

pub(super) fn origin(key: &str) -> Origin {
    let idempotency = IdempotencyKey::new("POST", "/x", key, b"{}").unwrap();
    Origin { idempotency: Some(idempotency), claim: None, permit: None, renderer: renderer() }
}

fn renderer() -> Renderer {
    Arc::new(|reply| {
        let (status, word, object) = match reply {
            Reply::PaymentCreated(view) => (201, view.status.clone(), format!("{view:?}")),
            Reply::PaymentNotTaken(view) => (502, view.status.clone(), format!("{view:?}")),
            Reply::PaymentCanceled(view) => (200, view.status.clone(), format!("{view:?}")),
            Reply::RefundCreated(view) => (201, view.status.clone(), format!("{view:?}")),
            Reply::RefundNotDone(view) => (502, view.status.clone(), format!("{view:?}")),
            other => panic!("{other:?} is no answer about a payment"),
        };
        let status = if matches!(word.as_str(), "processing" | "pending") { 202 } else { status };
        StoredAnswer { status, body: format!("{word} {object}") }
    })
}

pub(in crate::gateway) fn caller() -> Caller {
    let merchant = Arc::new(Merchant {
        merchant_id: MerchantId::new("m_1"),
        name: String::from("A shop"),
        tier: String::from("business"),
        country: None,
        limits: LimitOverrides::default(),
        channels: Vec::new(),
        status: MerchantStatus::Active,
        keys: Vec::new(),
        created_at: START,
        updated_at: START,
    });
    let figures = LimitFigures { per_second: 1, per_minute: 1, per_hour: 1, burst: 1, concurrent: 1 };
    let known = KnownMerchant { merchant: Arc::clone(&merchant), figures, revision: 1 };
    Caller { merchant, key_id: KeyId::new("ak_1"), known }
}
