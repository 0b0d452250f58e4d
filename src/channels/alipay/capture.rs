//! Taking held money. The number of the trade that takes it can be used once, for ever: a repetition either does it now or
//! finds what an earlier request did.

use serde::Serialize;

use crate::channels::alipay::charge::{Paid, is_amount, passback_of, title_of};
use crate::channels::alipay::codes::{Refusal, Reply};
use crate::channels::alipay::freeze::product_of;
use crate::channels::alipay::hold::{cannot_be_sent, refs_of_hold};
use crate::channels::alipay::resolve::{Trade, TradeName};
use crate::channels::alipay::wire::CallError;
use crate::channels::alipay::{AlipayChannel, amount, amount_not_supported, missing_hold, number_of, unreachable};
use crate::channels::http::Deadline;
use crate::channels::{CaptureRequest, DeclineScope, Failure, HoldAnswer, HoldState, ProviderRefs};
use crate::domain::money::Currency;

/// A trade that takes what is held.
#[derive(Serialize)]
struct CaptureContent<'a> {
    out_trade_no: &'a str,
    total_amount: &'a str,
    subject: String,
    /// Our number of the pre-authorization.
    body: &'a str,
    passback_params: String,
    product_code: &'static str,
    auth_no: &'a str,
    /// `COMPLETE` lets go what is left. Alipay's default keeps it held.
    auth_confirm_mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trans_currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settle_currency: Option<&'a str>,
}

/// What a question about the trade of a capture came to.
enum Taken {
    /// The money was taken, by the trade with this number of Alipay's.
    Yes(String),
    /// There is no such trade.
    NoTrade,
    /// It is closed: never paid, or paid and given back in full.
    Closed,
    /// Alipay works on it.
    Processing,
    /// Not known, and why.
    Unknown(String),
}

impl AlipayChannel {
    pub(super) async fn take(&self, request: &CaptureRequest) -> HoldAnswer {
        let Some(auth_no) = request.refs.hold_no.as_deref() else {
            return cannot_be_sent(missing_hold(), &request.sent);
        };
        let Some(total_amount) = amount::to_alipay(request.money) else {
            return cannot_be_sent(amount_not_supported(), &request.sent);
        };
        let deadline = self.client.deadline();
        if !request.sent.is_first {
            match self.ask_about_capture(request, deadline).await {
                Taken::Yes(trade_no) => return taken(trade_no, request),
                // It can be sent again, and counts once.
                Taken::NoTrade => {}
                Taken::Closed => return self.closed_capture(request, deadline).await,
                Taken::Processing => return HoldAnswer::bare(HoldState::Processing),
                Taken::Unknown(reason) => return HoldAnswer::unknown(reason),
            }
        }
        self.send_capture(request, auth_no, &total_amount, deadline).await
    }

    async fn send_capture(
        &self,
        request: &CaptureRequest,
        auth_no: &str,
        total_amount: &str,
        deadline: Deadline,
    ) -> HoldAnswer {
        let hold = &request.hold;
        let number = number_of(&request.provider_key);
        let foreign = (request.money.currency != Currency::CNY).then(|| request.money.currency.code());
        let content = CaptureContent {
            out_trade_no: &number,
            total_amount,
            subject: title_of(hold.description.as_deref(), &request.capture_reference),
            body: &hold.reference,
            passback_params: passback_of(&hold.reference, &hold.merchant_id),
            product_code: product_of(&request.refs),
            auth_no,
            auth_confirm_mode: "COMPLETE",
            trans_currency: foreign,
            settle_currency: foreign,
        };
        let notify_url = hold.notify_url.as_deref();
        match self.client.call_notified::<Paid>("alipay.trade.pay", &content, notify_url, deadline).await {
            Ok(Reply::Done(paid)) => {
                if paid.out_trade_no != number || !is_amount(&paid.total_amount, request.money) {
                    return HoldAnswer::unknown("Alipay answered about another payment");
                }
                taken(paid.trade_no, request)
            }
            Ok(Reply::Refused(refusal)) => self.refused_capture(&refusal, request, deadline).await,
            Ok(Reply::Waiting) => self.unclear_capture(HoldState::Processing, request, deadline).await,
            Ok(Reply::Unclear(code)) => {
                let reason = format!("Alipay answered {code}");
                self.unclear_capture(HoldState::Unknown { reason }, request, deadline).await
            }
            Err(CallError::NotSent(reason)) if request.sent.is_first => {
                self.refused_operation(unreachable(reason), hold, &request.sent, deadline).await
            }
            Err(error) => HoldAnswer::unknown(error.to_string()),
        }
    }

    async fn refused_capture(&self, refusal: &Refusal, request: &CaptureRequest, deadline: Deadline) -> HoldAnswer {
        if refusal.is_call_limit() {
            return HoldAnswer::unknown(refusal.failure().message);
        }
        if !refusal.is_used_number() {
            return self.refused_operation(refusal.failure(), &request.hold, &request.sent, deadline).await;
        }
        // The number, or the hold: the trade with the number tells which.
        match self.ask_about_capture(request, deadline).await {
            Taken::Yes(trade_no) => taken(trade_no, request),
            Taken::NoTrade => self.refused_operation(refusal.failure(), &request.hold, &request.sent, deadline).await,
            Taken::Closed => self.closed_capture(request, deadline).await,
            Taken::Processing => HoldAnswer::bare(HoldState::Processing),
            Taken::Unknown(reason) => HoldAnswer::unknown(reason),
        }
    }

    /// Alipay does not know, or has not finished: it is asked at once, as nobody else knows better.
    async fn unclear_capture(&self, state: HoldState, request: &CaptureRequest, deadline: Deadline) -> HoldAnswer {
        match self.ask_about_capture(request, deadline).await {
            Taken::Yes(trade_no) => taken(trade_no, request),
            Taken::Processing => HoldAnswer::bare(HoldState::Processing),
            Taken::NoTrade | Taken::Closed | Taken::Unknown(_) => HoldAnswer::bare(state),
        }
    }

    /// The trade is closed, and its number used up. Where the hold stands says whether the money was taken before.
    async fn closed_capture(&self, request: &CaptureRequest, deadline: Deadline) -> HoldAnswer {
        let message = "Alipay has closed the trade that was to take the money.";
        let failure = Failure::new("trade_closed", message, DeclineScope::Unknown);
        self.refused_operation(failure, &request.hold, &request.sent, deadline).await
    }

    async fn ask_about_capture(&self, request: &CaptureRequest, deadline: Deadline) -> Taken {
        let number = number_of(&request.provider_key);
        match self.client.call::<Trade>("alipay.trade.query", &TradeName { out_trade_no: &number }, deadline).await {
            Ok(Reply::Done(trade))
                if trade.out_trade_no != number || !is_amount(&trade.total_amount, request.money) =>
            {
                Taken::Unknown(String::from("Alipay answered about another payment"))
            }
            Ok(Reply::Done(trade)) => match trade.trade_status.as_str() {
                "TRADE_SUCCESS" | "TRADE_FINISHED" => Taken::Yes(trade.trade_no),
                "TRADE_CLOSED" => Taken::Closed,
                "WAIT_BUYER_PAY" => Taken::Processing,
                status => Taken::Unknown(format!("the trade's status is {status}")),
            },
            Ok(Reply::Refused(refusal)) if refusal.is("TRADE_NOT_EXIST") => Taken::NoTrade,
            Ok(Reply::Refused(refusal)) => {
                Taken::Unknown(format!("Alipay answered {} {}", refusal.code, refusal.sub_code))
            }
            Ok(Reply::Waiting) => Taken::Unknown(String::from("Alipay has not finished")),
            Ok(Reply::Unclear(code)) => Taken::Unknown(format!("Alipay answered {code}")),
            Err(error) => Taken::Unknown(error.to_string()),
        }
    }
}

/// All that was asked for was taken, as Alipay has said.
fn taken(trade_no: String, request: &CaptureRequest) -> HoldAnswer {
    let refs = ProviderRefs { capture_no: Some(trade_no), ..refs_of_hold(request.refs.hold_no.clone()) };
    let state = HoldState::Captured { captured_minor: request.money.amount_minor, fee_minor: None };
    HoldAnswer { refs, ..HoldAnswer::bare(state) }
}
