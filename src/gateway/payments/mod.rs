//! Payments: taken, looked up, canceled. What is written here holds at every moment: the intent is stored before a
//! channel is asked, the outcome before anybody is told.

mod carry;
mod hints;
mod hold;
mod reconcile;
mod refunds;
mod review;
pub(crate) mod rows;
mod shared;
mod strays;
mod terms;
#[cfg(test)]
pub(in crate::gateway) mod tests;
pub(crate) mod views;

pub(in crate::gateway) use review::{check_resolution, resolution};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashSet;
use tokio::sync::Notify;

use crate::actors::router::RouterHandle;
use crate::domain::event::{Event, EventName};
use crate::domain::ids::{ChannelName, EventId, MerchantId, PaymentNo, RefundNo, sortable_id};
use crate::domain::language::Language;
use crate::domain::outcome::{ChargeState, ProviderRefs};
use crate::domain::payment::{
    Attempt, Effect, Outcome, Payment, PaymentStatus, PaymentTerms, ResolvePolicy, on_cancel_request,
};
use crate::domain::routing::{DecisionRecord, RouteRequest};
use crate::domain::time::Timestamp;
use crate::gateway::answer::{Answered, Renderer, Reply, StoredAnswer};
use crate::gateway::auth::Caller;
use crate::gateway::channels::ChannelSet;
use crate::gateway::command::{CreatePayment, PaymentFilter};
use crate::gateway::core::Core;
use crate::gateway::costs::Costs;
use crate::gateway::error::GatewayError;
use crate::gateway::explain::DecisionView;
use crate::gateway::idempotency::{Known, Origin, Reservation, Slot, look_up};
use crate::gateway::installation::ProviderKeys;
use crate::gateway::money_figures::MoneyFigures;
use crate::gateway::numbered_list;
use crate::gateway::page::{Page, PageRequest};
use crate::gateway::routing::figures::DecisionFigures;
use crate::gateway::view::{OperatorPaymentView, OperatorRoutingView, PaymentView, RoutingView};
use crate::gateway::webhooks::Webhooks;
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{Batch, StoreError};
use crate::telemetry::trace;

pub(in crate::gateway) use hints::{Followed, Need};
pub use hold::{HeldChannelView, HeldItemView, Hold, HoldView};
pub use refunds::Refunds;
use rows::StoredPayment;

/// Tries of a change that others keep overtaking.
const CONFLICTS_MAX: usize = 8;

/// The payments of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Payments(Arc<Inner>);

struct Inner {
    core: Core,
    router: RouterHandle,
    channels: Arc<ChannelSet>,
    webhooks: Webhooks,
    costs: Costs,
    money: MoneyFigures,
    decisions: DecisionFigures,
    provider_keys: ProviderKeys,
    policy: ResolvePolicy,
    /// Payments that somebody in this process works on; timers leave them alone.
    working: Arc<DashSet<PaymentNo>>,
    /// Refunds that somebody in this process sends or asks about.
    refunding: Arc<DashSet<RefundNo>>,
    /// When this process began: what an earlier one sent, it had sent by then.
    started_at: Timestamp,
    /// Wakes the timer when something becomes due earlier than it thinks.
    due: Notify,
    /// Whether what an earlier process left behind has been taken over.
    recovered: AtomicBool,
    /// Whether and how far the store is held after a restore.
    stage: hold::StageCell,
    /// Rows of the due index that can't be read.
    unreadable: UnreadableRows,
    /// What somebody has to look at.
    alerts: strays::Alerts,
}

/// Says that somebody works on a payment, until it is dropped.
struct Working {
    set: Arc<DashSet<PaymentNo>>,
    payment_no: PaymentNo,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.set.remove(&self.payment_no);
    }
}

/// Says that somebody works on a refund, until it is dropped.
struct Refunding {
    set: Arc<DashSet<RefundNo>>,
    refund_no: RefundNo,
}

impl Drop for Refunding {
    fn drop(&mut self) {
        self.set.remove(&self.refund_no);
    }
}

impl Payments {
    /// # Errors
    /// When the figures can't be set up.
    pub(crate) fn new(
        core: Core,
        router: RouterHandle,
        channels: Arc<ChannelSet>,
        webhooks: Webhooks,
        provider_keys: ProviderKeys,
    ) -> Result<Self, GatewayError> {
        let settings = &core.config.payments;
        let policy = ResolvePolicy {
            first: Duration::from_millis(settings.resolve_first_ms),
            early_max: Duration::from_millis(settings.resolve_early_max_ms),
            late_max: Duration::from_millis(settings.resolve_late_max_ms),
            needs_review_after: Duration::from_secs(settings.needs_review_after_s),
            action_expires: Duration::from_secs(settings.action_expires_s),
            abandoned_after: Duration::from_millis(core.config.limits.lease_ms),
        };
        let currency = core.config.fx.settlement_currency;
        let money = MoneyFigures::new(&core.figures, core.config.channels.keys(), currency)?;
        Ok(Self(Arc::new(Inner {
            started_at: core.clock.now(),
            alerts: strays::Alerts::new(&core.figures)?,
            costs: Costs::new(core.clone(), router.clone(), money.clone()),
            decisions: DecisionFigures::new(&core.figures, core.config.channels.keys())?,
            money,
            core,
            router,
            channels,
            webhooks,
            provider_keys,
            policy,
            working: Arc::default(),
            refunding: Arc::default(),
            due: Notify::new(),
            recovered: AtomicBool::new(false),
            stage: hold::StageCell::default(),
            unreadable: UnreadableRows::default(),
        })))
    }

    /// What payments cost.
    pub(crate) fn costs(&self) -> &Costs {
        &self.0.costs
    }

    /// Whether what an earlier process left behind has been taken over.
    pub(crate) fn has_recovered(&self) -> bool {
        self.0.recovered.load(Ordering::Acquire)
    }

    /// Takes a payment. The answer says what became of it, or that this is not known yet; it is stored before it is
    /// returned. The payment goes on when this future is dropped.
    ///
    /// # Errors
    /// Nothing was charged and nothing is stored when an error is returned, but for [`GatewayError::Internal`].
    pub async fn create(
        &self,
        caller: &Caller,
        origin: Origin,
        command: CreatePayment,
    ) -> Result<Answered, GatewayError> {
        let inner = &self.0;
        let merchant_id = &caller.merchant.merchant_id;
        let reservation = match look_up(&inner.core, merchant_id, origin.idempotency.as_ref())? {
            Known::Answered(answer) => return Ok(Answered { answer, replayed: true }),
            Known::Unanswered { object_no, slot } => {
                return self.answer_late(merchant_id, &PaymentNo::new(object_no), &slot, &origin.renderer).await;
            }
            Known::New(reservation) => reservation,
        };
        self.check_held()?;
        let terms = inner.check_terms(caller, &command)?;
        if let Some(holder) = rows::holder_of_order(&inner.core, merchant_id, &terms.order_no)? {
            return Err(order_exists(&holder));
        }
        if inner.core.stopping.is_cancelled() {
            return Err(GatewayError::ShuttingDown);
        }
        let payments = self.clone();
        let caller = caller.clone();
        let mut origin = origin;
        let task = inner.core.tasks.spawn(trace::in_current(async move {
            // In flight until its channel has answered and that is stored, or left to the background.
            let _permit = origin.permit.take();
            payments.carry(&caller, origin, reservation, terms).await
        }));
        task.await.unwrap_or_else(|error| Err(GatewayError::Internal(format!("a payment's task ended: {error}"))))
    }

    /// Gives a payment up that is not charged yet: the channel is asked to close it. The answer is 202 until that is
    /// known.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::InvalidState`].
    pub async fn cancel(&self, caller: &Caller, origin: Origin, payment_no: &str) -> Result<Answered, GatewayError> {
        let inner = &self.0;
        let merchant_id = caller.merchant.merchant_id.clone();
        let payment_no = PaymentNo::new(payment_no);
        let reservation = match look_up(&inner.core, &merchant_id, origin.idempotency.as_ref())? {
            Known::Answered(answer) => return Ok(Answered { answer, replayed: true }),
            Known::Unanswered { slot, .. } => {
                return self.answer_late_cancel(&merchant_id, &payment_no, &slot, &origin.renderer).await;
            }
            Known::New(reservation) => reservation,
        };
        let payments = self.clone();
        let mut origin = origin;
        let task = inner.core.tasks.spawn(trace::in_current(async move {
            let _permit = origin.permit.take();
            payments.carry_cancel(&merchant_id, &payment_no, reservation, origin).await
        }));
        task.await.unwrap_or_else(|error| Err(GatewayError::Internal(format!("a cancellation's task ended: {error}"))))
    }

    async fn carry_cancel(
        &self,
        merchant_id: &MerchantId,
        payment_no: &PaymentNo,
        reservation: Reservation,
        origin: Origin,
    ) -> Result<Answered, GatewayError> {
        let inner = &self.0;
        for _ in 0..CONFLICTS_MAX {
            let now = inner.core.clock.now();
            let before = rows::read(&inner.core, merchant_id, payment_no)?;
            if before.payment.status == PaymentStatus::Canceled {
                return self.answer_canceled(&before.payment, &reservation, &origin.renderer).await;
            }
            let outcome = on_cancel_request(&before.payment, &inner.policy, now)
                .map_err(|status| GatewayError::InvalidState { status: status.as_str().to_owned() })?;
            let mut batch = Batch::new();
            rows::replace(&mut batch, &before, &outcome.payment)?;
            let begun = reservation.begin(&mut batch, payment_no.as_str(), now)?;
            match inner.core.store.commit(batch).await {
                Ok(committed) => {
                    let slot = reservation.committed(committed.sequence);
                    let stored = StoredPayment { payment: outcome.payment, revision: committed.sequence };
                    return self.close(stored, slot, origin).await;
                }
                Err(StoreError::Precondition { index }) if Some(index) == begun => {
                    return Err(GatewayError::IdempotencyInProgress);
                }
                Err(StoreError::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// Nothing is left to do, but a repetition must get the same bytes.
    async fn answer_canceled(
        &self,
        payment: &Payment,
        reservation: &Reservation,
        renderer: &Renderer,
    ) -> Result<Answered, GatewayError> {
        let core = &self.0.core;
        let answer = renderer(&Reply::PaymentCanceled(self.0.view(payment)));
        let mut batch = Batch::new();
        if reservation.answer(&mut batch, payment.payment_no.as_str(), &answer, core.clock.now())? {
            match core.store.commit(batch).await {
                Ok(_) => {}
                Err(StoreError::Precondition { .. }) => return Err(GatewayError::IdempotencyInProgress),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Answered { answer, replayed: false })
    }

    /// One payment.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], also for another merchant's.
    pub fn get(&self, caller: &Caller, payment_no: &str) -> Result<PaymentView, GatewayError> {
        let stored = self.0.read(&caller.merchant.merchant_id, payment_no)?;
        Ok(self.0.view(&stored.payment))
    }

    /// A page of the merchant's payments, newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a wrong filter, limit or cursor.
    pub fn list(
        &self,
        caller: &Caller,
        filter: &PaymentFilter,
        page: &PageRequest,
    ) -> Result<Page<PaymentView>, GatewayError> {
        let livemode = self.0.core.livemode();
        let found = numbered_list::list::<Payment>(&self.0.core, &caller.merchant.merchant_id, filter, page)?;
        let items = found.items.iter().map(|payment| views::payment_view(payment, livemode)).collect();
        Ok(Page { items, next_cursor: found.next_cursor })
    }

    /// How a payment was routed, attempt by attempt.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn routing(&self, caller: &Caller, payment_no: &str, language: Language) -> Result<RoutingView, GatewayError> {
        let stored = self.0.read(&caller.merchant.merchant_id, payment_no)?;
        views::routing_view(&stored.payment, language)
    }

    /// A page of all merchants' payments, or of one's, newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a wrong filter, limit or cursor.
    pub fn list_all(
        &self,
        merchant_id: Option<&str>,
        filter: &PaymentFilter,
        page: &PageRequest,
    ) -> Result<Page<OperatorPaymentView>, GatewayError> {
        let core = &self.0.core;
        let found = match merchant_id {
            Some(merchant_id) => numbered_list::list::<Payment>(core, &MerchantId::new(merchant_id), filter, page)?,
            None => numbered_list::list_all(core, filter, page)?,
        };
        let items = found.items.iter().map(|payment| self.0.operator_view(payment)).collect();
        Ok(Page { items, next_cursor: found.next_cursor })
    }

    /// One payment, whosever it is.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn find(&self, payment_no: &str) -> Result<OperatorPaymentView, GatewayError> {
        Ok(self.0.operator_view(&numbered_list::find(&self.0.core, payment_no)?))
    }

    /// The payment that holds this order number, of every merchant that has one, and whether all merchants
    /// were asked.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn with_order(&self, order_no: &str) -> Result<(Vec<OperatorPaymentView>, bool), GatewayError> {
        let (found, is_all) = numbered_list::with_order::<Payment>(&self.0.core, order_no)?;
        Ok((found.iter().map(|payment| self.0.operator_view(payment)).collect(), is_all))
    }

    /// How one payment was routed, whosever it is.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn find_routing(&self, payment_no: &str, language: Language) -> Result<OperatorRoutingView, GatewayError> {
        let payment: Payment = numbered_list::find(&self.0.core, payment_no)?;
        let routing = views::routing_view(&payment, language)?;
        Ok(OperatorRoutingView { merchant_id: payment.merchant_id.to_string(), routing })
    }

    /// Where a payment would go, without taking it.
    ///
    /// # Errors
    /// As for [`Payments::create`], but never for the order number.
    pub fn quote(
        &self,
        caller: &Caller,
        command: &CreatePayment,
        language: Language,
    ) -> Result<DecisionView, GatewayError> {
        let terms = self.0.check_terms(caller, command)?;
        let refusing = self.0.channels.refusing(terms.payment_token.as_deref());
        let request = self.0.route_request(caller, &terms, &[], &refusing, self.0.core.clock.now());
        Ok(crate::gateway::routing::quote(&self.0.router, &request, language))
    }

    /// Starts what looks after payments that nobody waits for: outcomes to be asked for, payers who do not act.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(crate) fn start(&self) -> Result<(), GatewayError> {
        reconcile::start(self)
    }

    /// Answers a request whose first sending was never answered because the process ended: with what is so now.
    async fn answer_late(
        &self,
        merchant_id: &MerchantId,
        payment_no: &PaymentNo,
        slot: &Slot,
        renderer: &Renderer,
    ) -> Result<Answered, GatewayError> {
        if self.0.working.contains(payment_no) {
            return Err(GatewayError::IdempotencyInProgress);
        }
        let stored = rows::read(&self.0.core, merchant_id, payment_no)?;
        let reply = views::created_reply(&stored.payment, self.0.core.livemode());
        self.0.store_answer(slot, payment_no.as_str(), renderer(&reply)).await
    }

    async fn answer_late_cancel(
        &self,
        merchant_id: &MerchantId,
        payment_no: &PaymentNo,
        slot: &Slot,
        renderer: &Renderer,
    ) -> Result<Answered, GatewayError> {
        let stored = rows::read(&self.0.core, merchant_id, payment_no)?;
        let reply = Reply::PaymentCanceled(self.0.view(&stored.payment));
        self.0.store_answer(slot, payment_no.as_str(), renderer(&reply)).await
    }
}

impl Inner {
    fn read(&self, merchant_id: &MerchantId, payment_no: &str) -> Result<StoredPayment, GatewayError> {
        rows::read(&self.core, merchant_id, &PaymentNo::new(payment_no))
    }

    fn view(&self, payment: &Payment) -> PaymentView {
        views::payment_view(payment, self.core.livemode())
    }

    fn operator_view(&self, payment: &Payment) -> OperatorPaymentView {
        OperatorPaymentView {
            merchant_id: payment.merchant_id.to_string(),
            payment: self.view(payment),
            strays: payment.strays.iter().map(views::stray_view).collect(),
        }
    }

    /// The terms of a payment. A token that none of the channels in question knows is wrong, and stays so: that is not a
    /// matter of which channels are available.
    fn check_terms(&self, caller: &Caller, command: &CreatePayment) -> Result<PaymentTerms, GatewayError> {
        let terms = terms::check(&self.core.config, command)?;
        let requested = terms.requested_channel.as_ref().map(std::slice::from_ref);
        let in_question = requested.unwrap_or(&caller.merchant.channels);
        match &terms.payment_token {
            Some(token) if !self.channels.any_takes(token, in_question) => {
                Err(GatewayError::field("payment_token", "is of no kind that the payment's channels know"))
            }
            _ => Ok(terms),
        }
    }

    /// Says that this task works on the payment; `None` when another one does.
    fn work_on(&self, payment_no: &PaymentNo) -> Option<Working> {
        let is_free = self.working.insert(payment_no.clone());
        is_free.then(|| Working { set: Arc::clone(&self.working), payment_no: payment_no.clone() })
    }

    /// Says that this task works on the refund; `None` when another one does.
    fn work_on_refund(&self, refund_no: &RefundNo) -> Option<Refunding> {
        let is_free = self.refunding.insert(refund_no.clone());
        is_free.then(|| Refunding { set: Arc::clone(&self.refunding), refund_no: refund_no.clone() })
    }

    /// How long a request to a channel that was sent at `sent_by` at the latest may still take effect. What a clock that was
    /// set forward has skipped since then has not gone by.
    fn settling(&self, channel: &ChannelName, sent_by: Timestamp) -> Duration {
        let config = &self.core.config;
        let timeout_ms = config.channels.get(channel.as_str()).map_or(0, |channel| channel.timeout_ms);
        let skipped = self.core.clock_guard.set_forward_since(&self.core.clock, sent_by);
        Duration::from_millis(timeout_ms.saturating_add(config.payments.settling_ms)).saturating_add(skipped)
    }

    fn event_id(&self, now: Timestamp) -> EventId {
        EventId::new(sortable_id("ev_", now, self.core.random.draw_u64()))
    }

    fn route_request<'a>(
        &self,
        caller: &'a Caller,
        terms: &'a PaymentTerms,
        tried: &'a [ChannelName],
        refusing_token: &'a [ChannelName],
        now: Timestamp,
    ) -> RouteRequest<'a> {
        let country = |code: Option<&str>| code.and_then(|code| code.parse().ok());
        let given = country(terms.country.as_deref());
        // The payer's own address, as the merchant gives it. That of the request is the merchant's server's.
        let found = match (given, terms.customer_ip.as_deref().map(str::parse)) {
            (None, Some(Ok(address))) => self.core.countries.country_of(address),
            _ => None,
        };
        RouteRequest {
            money: terms.money,
            country: given.or(found),
            country_from_address: found.is_some(),
            card_country: country(terms.card_country.as_deref()),
            merchant_country: country(caller.merchant.country.as_deref()),
            method: terms.method.as_deref(),
            requested: terms.requested_channel.as_ref(),
            allowed: &caller.merchant.channels,
            merchant_id: caller.merchant.merchant_id.as_str(),
            tier: &caller.merchant.tier,
            order_no: &terms.order_no,
            metadata: &terms.metadata,
            at: now,
            tried,
            refusing_token,
            needs_pre_auth: false,
            draw: self.core.random.draw_u64(),
        }
    }

    fn attempt(
        &self,
        payment_no: &PaymentNo,
        number: usize,
        channel: ChannelName,
        decision: DecisionRecord,
        now: Timestamp,
    ) -> Attempt {
        Attempt {
            channel,
            provider_key: self.provider_keys.key(payment_no.as_str(), "charge", number),
            decision,
            sent_at: now,
            refs: ProviderRefs::default(),
            unanswered_at: None,
            offered_at: None,
            money_sent_at: None,
            outcome: None,
            failure: None,
            failover: None,
        }
    }

    /// Adds the payment's new state and its event to `batch`; returns what to announce after the commit.
    fn record(
        &self,
        batch: &mut Batch,
        before: &StoredPayment,
        outcome: &Outcome,
        event: impl FnOnce(EventName, EventId) -> Result<Event, GatewayError>,
        now: Timestamp,
    ) -> Result<Option<crate::gateway::webhooks::Planned>, GatewayError> {
        rows::replace(batch, before, &outcome.payment)?;
        match outcome.effect {
            Effect::None => Ok(None),
            Effect::Tell(name) => {
                let payment = &outcome.payment;
                let event = event(name, self.event_id(now))?;
                let planned = self.webhooks.plan(batch, &payment.merchant_id, &event, Some(&payment.terms.order_no))?;
                Ok(Some(planned))
            }
        }
    }

    /// Tells the router how an attempt ended, after that was stored. An attempt ends in one stored change, whoever makes
    /// it, so that it teaches once.
    fn teach(&self, before: &Payment, after: &Payment, state: &ChargeState) {
        for (place, attempt) in after.attempts.iter().enumerate() {
            let was_open = before.attempts.get(place).is_none_or(|attempt| attempt.outcome.is_none());
            if was_open && attempt.outcome.is_some() {
                let class = crate::gateway::routing::outcome_class(state);
                self.router.learn(&attempt.channel, attempt.decision.segment(), class);
            }
        }
    }

    fn announce(&self, planned: Option<crate::gateway::webhooks::Planned>, due_at: Option<Timestamp>) {
        if let Some(planned) = planned {
            self.webhooks.announce(planned);
        }
        if due_at.is_some() {
            self.due.notify_one();
        }
    }

    /// Keeps an answer so that repetitions get the same; whoever was quicker has the word.
    async fn store_answer(&self, slot: &Slot, object_no: &str, answer: StoredAnswer) -> Result<Answered, GatewayError> {
        let mut batch = Batch::finishing();
        slot.answer(&mut batch, object_no, &answer, self.core.clock.now())?;
        match rows::commit_finish(&self.core, batch).await {
            Ok(_) => Ok(Answered { answer, replayed: true }),
            Err(StoreError::Precondition { .. }) => Err(GatewayError::IdempotencyInProgress),
            Err(error) => Err(error.into()),
        }
    }
}

fn order_exists(holder: &PaymentNo) -> GatewayError {
    GatewayError::OrderExists { field: "payment_no", number: holder.to_string() }
}
