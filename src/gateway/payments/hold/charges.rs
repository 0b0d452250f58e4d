//! Charges that providers have since the restore point: compared with what is here, or adopted.

use std::collections::BTreeMap;

use crate::channels::{ChargeAnswer, ChargeState, ListedCharge};
use crate::domain::ids::{ChannelName, MerchantId, PaymentNo};
use crate::domain::outcome::ProviderRefs;
use crate::domain::payment::{
    Attempt, AttemptOutcome, Effect, Outcome, Payment, PaymentStatus, PaymentTerms, on_answer, on_cancel_request,
};
use crate::domain::routing::{DecisionRecord, FeeRequest, fee_on};
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::hold::pre_auths::{OpenPreAuth, is_of_pre_auth};
use crate::gateway::payments::hold::report::HeldItemView;
use crate::gateway::payments::hold::search::Search;
use crate::gateway::payments::hold::{Hold, is_nameless};
use crate::gateway::payments::rows::{self, StoredPayment};
use crate::gateway::payments::{CONFLICTS_MAX, views};
use crate::storage::{Batch, StoreError, keys};

/// Attempts that a payment can have had: no routing table has more channels.
pub(super) const ATTEMPTS_MAX: usize = 32;

/// All charges of one payment, in the order of its attempts as far as that is known.
pub(super) struct Adoption {
    pub(super) charges: Vec<(ChannelName, ListedCharge)>,
    /// Whether there may be more of them, at providers that have no list.
    pub(super) search: Search,
}

/// What to do about a payment's charges, or a pre-auth's hold.
pub(super) enum Verdict {
    /// Nothing: what is here agrees.
    Agrees,
    /// It was made again or learned from.
    Adopted,
    /// It can't be decided yet.
    Later,
    /// A person has to look.
    Person(&'static str),
}

impl Adoption {
    pub(super) fn of(charges: Vec<(ChannelName, ListedCharge)>) -> Self {
        Self { charges, search: Search::new() }
    }

    pub(super) fn is_of(&self, channel: &ChannelName) -> bool {
        self.charges.iter().any(|(name, _)| name == channel)
    }

    /// Whether it is about a pre-auth.
    fn is_of_pre_auth(&self) -> bool {
        self.charges.iter().any(|(_, charge)| is_of_pre_auth(charge.reference.as_deref()))
    }

    /// Whether it is about the payment or pre-auth with this number.
    pub(super) fn has_number(&self, number: &str) -> bool {
        self.charges.iter().any(|(_, charge)| charge.reference.as_deref() == Some(number))
    }
}

/// A charge whose marks are all there and prove that it is this installation's.
pub(super) struct Proven<'a> {
    channel: &'a ChannelName,
    charge: &'a ListedCharge,
    /// Which attempt of its payment it was, from 1.
    pub(super) number: usize,
}

impl Hold {
    /// Goes through the charges; returns those that can't be decided yet. Nothing was sent to a provider after `latest`. Which
    /// pre-auths have to be closed for it is added to `open`.
    pub(super) async fn adopt(
        &self,
        adoptions: Vec<Adoption>,
        open: &mut Vec<OpenPreAuth>,
        latest: Timestamp,
    ) -> Vec<Adoption> {
        let mut left = Vec::new();
        for mut adoption in adoptions {
            let verdict = match self.search_further(&mut adoption, latest).await {
                Ok(true) if adoption.is_of_pre_auth() => self.decide_hold(&adoption, open).await,
                Ok(true) => self.decide(&adoption).await,
                Ok(false) => Ok(Verdict::Later),
                Err(error) => Err(error),
            };
            let verdict = match verdict {
                Ok(verdict) => verdict,
                Err(error) => {
                    tracing::warn!(%error, "a charge of the time after the restore point can't be taken over yet");
                    Verdict::Later
                }
            };
            if matches!(verdict, Verdict::Later) {
                left.push(adoption);
                continue;
            }
            for (channel, charge) in &adoption.charges {
                self.report(channel, |report| match verdict {
                    Verdict::Agrees => report.agreeing += 1,
                    Verdict::Adopted => report.adopted += 1,
                    Verdict::Later => {}
                    Verdict::Person(reason) => {
                        let reference = charge.reference.as_deref();
                        report.list(HeldItemView::new(&charge.provider_no, reference, charge.money, reason));
                    }
                });
            }
        }
        left
    }

    async fn decide(&self, adoption: &Adoption) -> Result<Verdict, GatewayError> {
        let inner = self.inner();
        let mut proven = Vec::with_capacity(adoption.charges.len());
        for (channel, charge) in &adoption.charges {
            match self.prove(channel, charge) {
                Ok(charge) => proven.push(charge),
                Err(reason) => return Ok(Verdict::Person(reason)),
            }
        }
        if proven.iter().any(|proven| matches!(proven.charge.state, ChargeState::Stray { .. })) {
            return Ok(Verdict::Person("money came for it in another way than it was asked for"));
        }
        proven.sort_by_key(|charge| charge.number);
        let Some(first) = proven.first() else { return Ok(Verdict::Agrees) };
        let (Some(reference), Some(merchant_id)) = (&first.charge.reference, &first.charge.merchant_id) else {
            return Ok(Verdict::Person("it does not say whose payment it is"));
        };
        let merchant_id = MerchantId::new(merchant_id.as_str());
        let payment_no = PaymentNo::new(reference.as_str());
        if inner.core.store.get(&keys::merchant(&merchant_id))?.is_none() {
            return Ok(Verdict::Person("its merchant is not in the restored store"));
        }
        match rows::read(&inner.core, &merchant_id, &payment_no) {
            Ok(stored) => self.compare(stored, &proven).await,
            Err(GatewayError::NotFound(_)) => self.make_again(&merchant_id, &payment_no, &proven).await,
            Err(error) => Err(error),
        }
    }

    /// Whether a charge is this installation's beyond doubt: its key follows from the installation's id and the payment's
    /// number.
    pub(super) fn prove<'a>(
        &self,
        channel: &'a ChannelName,
        charge: &'a ListedCharge,
    ) -> Result<Proven<'a>, &'static str> {
        let (Some(reference), Some(key)) = (&charge.reference, &charge.provider_key) else {
            return Err("it carries marks of a gateway and not all of them");
        };
        let keys = &self.inner().provider_keys;
        let number = (1..=ATTEMPTS_MAX).find(|number| keys.key(reference, "charge", *number) == *key);
        let number = number.ok_or("its key is not one of this installation")?;
        Ok(Proven { channel, charge, number })
    }

    /// Compares a payment that is here with what its providers have, and learns from it what was open.
    async fn compare(&self, mut stored: StoredPayment, charges: &[Proven<'_>]) -> Result<Verdict, GatewayError> {
        let inner = self.inner();
        for _ in 0..CONFLICTS_MAX {
            let payment = &stored.payment;
            if charges.iter().any(|proven| proven.charge.money != Some(payment.terms.money)) {
                return Ok(Verdict::Person("its amount is not that of the payment here"));
            }
            let learned = match self.learn(payment, charges) {
                Ok(Some(learned)) => learned,
                Ok(None) => return Ok(Verdict::Agrees),
                Err(reason) => return Ok(Verdict::Person(reason)),
            };
            let now = inner.core.clock.now();
            let mut batch = Batch::finishing();
            let tell = |name, id| views::payment_event(&learned.payment, name, id);
            let planned = inner.record(&mut batch, &stored, &learned, tell, now)?;
            match inner.costs.commit(batch, Some(&stored.payment), &learned.payment).await {
                Ok(_) => {
                    inner.announce(planned, learned.payment.due_at);
                    return Ok(Verdict::Adopted);
                }
                Err(StoreError::Precondition { .. }) => {
                    let Payment { merchant_id, payment_no, .. } = &stored.payment;
                    stored = rows::read(&inner.core, merchant_id, payment_no)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Verdict::Later)
    }

    /// What the charges teach about a payment; `None` when all of it is known.
    fn learn(&self, payment: &Payment, charges: &[Proven<'_>]) -> Result<Option<Outcome>, &'static str> {
        let has = |proven: &Proven<'_>| {
            payment
                .attempts
                .iter()
                .position(|attempt| Some(&attempt.provider_key) == proven.charge.provider_key.as_ref())
        };
        let last_place = payment.attempts.len().saturating_sub(1);
        let taken = charges.iter().filter(|proven| is_success(&proven.charge.state)).count();
        if taken > 1 {
            return Err("it was charged more than once");
        }
        if payment.status.is_final() || payment.status == PaymentStatus::NeedsReview {
            for proven in charges {
                let is_current = has(proven) == Some(last_place);
                let should_be_charged = payment.status == PaymentStatus::Success && is_current;
                let agrees = if should_be_charged {
                    is_success(&proven.charge.state)
                } else {
                    is_closed(&proven.charge.state) && payment.status != PaymentStatus::NeedsReview
                };
                if !agrees {
                    return Err("the payment here is final and says something else");
                }
            }
            return Ok(None);
        }
        let mut changed = payment.clone();
        let mut answer = None;
        for proven in charges {
            match has(proven) {
                Some(place) if place == last_place => answer = Some(answer_of(proven.charge)),
                // An attempt is begun only when the one before it is closed.
                Some(_) => {}
                None => {
                    if let Some(before) = changed.attempts.last_mut() {
                        before.outcome.get_or_insert(AttemptOutcome::NotDone);
                    }
                    changed.attempts.push(self.attempt_of(proven));
                    answer = Some(answer_of(proven.charge));
                }
            }
        }
        if changed.status == PaymentStatus::Pending {
            changed.status = PaymentStatus::Processing;
        }
        let Some(answer) = answer else { return Ok(None) };
        let now = self.inner().core.clock.now();
        let outcome = on_answer(&changed, &answer, &self.inner().policy, now);
        let is_news = outcome.as_ref().is_some_and(|outcome| {
            outcome.payment.status != payment.status
                || outcome.payment.attempts.len() != payment.attempts.len()
                || is_nameless(payment)
        });
        Ok(outcome.filter(|_| is_news))
    }

    /// Makes a payment again that is not here.
    async fn make_again(
        &self,
        merchant_id: &MerchantId,
        payment_no: &PaymentNo,
        charges: &[Proven<'_>],
    ) -> Result<Verdict, GatewayError> {
        let inner = self.inner();
        let Some(last) = charges.last() else { return Ok(Verdict::Agrees) };
        if charges.iter().filter(|proven| is_success(&proven.charge.state)).count() > 1 {
            return Ok(Verdict::Person("it was charged more than once"));
        }
        let (Some(order_no), Some(money)) = (&last.charge.order_no, last.charge.money) else {
            return Ok(Verdict::Person("it does not say what it is for"));
        };
        let now = inner.core.clock.now();
        let mut attempts: Vec<Attempt> = charges.iter().map(|proven| self.attempt_of(proven)).collect();
        let earlier = attempts.len().saturating_sub(1);
        for (attempt, proven) in attempts.iter_mut().zip(charges).take(earlier) {
            if !is_closed(&proven.charge.state) {
                return Ok(Verdict::Person("an earlier attempt of it is not closed"));
            }
            attempt.outcome = Some(AttemptOutcome::NotDone);
        }
        let estimate = attempts.last().and_then(|attempt| attempt.decision.chosen_channel()?.fee_minor);
        let payment = Payment {
            payment_no: payment_no.clone(),
            merchant_id: merchant_id.clone(),
            terms: terms_of(order_no, money),
            status: PaymentStatus::Processing,
            reconciling: true,
            cancel_requested: false,
            attempts,
            refunds: Vec::new(),
            strays: Vec::new(),
            disputes: Vec::new(),
            next_action: None,
            fee_minor: estimate,
            fee_reported: false,
            resolve_tries: 0,
            known_at: None,
            event_count: 0,
            due_at: None,
            expires_at: None,
            created_at: last.charge.created_at,
            updated_at: now,
            paid_at: None,
            erased_at: None,
        };
        let Some(outcome) = on_answer(&payment, &answer_of(last.charge), &inner.policy, now) else {
            return Ok(Verdict::Person("its state can't be taken over"));
        };
        let mut batch = Batch::finishing();
        let order_index = rows::insert_adopted(&mut batch, &outcome.payment)?;
        let planned = match outcome.effect {
            Effect::None => None,
            Effect::Tell(name) => {
                let event = views::payment_event(&outcome.payment, name, inner.event_id(now))?;
                Some(inner.webhooks.plan(&mut batch, merchant_id, &event, Some(order_no))?)
            }
        };
        match inner.costs.commit(batch, None, &outcome.payment).await {
            Ok(_) => {
                tracing::warn!(%payment_no, status = outcome.payment.status.as_str(), "a payment was made again");
                inner.announce(planned, outcome.payment.due_at);
                Ok(Verdict::Adopted)
            }
            Err(StoreError::Precondition { index }) if Some(index) == order_index => {
                self.make_way(merchant_id, order_no).await
            }
            Err(StoreError::Precondition { .. }) => Ok(Verdict::Later),
            Err(error) => Err(error.into()),
        }
    }

    /// Another payment holds the order number here. It let it go after the restore point, so that it was closed without
    /// having been charged: it is closed here too.
    async fn make_way(&self, merchant_id: &MerchantId, order_no: &str) -> Result<Verdict, GatewayError> {
        let inner = self.inner();
        let Some(holder) = rows::holder_of_order(&inner.core, merchant_id, order_no)? else {
            return Ok(Verdict::Later);
        };
        let stored = rows::read(&inner.core, merchant_id, &holder)?;
        if matches!(stored.payment.status, PaymentStatus::Success | PaymentStatus::NeedsReview) {
            return Ok(Verdict::Person("another payment holds its order number here and is not closed"));
        }
        if stored.payment.cancel_requested {
            return Ok(Verdict::Later);
        }
        let now = inner.core.clock.now();
        if let Ok(outcome) = on_cancel_request(&stored.payment, &inner.policy, now) {
            let mut batch = Batch::finishing();
            rows::replace(&mut batch, &stored, &outcome.payment)?;
            match rows::commit_finish(&inner.core, batch).await {
                Ok(_) => inner.announce(None, outcome.payment.due_at),
                Err(StoreError::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Verdict::Later)
    }

    /// What the channel takes for a charge by its fee table, as far as the provider's list says what it depends on.
    fn fee_of(&self, proven: &Proven<'_>) -> Option<i64> {
        let inner = self.inner();
        let setup = &inner.router.table().setup;
        let facts = setup.channels.get(setup.place_of(proven.channel)?)?;
        let at = proven.charge.created_at;
        let this_month_minor = inner.costs.channel_totals(proven.channel, at).this_month_minor;
        let money = proven.charge.money?;
        fee_on(setup, facts, &FeeRequest { money, payer: None, merchant: None, method: None, at, this_month_minor })
    }

    fn attempt_of(&self, proven: &Proven<'_>) -> Attempt {
        let charge = proven.charge;
        let currency = charge.money.map_or(crate::domain::money::Currency::USD, |money| money.currency);
        let mut decision = DecisionRecord::adopted(proven.channel.clone(), currency);
        if let Some(verdict) = decision.channels.first_mut() {
            verdict.fee_minor = self.fee_of(proven);
        }
        Attempt {
            channel: proven.channel.clone(),
            provider_key: charge.provider_key.clone().unwrap_or_default(),
            decision,
            sent_at: charge.created_at,
            refs: ProviderRefs { channel_order_no: Some(charge.provider_no.clone()), ..ProviderRefs::default() },
            unanswered_at: None,
            offered_at: None,
            money_sent_at: None,
            outcome: None,
            failure: None,
            failover: None,
        }
    }
}

fn terms_of(order_no: &str, money: crate::domain::money::Money) -> PaymentTerms {
    PaymentTerms {
        order_no: order_no.to_owned(),
        money,
        card_country: None,
        country: None,
        method: None,
        requested_channel: None,
        payment_token: None,
        customer_email: None,
        customer_ip: None,
        description: None,
        metadata: BTreeMap::new(),
        return_url: None,
    }
}

fn answer_of(charge: &ListedCharge) -> ChargeAnswer {
    ChargeAnswer::with(charge.state.clone(), charge.refs.clone())
}

const fn is_success(state: &ChargeState) -> bool {
    matches!(state, ChargeState::Success { .. })
}

const fn is_closed(state: &ChargeState) -> bool {
    matches!(state, ChargeState::Declined(_) | ChargeState::NotDone(_) | ChargeState::Canceled)
}
