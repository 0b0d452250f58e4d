//! What Stripe has made since a moment. Only read: nothing is closed or repeated here.

use std::collections::BTreeMap;

use crate::channels::stripe::hold::state_of_hold;
use crate::channels::stripe::refund::state_of;
use crate::channels::stripe::response::{IntentStatus, List, PaymentIntent, Refund, Reply, read};
use crate::channels::stripe::{
    ATTEMPT_KEY, MERCHANT_KEY, ORDER_KEY, REFERENCE_KEY, REFUND_KEY, StripeChannel, amount, decline, not_received,
};
use crate::channels::{
    ChargeState, HoldState, ListError, ListPage, ListedCharge, ListedRefund, ProviderRefs, RefundState,
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
        let next = next_after(page.data.last().map(|last| &last.id), page.has_more)?;
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
        let next = next_after(page.data.last().map(|last| &last.id), page.has_more)?;
        Ok(ListPage { items: page.data.iter().map(listed_refund).collect(), next })
    }
}

/// Behind which object the next page begins. A page that is empty and not the last must not be taken for the end: what was
/// not listed would be taken for never made.
fn next_after(last: Option<&String>, has_more: bool) -> Result<Option<String>, ListError> {
    match last {
        Some(last) => Ok(Some(last.clone()).filter(|_| has_more)),
        None if has_more => Err(ListError::Failed(String::from("Stripe's list breaks off with an empty page"))),
        None => Ok(None),
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
    let hold = intent.is_hold().then(|| match money {
        Some(money) => state_of_hold(&intent, money),
        None => HoldState::Unknown { reason: String::from("the hold's amount is none of ours") },
    });
    let state = match hold {
        Some(_) => ChargeState::Unknown { reason: String::from("it is a hold, and no charge") },
        None => state_of_intent(&intent, money),
    };
    let mut take = |name: &str| intent.metadata.remove(name);
    ListedCharge {
        reference: take(REFERENCE_KEY),
        provider_key: take(ATTEMPT_KEY),
        merchant_id: take(MERCHANT_KEY),
        order_no: take(ORDER_KEY),
        money,
        state,
        hold,
        refs: ProviderRefs {
            channel_order_no: Some(intent.id.clone()),
            client_secret: intent.client_secret,
            ..ProviderRefs::default()
        },
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
            ChargeState::ActionRequired { next_action: intent.page_for_payer(), expires_at: None }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::channels::NextAction;
    use crate::channels::tests::{
        Bench, START, channel_at, charge_with, http_answer, is_success, peer_that_answers, refund_of,
    };
    use crate::clock::Clock;
    use crate::config::ChannelKind;

    /// A channel whose provider answers every list with this.
    async fn answered(status: u16, body: &str) -> std::sync::Arc<dyn crate::channels::Channel> {
        let url = peer_that_answers(http_answer(status, "application/json", body, body.len())).await;
        channel_at(ChannelKind::Stripe, &url, Clock::manual(START))
    }

    fn intent(id: &str, more: Value) -> Value {
        let mut intent = json!({ "id": id, "object": "payment_intent", "status": "succeeded", "amount": 900,
            "amount_received": 900, "currency": "usd", "metadata": {}, "created": 1_790_000_007 });
        intent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        intent
    }

    fn refund(id: &str, more: Value) -> Value {
        let mut refund = json!({ "id": id, "object": "refund", "status": "succeeded", "amount": 300,
            "currency": "usd", "metadata": {}, "created": 1_790_000_009 });
        refund.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refund
    }

    fn list(items: &[Value], has_more: bool) -> String {
        json!({ "object": "list", "data": items, "has_more": has_more }).to_string()
    }

    async fn charges(body: &str) -> ListPage<ListedCharge> {
        answered(200, body).await.list_charges(START, None).await.unwrap()
    }

    async fn state_of_one(more: Value) -> ChargeState {
        charges(&list(&[intent("pi_1", more)], false)).await.items.remove(0).state
    }

    #[tokio::test]
    async fn all_pages_together_have_everything_since_then_once() {
        let bench = Bench::new(ChannelKind::Stripe);
        let mut expected = Vec::new();
        for number in 0..230 {
            let mut request = charge_with(Some("tok_visa"));
            request.provider_key = format!("tg_{number}");
            assert!(is_success(&bench.charge(&request).await));
            if number == 29 {
                bench.clock.advance(std::time::Duration::from_secs(60));
            } else if number > 29 {
                expected.push(request.provider_key);
            }
        }
        let since = Timestamp::from_unix_s(START.unix_s() + 60);
        let mut found = Vec::new();
        let mut sizes = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = bench.channel.list_charges(since, after.as_deref()).await.unwrap();
            sizes.push(page.items.len());
            found.extend(page.items.into_iter().filter_map(|charge| charge.provider_key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(sizes, [100, 100]);
        found.reverse();
        assert_eq!(found, expected, "newest first");
    }

    #[tokio::test]
    async fn a_charge_and_its_refund_carry_what_was_sent_with_them() {
        let bench = Bench::new(ChannelKind::Stripe);
        let request = charge_with(Some("tok_visa"));
        let answer = bench.charge(&request).await;
        let refund = refund_of(&request, &answer.refs, 100, 1);
        bench.channel.refund(&refund).await;
        let charge = bench.channel.list_charges(START, None).await.unwrap().items.remove(0);
        assert_eq!(Some(&charge.provider_no), answer.refs.channel_order_no.as_ref());
        assert_eq!(charge.refs.channel_order_no.as_deref(), Some(charge.provider_no.as_str()));
        assert_eq!(charge.reference, Some(request.reference.clone()));
        assert_eq!(charge.provider_key, Some(request.provider_key.clone()));
        assert_eq!(charge.merchant_id, Some(request.merchant_id.clone()));
        assert_eq!((charge.money, charge.created_at), (Some(request.money), START));
        assert_eq!(charge.state, answer.state);
        let listed = bench.channel.list_refunds(START, None).await.unwrap().items.remove(0);
        assert_eq!(listed.reference, Some(request.reference));
        assert_eq!(listed.refund_reference, Some(refund.refund_reference));
        assert_eq!(listed.money, Some(refund.money));
        assert!(matches!(listed.state, RefundState::Success), "{:?}", listed.state);
    }

    #[tokio::test]
    async fn what_somebody_else_made_has_no_marks_or_theirs() {
        let theirs = json!({ "metadata": { "order": "7", MERCHANT_KEY: "somebody" } });
        let page = charges(&list(&[intent("pi_1", json!({})), intent("pi_2", theirs)], false)).await;
        let [bare, foreign] = &page.items[..] else { panic!("{page:?}") };
        assert_eq!(
            (&bare.reference, &bare.provider_key, &bare.merchant_id, &bare.order_no),
            (&None, &None, &None, &None)
        );
        assert_eq!((&foreign.reference, foreign.merchant_id.as_deref()), (&None, Some("somebody")));
        assert_eq!(bare.created_at, Timestamp::from_unix_s(1_790_000_007));
        // Amounts that no payment of ours could have are not guessed at.
        for odd in [json!({ "currency": "xxz" }), json!({ "currency": "isk", "amount": 950 })] {
            let page = charges(&list(&[intent("pi_1", odd)], false)).await;
            assert_eq!(page.items[0].money, None);
            assert!(matches!(page.items[0].state, ChargeState::Unknown { .. }));
        }
        let odd = refund("re_1", json!({ "currency": "xxz" }));
        let page = answered(200, &list(&[odd], false)).await.list_refunds(START, None).await.unwrap();
        assert_eq!((&page.items[0].money, &page.items[0].reference), (&None, &None));
        assert!(matches!(page.items[0].state, RefundState::Unknown { .. }));
    }

    #[tokio::test]
    async fn states_are_said_only_as_far_as_they_are_final() {
        assert!(matches!(state_of_one(json!({})).await, ChargeState::Success { .. }));
        assert!(matches!(state_of_one(json!({ "amount_received": 899 })).await, ChargeState::Unknown { .. }));
        assert_eq!(state_of_one(json!({ "status": "canceled" })).await, ChargeState::Canceled);
        let declined =
            json!({ "status": "canceled", "last_payment_error": { "type": "card_error", "code": "card_declined" } });
        assert!(matches!(state_of_one(declined).await, ChargeState::Declined(_)));
        assert_eq!(state_of_one(json!({ "status": "processing" })).await, ChargeState::Processing);
        let action = json!({ "status": "requires_action",
            "next_action": { "type": "redirect_to_url", "redirect_to_url": { "url": "https://3ds.example" } } });
        let ChargeState::ActionRequired { next_action: Some(NextAction::Redirect { url }), .. } =
            state_of_one(action).await
        else {
            panic!("there is something to act on")
        };
        assert_eq!(url, "https://3ds.example");
        for open in ["requires_payment_method", "requires_confirmation", "requires_capture", "something_new"] {
            assert!(matches!(state_of_one(json!({ "status": open })).await, ChargeState::Unknown { .. }), "{open}");
        }
    }

    #[tokio::test]
    async fn the_next_page_begins_behind_the_last_object() {
        let page = charges(&list(&[intent("pi_1", json!({})), intent("pi_2", json!({}))], true)).await;
        assert_eq!(page.next.as_deref(), Some("pi_2"));
        let page = charges(&list(&[intent("pi_1", json!({}))], false)).await;
        assert_eq!(page.next, None);
        let page = answered(200, &list(&[refund("re_1", json!({}))], true)).await.list_refunds(START, None).await;
        assert_eq!(page.unwrap().next.as_deref(), Some("re_1"));
    }

    #[tokio::test]
    async fn a_list_that_is_not_whole_is_none() {
        let whole = list(&[intent("pi_1", json!({}))], false);
        let cut = &whole[..whole.len() - 20];
        let no_data = json!({ "object": "list", "has_more": false }).to_string();
        let odd_item = list(&[json!({ "id": "pi_1" })], false);
        let error = json!({ "error": { "type": "api_error", "message": "try later" } }).to_string();
        for (status, body) in [
            (200, cut),
            (200, ""),
            (200, "<html>"),
            (200, &no_data),
            (200, &odd_item),
            (500, &error),
            (401, &error),
            (503, "busy"),
        ] {
            let channel = answered(status, body).await;
            assert!(matches!(channel.list_charges(START, None).await, Err(ListError::Failed(_))), "{status} {body}");
            assert!(matches!(channel.list_refunds(START, None).await, Err(ListError::Failed(_))), "{status} {body}");
        }
        // A body that ends before its length says so is not the list that was sent.
        let url = peer_that_answers(http_answer(200, "application/json", &whole, whole.len() + 50)).await;
        let channel = channel_at(ChannelKind::Stripe, &url, Clock::manual(START));
        assert!(matches!(channel.list_charges(START, None).await, Err(ListError::Failed(_))));
    }

    #[tokio::test]
    async fn an_empty_page_that_promises_more_is_no_end() {
        let channel = answered(200, &list(&[], true)).await;
        assert!(matches!(channel.list_charges(START, None).await, Err(ListError::Failed(_))));
        assert!(matches!(channel.list_refunds(START, None).await, Err(ListError::Failed(_))));
    }
}
