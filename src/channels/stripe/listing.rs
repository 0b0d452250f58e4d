//! What Stripe has made since a moment. Only read: nothing is closed or repeated here.

use std::collections::BTreeMap;

use crate::channels::stripe::refund::state_of;
use crate::channels::stripe::response::{IntentStatus, List, PaymentIntent, Refund, Reply, read};
use crate::channels::stripe::{
    ATTEMPT_KEY, MERCHANT_KEY, ORDER_KEY, REFERENCE_KEY, REFUND_KEY, StripeChannel, amount, decline, not_received,
};
use crate::channels::{
    ChargeState, ListError, ListPage, ListedCharge, ListedRefund, NextAction, ProviderRefs, RefundState,
};
use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;

impl StripeChannel {
    pub(super) async fn charges_since(
        &self,
        since: Timestamp,
        after: Option<&str>,
    ) -> Result<ListPage<ListedCharge>, ListError> {
        let answer = self.client.list_intents_since(since, after, self.client.deadline()).await;
        let answer = answer.map_err(|error| ListError::Failed(error.to_string()))?;
        let page = whole(read::<List<PaymentIntent>>(&answer))?;
        let next = page.data.last().filter(|_| page.has_more).map(|last| last.id.clone());
        Ok(ListPage { items: page.data.into_iter().map(listed_charge).collect(), next })
    }

    pub(super) async fn refunds_since(
        &self,
        since: Timestamp,
        after: Option<&str>,
    ) -> Result<ListPage<ListedRefund>, ListError> {
        let answer = self.client.list_refunds_since(since, after, self.client.deadline()).await;
        let answer = answer.map_err(|error| ListError::Failed(error.to_string()))?;
        let page = whole(read::<List<Refund>>(&answer))?;
        let next = page.data.last().filter(|_| page.has_more).map(|last| last.id.clone());
        Ok(ListPage { items: page.data.iter().map(listed_refund).collect(), next })
    }
}

fn whole<T>(reply: Result<Reply<T>, String>) -> Result<T, ListError> {
    match reply {
        Ok(Reply::Object(page)) => Ok(page),
        Ok(Reply::Error(reply)) => {
            Err(ListError::Failed(format!("Stripe's list was answered with status {}", reply.status)))
        }
        Err(reason) => Err(ListError::Failed(reason)),
    }
}

fn listed_charge(mut intent: PaymentIntent) -> ListedCharge {
    let money = money_of(intent.amount, &intent.currency);
    let state = state_of_intent(&intent, money);
    let mut take = |name: &str| intent.metadata.remove(name);
    ListedCharge {
        reference: take(REFERENCE_KEY),
        provider_key: take(ATTEMPT_KEY),
        merchant_id: take(MERCHANT_KEY),
        order_no: take(ORDER_KEY),
        money,
        state,
        refs: ProviderRefs { channel_order_no: Some(intent.id.clone()), client_secret: intent.client_secret },
        provider_no: intent.id,
        created_at: Timestamp::from_unix_s(intent.created),
    }
}

/// Where it stands, as far as that can be said without doing anything about it.
fn state_of_intent(intent: &PaymentIntent, money: Option<Money>) -> ChargeState {
    let unknown = |reason: &str| ChargeState::Unknown { reason: reason.to_owned() };
    let declined = intent.last_payment_error.as_ref().map(decline::decline);
    match (intent.status, declined) {
        (IntentStatus::Succeeded, _) => match money {
            Some(money) if amount::from_stripe(intent.amount_received, money.currency) == Some(money) => {
                ChargeState::Success { fee_minor: intent.fee_minor(money) }
            }
            _ => unknown("Stripe took another amount than was asked for"),
        },
        (IntentStatus::Canceled, _) if intent.is_for_closing() => ChargeState::NotDone(not_received()),
        (IntentStatus::Canceled, Some(failure)) => ChargeState::Declined(failure),
        (IntentStatus::Canceled, None) => ChargeState::Canceled,
        (IntentStatus::Processing, _) => ChargeState::Processing,
        (IntentStatus::RequiresAction, _) if !intent.is_for_closing() => {
            let redirect = intent.next_action.as_ref().and_then(|action| action.redirect_to_url.as_ref());
            let next_action =
                redirect.and_then(|redirect| redirect.url.clone()).map(|url| NextAction::Redirect { url });
            ChargeState::ActionRequired { next_action, expires_at: None }
        }
        _ => unknown("the PaymentIntent is not closed"),
    }
}

fn listed_refund(refund: &Refund) -> ListedRefund {
    let named = |metadata: &BTreeMap<String, String>, name: &str| metadata.get(name).cloned();
    let money = money_of(refund.amount, &refund.currency);
    let state = match money {
        Some(_) => state_of(refund),
        None => RefundState::Unknown { reason: String::from("the refund's amount is none of ours") },
    };
    ListedRefund {
        provider_no: refund.id.clone(),
        reference: named(&refund.metadata, REFERENCE_KEY),
        refund_reference: named(&refund.metadata, REFUND_KEY),
        merchant_id: named(&refund.metadata, MERCHANT_KEY),
        money,
        state,
        created_at: Timestamp::from_unix_s(refund.created),
    }
}

fn money_of(amount: i64, currency: &str) -> Option<Money> {
    let currency: Currency = currency.to_ascii_uppercase().parse().ok()?;
    amount::from_stripe(amount, currency)
}
