//! Finding out what became of a charge: by our number, which Alipay remembers for ever.
//!
//! That a trade is not there says nothing by itself: the request may still be on its way, and a QR code has no trade
//! before it is scanned. So it is canceled first. Alipay documents that canceling closes a trade that is not paid and
//! gives the money back for one that is, and answers without an action when it knows no trade; that last answer counts
//! only when the request can't be on its way any more, because the time in which it was sent is over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::channels::alipay::charge::{
    BAR_CODE_LIFETIME, QR_CODE_LIFETIME, is_amount, refs_of, succeeded, waiting_for_payer,
};
use crate::channels::alipay::codes::Reply;
use crate::channels::alipay::{AlipayChannel, amount, amount_not_supported, not_received, number_of};
use crate::channels::http::Deadline;
use crate::channels::{ChargeAnswer, ChargeState, ResolveRequest};

/// A request whose connection was given up is worked on by then, or never.
pub(super) const SETTLE_MARGIN: Duration = Duration::from_secs(2);

/// What canceling came to.
pub(super) enum Cancellation {
    /// The trade is closed, with the money given back if it was paid.
    Closed,
    /// Alipay knows no trade with this number.
    NoTrade,
    /// Anything else.
    Unknown(String),
}

/// Names a trade.
#[derive(Serialize)]
struct TradeName<'a> {
    out_trade_no: &'a str,
}

/// The answer to a question about a trade.
#[derive(Deserialize)]
struct Trade {
    out_trade_no: String,
    trade_no: String,
    trade_status: String,
    total_amount: String,
}

/// The answer to a cancellation.
#[derive(Deserialize)]
struct Canceled {
    out_trade_no: String,
    #[serde(default)]
    retry_flag: Option<String>,
    #[serde(default)]
    action: Option<String>,
}

impl AlipayChannel {
    pub(super) async fn ask_about_charge(&self, request: &ResolveRequest) -> ChargeAnswer {
        let number = number_of(&request.charge.provider_key);
        let deadline = self.client.deadline();
        match self.client.call::<Trade>("alipay.trade.query", &TradeName { out_trade_no: &number }, deadline).await {
            Ok(Reply::Done(trade)) => self.judge(trade, &number, request, deadline).await,
            Ok(Reply::Refused(refusal)) if refusal.is("TRADE_NOT_EXIST") => {
                self.no_trade(&number, request, deadline).await
            }
            Ok(Reply::Refused(refusal)) => {
                ChargeAnswer::unknown(format!("Alipay answered {} {}", refusal.code, refusal.sub_code))
            }
            Ok(Reply::Waiting) => ChargeAnswer::unknown("Alipay has not finished"),
            Ok(Reply::Unclear(code)) => ChargeAnswer::unknown(format!("Alipay answered {code}")),
            Err(error) => ChargeAnswer::unknown(error.to_string()),
        }
    }

    async fn judge(&self, trade: Trade, number: &str, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let charge = &request.charge;
        if trade.out_trade_no != number || !is_amount(&trade.total_amount, charge.money) {
            return ChargeAnswer::unknown("Alipay answered about another payment");
        }
        let of_trade = |state| ChargeAnswer { state, refs: refs_of(Some(trade.trade_no.clone())) };
        match trade.trade_status.as_str() {
            "TRADE_SUCCESS" | "TRADE_FINISHED" => succeeded(trade.trade_no),
            // Closed before it was paid, or paid and given back in full: either way nothing is left with us.
            "TRADE_CLOSED" => of_trade(ChargeState::Canceled),
            "WAIT_BUYER_PAY" if request.close || self.is_overdue(request) => {
                match self.cancel(number, deadline).await {
                    Cancellation::Closed => of_trade(ChargeState::Canceled),
                    Cancellation::NoTrade => {
                        ChargeAnswer::unknown("Alipay says that it both has the trade and has it not")
                    }
                    Cancellation::Unknown(reason) => of_trade(ChargeState::Unknown { reason }),
                }
            }
            "WAIT_BUYER_PAY" if self.bar_code_of(charge).is_some() => of_trade(ChargeState::Processing),
            "WAIT_BUYER_PAY" => {
                ChargeAnswer { refs: refs_of(Some(trade.trade_no)), ..waiting_for_payer(None, request.first_sent_at) }
            }
            status => of_trade(ChargeState::Unknown { reason: format!("the trade's status is {status}") }),
        }
    }

    /// Whether a bar code waits for its payer for longer than it should. A payment that was refused looks like one that
    /// waits, when the process ended before it could close the trade.
    fn is_overdue(&self, request: &ResolveRequest) -> bool {
        let age = request.now.since(request.first_sent_at);
        self.bar_code_of(&request.charge).is_some() && age >= BAR_CODE_LIFETIME + SETTLE_MARGIN
    }

    async fn no_trade(&self, number: &str, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let age = request.now.since(request.first_sent_at);
        let waits_for_scan = self.bar_code_of(&request.charge).is_none() && age < QR_CODE_LIFETIME;
        let sending_is_over = age >= self.client.timeout() + SETTLE_MARGIN;
        if !request.close && waits_for_scan {
            return self.offer_again(request, deadline).await;
        }
        if !request.close && !sending_is_over {
            return ChargeAnswer::unknown("Alipay has no such trade yet");
        }
        match self.cancel(number, deadline).await {
            Cancellation::Closed => ChargeAnswer::not_done(not_received()),
            Cancellation::NoTrade if sending_is_over => ChargeAnswer::not_done(not_received()),
            Cancellation::NoTrade => ChargeAnswer::unknown("the request may still be on its way to Alipay"),
            Cancellation::Unknown(reason) => ChargeAnswer::unknown(reason),
        }
    }

    /// The payer has not scanned the code, or never got it because its answer was lost: it is asked for again.
    async fn offer_again(&self, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let Some(total_amount) = amount::to_alipay(request.charge.money) else {
            return ChargeAnswer::not_done(amount_not_supported());
        };
        match self.offer_qr_code(&request.charge, &total_amount, request.first_sent_at, deadline).await {
            Ok(ChargeAnswer { state: ChargeState::NotDone(failure), .. }) => ChargeAnswer::unknown(failure.message),
            Ok(answer) => answer,
            Err(refusal) => ChargeAnswer::unknown(format!("Alipay answered {} {}", refusal.code, refusal.sub_code)),
        }
    }

    /// Closes a trade: unpaid, it can't be paid any more; paid, the money goes back.
    pub(super) async fn cancel(&self, number: &str, deadline: Deadline) -> Cancellation {
        match self.client.call::<Canceled>("alipay.trade.cancel", &TradeName { out_trade_no: number }, deadline).await {
            Ok(Reply::Done(canceled)) if canceled.out_trade_no != number => {
                Cancellation::Unknown(String::from("Alipay answered about another payment"))
            }
            Ok(Reply::Done(canceled)) => match (canceled.retry_flag.as_deref(), canceled.action.as_deref()) {
                (Some("Y"), _) => Cancellation::Unknown(String::from("Alipay asks for the cancellation again")),
                (_, Some("close" | "refund")) => Cancellation::Closed,
                (_, None | Some("")) => Cancellation::NoTrade,
                (_, Some(action)) => Cancellation::Unknown(format!("Alipay answered with the action {action}")),
            },
            Ok(Reply::Refused(refusal)) => Cancellation::Unknown(format!("{} {}", refusal.code, refusal.sub_code)),
            Ok(Reply::Waiting) => Cancellation::Unknown(String::from("Alipay has not finished")),
            Ok(Reply::Unclear(code)) => Cancellation::Unknown(code),
            Err(error) => Cancellation::Unknown(error.to_string()),
        }
    }
}
