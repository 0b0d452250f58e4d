//! Carries one payment from its intent to its outcome, in a task of its own.

use std::time::Duration;

use crate::actors::merchant::IdempotencyClaim;
use crate::actors::router::Reservation;
use crate::channels::ChargeRequest;
use crate::config::CallbacksConfig;
use crate::domain::ids::{ChannelName, PaymentNo, dated_number};
use crate::domain::outcome::{ChargeAnswer, ChargeState, ProviderRefs};
use crate::domain::payment::{
    Attempt, Failover, FailoverBounds, Payment, PaymentStatus, PaymentTerms, begin_attempt, may_ask_another,
    next_due_at, on_answer, on_recovery,
};
use crate::domain::routing::{ChannelFacts, ChannelVerdict, DecisionRecord, DroppedBy, NoChannel};
use crate::domain::time::Timestamp;
use crate::gateway::answer::{Answered, Renderer, StoredAnswer};
use crate::gateway::auth::Caller;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::{self, Origin, Slot};
use crate::gateway::patience::Patience;
use crate::gateway::payments::rows::{self, StoredPayment};
use crate::gateway::payments::{CONFLICTS_MAX, Inner, Payments, Working, order_exists, views};
use crate::gateway::routing::outcome_class;
use crate::gateway::told::Telling;
use crate::storage::{Batch, StoreError};
use crate::telemetry::trace;

/// What a payment's task holds while it carries the payment.
struct Carried {
    stored: StoredPayment,
    slot: Option<Slot>,
    renderer: Renderer,
    /// Attempts that were sent.
    attempts: usize,
    /// Why no further channel was asked.
    failover: Option<Failover>,
    /// What the client was told before the outcome could be stored, if it was.
    told: Option<StoredAnswer>,
    /// Has that ready for repetitions.
    telling: Option<Telling>,
    /// Keeps repetitions out until the answer is stored.
    _claim: Option<IdempotencyClaim>,
    /// Keeps the timer away until the outcome is stored.
    _working: Working,
}

impl Payments {
    /// Decides, stores the intent, asks the channel (and perhaps the next one), stores the outcome and answers.
    pub(super) async fn carry(
        &self,
        caller: &Caller,
        origin: Origin,
        reservation: idempotency::Reservation,
        terms: PaymentTerms,
    ) -> Result<Answered, GatewayError> {
        let inner = &self.0;
        let Origin { claim, renderer, .. } = origin;
        let now = inner.core.clock.now();
        let refusing = inner.channels.refusing(terms.payment_token.as_deref());
        let decided = inner.router.decide(&inner.route_request(caller, &terms, &[], &refusing, now));
        inner.decisions.note(&decided);
        let (mut place, decision) = decided.map_err(refusal)?;
        let payment_no = PaymentNo::new(dated_number("PY", now, inner.core.random.draw_u64()));
        let Some(working) = inner.work_on(&payment_no) else {
            return Err(GatewayError::Internal(format!("payment number {payment_no} was drawn twice")));
        };
        let attempt = inner.attempt(&payment_no, 1, place.channel().clone(), decision, now);
        let payment = inner.intent(caller, payment_no, terms, attempt, now);
        let (stored, slot) = inner.commit_intent(payment, reservation, now).await?;
        let mut carried = Carried {
            stored,
            slot,
            renderer,
            attempts: 0,
            failover: None,
            told: None,
            telling: None,
            _claim: claim,
            _working: working,
        };
        loop {
            carried.attempts += 1;
            let answer = inner.charge(&carried.stored.payment, place).await;
            let (next_place, next_attempt) = match inner.next_attempt(caller, &carried.stored.payment, &answer) {
                Ok(next) => next,
                Err(failover) => {
                    carried.failover = failover;
                    return self.conclude(carried, answer).await;
                }
            };
            if let Err(error) = inner.commit_next(&mut carried, &answer, next_attempt).await {
                // The next channel has not been asked, so that the payment ends with what this one said.
                tracing::warn!(payment_no = %carried.stored.payment.payment_no, %error, "no further channel is asked");
                carried.failover = Some(Failover::NotStored);
                return self.conclude(carried, answer).await;
            }
            place = next_place;
        }
    }

    /// Stores the outcome and answers with it. A store that does not take it now is tried again in the background, and
    /// the client is told that the outcome is not known yet: something may have been charged, so that neither an error
    /// nor silence would do.
    async fn conclude(&self, mut carried: Carried, answer: ChargeAnswer) -> Result<Answered, GatewayError> {
        let core = &self.0.core;
        let error = match self.0.store_outcome(&mut carried, &answer).await {
            Ok(answered) => return Ok(answered),
            Err(error) => error,
        };
        if core.store.health().poisoned.is_some() {
            return Err(error);
        }
        let payment_no = carried.stored.payment.payment_no.clone();
        tracing::warn!(%payment_no, %error, "a payment's outcome could not be stored yet; it is tried again");
        let told = self.0.answer_unstored(&carried);
        carried.telling = carried.slot.as_ref().map(|slot| slot.tell(core, &told));
        carried.told = Some(told.clone());
        let payments = self.clone();
        core.tasks.spawn(trace::in_current(async move {
            let mut patience = Patience::new();
            while patience.for_another_try(&payments.0.core).await {
                match payments.0.store_outcome(&mut carried, &answer).await {
                    Ok(_) => return,
                    Err(error) => tracing::debug!(%payment_no, %error, "a payment's outcome could still not be stored"),
                }
            }
            tracing::warn!(%payment_no, "a payment's outcome was not stored; the next start asks its channel");
        }));
        Ok(Answered { answer: told, replayed: false })
    }
}

impl Inner {
    fn intent(
        &self,
        caller: &Caller,
        payment_no: PaymentNo,
        terms: PaymentTerms,
        attempt: Attempt,
        now: Timestamp,
    ) -> Payment {
        let fee_minor = chosen_fee_minor(&attempt);
        let mut payment = Payment {
            payment_no,
            merchant_id: caller.merchant.merchant_id.clone(),
            terms,
            status: PaymentStatus::Pending,
            reconciling: false,
            cancel_requested: false,
            attempts: vec![attempt],
            refunds: Vec::new(),
            strays: Vec::new(),
            disputes: Vec::new(),
            next_action: None,
            fee_minor,
            fee_reported: false,
            resolve_tries: 0,
            known_at: None,
            event_count: 0,
            due_at: None,
            expires_at: None,
            created_at: now,
            updated_at: now,
            paid_at: None,
            erased_at: None,
        };
        payment.due_at = next_due_at(&payment, &self.policy, now);
        payment
    }

    /// Makes the intent durable. Until this returns nothing has begun.
    async fn commit_intent(
        &self,
        payment: Payment,
        reservation: idempotency::Reservation,
        now: Timestamp,
    ) -> Result<(StoredPayment, Option<Slot>), GatewayError> {
        let mut batch = Batch::new();
        let order_index = rows::insert(&mut batch, &payment)?;
        let key_index = reservation.begin(&mut batch, payment.payment_no.as_str(), now)?;
        match self.core.store.commit(batch).await {
            Ok(committed) => {
                self.money.begun();
                let slot = reservation.committed(committed.sequence);
                Ok((StoredPayment { payment, revision: committed.sequence }, slot))
            }
            Err(StoreError::Precondition { index }) if index == order_index => {
                let holder = rows::holder_of_order(&self.core, &payment.merchant_id, &payment.terms.order_no)?;
                Err(holder.map_or(GatewayError::Overloaded { retry_after_s: 1 }, |holder| order_exists(&holder)))
            }
            Err(StoreError::Precondition { index }) if Some(index) == key_index => {
                Err(GatewayError::IdempotencyInProgress)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the channel of the current attempt, once, and tells the router how that went.
    async fn charge(&self, payment: &Payment, mut place: Reservation) -> ChargeAnswer {
        let Some(attempt) = payment.current() else {
            return ChargeAnswer::unknown("the payment has no attempt");
        };
        let request = charge_request(payment, attempt, &self.core.config.callbacks);
        let channel_name = place.channel().clone();
        place.begin();
        let started = self.core.clock.monotonic();
        let answer = match self.channels.get(&channel_name) {
            Some(channel) => channel.charge(&request).await,
            None => not_configured(&channel_name),
        };
        let latency = self.core.clock.monotonic().since(started);
        if let ChargeState::Unknown { reason } = &answer.state {
            tracing::warn!(payment_no = %payment.payment_no, channel = %channel_name, reason, "charge outcome unknown");
        }
        let latency_ms = u32::try_from(latency.as_millis()).unwrap_or(u32::MAX);
        // What came of it teaches once, when it is stored; that may be with a later answer.
        place.report_call(outcome_class(&answer.state), Some(latency_ms));
        answer
    }

    /// Another channel, when the answer allows one and there is one left; else why none is asked, where that is a
    /// question at all.
    fn next_attempt(
        &self,
        caller: &Caller,
        payment: &Payment,
        answer: &ChargeAnswer,
    ) -> Result<(Reservation, Attempt), Option<Failover>> {
        let (ChargeState::Declined(failure) | ChargeState::NotDone(failure)) = &answer.state else { return Err(None) };
        let settings = self.core.settings();
        let bounds = FailoverBounds {
            failover_max: settings.routing.failover_max,
            within: Duration::from_millis(settings.payments.failover_within_ms),
        };
        let now = self.core.clock.now();
        may_ask_another(payment, failure, bounds, now)?;
        let tried: Vec<ChannelName> = payment.attempts.iter().map(|attempt| attempt.channel.clone()).collect();
        let refusing = self.channels.refusing(payment.terms.payment_token.as_deref());
        let request = self.route_request(caller, &payment.terms, &tried, &refusing, now);
        let decided = self.router.decide(&request);
        if decided.is_ok() {
            self.decisions.note(&decided);
            tried.last().into_iter().for_each(|from| self.decisions.failed_over(from));
        }
        let (place, decision) = decided.map_err(|_| Failover::NoChannelLeft)?;
        let attempt = self.attempt(&payment.payment_no, tried.len() + 1, place.channel().clone(), decision, now);
        Ok((place, attempt))
    }

    /// Makes the end of one attempt and the intent of the next durable, in one commit.
    async fn commit_next(
        &self,
        carried: &mut Carried,
        answer: &ChargeAnswer,
        next: Attempt,
    ) -> Result<(), GatewayError> {
        let now = self.core.clock.now();
        let fee_minor = chosen_fee_minor(&next);
        let Some(mut payment) = begin_attempt(&carried.stored.payment, answer, next, now) else {
            return Err(GatewayError::Internal("a next attempt began out of turn".to_owned()));
        };
        payment.fee_minor = fee_minor;
        payment.due_at = next_due_at(&payment, &self.policy, now);
        let mut batch = Batch::finishing();
        rows::replace(&mut batch, &carried.stored, &payment)?;
        let committed = rows::commit_finish(&self.core, batch).await?;
        self.teach(&carried.stored.payment, &payment, &answer.state);
        carried.stored = StoredPayment { payment, revision: committed.sequence };
        Ok(())
    }

    /// Makes the outcome durable, with the event, its notifications and the answer, and only then answers.
    async fn store_outcome(&self, carried: &mut Carried, answer: &ChargeAnswer) -> Result<Answered, GatewayError> {
        let nameless = ChargeAnswer { refs: ProviderRefs::default(), ..answer.clone() };
        let attempts = carried.attempts;
        for _ in 0..CONFLICTS_MAX {
            let now = self.core.clock.now();
            let before = &carried.stored;
            // If a commit that was thought to have failed did begin the next attempt, that one was never sent: it ends
            // like the one before, without the names that the provider gave to that one.
            let answer = if before.payment.attempts.len() == attempts { answer } else { &nameless };
            let Some(mut outcome) = on_answer(&before.payment, answer, &self.policy, now) else {
                return self.answer_stored(carried);
            };
            if let (Some(attempt), Some(failover)) = (outcome.payment.attempts.last_mut(), carried.failover) {
                attempt.failover = Some(failover);
            }
            let mut batch = Batch::finishing();
            let tell = |name, id| views::payment_event(&outcome.payment, name, id);
            let planned = self.record(&mut batch, before, &outcome, tell, now)?;
            let reply = views::created_reply(&outcome.payment, self.core.livemode());
            let stored_answer = carried.told.clone().unwrap_or_else(|| (carried.renderer)(&reply));
            if let Some(slot) = &carried.slot {
                slot.answer(&mut batch, outcome.payment.payment_no.as_str(), &stored_answer, now)?;
            }
            match self.costs.commit(batch, Some(&before.payment), &outcome.payment).await {
                Ok(_) => {
                    self.teach(&before.payment, &outcome.payment, &answer.state);
                    self.announce(planned, outcome.payment.due_at);
                    return Ok(Answered { answer: stored_answer, replayed: false });
                }
                Err(StoreError::Precondition { .. }) => {
                    let payment = &before.payment;
                    carried.stored = rows::read(&self.core, &payment.merchant_id, &payment.payment_no)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// The outcome is stored already, by a commit that was thought to have failed.
    fn answer_stored(&self, carried: &Carried) -> Result<Answered, GatewayError> {
        let kept = match &carried.slot {
            Some(slot) => slot.kept_answer(&self.core)?,
            None => None,
        };
        let reply = || views::created_reply(&carried.stored.payment, self.core.livemode());
        let answer = kept.or_else(|| carried.told.clone()).unwrap_or_else(|| (carried.renderer)(&reply()));
        Ok(Answered { answer, replayed: false })
    }

    /// What a client is told whose payment's outcome is not stored: that it is being worked on.
    fn answer_unstored(&self, carried: &Carried) -> StoredAnswer {
        let now = self.core.clock.now();
        let payment = &carried.stored.payment;
        let unknown = on_recovery(payment, &self.policy, now).map(|outcome| outcome.payment);
        (carried.renderer)(&views::created_reply(unknown.as_ref().unwrap_or(payment), self.core.livemode()))
    }
}

/// The request of an attempt, the same every time it is made, as long as the payment is not over and the configuration is
/// the same.
pub(super) fn charge_request(payment: &Payment, attempt: &Attempt, callbacks: &CallbacksConfig) -> ChargeRequest {
    ChargeRequest {
        reference: payment.payment_no.to_string(),
        merchant_id: payment.merchant_id.to_string(),
        order_no: payment.terms.order_no.clone(),
        provider_key: attempt.provider_key.clone(),
        money: payment.terms.money,
        method: payment.terms.method.clone(),
        payment_token: payment.terms.payment_token.clone(),
        description: payment.terms.description.clone(),
        customer_email: payment.terms.customer_email.clone(),
        return_url: payment.terms.return_url.clone(),
        notify_url: callbacks.url_of(attempt.channel.as_str()),
    }
}

fn not_configured(channel: &ChannelName) -> ChargeAnswer {
    ChargeAnswer::unknown(format!("channel {channel} is not configured any more"))
}

fn chosen_fee_minor(attempt: &Attempt) -> Option<i64> {
    attempt.decision.chosen_channel().and_then(|verdict| verdict.fee_minor)
}

/// What is said when no channel can take a payment or hold money. A currency that none of the merchant's channels serves is
/// no matter of which of them are available, nor is that none of them holds money; one that is switched off serves nothing.
pub(super) fn refusal(none: NoChannel) -> GatewayError {
    let record = &none.record;
    let asked: Vec<Option<DroppedBy>> = asked(record).map(|verdict| verdict.dropped_by).collect();
    if !asked.is_empty() && asked.iter().all(|dropped| *dropped == Some(DroppedBy::PreAuth)) {
        return GatewayError::PreAuthNotSupported;
    }
    // What can't hold money says nothing about the currency.
    let mut holding = asked.iter().filter(|dropped| **dropped != Some(DroppedBy::PreAuth)).peekable();
    if holding.peek().is_some() && holding.all(|dropped| *dropped == Some(DroppedBy::Currency)) {
        return GatewayError::CurrencyNotSupported(record.currency.to_string());
    }
    GatewayError::NoChannelAvailable(Box::new(none))
}

/// What is said when no channel can hold money: where none of those that serve the method can, it is that.
pub(super) fn hold_refusal(none: NoChannel, method: Option<&str>, known: &[ChannelFacts]) -> GatewayError {
    let serves = |verdict: &&ChannelVerdict| {
        let facts = known.iter().find(|facts| facts.name == verdict.channel);
        let is_served = |method| facts.is_some_and(|facts| facts.methods.iter().any(|served| served == method));
        facts.is_some_and(|facts| facts.methods.is_empty()) || method.is_none_or(is_served)
    };
    let serving: Vec<&ChannelVerdict> = asked(&none.record).filter(serves).collect();
    if !serving.is_empty() && serving.iter().all(|verdict| verdict.dropped_by == Some(DroppedBy::PreAuth)) {
        return GatewayError::PreAuthNotSupported;
    }
    refusal(none)
}

/// What was found about the channels that could be meant: the one that was asked for, else those that the merchant may use.
fn asked(record: &DecisionRecord) -> impl Iterator<Item = &ChannelVerdict> {
    record.channels.iter().filter(|verdict| match &record.requested {
        Some(requested) => verdict.channel == *requested,
        None => !matches!(verdict.dropped_by, Some(DroppedBy::Merchant | DroppedBy::Disabled)),
    })
}
