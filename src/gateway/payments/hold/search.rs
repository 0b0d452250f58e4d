//! Attempts that no list has. A payment that its provider declined through no fault of the payer's may have been charged
//! by another channel then. If that one has no list, it is asked for exactly that attempt: its key follows from the
//! payment's number and the number of the attempt. Only asked: nothing is sent, closed or repeated.
//!
//! Refunds can't be looked for so: their numbers are drawn, not counted, and so their keys are not known.

use std::time::Duration;

use crate::channels::{
    ChargeAnswer, ChargeRequest, ChargeState, ListError, ListedCharge, ProviderRefs, ResolveRequest,
};
use crate::domain::ids::{ChannelName, MerchantId, PaymentNo};
use crate::domain::payment::{PaymentStatus, failure_allows};
use crate::domain::time::{Monotonic, Timestamp};
use crate::gateway::error::GatewayError;
use crate::gateway::payments::hold::charges::{ATTEMPTS_MAX, Adoption};
use crate::gateway::payments::hold::report::ChannelState;
use crate::gateway::payments::hold::{Hold, LIST_WAIT_FIRST, LIST_WAIT_MAX};
use crate::gateway::payments::rows;

/// How far the search for a payment's further attempts is.
#[derive(Debug)]
pub(super) enum Search {
    /// Channels are asked, or asked again.
    Open {
        /// Wait before the next time; doubles.
        wait: Duration,
        /// Not before then; `None` for the first time.
        again_at: Option<Monotonic>,
        /// Those that could not say for certain.
        unsure: Vec<ChannelName>,
    },
    /// There is nothing more to find.
    Over,
}

impl Search {
    pub(super) const fn new() -> Self {
        Self::Open { wait: LIST_WAIT_FIRST, again_at: None, unsure: Vec::new() }
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }
}

/// What the channels say about one attempt.
enum Found {
    /// One of them has it.
    Charge(ChannelName, Box<ListedCharge>),
    /// None of them has it.
    Nothing,
    /// These can't say for certain yet.
    Unsure(Vec<ChannelName>),
}

/// An attempt that may have been made.
struct Further {
    charge: ChargeRequest,
    /// Of the attempt before it.
    before: ListedCharge,
}

impl Hold {
    /// Looks for the attempts behind the last one that is known of, and adds them. Returns whether that is over.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(super) async fn search_further(
        &self,
        adoption: &mut Adoption,
        latest: Timestamp,
    ) -> Result<bool, GatewayError> {
        if !self.is_due(&adoption.search) {
            return Ok(false);
        }
        while !adoption.search.is_over() {
            let Some(further) = self.further(adoption)? else {
                adoption.search = Search::Over;
                break;
            };
            match self.find(adoption, &further, latest).await {
                Found::Charge(channel, charge) => {
                    tracing::warn!(%channel, reference = further.charge.reference, "a charge of the time after the restore point was found");
                    adoption.charges.push((channel, *charge));
                }
                Found::Nothing => adoption.search = Search::Over,
                Found::Unsure(unsure) => {
                    let wait = match &adoption.search {
                        Search::Open { wait, .. } => *wait,
                        Search::Over => LIST_WAIT_FIRST,
                    };
                    let again_at = Some(self.inner().core.clock.monotonic().plus(wait));
                    adoption.search = Search::Open { wait: (wait * 2).min(LIST_WAIT_MAX), again_at, unsure };
                    return Ok(false);
                }
            }
        }
        for (channel, _) in &adoption.charges {
            self.report(channel, |report| report.problem = None);
        }
        Ok(true)
    }

    /// Whether there is something to do now: the time has come, or the operator has confirmed those that were unsure.
    fn is_due(&self, search: &Search) -> bool {
        let Search::Open { again_at: Some(again_at), unsure, .. } = search else { return true };
        self.inner().core.clock.monotonic() >= *again_at
            || unsure.iter().all(|name| self.state_of(name) == ChannelState::Confirmed)
    }

    /// The attempt behind the last one that is known of, if there can have been one.
    fn further(&self, adoption: &Adoption) -> Result<Option<Further>, GatewayError> {
        let mut last = None;
        for (channel, charge) in &adoption.charges {
            // What can't be placed is a person's matter anyway.
            let Ok(proven) = self.prove(channel, charge) else { return Ok(None) };
            if last.as_ref().is_none_or(|(number, _)| *number < proven.number) {
                last = Some((proven.number, charge));
            }
        }
        let Some((number, before)) = last else { return Ok(None) };
        let names = (&before.reference, &before.merchant_id, &before.order_no, before.money);
        let (Some(reference), Some(merchant_id), Some(order_no), Some(money)) = names else { return Ok(None) };
        let may_have_gone_on = match &before.state {
            ChargeState::Declined(failure) | ChargeState::NotDone(failure) => failure_allows(failure).is_ok(),
            _ => false,
        };
        if !may_have_gone_on || number >= ATTEMPTS_MAX {
            return Ok(None);
        }
        let inner = self.inner();
        match rows::read(&inner.core, &MerchantId::new(merchant_id.as_str()), &PaymentNo::new(reference.as_str())) {
            // What was over at the restore point has had no attempt since.
            Ok(stored) => {
                let payment = &stored.payment;
                let is_over = payment.status.is_final() || payment.status == PaymentStatus::NeedsReview;
                if is_over || payment.attempts.len() > number {
                    return Ok(None);
                }
            }
            Err(GatewayError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let charge = ChargeRequest {
            reference: reference.clone(),
            merchant_id: merchant_id.clone(),
            order_no: order_no.clone(),
            provider_key: inner.provider_keys.key(reference, "charge", number + 1),
            money,
            method: None,
            payment_token: None,
            description: None,
            customer_email: None,
            return_url: None,
            notify_url: None,
        };
        Ok(Some(Further { charge, before: before.clone() }))
    }

    /// Asks every channel that can be asked and was not tried before. Nothing was sent after `latest`.
    async fn find(&self, adoption: &Adoption, further: &Further, latest: Timestamp) -> Found {
        let inner = self.inner();
        let names: Vec<ChannelName> = self.0.state.lock().channels.keys().cloned().collect();
        let mut unsure = Vec::new();
        for name in names.into_iter().filter(|name| !adoption.is_of(name)) {
            let Some(channel) = inner.channels.get(&name) else { continue };
            let sent_by = latest.max(further.before.created_at);
            let request = ResolveRequest {
                charge: further.charge.clone(),
                first_sent_at: further.before.created_at,
                sent_by,
                settling: inner.settling(&name, sent_by),
                set_back: inner.core.clock_guard.set_back_since(&inner.core.clock, further.before.created_at),
                now: inner.core.clock.now(),
                refs: ProviderRefs::default(),
                offered_at: None,
                money_sent_at: None,
                close: false,
            };
            match channel.find_charge(&request).await {
                Ok(Some(answer)) => {
                    let found = found_charge(&further.charge, answer, further.before.created_at);
                    return Found::Charge(name, Box::new(found));
                }
                Ok(None) | Err(ListError::NotSupported) => {}
                // Then the operator has looked.
                Err(ListError::Failed(_)) if self.state_of(&name) == ChannelState::Confirmed => {}
                Err(ListError::Failed(reason)) => {
                    tracing::debug!(channel = %name, reason, "whether it has a charge is not known yet");
                    let reference = &further.charge.reference;
                    let problem = format!("payment {reference} may have been charged by {name} then: {reason}");
                    for (listed, _) in &adoption.charges {
                        self.report(listed, |report| report.problem = Some(problem.clone()));
                    }
                    unsure.push(name);
                }
            }
        }
        if unsure.is_empty() { Found::Nothing } else { Found::Unsure(unsure) }
    }
}

fn found_charge(charge: &ChargeRequest, answer: ChargeAnswer, created_at: Timestamp) -> ListedCharge {
    ListedCharge {
        provider_no: answer.refs.channel_order_no.clone().unwrap_or_default(),
        reference: Some(charge.reference.clone()),
        provider_key: Some(charge.provider_key.clone()),
        merchant_id: Some(charge.merchant_id.clone()),
        order_no: Some(charge.order_no.clone()),
        money: Some(charge.money),
        state: answer.state,
        hold: None,
        refs: answer.refs,
        created_at,
    }
}
