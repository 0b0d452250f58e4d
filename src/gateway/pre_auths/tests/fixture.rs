//! Pre-auths of their own for each test, with a provider that keeps what it was asked for.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::actors::router::{RouterHandle, setup_from_config};
use crate::actors::supervisor::{RestartBudget, Supervisor};
use crate::channels::{
    AuthorizeRequest, Call, Capabilities, CaptureRequest, Channel, Failure, HoldAnswer, HoldQuestion, HoldState,
    ListError, ListPage, ListedCharge, ListedRefund, ProviderRefs, RefundAnswer, RefundRequest, RefundState,
    ReleaseRequest, Sent,
};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::ids::{MerchantId, PreAuthNo};
use crate::domain::pre_auth::PreAuth;
use crate::domain::time::Timestamp;
use crate::gateway::answer::{Answered, Renderer, Reply, StoredAnswer};
use crate::gateway::auth::Caller;
use crate::gateway::channels::ChannelSet;
use crate::gateway::command::{CancelPreAuth, CapturePreAuth, CreatePreAuth, CreateRefund};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::{IdempotencyKey, Origin};
use crate::gateway::installation::ProviderKeys;
use crate::gateway::merchants::KnownMerchant;
use crate::gateway::payments::tests::fixture::{NoNetwork, START, UnsteadyStore, caller};
use crate::gateway::payments::{Payments, Refunds};
use crate::gateway::pre_auths::{PreAuths, rows};
use crate::gateway::view::PreAuthView;
use crate::gateway::webhooks::Webhooks;
use crate::random::Random;
use crate::storage::vault::Vault;
use crate::storage::{Batch, CommitFuture, Health, Row, Scan, Store, StoreError, Versioned};

/// What is held in all tests, minor units.
pub(super) const HELD: i64 = 10_000;

/// Where a hold stands at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Truth {
    Waiting,
    Held,
    Captured(i64),
    Released { expired: bool },
}

/// How the provider behaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Mood {
    /// Nothing that it is asked arrives.
    pub(super) is_away: bool,
    /// It does what it is asked, and its answers are lost.
    pub(super) is_mute: bool,
    /// It refuses whatever it is asked to do.
    pub(super) refuses: Option<Failure>,
    /// It declines the payer's means of payment for good.
    pub(super) declines: Option<Failure>,
    /// It waits for the payer.
    pub(super) waits: bool,
    /// It takes this long.
    pub(super) takes: Duration,
    /// Its holds end then.
    pub(super) expires_at: Option<Timestamp>,
    /// What it says that it takes for a capture, in minor units.
    pub(super) fee_minor: Option<i64>,
}

/// What it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Authorize,
    Capture { amount: i64, is_first: bool },
    Release { is_first: bool },
    Ask { close: bool, is_over: bool },
    Refund { amount: i64, charged: i64 },
}

#[derive(Default)]
pub(super) struct Provider {
    pub(super) mood: Mutex<Mood>,
    pub(super) asked: Mutex<Vec<Asked>>,
    holds: Mutex<BTreeMap<String, Truth>>,
    /// What it lists; `None` when it has no list.
    pub(super) listed: Mutex<Option<Vec<ListedCharge>>>,
    pub(super) listed_refunds: Mutex<Vec<ListedRefund>>,
}

impl Provider {
    pub(super) fn set(&self, change: impl FnOnce(&mut Mood)) {
        change(&mut self.mood.lock());
    }

    /// How often it was asked something that fits.
    pub(super) fn count(&self, fits: impl Fn(&Asked) -> bool) -> usize {
        self.asked.lock().iter().filter(|asked| fits(asked)).count()
    }

    pub(super) fn authorizes(&self) -> usize {
        self.count(|asked| *asked == Asked::Authorize)
    }

    pub(super) fn captures(&self) -> usize {
        self.count(|asked| matches!(asked, Asked::Capture { .. }))
    }

    /// The payers of all that wait approve.
    pub(super) fn approve(&self) {
        for truth in self.holds.lock().values_mut().filter(|truth| **truth == Truth::Waiting) {
            *truth = Truth::Held;
        }
    }

    /// Somebody takes all of every hold at the provider itself, whatever became of it.
    pub(super) fn take_by_hand(&self) {
        for truth in self.holds.lock().values_mut() {
            *truth = Truth::Captured(HELD);
        }
    }

    /// Somebody takes so much of all that is held.
    pub(super) fn take(&self, captured_minor: i64) {
        for truth in self.holds.lock().values_mut().filter(|truth| **truth == Truth::Held) {
            *truth = Truth::Captured(captured_minor);
        }
    }

    /// Of what was taken it has taken so much now.
    pub(super) fn take_more(&self, captured_minor: i64) {
        for truth in self.holds.lock().values_mut().filter(|truth| matches!(truth, Truth::Captured(_))) {
            *truth = Truth::Captured(captured_minor);
        }
    }

    /// All holds run out.
    pub(super) fn expire(&self) {
        for truth in self.holds.lock().values_mut().filter(|truth| **truth == Truth::Held) {
            *truth = Truth::Released { expired: true };
        }
    }

    async fn listen(&self, asked: Asked) -> Result<Mood, HoldAnswer> {
        self.asked.lock().push(asked);
        let mood = self.mood.lock().clone();
        tokio::time::sleep(mood.takes).await;
        if mood.is_away { Err(HoldAnswer::unknown("away")) } else { Ok(mood) }
    }

    /// Where the hold stands, after `change`.
    fn answer(&self, mood: &Mood, hold: &AuthorizeRequest, change: impl FnOnce(&mut Truth)) -> HoldAnswer {
        let mut holds = self.holds.lock();
        let Some(truth) = holds.get_mut(&hold.provider_key) else {
            return HoldAnswer::not_done(Failure::not_supported());
        };
        change(truth);
        if mood.is_mute {
            return HoldAnswer::unknown("the answer was lost");
        }
        let state = match truth {
            Truth::Waiting => HoldState::AwaitsMethod { failure: None, next_action: None, expires_at: None },
            Truth::Held => {
                HoldState::Held { held_minor: hold.money.amount_minor, expires_at: mood.expires_at, honor_until: None }
            }
            Truth::Captured(captured_minor) => {
                HoldState::Captured { captured_minor: *captured_minor, fee_minor: mood.fee_minor }
            }
            Truth::Released { expired } => HoldState::Released { expired: *expired },
        };
        let channel_order_no = Some(format!("ch_{}", hold.reference));
        HoldAnswer { refs: ProviderRefs { channel_order_no, ..ProviderRefs::default() }, ..HoldAnswer::bare(state) }
    }

    /// The same for what it may refuse to do.
    fn answer_to(&self, mood: &Mood, hold: &AuthorizeRequest, sent: Sent, after: Truth) -> HoldAnswer {
        let refuses = mood.refuses.clone().filter(|_| sent.is_first);
        let answer = self.answer(mood, hold, |truth| {
            if refuses.is_none() && *truth == Truth::Held {
                *truth = after;
            }
        });
        HoldAnswer { refused: refuses, ..answer }
    }
}

impl Channel for Provider {
    fn capabilities(&self) -> Capabilities {
        Capabilities { charge: true, refund: true, pre_auth: true, partial_capture: true, ..Capabilities::default() }
    }

    fn authorize<'a>(&'a self, request: &'a AuthorizeRequest) -> Call<'a, HoldAnswer> {
        Box::pin(async move {
            let mood = match self.listen(Asked::Authorize).await {
                Ok(mood) => mood,
                Err(away) => return away,
            };
            if let Some(failure) = mood.refuses {
                return HoldAnswer::not_done(failure);
            }
            if let Some(failure) = mood.declines {
                return HoldAnswer::bare(HoldState::Declined(failure));
            }
            let truth = if mood.waits { Truth::Waiting } else { Truth::Held };
            self.holds.lock().insert(request.provider_key.clone(), truth);
            self.answer(&mood, request, |_| {})
        })
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest) -> Call<'a, HoldAnswer> {
        Box::pin(async move {
            let amount = request.money.amount_minor;
            match self.listen(Asked::Capture { amount, is_first: request.sent.is_first }).await {
                Ok(mood) => self.answer_to(&mood, &request.hold, request.sent, Truth::Captured(amount)),
                Err(away) => away,
            }
        })
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Call<'a, HoldAnswer> {
        Box::pin(async move {
            let released = Truth::Released { expired: false };
            match self.listen(Asked::Release { is_first: request.sent.is_first }).await {
                Ok(mood) => self.answer_to(&mood, &request.hold, request.sent, released),
                Err(away) => away,
            }
        })
    }

    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Call<'a, HoldAnswer> {
        Box::pin(async move {
            let mood = match self.listen(Asked::Ask { close: question.close, is_over: question.is_over }).await {
                Ok(mood) => mood,
                Err(away) => return away,
            };
            self.answer(&mood, &question.hold, |truth| {
                if question.close && matches!(truth, Truth::Waiting | Truth::Held) {
                    *truth = Truth::Released { expired: false };
                }
            })
        })
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        Box::pin(async move {
            let (amount, charged) = (request.money.amount_minor, request.charged.amount_minor);
            match self.listen(Asked::Refund { amount, charged }).await {
                Ok(Mood { is_mute: false, refuses: None, .. }) => RefundAnswer::bare(RefundState::Success),
                Ok(Mood { is_mute: false, refuses: Some(failure), .. }) => RefundAnswer::failed(failure),
                Ok(_) | Err(_) => RefundAnswer::unknown("no answer"),
            }
        })
    }

    fn list_charges<'a>(
        &'a self,
        _since: Timestamp,
        _after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedCharge>, ListError>> {
        let listed = self.listed.lock().clone();
        let page = listed.map(|items| ListPage { items, next: None }).ok_or(ListError::NotSupported);
        Box::pin(std::future::ready(page))
    }

    fn list_refunds<'a>(
        &'a self,
        _since: Timestamp,
        _after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedRefund>, ListError>> {
        let items = self.listed_refunds.lock().clone();
        Box::pin(std::future::ready(Ok(ListPage { items, next: None })))
    }
}

/// The store as one process has it, which stores nothing any more once that is dead.
struct Lifetime {
    store: Arc<UnsteadyStore>,
    is_over: AtomicBool,
}

impl Store for Lifetime {
    fn commit(&self, batch: Batch) -> CommitFuture {
        if self.is_over.load(Ordering::SeqCst) { Box::pin(std::future::pending()) } else { self.store.commit(batch) }
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

/// A channel that only charges.
struct ChargesOnly;

impl Channel for ChargesOnly {
    fn capabilities(&self) -> Capabilities {
        Capabilities { charge: true, refund: true, ..Capabilities::default() }
    }
}

/// Pre-auths over `stripe`, which holds money, and `alipay`, which here does not, as one process has them.
pub(super) struct House {
    pub(super) payments: Payments,
    pub(super) pre_auths: PreAuths,
    pub(super) refunds: Refunds,
    pub(super) webhooks: Webhooks,
    pub(super) store: Arc<UnsteadyStore>,
    lifetime: Arc<Lifetime>,
    pub(super) core: Core,
    pub(super) provider: Arc<Provider>,
    pub(super) caller: Caller,
}

impl House {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::over(Arc::default(), Arc::default(), &Clock::virtual_from(START), change).await
    }

    /// A process that finds this store and this provider.
    pub(super) async fn over(
        store: Arc<UnsteadyStore>,
        provider: Arc<Provider>,
        clock: &Clock,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let house = Self::built(store, provider, clock, change).await;
        house.pre_auths.start().unwrap();
        house
    }

    /// The same before it looks after anything.
    pub(super) async fn built(
        store: Arc<UnsteadyStore>,
        provider: Arc<Provider>,
        clock: &Clock,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::embedded().unwrap();
        config.channels.retain(|name, _| matches!(name.as_str(), "stripe" | "alipay"));
        change(&mut config);
        let random = Random::seeded(u64::try_from(clock.now().unix_ms()).unwrap());
        let lifetime = Arc::new(Lifetime { store: Arc::clone(&store), is_over: AtomicBool::new(false) });
        let core = Core::new(
            Arc::clone(&lifetime) as Arc<dyn Store>,
            clock.clone(),
            random.clone(),
            config,
            Vault::with_key(&[7; 32], random),
        );
        let channels = [
            ("stripe", Arc::clone(&provider) as Arc<dyn Channel>),
            ("alipay", Arc::new(ChargesOnly) as Arc<dyn Channel>),
        ];
        let channels = Arc::new(ChannelSet::of(channels));
        let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await.unwrap();
        let setup = setup_from_config(&core.config, &channels.abilities()).unwrap();
        let router = RouterHandle::start(setup, clock.clone(), &supervisor).await.unwrap();
        let webhooks = Webhooks::start(core.clone(), Arc::new(NoNetwork)).await.unwrap();
        let keys = ProviderKeys::for_tests();
        let payments =
            Payments::new(core.clone(), router.clone(), Arc::clone(&channels), webhooks.clone(), keys.clone()).unwrap();
        let refunds = Refunds::new(payments.clone());
        let pre_auths =
            PreAuths::new(core.clone(), payments.clone(), router, channels, webhooks.clone(), keys).unwrap();
        Self { payments, pre_auths, refunds, webhooks, store, lifetime, core, provider, caller: caller() }
    }

    /// Ends without finishing anything, as a process that is killed, and starts the next one on what it left.
    pub(super) async fn crash(self) -> Self {
        self.off_for(Duration::ZERO, |_| {}).await
    }

    /// The same with some time in between, at the end of which something happens at the provider.
    pub(super) async fn off_for(self, time: Duration, happens: impl FnOnce(&Provider)) -> Self {
        let (store, provider, clock) = self.killed().await;
        pass(time).await;
        happens(&provider);
        Self::over(store, provider, &clock, |_| {}).await
    }

    /// Ends without finishing anything; what it leaves.
    pub(super) async fn killed(self) -> (Arc<UnsteadyStore>, Arc<Provider>, Clock) {
        let Self { store, lifetime, provider, core, pre_auths, .. } = self;
        lifetime.is_over.store(true, Ordering::SeqCst);
        core.stopping.cancel();
        pre_auths.stop(Duration::ZERO).await;
        (store, provider, core.clock.clone())
    }

    pub(super) async fn hold(&self, order_no: &str) -> Result<Answered, GatewayError> {
        self.hold_with(order_no, |_| {}).await
    }

    /// Holds [`HELD`] on `stripe` unless the change says otherwise, under a key that is the order's.
    pub(super) async fn hold_with(
        &self,
        order_no: &str,
        change: impl FnOnce(&mut CreatePreAuth),
    ) -> Result<Answered, GatewayError> {
        let wanted = serde_json::from_value(serde_json::json!({
            "order_no": order_no, "amount": HELD, "currency": "USD", "channel": "stripe",
        }));
        let mut command = CreatePreAuth { wanted: wanted.unwrap(), ..CreatePreAuth::default() };
        change(&mut command);
        self.pre_auths.create(&self.caller, origin(order_no), command).await
    }

    pub(super) async fn capture(&self, no: &str, amount: Option<i64>, key: &str) -> Result<Answered, GatewayError> {
        self.pre_auths.capture(&self.caller, origin(key), no, CapturePreAuth { amount }).await
    }

    pub(super) async fn cancel(&self, no: &str, key: &str) -> Result<Answered, GatewayError> {
        self.pre_auths.cancel(&self.caller, origin(key), no, CancelPreAuth::default()).await
    }

    pub(super) async fn refund(&self, no: &str, amount: Option<i64>, key: &str) -> Result<Answered, GatewayError> {
        self.pre_auths.refund(&self.caller, origin(key), no, CreateRefund { amount, reason: None }).await
    }

    /// As its merchant sees it.
    pub(super) async fn view(&self, no: &str) -> PreAuthView {
        self.pre_auths.get(&self.caller, no, false).await.unwrap()
    }

    /// As it is stored.
    pub(super) fn row(&self, no: &str) -> PreAuth {
        let merchant_id = &self.caller.merchant.merchant_id;
        rows::read(&self.core, merchant_id, &PreAuthNo::new(no)).unwrap().pre_auth
    }

    /// All of the merchant's, newest first.
    pub(super) fn all(&self) -> Vec<PreAuthView> {
        self.pre_auths.list(&self.caller, &Default::default(), &Default::default()).unwrap().items
    }

    pub(super) fn only(&self) -> PreAuthView {
        let [only] = self.all().try_into().unwrap();
        only
    }

    /// The names of the merchant's events, in order.
    pub(super) fn events(&self) -> Vec<String> {
        let page = self.webhooks.list_events(&self.caller.merchant.merchant_id, &Default::default()).unwrap();
        page.items.into_iter().map(|event| event.event).collect()
    }
}

/// Lets virtual time pass, and with it everything that waits for less.
pub(super) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The HTTP status and the first word of an answer, which is the object's status.
pub(super) fn told(answered: &Answered) -> (u16, &str) {
    (answered.answer.status, answered.answer.body.split(' ').next().unwrap())
}

/// The status that is in the way.
pub(super) fn state_of(refused: Result<Answered, GatewayError>) -> String {
    match refused {
        Err(GatewayError::InvalidState { status }) => status,
        other => panic!("{other:?}"),
    }
}

/// Another merchant.
pub(super) fn stranger() -> Caller {
    let caller = caller();
    let mut merchant = (*caller.merchant).clone();
    merchant.merchant_id = MerchantId::new("m_2");
    let merchant = Arc::new(merchant);
    Caller { merchant: Arc::clone(&merchant), known: KnownMerchant { merchant, ..caller.known }, ..caller }
}

pub(super) fn origin(key: &str) -> Origin {
    let idempotency = IdempotencyKey::new("POST", "/x", key, b"{}").unwrap();
    Origin { idempotency: Some(idempotency), claim: None, permit: None, renderer: renderer() }
}

/// Answers as HTTP does, in other bytes for another object.
fn renderer() -> Renderer {
    Arc::new(|reply| {
        let (status, word, object) = match reply {
            Reply::PreAuthCreated(view) => {
                let is_open = view.status == "processing" || view.reconciling;
                (if is_open { 202 } else { 201 }, view.status.clone(), format!("{view:?}"))
            }
            Reply::PreAuthCaptured(view) | Reply::PreAuthCanceled(view) => {
                let is_final = matches!(view.status.as_str(), "captured" | "canceled" | "expired" | "failed");
                (if is_final { 200 } else { 202 }, view.status.clone(), format!("{view:?}"))
            }
            Reply::ChannelPreAuthCreated(view) => (201, view.status.clone(), format!("{view:?}")),
            Reply::ChannelPreAuthCaptured(view) | Reply::ChannelPreAuthCanceled(view) => {
                (200, view.status.clone(), format!("{view:?}"))
            }
            Reply::PreAuthNotDone { pre_auth_no } => (502, "not_done".to_owned(), pre_auth_no.clone()),
            Reply::RefundCreated(view) => {
                (if view.status == "pending" { 202 } else { 201 }, view.status.clone(), format!("{view:?}"))
            }
            Reply::RefundNotDone(view) => (502, view.status.clone(), format!("{view:?}")),
            other => panic!("{other:?} is no answer about a pre-auth"),
        };
        StoredAnswer { status, body: format!("{word} {object}") }
    })
}
