//! What the actor of a pre-auth works with: the store, the channels, the merchant's webhooks. The only place that asks a
//! channel about a pre-auth, and the only one that changes its row.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::actors::pre_auth::{Answered, Client, ClientPart, CommitError, PreAuthId, PreAuthWorks, StoredPreAuth};
use crate::actors::router::{Reservation, RouterHandle};
use crate::channels::{
    AuthorizeRequest, CaptureRequest, Channel, ExtendRequest, HoldAnswer, HoldQuestion, HoldState, RefundAnswer,
    RefundRequest, RefundState, ReleaseRequest, Sent,
};
use crate::config::Config;
use crate::domain::audit::{self, Operator};
use crate::domain::event::EventName;
use crate::domain::ids::{EventId, PreAuthNo, RefundNo, dated_number, sortable_id};
use crate::domain::money::Money;
use crate::domain::pre_auth::{
    Change, Dispatch, Operation, OperationKind, OperationOutcome, PreAuth, PreAuthPolicy, ReleaseWhy, Sending,
};
use crate::domain::refund::{Refund, RefundStatus};
use crate::domain::routing::OutcomeClass;
use crate::domain::time::{Monotonic, Timestamp};
use crate::gateway::audit::commit as commit_audited;
use crate::gateway::channels::ChannelSet;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::installation::ProviderKeys;
use crate::gateway::payments::Payments;
use crate::gateway::payments::rows::commit_finish;
use crate::gateway::pre_auths::client::as_store_error;
use crate::gateway::pre_auths::figures::PreAuthFigures;
use crate::gateway::pre_auths::own_time::OwnTimes;
use crate::gateway::pre_auths::{rows, views};
use crate::gateway::routing::hold_outcome_class;
use crate::gateway::webhooks::{Planned, Webhooks};
use crate::storage::{Batch, StoreError, keys};

/// Why nothing is sent after a restore.
const HELD: &str = "the store was restored, and its provider was not asked yet";

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Works(Arc<Inner>);

struct Inner {
    core: Core,
    payments: Payments,
    router: RouterHandle,
    channels: Arc<ChannelSet>,
    webhooks: Webhooks,
    provider_keys: ProviderKeys,
    figures: PreAuthFigures,
    own_times: OwnTimes,
    /// Places on channels of pre-auths whose first request is about to be sent.
    places: DashMap<PreAuthNo, Reservation>,
    /// Wakes the timer when something becomes due earlier than it thinks.
    due: Notify,
}

impl Works {
    pub(super) fn new(
        core: Core,
        payments: Payments,
        router: RouterHandle,
        channels: Arc<ChannelSet>,
        webhooks: Webhooks,
        provider_keys: ProviderKeys,
        figures: PreAuthFigures,
    ) -> Result<Self, GatewayError> {
        Ok(Self(Arc::new(Inner {
            own_times: OwnTimes::new(&core.figures, core.clock.clone())?,
            core,
            payments,
            router,
            channels,
            webhooks,
            provider_keys,
            figures,
            places: DashMap::new(),
            due: Notify::new(),
        })))
    }

    /// How long requests take without their channels.
    pub(super) fn own_times(&self) -> &OwnTimes {
        &self.0.own_times
    }

    /// Keeps the place on its channel for a pre-auth that is about to be sent.
    pub(super) fn keep_place(&self, pre_auth_no: &PreAuthNo, place: Reservation) {
        self.0.places.insert(pre_auth_no.clone(), place);
    }

    /// Gives a place back that was not used.
    pub(super) fn give_place_back(&self, pre_auth_no: &PreAuthNo) {
        self.0.places.remove(pre_auth_no);
    }

    /// Ready when something may have become due.
    pub(super) fn due(&self) -> &Notify {
        &self.0.due
    }

    /// Where a pre-auth stands at its provider, or what comes of closing it there. Nothing else is sent.
    pub(super) async fn ask_where_it_stands(&self, pre_auth: &PreAuth, close: bool) -> HoldAnswer {
        let inner = &self.0;
        match inner.channels.get(&pre_auth.channel) {
            Some(channel) => {
                let hold = authorize_request(pre_auth, &inner.core.config);
                channel.ask_hold(&inner.question(pre_auth, hold, close)).await
            }
            None => not_configured(pre_auth),
        }
    }

    /// Makes a pre-auth durable that is not here: what its provider says made `change` of `begun`.
    pub(super) async fn adopt(&self, begun: &PreAuth, change: &Change) -> Result<(), CommitError> {
        let inner = &self.0;
        let mut batch = Batch::finishing();
        rows::insert_adopted(&mut batch, &change.pre_auth).map_err(CommitError::Store)?;
        let now = inner.core.clock.now();
        let planned = inner.plan(&mut batch, begun, change, now).map_err(CommitError::Store)?;
        match commit_finish(&inner.core, batch).await {
            Ok(_) => {
                inner.announce(begun, change, planned);
                Ok(())
            }
            Err(StoreError::Precondition { .. }) => Err(CommitError::Precondition),
            Err(error) => Err(CommitError::Store(error)),
        }
    }

    /// Makes what a person has said durable, in one commit with the audit's entry about it.
    ///
    /// # Errors
    /// [`StoreError::Precondition`] when somebody else has changed the row.
    pub(super) async fn commit_audited(
        &self,
        before: &StoredPreAuth,
        change: &Change,
        by: &Operator,
        entry: &audit::Change,
    ) -> Result<(), StoreError> {
        let inner = &self.0;
        let mut batch = Batch::finishing();
        rows::replace(&mut batch, before, &change.pre_auth)?;
        let planned = inner.plan(&mut batch, &before.pre_auth, change, inner.core.clock.now())?;
        commit_audited(&inner.core, batch, by, entry).await?;
        inner.follow(&before.pre_auth, change, planned);
        Ok(())
    }

    /// How pre-auths on a channel are worked on.
    pub(super) fn policy_on(&self, channel: &str) -> PreAuthPolicy {
        policy_of(&self.0.core, &self.0.payments, channel)
    }
}

fn policy_of(core: &Core, payments: &Payments, channel: &str) -> PreAuthPolicy {
    let config = core.settings();
    let settings = &config.pre_auth;
    let hold_valid_s = config.channels.get(channel).map_or(0, |channel| channel.hold_valid_s);
    PreAuthPolicy {
        resolve: payments.resolve_policy(),
        unconfirmed_expires: Duration::from_secs(settings.unconfirmed_expires_s),
        expiring_before: Duration::from_secs(settings.expiring_before_s),
        on_expiry_before: Duration::from_secs(settings.on_expiry_before_s),
        on_expiry: settings.on_expiry,
        hold_valid: Duration::from_secs(hold_valid_s),
        is_clock_believed: core.clock_guard.is_believed(&core.clock),
        stray: config.payments.on_stray,
    }
}

impl PreAuthWorks for Works {
    fn load(&self, id: &PreAuthId) -> Result<Option<StoredPreAuth>, StoreError> {
        rows::load(&self.0.core, &id.merchant_id, &id.pre_auth_no)
    }

    fn commit<'a>(
        &'a self,
        before: &'a StoredPreAuth,
        change: &'a Change,
        client: Option<(&'a mut dyn Client, ClientPart)>,
    ) -> BoxFuture<'a, Result<StoredPreAuth, CommitError>> {
        Box::pin(self.0.commit(before, change, client))
    }

    fn call(&self, pre_auth: &PreAuth, dispatch: &Dispatch) -> BoxFuture<'static, Answered> {
        let (works, pre_auth, dispatch) = (Arc::clone(&self.0), pre_auth.clone(), dispatch.clone());
        Box::pin(async move { works.call(&pre_auth, &dispatch).await })
    }

    fn key(&self, pre_auth_no: &PreAuthNo, operation: &str, number: u32) -> String {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        self.0.provider_keys.key(pre_auth_no.as_str(), operation, number)
    }

    fn refund(&self, _: &PreAuth, amount_minor: i64, reason: Option<String>, now: Timestamp) -> Refund {
        let refund_no = RefundNo::new(dated_number("RF", now, self.0.core.random.draw_u64()));
        Refund {
            amount_minor,
            status: RefundStatus::Pending,
            reason,
            provider_key: self.0.provider_keys.key(refund_no.as_str(), "refund", 1),
            refund_no,
            channel_refund_no: None,
            failure: None,
            resolve_tries: 0,
            unanswered_at: None,
            known_at: None,
            created_at: now,
            updated_at: now,
        }
    }

    fn policy(&self, pre_auth: &PreAuth) -> PreAuthPolicy {
        self.policy_on(pre_auth.channel.as_str())
    }

    fn now(&self) -> Timestamp {
        self.0.core.clock.now()
    }
}

impl Inner {
    /// Makes a change durable: the row with all that belongs to it, the events with their notifications, and what is known
    /// of the client who waits.
    async fn commit(
        &self,
        before: &StoredPreAuth,
        change: &Change,
        mut client: Option<(&mut dyn Client, ClientPart)>,
    ) -> Result<StoredPreAuth, CommitError> {
        let now = self.core.clock.now();
        let after = &change.pre_auth;
        let is_new = matches!(client, Some((_, ClientPart::Begin)));
        let mut batch = if is_new { Batch::new() } else { Batch::finishing() };
        // What is stored already, and is only answered, stays the revision that it is.
        let is_changed = *after != before.pre_auth;
        if is_changed {
            rows::replace(&mut batch, before, after).map_err(CommitError::Store)?;
        } else {
            // What was erased from it meanwhile must not be kept in an answer.
            batch.expect(keys::pre_auth(&after.merchant_id, &after.pre_auth_no), before.revision);
        }
        let planned = self.plan(&mut batch, &before.pre_auth, change, now).map_err(CommitError::Store)?;
        let key_place = batch.preconditions.len();
        if let Some((client, part)) = &mut client {
            add_client(&mut batch, &mut **client, *part, change, now).map_err(CommitError::Store)?;
        }
        let has_key = batch.preconditions.len() > key_place;
        if batch.writes.is_empty() && batch.appends.is_empty() {
            return Ok(before.clone());
        }
        match self.core.store.commit(batch).await {
            Ok(committed) => {
                if let Some((client, ClientPart::Begin)) = client {
                    client.begun(committed.sequence);
                }
                self.follow(&before.pre_auth, change, planned);
                let revision = if is_changed { committed.sequence } else { before.revision };
                Ok(StoredPreAuth { pre_auth: after.clone(), revision })
            }
            Err(StoreError::Precondition { index }) if has_key && index == key_place => Err(CommitError::InProgress),
            Err(StoreError::Precondition { .. }) => Err(CommitError::Precondition),
            Err(error) => Err(CommitError::Store(error)),
        }
    }

    /// Adds what the merchant is told.
    fn plan(
        &self,
        batch: &mut Batch,
        before: &PreAuth,
        change: &Change,
        now: Timestamp,
    ) -> Result<Vec<Planned>, StoreError> {
        let after = &change.pre_auth;
        let mut planned = Vec::with_capacity(change.tell.len());
        for (place, name) in change.tell.iter().enumerate() {
            let later = u64::try_from(change.tell.len() - 1 - place).unwrap_or(0);
            let sequence = after.event_count.saturating_sub(later);
            let id = EventId::new(sortable_id("ev_", now, self.core.random.draw_u64()));
            let event = match name {
                EventName::RefundSuccess | EventName::RefundFailed => {
                    let Some(refund) = ended_refund(before, after) else { continue };
                    views::refund_event(after, refund, *name, sequence, id)?
                }
                _ => views::pre_auth_event(after, *name, sequence, id)?,
            };
            let order_no = Some(after.terms.order_no.as_str());
            let plan = self.webhooks.plan(batch, &after.merchant_id, &event, order_no).map_err(as_store_error)?;
            planned.push(plan);
        }
        Ok(planned)
    }

    /// What follows from a change once it is durable.
    fn follow(&self, before: &PreAuth, change: &Change, planned: Vec<Planned>) {
        self.teach(before, &change.pre_auth);
        self.announce(before, change, planned);
    }

    /// Tells those who wait for it that a change is durable.
    fn announce(&self, before: &PreAuth, change: &Change, planned: Vec<Planned>) {
        let after = &change.pre_auth;
        for planned in planned {
            self.webhooks.announce(planned);
        }
        self.figures.note(before, after);
        self.payments.alert_of_pre_auth(before, after);
        if before.due_at != after.due_at && after.due_at.is_some() {
            self.due.notify_one();
        }
    }

    /// Tells the router how a hold came about or did not, once: when the request for it is over.
    fn teach(&self, before: &PreAuth, after: &PreAuth) {
        let is_open = |pre_auth: &PreAuth| {
            pre_auth.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Authorize)
        };
        if !is_open(before) || is_open(after) {
            return;
        }
        let ended = after.operations.iter().rfind(|ended| ended.kind == OperationKind::Authorize);
        let class = match ended.map(|ended| (ended.outcome, ended.failure.clone())) {
            Some((OperationOutcome::Done, _)) => OutcomeClass::Approved,
            Some((OperationOutcome::Declined, Some(failure))) => hold_outcome_class(&HoldState::Declined(failure)),
            Some((OperationOutcome::Refused, Some(failure))) => hold_outcome_class(&HoldState::NotDone(failure)),
            _ => OutcomeClass::Answered,
        };
        self.router.learn(&after.channel, after.decision.segment(), class);
    }

    /// Asks the channel. Whatever it is asked for was stored before.
    async fn call(&self, pre_auth: &PreAuth, dispatch: &Dispatch) -> Answered {
        // After a restore no money moves until it may; what is open goes on then.
        let is_held = self.payments.check_held().is_err();
        if let Sending::Refund(refund_no) = &dispatch.what {
            let answer = match is_held {
                true => RefundAnswer::unknown(HELD),
                false => self.refund(pre_auth, refund_no, dispatch.is_first).await,
            };
            if let RefundState::Unknown { reason } = &answer.state {
                tracing::warn!(%refund_no, channel = %pre_auth.channel, reason, "refund outcome unknown");
            }
            return Answered::Refund { refund_no: refund_no.clone(), answer };
        }
        let number = pre_auth.operation_number();
        let answer = match self.channels.get(&pre_auth.channel) {
            Some(channel) if is_held => self.ask_held(channel.as_ref(), pre_auth, dispatch).await,
            Some(channel) => self.ask(channel.as_ref(), pre_auth, dispatch).await,
            None => {
                self.places.remove(&pre_auth.pre_auth_no);
                not_configured(pre_auth)
            }
        };
        if let HoldState::Unknown { reason } = &answer.state {
            let (pre_auth_no, channel) = (&pre_auth.pre_auth_no, &pre_auth.channel);
            tracing::warn!(%pre_auth_no, %channel, reason, "the state of a pre-auth is unknown");
        }
        Answered::Hold { operation: number, answer: Box::new(answer) }
    }

    /// The same while the store is held after a restore: what lets go of money is sent, about what is held is asked, and for
    /// nothing else.
    async fn ask_held(&self, channel: &dyn Channel, pre_auth: &PreAuth, dispatch: &Dispatch) -> HoldAnswer {
        let was_held = pre_auth.authorized_at.is_some();
        match dispatch.what {
            Sending::Release | Sending::Ask { close: true } => self.ask(channel, pre_auth, dispatch).await,
            Sending::Ask { close: false } | Sending::Capture | Sending::Extend if was_held => {
                let hold = authorize_request(pre_auth, &self.core.config);
                channel.ask_hold(&self.question(pre_auth, hold, false)).await
            }
            _ => HoldAnswer::unknown(HELD),
        }
    }

    async fn ask(&self, channel: &dyn Channel, pre_auth: &PreAuth, dispatch: &Dispatch) -> HoldAnswer {
        let hold = authorize_request(pre_auth, &self.core.config);
        let close = match (&dispatch.what, &pre_auth.operation) {
            (Sending::Authorize, _) => return self.authorize(channel, pre_auth, &hold).await,
            (Sending::Capture, Some(operation)) => {
                let OperationKind::Capture { money_minor } = operation.kind else { return out_of_turn() };
                let request = CaptureRequest {
                    hold,
                    refs: pre_auth.refs.clone(),
                    provider_key: operation.provider_key.clone(),
                    capture_reference: format!("{}-{}", pre_auth.pre_auth_no, operation.number),
                    money: Money::new(money_minor, pre_auth.terms.money.currency),
                    sent: self.sent(pre_auth, operation, dispatch.is_first),
                };
                let started = self.core.clock.monotonic();
                let answer = channel.capture(&request).await;
                self.note_first_call(pre_auth, dispatch, started);
                return answer;
            }
            (Sending::Release, Some(operation)) => {
                let OperationKind::Release { why } = &operation.kind else { return out_of_turn() };
                let reason = match why {
                    ReleaseWhy::Merchant { reason } => reason.clone(),
                    ReleaseWhy::Expiry | ReleaseWhy::Unconfirmed | ReleaseWhy::Stray => None,
                };
                let request = ReleaseRequest {
                    hold,
                    refs: pre_auth.refs.clone(),
                    provider_key: operation.provider_key.clone(),
                    held: held(pre_auth),
                    reason,
                    sent: self.sent(pre_auth, operation, dispatch.is_first),
                };
                return channel.release(&request).await;
            }
            (Sending::Extend, Some(operation)) => {
                let request = ExtendRequest {
                    hold,
                    refs: pre_auth.refs.clone(),
                    provider_key: operation.provider_key.clone(),
                    held: held(pre_auth),
                    sent: self.sent(pre_auth, operation, dispatch.is_first),
                };
                return channel.extend(&request).await;
            }
            (Sending::Ask { close }, _) => *close,
            (Sending::Capture | Sending::Release | Sending::Extend, None) | (Sending::Refund(_), _) => {
                return out_of_turn();
            }
        };
        channel.ask_hold(&self.question(pre_auth, hold, close)).await
    }

    fn note_first_call(&self, pre_auth: &PreAuth, dispatch: &Dispatch, started: Monotonic) {
        if dispatch.is_first {
            let took = self.core.clock.monotonic().since(started);
            self.own_times.channel_took(&pre_auth.pre_auth_no, took);
        }
    }

    /// Asks once for money to be held, and tells the router how that went.
    async fn authorize(&self, channel: &dyn Channel, pre_auth: &PreAuth, request: &AuthorizeRequest) -> HoldAnswer {
        let mut place = self.places.remove(&pre_auth.pre_auth_no).map(|(_, place)| place);
        if let Some(place) = &mut place {
            place.begin();
        }
        let started = self.core.clock.monotonic();
        let answer = channel.authorize(request).await;
        let latency = self.core.clock.monotonic().since(started);
        self.own_times.channel_took(&pre_auth.pre_auth_no, latency);
        if let Some(place) = &mut place {
            let latency_ms = u32::try_from(latency.as_millis()).unwrap_or(u32::MAX);
            // What came of it teaches once, when it is stored; that may be with a later answer.
            place.report_call(hold_outcome_class(&answer.state), Some(latency_ms));
        }
        answer
    }

    fn question(&self, pre_auth: &PreAuth, hold: AuthorizeRequest, close: bool) -> HoldQuestion {
        let authorizing = pre_auth.operation.as_ref().filter(|operation| operation.kind == OperationKind::Authorize);
        let first_sent_at = authorizing.map_or(pre_auth.created_at, |operation| operation.sent_at);
        let unanswered_at = authorizing.and_then(|operation| operation.unanswered_at);
        let sent_by = self.sent_by(first_sent_at, unanswered_at);
        HoldQuestion {
            hold,
            refs: pre_auth.refs.clone(),
            first_sent_at,
            sent_by,
            settling: self.payments.settling(&pre_auth.channel, sent_by),
            set_back: self.core.clock_guard.set_back_since(&self.core.clock, first_sent_at),
            now: self.core.clock.now(),
            offered_at: pre_auth.offered_at,
            money_sent_at: pre_auth.money_sent_at,
            close,
            is_over: pre_auth.status.is_final(),
        }
    }

    fn sent(&self, pre_auth: &PreAuth, operation: &Operation, is_first: bool) -> Sent {
        let first_sent_at = operation.sent_at;
        let sent_by = self.sent_by(first_sent_at, operation.unanswered_at);
        Sent {
            first_sent_at,
            sent_by,
            settling: self.payments.settling(&pre_auth.channel, sent_by),
            set_back: self.set_back(first_sent_at, is_first),
            now: if is_first { first_sent_at } else { self.core.clock.now() },
            is_first,
        }
    }

    fn sent_by(&self, first_sent_at: Timestamp, unanswered_at: Option<Timestamp>) -> Timestamp {
        unanswered_at.unwrap_or(first_sent_at).max(self.payments.started_at())
    }

    /// What was never sent is not old, whatever the clock did.
    fn set_back(&self, since: Timestamp, is_first: bool) -> Duration {
        if is_first { Duration::ZERO } else { self.core.clock_guard.set_back_since(&self.core.clock, since) }
    }

    async fn refund(&self, pre_auth: &PreAuth, refund_no: &RefundNo, is_first: bool) -> RefundAnswer {
        let Some(refund) = pre_auth.refunds.iter().find(|refund| refund.refund_no == *refund_no) else {
            return RefundAnswer::unknown("the pre-auth has no such refund");
        };
        let Some(channel) = self.channels.get(&pre_auth.channel) else {
            return RefundAnswer::unknown(format!("channel {} is not configured any more", pre_auth.channel));
        };
        let currency = pre_auth.terms.money.currency;
        let sent_by = self.sent_by(refund.created_at, refund.unanswered_at);
        let request = RefundRequest {
            reference: pre_auth.pre_auth_no.to_string(),
            refund_reference: refund_no.to_string(),
            merchant_id: pre_auth.merchant_id.to_string(),
            provider_key: refund.provider_key.clone(),
            money: Money::new(refund.amount_minor, currency),
            charged: Money::new(received_minor(pre_auth), currency),
            reason: refund.reason.clone(),
            refs: pre_auth.refs.clone(),
            channel_refund_no: refund.channel_refund_no.clone(),
            first_sent_at: refund.created_at,
            sent_by,
            settling: self.payments.settling(&pre_auth.channel, sent_by),
            is_first,
            set_back: self.set_back(refund.created_at, is_first),
            now: if is_first { refund.created_at } else { self.core.clock.now() },
        };
        channel.refund(&request).await
    }
}

/// The request for the hold, the same every time it is made, as long as the configuration is.
fn authorize_request(pre_auth: &PreAuth, config: &Config) -> AuthorizeRequest {
    let terms = &pre_auth.terms;
    AuthorizeRequest {
        reference: pre_auth.pre_auth_no.to_string(),
        merchant_id: pre_auth.merchant_id.to_string(),
        order_no: terms.order_no.clone(),
        provider_key: pre_auth.provider_key.clone(),
        money: terms.money,
        payment_token: terms.payment_token.clone(),
        description: terms.description.clone(),
        customer_email: terms.customer_email.clone(),
        return_url: terms.return_url.clone(),
        notify_url: config.callbacks.url_of(pre_auth.channel.as_str()),
    }
}

/// What was taken, and what came after the end.
fn received_minor(pre_auth: &PreAuth) -> i64 {
    let strays = pre_auth.strays.iter().filter_map(|stray| stray.received_minor);
    strays.fold(pre_auth.captured_minor, i64::saturating_add)
}

fn held(pre_auth: &PreAuth) -> Money {
    Money::new(pre_auth.authorized_minor, pre_auth.terms.money.currency)
}

/// Nobody can be asked.
fn not_configured(pre_auth: &PreAuth) -> HoldAnswer {
    HoldAnswer::unknown(format!("channel {} is not configured any more", pre_auth.channel))
}

/// Nothing was sent: what was to be sent is not what is open.
fn out_of_turn() -> HoldAnswer {
    HoldAnswer::unknown("the operation that was to be sent is not open")
}

/// The refund that a change has ended.
fn ended_refund<'a>(before: &PreAuth, after: &'a PreAuth) -> Option<&'a Refund> {
    after.refunds.iter().enumerate().find_map(|(place, refund)| {
        let is_changed = before.refunds.get(place).is_none_or(|former| former.status != refund.status);
        is_changed.then_some(refund)
    })
}

/// Adds what a client waits for. Whoever is answered as soon as it begins has its key written once, with the answer.
fn add_client(
    batch: &mut Batch,
    client: &mut dyn Client,
    part: ClientPart,
    change: &Change,
    now: Timestamp,
) -> Result<(), StoreError> {
    let pre_auth = &change.pre_auth;
    match part {
        ClientPart::Begin => {
            let refund_no = change.send.iter().find_map(|dispatch| match (&dispatch.what, dispatch.is_first) {
                (Sending::Refund(refund_no), true) => Some(refund_no.as_str()),
                _ => None,
            });
            client.begin(batch, refund_no.unwrap_or_else(|| pre_auth.pre_auth_no.as_str()), now).map(drop)
        }
        ClientPart::Answer | ClientPart::Both => client.answer(batch, pre_auth, now),
    }
}
