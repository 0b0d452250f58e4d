//! Charging: at once with the payer's bar code, or by a QR code that the payer scans.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::channels::alipay::codes::{Refusal, Reply};
use crate::channels::alipay::resolve::Cancellation;
use crate::channels::alipay::wire::CallError;
use crate::channels::alipay::{AlipayChannel, amount, amount_not_supported, number_of, unreachable};
use crate::channels::http::Deadline;
use crate::channels::{ChargeAnswer, ChargeRequest, ChargeState, NextAction, ProviderRefs};
use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;

/// How long a QR code can be scanned. A code that nobody has scanned can't be taken back, so that a payment that its
/// merchant gives up stays open for as long.
pub(super) const QR_CODE_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// [`QR_CODE_LIFETIME`] as Alipay writes it.
pub(super) const QR_CODE_LIFETIME_TEXT: &str = "30m";
/// How long a payer may take to confirm a bar code payment on the telephone.
pub(super) const BAR_CODE_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// [`BAR_CODE_LIFETIME`] as Alipay writes it.
pub(super) const BAR_CODE_LIFETIME_TEXT: &str = "10m";
/// Between our number and whose it is, in what Alipay sends back. Neither of them has it, and no URL has to escape it.
pub(super) const PASSBACK_SEPARATOR: char = '~';
/// Longest title of an order.
const SUBJECT_CHARACTERS_MAX: usize = 200;

/// A new trade.
#[derive(Serialize)]
struct TradeContent<'a> {
    out_trade_no: &'a str,
    total_amount: &'a str,
    subject: String,
    /// Our payment number: shown beside the order and sent back with notifications.
    body: &'a str,
    /// Whose it is, sent back with notifications.
    passback_params: String,
    product_code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scene: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_express: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qr_code_timeout_express: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trans_currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settle_currency: Option<&'a str>,
}

impl<'a> TradeContent<'a> {
    fn new(charge: &'a ChargeRequest, number: &'a str, total_amount: &'a str) -> Self {
        let foreign = (charge.money.currency != Currency::CNY).then(|| charge.money.currency.code());
        Self {
            out_trade_no: number,
            total_amount,
            subject: title_of(charge.description.as_deref(), &charge.reference),
            body: &charge.reference,
            passback_params: passback_of(&charge.reference, &charge.merchant_id),
            product_code: "FACE_TO_FACE_PAYMENT",
            scene: None,
            auth_code: None,
            timeout_express: None,
            qr_code_timeout_express: None,
            trans_currency: foreign,
            settle_currency: foreign,
        }
    }
}

/// The title of the order; Alipay refuses `/`, `=` and `&` in it.
pub(super) fn title_of(description: Option<&str>, reference: &str) -> String {
    let text = description.filter(|text| !text.trim().is_empty()).unwrap_or(reference);
    let allowed = |character: char| if matches!(character, '/' | '=' | '&') { ' ' } else { character };
    text.chars().map(allowed).take(SUBJECT_CHARACTERS_MAX).collect()
}

/// What Alipay sends back with every notification about a trade: our number and whose it is.
pub(super) fn passback_of(reference: &str, merchant_id: &str) -> String {
    format!("{reference}{PASSBACK_SEPARATOR}{merchant_id}")
}

/// The answer to a payment by bar code or out of held money.
#[derive(Deserialize)]
pub(super) struct Paid {
    pub(super) out_trade_no: String,
    pub(super) trade_no: String,
    pub(super) total_amount: String,
}

/// The answer with a QR code.
#[derive(Deserialize)]
struct QrCode {
    out_trade_no: String,
    qr_code: String,
}

impl AlipayChannel {
    pub(super) async fn send_charge(&self, charge: &ChargeRequest) -> ChargeAnswer {
        let Some(total_amount) = amount::to_alipay(charge.money) else {
            return ChargeAnswer::not_done(amount_not_supported());
        };
        let deadline = self.client.deadline();
        match self.bar_code_of(charge) {
            Some(bar_code) => self.pay(charge, bar_code, &total_amount, deadline).await,
            None => match self.offer_qr_code(charge, &total_amount, self.client.now(), deadline).await {
                Ok(answer) => answer,
                // Nobody has the code, so that nobody can pay it.
                Err(refusal) => ChargeAnswer::not_done(refusal.failure()),
            },
        }
    }

    async fn pay(
        &self,
        charge: &ChargeRequest,
        bar_code: &str,
        total_amount: &str,
        deadline: Deadline,
    ) -> ChargeAnswer {
        let number = number_of(&charge.provider_key);
        let content = TradeContent {
            scene: Some("bar_code"),
            auth_code: Some(bar_code),
            timeout_express: Some(BAR_CODE_LIFETIME_TEXT),
            ..TradeContent::new(charge, &number, total_amount)
        };
        let notify_url = charge.notify_url.as_deref();
        match self.client.call_notified::<Paid>("alipay.trade.pay", &content, notify_url, deadline).await {
            Ok(Reply::Done(paid)) => {
                if paid.out_trade_no != number || !is_amount(&paid.total_amount, charge.money) {
                    return ChargeAnswer::unknown("Alipay answered about another payment");
                }
                succeeded(paid.trade_no)
            }
            Ok(Reply::Waiting) => ChargeAnswer::bare(ChargeState::Processing),
            Ok(Reply::Refused(refusal)) => self.refused(refusal, charge, deadline).await,
            Ok(Reply::Unclear(code)) => ChargeAnswer::unknown(format!("Alipay answered {code}")),
            Err(CallError::NotSent(reason)) => ChargeAnswer::not_done(unreachable(reason)),
            Err(CallError::Unknown(reason)) => ChargeAnswer::unknown(reason),
        }
    }

    async fn refused(&self, refusal: Refusal, charge: &ChargeRequest, deadline: Deadline) -> ChargeAnswer {
        // What for has to be asked.
        if refusal.is_used_number() {
            return ChargeAnswer::unknown(format!("Alipay answered {}", refusal.sub_code));
        }
        if refusal.code != "40004" {
            // Refused at the door, before anything was made.
            return ChargeAnswer::not_done(refusal.failure());
        }
        let ending = if refusal.is_decline() {
            ChargeState::Declined(refusal.failure())
        } else {
            ChargeState::NotDone(refusal.failure())
        };
        // The trade may stay behind, waiting for another try of the payer's.
        match self.cancel(&number_of(&charge.provider_key), deadline).await {
            Cancellation::Closed | Cancellation::NoTrade => ChargeAnswer::bare(ending),
            Cancellation::Unknown(reason) => ChargeAnswer::unknown(format!("it could not be closed: {reason}")),
        }
    }

    /// Asks for the QR code of a trade: the same number gives a code of the same trade, and a new lifetime.
    pub(super) async fn offer_qr_code(
        &self,
        charge: &ChargeRequest,
        total_amount: &str,
        offered_at: Timestamp,
        deadline: Deadline,
    ) -> Result<ChargeAnswer, Refusal> {
        let number = number_of(&charge.provider_key);
        let content = TradeContent {
            qr_code_timeout_express: Some(QR_CODE_LIFETIME_TEXT),
            ..TradeContent::new(charge, &number, total_amount)
        };
        let notify_url = charge.notify_url.as_deref();
        Ok(match self.client.call_notified::<QrCode>("alipay.trade.precreate", &content, notify_url, deadline).await {
            Ok(Reply::Done(offer)) if offer.out_trade_no == number => {
                waiting_for_payer(Some(offer.qr_code), offered_at)
            }
            Ok(Reply::Done(_)) => ChargeAnswer::unknown("Alipay answered about another payment"),
            Ok(Reply::Refused(refusal)) => return Err(refusal),
            Ok(Reply::Waiting) => ChargeAnswer::unknown("Alipay is still making the QR code"),
            Ok(Reply::Unclear(code)) => ChargeAnswer::unknown(format!("Alipay answered {code}")),
            Err(CallError::NotSent(reason)) => ChargeAnswer::not_done(unreachable(reason)),
            Err(CallError::Unknown(reason)) => ChargeAnswer::unknown(reason),
        })
    }
}

/// Whether Alipay's text means exactly this money.
pub(super) fn is_amount(text: &str, money: Money) -> bool {
    amount::from_alipay(text, money.currency) == Some(money)
}

/// Money was taken. Alipay does not say what it keeps.
pub(super) fn succeeded(trade_no: String) -> ChargeAnswer {
    ChargeAnswer::with(ChargeState::Success { fee_minor: None }, refs_of(Some(trade_no)))
}

/// The payer has the QR code and has not paid.
pub(super) fn waiting_for_payer(qr_code: Option<String>, offered_at: Timestamp) -> ChargeAnswer {
    ChargeAnswer::bare(ChargeState::ActionRequired {
        next_action: qr_code.map(|url| NextAction::Redirect { url }),
        expires_at: Some(offered_at.plus(QR_CODE_LIFETIME)),
    })
}

/// Names with Alipay's number of the trade.
pub(super) fn refs_of(trade_no: Option<String>) -> ProviderRefs {
    ProviderRefs { channel_order_no: trade_no, ..ProviderRefs::default() }
}
