//! Notifications of their own for each test, from a provider that says and answers what the test wants.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::actors::router::{RouterHandle, setup_from_config};
use crate::actors::supervisor::{RestartBudget, Supervisor};
use crate::channels::{
    Acknowledgement, AuthorizeRequest, Call, Capabilities, Channel, ChargeAnswer, ChargeRequest, ChargeState,
    DisputeHint, HoldAnswer, HoldQuestion, HoldState, Inbound, ListError, Notification, NotificationRefusal,
    ProviderRefs, RefundAnswer, RefundRequest, RefundState, ResolveRequest, Subject,
};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::ids::{MerchantId, PaymentNo, PreAuthNo};
use crate::domain::inbox::InboxRow;
use crate::domain::payment::Payment;
use crate::domain::pre_auth::PreAuth;
use crate::gateway::answer::{Renderer, Reply, StoredAnswer};
use crate::gateway::auth::Caller;
use crate::gateway::callbacks::Callbacks;
use crate::gateway::channels::ChannelSet;
use crate::gateway::command::{CreatePayment, CreatePreAuth, PaymentFilter};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::Origin;
use crate::gateway::installation::ProviderKeys;
use crate::gateway::payments::Payments;
use crate::gateway::payments::tests::fixture::{NoNetwork, START, caller};
use crate::gateway::pre_auths::PreAuths;
use crate::gateway::webhooks::Webhooks;
use crate::random::Random;
use crate::storage::memory::MemoryStore;
use crate::storage::record::decode;
use crate::storage::vault::Vault;
use crate::storage::{Batch, CommitFuture, Health, Row, Scan, Store, StoreError, Urgency, Versioned, keys};

/// What the provider says and does.
pub(super) struct Mood {
    pub(super) charge: ChargeState,
    pub(super) resolve: ChargeState,
    pub(super) hold: HoldState,
    pub(super) refund: RefundState,
    /// How long it takes for a charge.
    pub(super) charge_takes: Duration,
    /// Our names by its numbers; none when it can't be asked for them.
    pub(super) names: Option<BTreeMap<String, Subject>>,
}

pub(super) struct Provider {
    mood: Mutex<Mood>,
    pub(super) resolves: AtomicUsize,
    pub(super) holds_asked: AtomicUsize,
    pub(super) refunds: AtomicUsize,
    pub(super) names_asked: AtomicUsize,
}

impl Provider {
    fn new() -> Self {
        let waits = ChargeState::ActionRequired { next_action: None, expires_at: None };
        let mood = Mood {
            charge: waits,
            resolve: ChargeState::Success { fee_minor: None },
            hold: HoldState::AwaitsMethod { failure: None, next_action: None, expires_at: None },
            refund: RefundState::Success,
            charge_takes: Duration::ZERO,
            names: None,
        };
        let none = || AtomicUsize::new(0);
        Self { mood: Mutex::new(mood), resolves: none(), holds_asked: none(), refunds: none(), names_asked: none() }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Mood)) {
        change(&mut self.mood.lock());
    }

    /// Calls of any kind that notifications led to.
    pub(super) fn asked(&self) -> usize {
        let counters = [&self.resolves, &self.holds_asked, &self.refunds, &self.names_asked];
        counters.into_iter().map(|counter| counter.load(Ordering::SeqCst)).sum()
    }

    fn refs(reference: &str) -> ProviderRefs {
        ProviderRefs { channel_order_no: Some(format!("ch_{reference}")), ..ProviderRefs::default() }
    }
}

/// A field of a notification that may not be there.
fn text(value: &Value, field: &str) -> Option<String> {
    value[field].as_str().map(str::to_owned)
}

impl Channel for Provider {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            charge: true,
            refund: true,
            pre_auth: true,
            partial_capture: true,
            notifications: true,
            ..Capabilities::default()
        }
    }

    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(async move {
            let (state, takes) = {
                let mood = self.mood.lock();
                (mood.charge.clone(), mood.charge_takes)
            };
            tokio::time::sleep(takes).await;
            ChargeAnswer::with(state, Self::refs(&request.reference))
        })
    }

    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(async move {
            self.resolves.fetch_add(1, Ordering::SeqCst);
            let state = self.mood.lock().resolve.clone();
            ChargeAnswer::with(state, Self::refs(&request.charge.reference))
        })
    }

    fn refund<'a>(&'a self, _request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        Box::pin(async move {
            self.refunds.fetch_add(1, Ordering::SeqCst);
            RefundAnswer { state: self.mood.lock().refund.clone(), channel_refund_no: None }
        })
    }

    fn authorize<'a>(&'a self, request: &'a AuthorizeRequest) -> Call<'a, HoldAnswer> {
        Box::pin(async move {
            let state = self.mood.lock().hold.clone();
            HoldAnswer { refs: Self::refs(&request.reference), ..HoldAnswer::bare(state) }
        })
    }

    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Call<'a, HoldAnswer> {
        Box::pin(async move {
            self.holds_asked.fetch_add(1, Ordering::SeqCst);
            let state = self.mood.lock().hold.clone();
            HoldAnswer { refs: Self::refs(&question.hold.reference), ..HoldAnswer::bare(state) }
        })
    }

    fn verify<'a>(&'a self, inbound: &'a Inbound) -> Call<'a, Result<Notification, NotificationRefusal>> {
        Box::pin(async move {
            match inbound.header("x-sig") {
                Some("right") => {}
                Some("stale") => return Err(NotificationRefusal::Stale),
                Some("account") => return Err(NotificationRefusal::WrongAccount),
                Some("mode") => return Err(NotificationRefusal::WrongMode),
                Some("unsupported") => return Err(NotificationRefusal::NotSupported),
                Some("certificate") => return Err(NotificationRefusal::CertificateUnavailable("gone".to_owned())),
                _ => return Err(NotificationRefusal::Signature("it is wrong")),
            }
            let event: Value =
                serde_json::from_slice(&inbound.body).map_err(|_| NotificationRefusal::Malformed("it is none"))?;
            let subject = |subject: &Value| Subject {
                reference: text(subject, "reference"),
                merchant_id: text(subject, "merchant_id"),
                provider_key: text(subject, "provider_key"),
                provider_no: text(subject, "provider_no"),
            };
            Ok(Notification {
                id: text(&event, "id").unwrap_or_default(),
                event: "happened".to_owned(),
                subjects: event["subjects"].as_array().map(|all| all.iter().map(subject).collect()).unwrap_or_default(),
                dispute: text(&event, "dispute").map(|dispute_no| DisputeHint { dispute_no }),
            })
        })
    }

    fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement { content_type: "text/plain", body: "success" }
    }

    fn names_of<'a>(&'a self, provider_no: &'a str) -> Call<'a, Result<Option<Subject>, ListError>> {
        Box::pin(async move {
            self.names_asked.fetch_add(1, Ordering::SeqCst);
            let names = self.mood.lock().names.clone().ok_or(ListError::NotSupported)?;
            Ok(names.get(provider_no).cloned())
        })
    }
}

/// A channel that is told nothing.
struct Silent;

impl Channel for Silent {
    fn capabilities(&self) -> Capabilities {
        Capabilities { charge: true, ..Capabilities::default() }
    }
}

/// A store that can be told to take nothing new.
#[derive(Default)]
pub(super) struct Gate {
    inner: MemoryStore,
    /// Why it takes nothing new.
    pub(super) refuses: Mutex<Option<StoreError>>,
}

impl Store for Gate {
    fn commit(&self, batch: Batch) -> CommitFuture {
        match self.refuses.lock().clone().filter(|_| batch.urgency != Urgency::Finish) {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            None => self.inner.commit(batch),
        }
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

/// A gateway's payments, pre-auths and notifications, on virtual time. Nothing is asked of its own accord within a day.
pub(super) struct House {
    pub(super) callbacks: Callbacks,
    pub(super) payments: Payments,
    pub(super) pre_auths: PreAuths,
    pub(super) webhooks: Webhooks,
    pub(super) store: Arc<Gate>,
    pub(super) core: Core,
    pub(super) provider: Arc<Provider>,
    caller: Caller,
}

impl House {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let house = Self::over(Arc::default(), &Clock::virtual_from(START), change).await;
        house.start();
        house
    }

    /// A process that finds this store, and has not begun to go into notifications.
    pub(super) async fn over(store: Arc<Gate>, clock: &Clock, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::embedded().unwrap();
        config.payments.resolve_first_ms = 86_400_000;
        config.payments.resolve_early_max_ms = 86_400_000;
        change(&mut config);
        let random = Random::seeded(u64::try_from(clock.now().unix_ms()).unwrap());
        let core = Core::new(
            Arc::clone(&store) as Arc<dyn Store>,
            clock.clone(),
            random.clone(),
            config,
            Vault::with_key(&[7; 32], random),
        );
        let provider = Arc::new(Provider::new());
        let of_provider = || Arc::clone(&provider) as Arc<dyn Channel>;
        // The second name is there for those who configure it.
        let channels: [(&'static str, Arc<dyn Channel>); 3] =
            [("stripe", of_provider()), ("two", of_provider()), ("alipay", Arc::new(Silent))];
        let channels = Arc::new(ChannelSet::of(channels));
        let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await.unwrap();
        let setup = setup_from_config(&core.config, &channels.abilities()).unwrap();
        let router = RouterHandle::start(setup, clock.clone(), &supervisor).await.unwrap();
        let webhooks = Webhooks::start(core.clone(), Arc::new(NoNetwork)).await.unwrap();
        let keys = ProviderKeys::for_tests();
        let payments =
            Payments::new(core.clone(), router.clone(), Arc::clone(&channels), webhooks.clone(), keys.clone()).unwrap();
        let pre_auths =
            PreAuths::new(core.clone(), payments.clone(), router, Arc::clone(&channels), webhooks.clone(), keys)
                .unwrap();
        let callbacks = Callbacks::new(core.clone(), channels, payments.clone(), pre_auths.clone()).unwrap();
        Self { callbacks, payments, pre_auths, webhooks, store, core, provider, caller: caller() }
    }

    pub(super) fn start(&self) {
        self.payments.start().unwrap();
        self.pre_auths.start().unwrap();
        self.callbacks.start().unwrap();
    }

    /// A payment of 900 by way of `stripe`, as it is stored then.
    pub(super) async fn pay(&self, order_no: &str) -> Payment {
        let command: CreatePayment = serde_json::from_value(json!({
            "order_no": order_no, "amount": 900, "currency": "USD", "channel": "stripe",
        }))
        .unwrap();
        self.payments.create(&self.caller, origin(), command).await.unwrap();
        let filter = PaymentFilter { order_no: Some(order_no.to_owned()), ..PaymentFilter::default() };
        let found = self.payments.list(&self.caller, &filter, &Default::default()).unwrap();
        self.payment(&found.items[0].payment_no)
    }

    /// A pre-auth of 900 by way of `stripe`, as it is stored then.
    pub(super) async fn hold(&self, order_no: &str) -> PreAuth {
        let wanted = json!({ "order_no": order_no, "amount": 900, "currency": "USD", "channel": "stripe" });
        let command = CreatePreAuth { wanted: serde_json::from_value(wanted).unwrap(), ..CreatePreAuth::default() };
        self.pre_auths.create(&self.caller, origin(), command).await.unwrap();
        let all = self.pre_auths.list(&self.caller, &Default::default(), &Default::default()).unwrap();
        self.pre_auth(&all.items[0].pre_auth_no)
    }

    pub(super) fn payment(&self, number: &str) -> Payment {
        let row = self.core.store.get(&keys::payment(&shop(), &PaymentNo::new(number))).unwrap().unwrap();
        decode(&row.value).unwrap()
    }

    pub(super) fn pre_auth(&self, number: &str) -> PreAuth {
        let row = self.core.store.get(&keys::pre_auth(&shop(), &PreAuthNo::new(number))).unwrap().unwrap();
        decode(&row.value).unwrap()
    }

    /// Something arrives for `stripe` that is signed like this.
    pub(super) async fn arrives(&self, signature: &str, body: &Value) -> Result<Acknowledgement, GatewayError> {
        self.arrives_at("stripe", signature, body).await
    }

    /// The same for another channel.
    pub(super) async fn arrives_at(
        &self,
        channel: &str,
        signature: &str,
        body: &Value,
    ) -> Result<Acknowledgement, GatewayError> {
        let headers = vec![("x-sig".to_owned(), signature.to_owned())];
        self.callbacks.receive(channel, headers, None, Bytes::from(body.to_string())).await
    }

    /// The provider tells of a payment.
    pub(super) async fn tell(&self, id: &str, payment: &Payment) {
        let subject = json!({ "reference": payment.payment_no.as_str(), "merchant_id": "m_1" });
        self.arrives("right", &json!({ "id": id, "subjects": [subject] })).await.unwrap();
    }

    /// All notifications that are kept.
    pub(super) fn inbox(&self) -> Vec<InboxRow> {
        let rows = self.core.store.scan(&Scan::prefix(&keys::inboxes(), 10_000)).unwrap();
        rows.iter().map(|row| decode(&row.versioned.value).unwrap()).collect()
    }

    /// What came of the only one that is kept; nothing while it is open.
    pub(super) fn outcome(&self) -> Option<String> {
        let [only] = self.inbox().try_into().unwrap();
        only.outcome
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.core.store.scan(&Scan::prefix(&keys::inboxes_open(), 10_000)).unwrap().len()
    }

    pub(super) fn events(&self) -> Vec<String> {
        let page = self.webhooks.list_events(&shop(), &Default::default()).unwrap();
        page.items.into_iter().map(|event| event.event).collect()
    }

    #[track_caller]
    pub(super) fn has_figure(&self, line: &str) {
        let figures = self.core.figures.text();
        assert!(figures.lines().any(|found| found == line), "{line} is missing in\n{figures}");
    }

    pub(super) fn resolves(&self) -> usize {
        self.provider.resolves.load(Ordering::SeqCst)
    }
}

pub(super) fn shop() -> MerchantId {
    MerchantId::new("m_1")
}

/// Lets virtual time pass, and with it everything that waits for less.
pub(super) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

pub(super) fn origin() -> Origin {
    let renderer: Renderer = Arc::new(|reply: &Reply| StoredAnswer { status: 200, body: format!("{reply:?}") });
    Origin { idempotency: None, claim: None, permit: None, renderer }
}
