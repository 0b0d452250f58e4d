//! Holding money: at once with the payer's bar code, or by a QR code that the payer scans.

use serde::{Deserialize, Serialize};

use crate::channels::alipay::charge::{
    BAR_CODE_LIFETIME_TEXT, QR_CODE_LIFETIME, QR_CODE_LIFETIME_TEXT, is_amount, title_of,
};
use crate::channels::alipay::codes::{Refusal, Reply};
use crate::channels::alipay::hold::{Freeze, Standing, numbers_of, refs_of_hold};
use crate::channels::alipay::resolve::Cancellation;
use crate::channels::alipay::wire::CallError;
use crate::channels::alipay::{AlipayChannel, amount, amount_not_supported, hold_bar_code_of, unreachable};
use crate::channels::http::Deadline;
use crate::channels::{AuthorizeRequest, HoldAnswer, HoldState, NextAction, ProviderRefs};
use crate::domain::money::Currency;
use crate::domain::time::Timestamp;

/// The product under which money is held by a bar code. What takes the money has to name the same.
const BAR_CODE_PRODUCT: &str = "PRE_AUTH";
/// The same by a QR code.
const QR_CODE_PRODUCT: &str = "PREAUTH_PAY";

/// A new freeze.
#[derive(Serialize)]
struct FreezeContent<'a> {
    out_order_no: &'a str,
    out_request_no: &'a str,
    order_title: String,
    amount: &'a str,
    product_code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_code_type: Option<&'static str>,
    pay_timeout: &'static str,
    /// JSON within JSON: our number, for whoever looks the freeze up at Alipay.
    extra_param: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    payee_user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trans_currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settle_currency: Option<&'a str>,
}

/// The answer with a QR code.
#[derive(Deserialize)]
struct Voucher {
    out_order_no: String,
    out_request_no: String,
    code_value: String,
}

/// The product of a hold with these names: only one by QR code has a number before anything is held.
pub(super) fn product_of(refs: &ProviderRefs) -> &'static str {
    if refs.channel_order_no.is_some() { QR_CODE_PRODUCT } else { BAR_CODE_PRODUCT }
}

impl AlipayChannel {
    pub(super) async fn send_hold(&self, hold: &AuthorizeRequest) -> HoldAnswer {
        let Some(amount) = amount::to_alipay(hold.money) else {
            return HoldAnswer::not_done(amount_not_supported());
        };
        let deadline = self.client.deadline();
        match hold_bar_code_of(hold) {
            Some(bar_code) => self.freeze(hold, bar_code, &amount, deadline).await,
            None => match self.offer_voucher(hold, &amount, self.client.now(), deadline).await {
                Ok(answer) => answer,
                Err(refusal) if refusal.is_used_number() => {
                    HoldAnswer::unknown(format!("Alipay answered {}", refusal.sub_code))
                }
                // Nobody has the code, so that nobody can follow it.
                Err(refusal) => HoldAnswer::not_done(refusal.failure()),
            },
        }
    }

    fn freeze_content<'a>(
        &'a self,
        hold: &'a AuthorizeRequest,
        numbers: (&'a str, &'a str),
        amount: &'a str,
        bar_code: Option<&'a str>,
    ) -> FreezeContent<'a> {
        let foreign = (hold.money.currency != Currency::CNY).then(|| hold.money.currency.code());
        let (product_code, pay_timeout) = match bar_code {
            Some(_) => (BAR_CODE_PRODUCT, BAR_CODE_LIFETIME_TEXT),
            None => (QR_CODE_PRODUCT, QR_CODE_LIFETIME_TEXT),
        };
        FreezeContent {
            out_order_no: numbers.0,
            out_request_no: numbers.1,
            order_title: title_of(hold.description.as_deref(), &hold.reference),
            amount,
            product_code,
            auth_code: bar_code,
            auth_code_type: bar_code.map(|_| "bar_code"),
            pay_timeout,
            extra_param: serde_json::json!({ "reference": hold.reference }).to_string(),
            payee_user_id: self.seller_id.as_deref(),
            trans_currency: foreign,
            settle_currency: foreign,
        }
    }

    async fn freeze(&self, hold: &AuthorizeRequest, bar_code: &str, amount: &str, deadline: Deadline) -> HoldAnswer {
        let (number, request_number) = numbers_of(hold);
        let content = self.freeze_content(hold, (&number, &request_number), amount, Some(bar_code));
        let notify_url = hold.notify_url.as_deref();
        let method = "alipay.fund.auth.order.freeze";
        match self.client.call_notified::<Freeze>(method, &content, notify_url, deadline).await {
            Ok(Reply::Done(freeze)) => self.frozen(freeze, hold),
            Ok(Reply::Waiting) => HoldAnswer::bare(HoldState::Processing),
            Ok(Reply::Refused(refusal)) => self.refused_freeze(&refusal, hold, deadline).await,
            Ok(Reply::Unclear(code)) => HoldAnswer::unknown(format!("Alipay answered {code}")),
            Err(CallError::NotSent(reason)) => HoldAnswer::not_done(unreachable(reason)),
            Err(CallError::Unknown(reason)) => HoldAnswer::unknown(reason),
        }
    }

    /// What the answer to a freeze says.
    fn frozen(&self, freeze: Freeze, hold: &AuthorizeRequest) -> HoldAnswer {
        let (number, request_number) = numbers_of(hold);
        if freeze.out_order_no != number
            || freeze.out_request_no != request_number
            || !is_amount(&freeze.amount, hold.money)
        {
            return HoldAnswer::unknown("Alipay answered about another pre-authorization");
        }
        let state = match self.standing(&freeze, hold.money) {
            Standing::Held { held_minor, expires_at } => HoldState::Held { held_minor, expires_at, honor_until: None },
            Standing::Waiting => HoldState::Processing,
            Standing::NeverHeld | Standing::Captured(_) | Standing::Released | Standing::Other(_) => {
                HoldState::Unknown { reason: format!("the freeze's status is {}", freeze.status) }
            }
        };
        HoldAnswer { refs: refs_of_hold(freeze.auth_no), ..HoldAnswer::bare(state) }
    }

    async fn refused_freeze(&self, refusal: &Refusal, hold: &AuthorizeRequest, deadline: Deadline) -> HoldAnswer {
        if refusal.is_used_number() {
            return HoldAnswer::unknown(format!("Alipay answered {}", refusal.sub_code));
        }
        if refusal.code != "40004" {
            // Refused at the door, before anything was made.
            return HoldAnswer::not_done(refusal.failure());
        }
        let ending = if refusal.is_decline() {
            HoldState::Declined(refusal.failure())
        } else {
            HoldState::NotDone(refusal.failure())
        };
        // The freeze may stay behind, waiting for another try of the payer's.
        match self.cancel_freeze(hold, deadline).await {
            Cancellation::Closed | Cancellation::NoTrade => HoldAnswer::bare(ending),
            Cancellation::Unknown(reason) => HoldAnswer::unknown(format!("it could not be closed: {reason}")),
        }
    }

    /// Asks for the QR code of a freeze: the same numbers give a code of the same freeze, and a new lifetime.
    pub(super) async fn offer_voucher(
        &self,
        hold: &AuthorizeRequest,
        amount: &str,
        offered_at: Timestamp,
        deadline: Deadline,
    ) -> Result<HoldAnswer, Refusal> {
        let (number, request_number) = numbers_of(hold);
        let content = self.freeze_content(hold, (&number, &request_number), amount, None);
        let notify_url = hold.notify_url.as_deref();
        let method = "alipay.fund.auth.order.voucher.create";
        Ok(match self.client.call_notified::<Voucher>(method, &content, notify_url, deadline).await {
            Ok(Reply::Done(voucher)) if voucher.out_order_no == number && voucher.out_request_no == request_number => {
                let refs = ProviderRefs { channel_order_no: Some(number), ..ProviderRefs::default() };
                let state = waiting_for_payer(hold, Some(voucher.code_value), offered_at);
                HoldAnswer { refs, ..HoldAnswer::bare(state) }
            }
            Ok(Reply::Done(_)) => HoldAnswer::unknown("Alipay answered about another pre-authorization"),
            Ok(Reply::Refused(refusal)) => return Err(refusal),
            Ok(Reply::Waiting) => HoldAnswer::unknown("Alipay is still making the QR code"),
            Ok(Reply::Unclear(code)) => HoldAnswer::unknown(format!("Alipay answered {code}")),
            Err(CallError::NotSent(reason)) => HoldAnswer::not_done(unreachable(reason)),
            Err(CallError::Unknown(reason)) => HoldAnswer::unknown(reason),
        })
    }
}

/// The payer has the QR code and has not followed it.
pub(super) fn waiting_for_payer(hold: &AuthorizeRequest, qr_code: Option<String>, offered_at: Timestamp) -> HoldState {
    let next_action = qr_code.map(|url| NextAction::Redirect { url });
    let expires_at = Some(offered_at.plus(QR_CODE_LIFETIME));
    if hold.payment_token.is_some() {
        HoldState::ActionRequired { next_action, expires_at }
    } else {
        HoldState::AwaitsMethod { failure: None, next_action, expires_at }
    }
}
