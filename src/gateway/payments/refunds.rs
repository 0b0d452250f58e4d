//! Refunds: reserved and stored before they are sent, asked about while unknown.

use std::time::Duration;

use crate::actors::merchant::IdempotencyClaim;
use crate::channels::RefundRequest;
use crate::domain::ids::{MerchantId, PaymentNo, RefundNo, dated_number};
use crate::domain::money::Money;
use crate::domain::outcome::{RefundAnswer, RefundState};
use crate::domain::payment::{Payment, Refund, RefundRejection, RefundStatus, begin_refund, on_refund_answer};
use crate::gateway::answer::{Answered, Renderer, Reply, StoredAnswer};
use crate::gateway::auth::Caller;
use crate::gateway::command::CreateRefund;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::{Known, Origin, Reservation, Slot, look_up};
use crate::gateway::numbered_list;
use crate::gateway::page::Page;
use crate::gateway::patience::Patience;
use crate::gateway::payments::rows::{self, Refunded, StoredPayment};
use crate::gateway::payments::{CONFLICTS_MAX, Inner, Payments, Refunding, Working, terms, views};
use crate::gateway::pre_auths;
use crate::gateway::told::Telling;
use crate::gateway::view::RefundView;
use crate::storage::{Batch, StoreError};
use crate::telemetry::trace;

/// The refunds of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Refunds(Payments);

impl Refunds {
    pub(crate) fn new(payments: Payments) -> Self {
        Self(payments)
    }

    pub(super) fn payments(&self) -> &Payments {
        &self.0
    }

    /// Gives money back. `pending` in the answer means that the outcome is not known yet; the amount stays reserved.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::InvalidState`] when the payment is not charged,
    /// [`GatewayError::AmountTooLarge`] for more than is left.
    pub async fn create(
        &self,
        caller: &Caller,
        origin: Origin,
        payment_no: &str,
        command: CreateRefund,
    ) -> Result<Answered, GatewayError> {
        let inner = &self.0.0;
        let merchant_id = &caller.merchant.merchant_id;
        let payment_no = PaymentNo::new(payment_no);
        let reservation = match look_up(&inner.core, merchant_id, origin.idempotency.as_ref())? {
            Known::Answered(answer) => return Ok(Answered { answer, replayed: true }),
            Known::Unanswered { object_no, slot } => {
                let stored = rows::read(&inner.core, merchant_id, &payment_no)?;
                let reply = created_reply(&stored.payment, &RefundNo::new(object_no.as_str()), inner.core.livemode())?;
                return inner.store_answer(&slot, &object_no, (origin.renderer)(&reply)).await;
            }
            Known::New(reservation) => reservation,
        };
        self.0.check_held()?;
        terms::check_reason(command.reason.as_ref())?;
        if command.amount.is_some_and(|amount| amount < 1) {
            return Err(GatewayError::field("amount", "must be at least 1 minor unit"));
        }
        if inner.core.stopping.is_cancelled() {
            return Err(GatewayError::ShuttingDown);
        }
        let payments = self.0.clone();
        let merchant_id = merchant_id.clone();
        let mut origin = origin;
        let task = inner.core.tasks.spawn(trace::in_current(async move {
            let _permit = origin.permit.take();
            payments.carry_refund(&merchant_id, &payment_no, reservation, &command, origin).await
        }));
        task.await.unwrap_or_else(|error| Err(GatewayError::Internal(format!("a refund's task ended: {error}"))))
    }

    /// One refund, of a payment or of a pre-auth.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], also for another merchant's.
    pub fn get(&self, caller: &Caller, refund_no: &str) -> Result<RefundView, GatewayError> {
        let inner = &self.0.0;
        let merchant_id = &caller.merchant.merchant_id;
        let refund_no = RefundNo::new(refund_no);
        match rows::object_of_refund(&inner.core, merchant_id, &refund_no)? {
            Refunded::Payment(payment_no) => {
                let stored = rows::read(&inner.core, merchant_id, &payment_no)?;
                let refund = find(&stored.payment, &refund_no)?;
                Ok(views::refund_view(&stored.payment, refund, inner.core.livemode()))
            }
            Refunded::PreAuth(pre_auth_no) => pre_auths::refund_of(&inner.core, merchant_id, &pre_auth_no, &refund_no),
        }
    }

    /// All refunds of a payment, newest first; there are few.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn list(&self, caller: &Caller, payment_no: &str) -> Result<Page<RefundView>, GatewayError> {
        let inner = &self.0.0;
        let stored = inner.read(&caller.merchant.merchant_id, payment_no)?;
        let livemode = inner.core.livemode();
        let payment = &stored.payment;
        let items = payment.refunds.iter().rev().map(|refund| views::refund_view(payment, refund, livemode)).collect();
        Ok(Page { items, next_cursor: None })
    }

    /// All refunds of any merchant's payment, newest first; there are few.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn of_payment(&self, payment_no: &str) -> Result<Vec<RefundView>, GatewayError> {
        let core = &self.0.0.core;
        let payment: Payment = numbered_list::find(core, payment_no)?;
        let newest_first = payment.refunds.iter().rev();
        Ok(newest_first.map(|refund| views::refund_view(&payment, refund, core.livemode())).collect())
    }

    /// The number of what any merchant's refund is of: a payment or a pre-auth.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn object_of(&self, refund_no: &str) -> Result<String, GatewayError> {
        Ok(match numbered_list::holder_of_refund(&self.0.0.core, &RefundNo::new(refund_no))?.1 {
            Refunded::Payment(payment_no) => payment_no.to_string(),
            Refunded::PreAuth(pre_auth_no) => pre_auth_no.to_string(),
        })
    }
}

/// Who waits for a refund's answer, and what that takes.
pub(super) struct Client {
    slot: Option<Slot>,
    renderer: Renderer,
    /// What the client was told before the outcome could be stored, if it was.
    told: Option<StoredAnswer>,
    /// Has that ready for repetitions.
    telling: Option<Telling>,
}

/// What a refund's task holds while it carries the refund.
struct Carried {
    stored: StoredPayment,
    client: Client,
    /// Keeps repetitions out until the answer is stored.
    _claim: Option<IdempotencyClaim>,
    /// Keeps the timer from asking about a refund that is being sent.
    _refunding: Refunding,
    /// Spares the timer the look, unless it works on the payment already.
    _working: Option<Working>,
}

impl Payments {
    /// Reserves the amount, sends the refund, stores what came of it and answers.
    async fn carry_refund(
        &self,
        merchant_id: &MerchantId,
        payment_no: &PaymentNo,
        reservation: Reservation,
        command: &CreateRefund,
        origin: Origin,
    ) -> Result<Answered, GatewayError> {
        let inner = &self.0;
        let Origin { claim, renderer, .. } = origin;
        let (stored, refunding, slot) = inner.begin(merchant_id, payment_no, reservation, command).await?;
        let refund_no = refunding.refund_no.clone();
        let client = Client { slot, renderer, told: None, telling: None };
        let working = inner.work_on(payment_no);
        let mut carried = Carried { stored, client, _claim: claim, _refunding: refunding, _working: working };
        let answer = inner.ask_refund(&carried.stored.payment, &refund_no, true).await?;
        let error = match inner.store_refund(&mut carried.stored, &refund_no, &answer, Some(&carried.client)).await {
            Ok(Some(answer)) => return Ok(Answered { answer, replayed: false }),
            Ok(None) => GatewayError::Internal("a refund was sent but not answered".to_owned()),
            Err(error) => error,
        };
        if inner.core.store.health().poisoned.is_some() {
            return Err(error);
        }
        tracing::warn!(%refund_no, %error, "a refund's outcome could not be stored yet; it is tried again");
        let reply = created_reply(&carried.stored.payment, &refund_no, inner.core.livemode())?;
        let told = (carried.client.renderer)(&reply);
        carried.client.telling = carried.client.slot.as_ref().map(|slot| slot.tell(&inner.core, &told));
        carried.client.told = Some(told.clone());
        let payments = self.clone();
        inner.core.tasks.spawn(trace::in_current(async move {
            let mut patience = Patience::new();
            while patience.for_another_try(&payments.0.core).await {
                let Carried { stored, client, .. } = &mut carried;
                match payments.0.store_refund(stored, &refund_no, &answer, Some(client)).await {
                    Ok(_) => return,
                    Err(error) => tracing::debug!(%refund_no, %error, "a refund's outcome could still not be stored"),
                }
            }
            tracing::warn!(%refund_no, "a refund's outcome was not stored; the next start asks its channel");
        }));
        Ok(Answered { answer: told, replayed: false })
    }
}

impl Inner {
    /// Stores the refund with its amount reserved. Until this returns nothing has begun.
    async fn begin(
        &self,
        merchant_id: &MerchantId,
        payment_no: &PaymentNo,
        reservation: Reservation,
        command: &CreateRefund,
    ) -> Result<(StoredPayment, Refunding, Option<Slot>), GatewayError> {
        for _ in 0..CONFLICTS_MAX {
            let now = self.core.clock.now();
            let before = rows::read(&self.core, merchant_id, payment_no)?;
            let refund_no = RefundNo::new(dated_number("RF", now, self.core.random.draw_u64()));
            // Held before it is stored: from then on the timer sees it.
            let Some(refunding) = self.work_on_refund(&refund_no) else { continue };
            let refund = Refund {
                refund_no: refund_no.clone(),
                amount_minor: command.amount.unwrap_or_else(|| before.payment.refundable_minor()),
                status: RefundStatus::Pending,
                reason: command.reason.clone(),
                provider_key: self.provider_keys.key(refund_no.as_str(), "refund", 1),
                channel_refund_no: None,
                failure: None,
                resolve_tries: 0,
                unanswered_at: None,
                known_at: None,
                created_at: now,
                updated_at: now,
            };
            let refunds_max = self.core.settings().payments.refunds_max;
            let payment = begin_refund(&before.payment, refund, refunds_max, &self.policy, now).map_err(rejected)?;
            let mut batch = Batch::new();
            rows::replace(&mut batch, &before, &payment)?;
            let begun = reservation.begin(&mut batch, refund_no.as_str(), now)?;
            match self.core.store.commit(batch).await {
                Ok(committed) => {
                    let slot = reservation.committed(committed.sequence);
                    return Ok((StoredPayment { payment, revision: committed.sequence }, refunding, slot));
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

    /// Asks about a refund that is under way and stores what came of it. `false` when somebody else is at it.
    pub(super) async fn ask_about_refund(
        &self,
        mut stored: StoredPayment,
        refund_no: &RefundNo,
    ) -> Result<bool, GatewayError> {
        let Some(_refunding) = self.work_on_refund(refund_no) else { return Ok(false) };
        let answer = self.ask_refund(&stored.payment, refund_no, false).await?;
        self.store_refund(&mut stored, refund_no, &answer, None).await?;
        Ok(true)
    }

    /// Makes what came of a refund durable, with the event and the answer of whoever waits for one.
    pub(super) async fn store_refund(
        &self,
        stored: &mut StoredPayment,
        refund_no: &RefundNo,
        answer: &RefundAnswer,
        client: Option<&Client>,
    ) -> Result<Option<StoredAnswer>, GatewayError> {
        for _ in 0..CONFLICTS_MAX {
            let now = self.core.clock.now();
            let mut batch = Batch::finishing();
            let outcome = on_refund_answer(&stored.payment, refund_no, answer, &self.policy, now);
            let payment = outcome.as_ref().map_or(&stored.payment, |outcome| &outcome.payment);
            let mut planned = None;
            if let Some(outcome) = &outcome {
                let refund = find(&outcome.payment, refund_no)?;
                let tell = |name, id| views::refund_event(&outcome.payment, refund, name, id);
                planned = self.record(&mut batch, stored, outcome, tell, now)?;
            }
            let mut answered = None;
            if let Some(Client { slot, renderer, told, .. }) = client {
                let reply = created_reply(payment, refund_no, self.core.livemode())?;
                let kept = match slot {
                    Some(slot) if outcome.is_none() => slot.kept_answer(&self.core)?,
                    _ => None,
                };
                if kept.is_some() {
                    // A commit that was thought to have failed has stored it all.
                    return Ok(kept);
                }
                let answer = told.clone().unwrap_or_else(|| renderer(&reply));
                if let Some(slot) = slot {
                    slot.answer(&mut batch, refund_no.as_str(), &answer, now)?;
                }
                answered = Some(answer);
            }
            if batch.writes.is_empty() {
                return Ok(answered);
            }
            match self.costs.commit(batch, Some(&stored.payment), payment).await {
                Ok(_) => {
                    self.alerts.note(&stored.payment, payment);
                    self.announce(planned, payment.due_at);
                    return Ok(answered);
                }
                Err(StoreError::Precondition { .. }) => {
                    *stored = rows::read(&self.core, &stored.payment.merchant_id, &stored.payment.payment_no)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// `is_first` says that nothing was sent for this refund before.
    pub(super) async fn ask_refund(
        &self,
        payment: &Payment,
        refund_no: &RefundNo,
        is_first: bool,
    ) -> Result<RefundAnswer, GatewayError> {
        let refund = find(payment, refund_no)?;
        let unknown = |reason: String| RefundAnswer { state: RefundState::Unknown { reason }, channel_refund_no: None };
        let Some((attempt, brought_minor)) = payment.source_of(refund_no) else {
            return Ok(unknown("the payment has no attempt".to_owned()));
        };
        let Some(channel) = self.channels.get(&attempt.channel) else {
            return Ok(unknown(format!("channel {} is not configured any more", attempt.channel)));
        };
        let currency = payment.terms.money.currency;
        // What was never sent is not old, whatever the clock did.
        let set_back = match is_first {
            true => Duration::ZERO,
            false => self.core.clock_guard.set_back_since(&self.core.clock, refund.created_at),
        };
        let sent_by = refund.unanswered_at.unwrap_or(refund.created_at).max(self.started_at);
        let request = RefundRequest {
            reference: payment.payment_no.to_string(),
            refund_reference: refund_no.to_string(),
            merchant_id: payment.merchant_id.to_string(),
            provider_key: refund.provider_key.clone(),
            money: Money::new(refund.amount_minor, currency),
            charged: Money::new(brought_minor, currency),
            reason: refund.reason.clone(),
            refs: attempt.refs.clone(),
            channel_refund_no: refund.channel_refund_no.clone(),
            first_sent_at: refund.created_at,
            sent_by,
            settling: self.settling(&attempt.channel, sent_by),
            is_first,
            set_back,
            now: if is_first { refund.created_at } else { self.core.clock.now() },
        };
        let answer = channel.refund(&request).await;
        if let RefundState::Unknown { reason } = &answer.state {
            tracing::warn!(refund_no = %refund_no, channel = %attempt.channel, reason, "refund outcome unknown");
        }
        Ok(answer)
    }
}

fn find<'a>(payment: &'a Payment, refund_no: &RefundNo) -> Result<&'a Refund, GatewayError> {
    payment.refunds.iter().find(|refund| refund.refund_no == *refund_no).ok_or(GatewayError::NotFound("refund"))
}

fn created_reply(payment: &Payment, refund_no: &RefundNo, livemode: bool) -> Result<Reply, GatewayError> {
    let refund = find(payment, refund_no)?;
    let view = views::refund_view(payment, refund, livemode);
    Ok(if refund.status == RefundStatus::Failed { Reply::RefundNotDone(view) } else { Reply::RefundCreated(view) })
}

fn rejected(rejection: RefundRejection) -> GatewayError {
    match rejection {
        RefundRejection::State(status) => GatewayError::InvalidState { status: status.as_str().to_owned() },
        RefundRejection::TooMuch { refundable_minor } => GatewayError::AmountTooLarge { max_minor: refundable_minor },
        RefundRejection::TooMany => GatewayError::InvalidState { status: "too_many_refunds".to_owned() },
    }
}
