//! Finding out what became of a charge: by our number, which Alipay remembers for ever.
//!
//! That a trade is not there says nothing by itself: the request may still be on its way, and a QR code has no trade
//! before it is scanned. So it is canceled first. Alipay documents that canceling closes a trade that is not paid and
//! gives the money back for one that is, and answers without an action when it knows no trade. That last answer keeps
//! nothing from happening: it counts only when the request can't be on its way any more and no code that a payer may
//! have can be scanned any more. A code that somebody has is therefore never renewed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::channels::alipay::charge::{
    BAR_CODE_LIFETIME, QR_CODE_LIFETIME, is_amount, refs_of, succeeded, waiting_for_payer,
};
use crate::channels::alipay::codes::Reply;
use crate::channels::alipay::{AlipayChannel, amount, amount_not_supported, not_received, number_of};
use crate::channels::http::Deadline;
use crate::channels::{ChargeAnswer, ChargeState, ListError, ResolveRequest};
use crate::domain::time::Timestamp;

/// How much longer than Alipay itself we wait for a payer to confirm.
pub(super) const CONFIRM_MARGIN: Duration = Duration::from_secs(2);

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
pub(super) struct TradeName<'a> {
    pub(super) out_trade_no: &'a str,
}

/// The answer to a question about a trade.
#[derive(Deserialize)]
pub(super) struct Trade {
    pub(super) out_trade_no: String,
    pub(super) trade_no: String,
    pub(super) trade_status: String,
    pub(super) total_amount: String,
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
        let of_trade = |state| ChargeAnswer::with(state, refs_of(Some(trade.trade_no.clone())));
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
                let offered_at = request.offered_at.unwrap_or(request.first_sent_at);
                ChargeAnswer { refs: refs_of(Some(trade.trade_no)), ..waiting_for_payer(None, offered_at) }
            }
            status => of_trade(ChargeState::Unknown { reason: format!("the trade's status is {status}") }),
        }
    }

    /// Where the trade stands, without doing anything about it.
    pub(super) async fn look_for_charge(&self, request: &ResolveRequest) -> Result<Option<ChargeAnswer>, ListError> {
        let charge = &request.charge;
        let number = number_of(&charge.provider_key);
        let name = TradeName { out_trade_no: &number };
        let trade = match self.client.call::<Trade>("alipay.trade.query", &name, self.client.deadline()).await {
            Ok(Reply::Done(trade)) => trade,
            Ok(Reply::Refused(refusal)) if refusal.is("TRADE_NOT_EXIST") => {
                // A QR code has no trade before it is scanned.
                let is_bar_code = self.bar_code_of(charge).is_some();
                let lifetime = if is_bar_code { Duration::ZERO } else { QR_CODE_LIFETIME };
                let is_dead = request.now >= request.sent_by.plus(lifetime).plus(request.settling);
                let not_yet =
                    "Alipay has no such trade, and there may still be one: a QR code can be scanned for a while";
                return if is_dead { Ok(None) } else { Err(ListError::Failed(String::from(not_yet))) };
            }
            Ok(Reply::Refused(refusal)) => {
                let answered = format!("Alipay answered {} {}", refusal.code, refusal.sub_code);
                return Err(ListError::Failed(answered));
            }
            Ok(Reply::Waiting) => return Err(ListError::Failed(String::from("Alipay has not finished"))),
            Ok(Reply::Unclear(code)) => return Err(ListError::Failed(format!("Alipay answered {code}"))),
            Err(error) => return Err(ListError::Failed(error.to_string())),
        };
        if trade.out_trade_no != number || !is_amount(&trade.total_amount, charge.money) {
            return Err(ListError::Failed(String::from("Alipay answered about another payment")));
        }
        let refs = refs_of(Some(trade.trade_no.clone()));
        Ok(Some(match trade.trade_status.as_str() {
            "TRADE_SUCCESS" | "TRADE_FINISHED" => succeeded(trade.trade_no),
            "TRADE_CLOSED" => ChargeAnswer::with(ChargeState::Canceled, refs),
            "WAIT_BUYER_PAY" => ChargeAnswer::with(ChargeState::Processing, refs),
            status => return Err(ListError::Failed(format!("the trade's status is {status}"))),
        }))
    }

    /// Whether a bar code waits for its payer for longer than it should. A payment that was refused looks like one that
    /// waits, when the process ended before it could close the trade.
    fn is_overdue(&self, request: &ResolveRequest) -> bool {
        let age = request.now.since(request.first_sent_at);
        self.bar_code_of(&request.charge).is_some() && age >= BAR_CODE_LIFETIME + CONFIRM_MARGIN
    }

    async fn no_trade(&self, number: &str, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let is_qr_code = self.bar_code_of(&request.charge).is_none();
        match request.offered_at.filter(|_| is_qr_code) {
            Some(offered_at) => self.not_scanned(number, offered_at, request, deadline).await,
            None if is_qr_code && !request.close && !request.is_settled() => self.offer_again(request, deadline).await,
            None => self.not_there(number, request, deadline).await,
        }
    }

    /// Nobody has anything with which the trade could be made but the request itself.
    async fn not_there(&self, number: &str, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        if !request.close && !request.is_settled() {
            return ChargeAnswer::unknown("Alipay has no such trade yet");
        }
        match self.cancel(number, deadline).await {
            Cancellation::Closed => ChargeAnswer::not_done(not_received()),
            Cancellation::NoTrade if request.is_settled() => ChargeAnswer::not_done(not_received()),
            Cancellation::NoTrade => ChargeAnswer::unknown("the request may still be on its way to Alipay"),
            Cancellation::Unknown(reason) => ChargeAnswer::unknown(reason),
        }
    }

    /// A payer may have the code and has not scanned it. As long as it can be scanned there is nothing that closes it.
    async fn not_scanned(
        &self,
        number: &str,
        offered_at: Timestamp,
        request: &ResolveRequest,
        deadline: Deadline,
    ) -> ChargeAnswer {
        // Every request for it was sent before it was handed out, but one of them may have been carried out later.
        let is_dead = request.now >= offered_at.plus(QR_CODE_LIFETIME).plus(request.settling);
        if !request.close && !is_dead {
            return waiting_for_payer(None, offered_at);
        }
        match self.cancel(number, deadline).await {
            Cancellation::Closed => ChargeAnswer::bare(ChargeState::Canceled),
            Cancellation::NoTrade if is_dead => ChargeAnswer::bare(ChargeState::Canceled),
            Cancellation::NoTrade => ChargeAnswer::unknown("the QR code can still be scanned"),
            Cancellation::Unknown(reason) => ChargeAnswer::unknown(reason),
        }
    }

    /// Nobody ever got the code, because the answer with it was lost: it is asked for again, so that the payer gets one.
    async fn offer_again(&self, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let Some(total_amount) = amount::to_alipay(request.charge.money) else {
            return ChargeAnswer::not_done(amount_not_supported());
        };
        match self.offer_qr_code(&request.charge, &total_amount, request.now, deadline).await {
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
            Ok(Reply::Refused(refusal)) if refusal.is("TRADE_NOT_EXIST") => Cancellation::NoTrade,
            Ok(Reply::Refused(refusal)) => Cancellation::Unknown(format!("{} {}", refusal.code, refusal.sub_code)),
            Ok(Reply::Waiting) => Cancellation::Unknown(String::from("Alipay has not finished")),
            Ok(Reply::Unclear(code)) => Cancellation::Unknown(code),
            Err(error) => Cancellation::Unknown(error.to_string()),
        }
    }
}
