//! Finding out where held money stands: by our numbers, which Alipay remembers for ever.
//!
//! As with trades, that a freeze is not there says nothing by itself, and canceling what is not there keeps nothing from
//! happening. Canceling closes a freeze that the payer has not confirmed and lets go what is held.

use serde::{Deserialize, Serialize};

use crate::channels::alipay::charge::{BAR_CODE_LIFETIME, QR_CODE_LIFETIME, is_amount};
use crate::channels::alipay::codes::Reply;
use crate::channels::alipay::freeze::waiting_for_payer;
use crate::channels::alipay::resolve::{CONFIRM_MARGIN, Cancellation};
use crate::channels::alipay::wire::moment_of;
use crate::channels::alipay::{AlipayChannel, amount, amount_not_supported, hold_bar_code_of, not_received, number_of};
use crate::channels::http::Deadline;
use crate::channels::{AuthorizeRequest, Failure, HoldAnswer, HoldQuestion, HoldState, ProviderRefs, Sent};
use crate::domain::money::Money;
use crate::domain::time::Timestamp;

/// Names a freeze in a question.
#[derive(Serialize)]
struct FreezeName<'a> {
    out_order_no: &'a str,
    out_request_no: &'a str,
    operation_type: &'static str,
}

/// Names a freeze that is to be canceled.
#[derive(Serialize)]
struct CancelContent<'a> {
    out_order_no: &'a str,
    out_request_no: &'a str,
    remark: &'static str,
}

/// What Alipay says of a freeze, when it makes it and when it is asked.
#[derive(Deserialize)]
pub(super) struct Freeze {
    pub(super) out_order_no: String,
    pub(super) out_request_no: String,
    #[serde(default)]
    pub(super) auth_no: Option<String>,
    pub(super) status: String,
    /// Only in answers to questions, as are the two amounts below.
    #[serde(default)]
    order_status: Option<String>,
    pub(super) amount: String,
    #[serde(default)]
    rest_amount: Option<String>,
    #[serde(default)]
    total_pay_amount: Option<String>,
    #[serde(default)]
    gmt_trans: Option<String>,
}

/// The answer to a cancellation.
#[derive(Deserialize)]
struct FreezeCanceled {
    #[serde(default)]
    out_order_no: Option<String>,
    #[serde(default)]
    action: Option<String>,
}

/// Where a freeze stands by what Alipay says of it.
pub(super) enum Standing {
    /// The payer has not confirmed it.
    Waiting,
    /// So much is held.
    Held { held_minor: i64, expires_at: Option<Timestamp> },
    /// So much was taken, and nothing is held any more.
    Captured(i64),
    /// Nothing was taken, and nothing is held any more.
    Released,
    /// It was closed before anything was held.
    NeverHeld,
    /// None of that, and what it is.
    Other(String),
}

/// The numbers under which Alipay knows a hold: that of the order, and that of the freeze, which must be another.
pub(super) fn numbers_of(hold: &AuthorizeRequest) -> (String, String) {
    (number_of(&hold.provider_key), number_of(&format!("{}f", hold.provider_key)))
}

/// Names with Alipay's number of the hold.
pub(super) fn refs_of_hold(auth_no: Option<String>) -> ProviderRefs {
    ProviderRefs { hold_no: auth_no, ..ProviderRefs::default() }
}

impl AlipayChannel {
    pub(super) async fn ask_about_hold(&self, question: &HoldQuestion) -> HoldAnswer {
        let deadline = self.client.deadline();
        match self.query_freeze(&question.hold, deadline).await {
            Ok(Some(freeze)) => self.judge_hold(freeze, question, deadline).await,
            Ok(None) if question.refs.hold_no.is_some() => HoldAnswer::unknown("Alipay does not know what it has held"),
            Ok(None) => self.no_freeze(question, deadline).await,
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    /// What Alipay knows of a freeze; `None` when it knows none.
    async fn query_freeze(&self, hold: &AuthorizeRequest, deadline: Deadline) -> Result<Option<Freeze>, String> {
        let (number, request_number) = numbers_of(hold);
        let name = FreezeName { out_order_no: &number, out_request_no: &request_number, operation_type: "FREEZE" };
        match self.client.call::<Freeze>("alipay.fund.auth.operation.detail.query", &name, deadline).await {
            Ok(Reply::Done(freeze)) => {
                let is_ours = freeze.out_order_no == number
                    && freeze.out_request_no == request_number
                    && is_amount(&freeze.amount, hold.money);
                let not_ours = || String::from("Alipay answered about another pre-authorization");
                is_ours.then_some(Some(freeze)).ok_or_else(not_ours)
            }
            Ok(Reply::Refused(refusal)) if refusal.is_no_freeze() => Ok(None),
            Ok(Reply::Refused(refusal)) => Err(format!("Alipay answered {} {}", refusal.code, refusal.sub_code)),
            Ok(Reply::Waiting) => Err(String::from("Alipay has not finished")),
            Ok(Reply::Unclear(code)) => Err(format!("Alipay answered {code}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Where a freeze of `money` stands. What was taken counts only when Alipay says how much.
    pub(super) fn standing(&self, freeze: &Freeze, money: Money) -> Standing {
        let minor_of = |text: &Option<String>| {
            let money = text.as_deref().and_then(|text| amount::from_alipay(text, money.currency));
            money.map(|money| money.amount_minor)
        };
        let (rest, taken) = (minor_of(&freeze.rest_amount), minor_of(&freeze.total_pay_amount));
        let expires_at =
            freeze.gmt_trans.as_deref().and_then(moment_of).map(|frozen_at| frozen_at.plus(self.hold_valid));
        match (freeze.status.as_str(), freeze.order_status.as_deref(), rest, taken) {
            ("INIT", None | Some("INIT"), ..) => Standing::Waiting,
            ("INIT" | "CLOSED", Some("CLOSED"), ..) | ("CLOSED", Some("INIT"), ..) => Standing::NeverHeld,
            // Without its number nothing could be done with what is held.
            ("SUCCESS", ..) if freeze.auth_no.is_none() => Standing::Other(String::from("the freeze has no number")),
            // The answer to the freeze itself: all of it.
            ("SUCCESS", None, None, None) => Standing::Held { held_minor: money.amount_minor, expires_at },
            ("SUCCESS", None | Some("AUTHORIZED"), Some(held_minor), Some(0)) if held_minor > 0 => {
                Standing::Held { held_minor, expires_at }
            }
            ("SUCCESS", Some("FINISH" | "CLOSED"), Some(0), Some(0)) => Standing::Released,
            ("SUCCESS", Some("FINISH" | "CLOSED"), Some(0), Some(taken)) if taken > 0 => Standing::Captured(taken),
            (status, order_status, ..) => {
                let order_status = order_status.unwrap_or("unknown");
                Standing::Other(format!("the freeze's status is {status}, its order's {order_status}"))
            }
        }
    }

    async fn judge_hold(&self, freeze: Freeze, question: &HoldQuestion, deadline: Deadline) -> HoldAnswer {
        let hold = &question.hold;
        let standing = self.standing(&freeze, hold.money);
        // Once something is held, its token is forgotten, so that nobody can tell any more how it was made.
        let is_by_qr_code = question.refs.hold_no.is_none() && hold_bar_code_of(hold).is_none();
        let channel_order_no = is_by_qr_code.then_some(freeze.out_order_no);
        let refs = ProviderRefs { channel_order_no, ..refs_of_hold(freeze.auth_no) };
        let of_hold = |state| HoldAnswer { refs: refs.clone(), ..HoldAnswer::bare(state) };
        let has_to_end = match standing {
            Standing::Waiting => question.close || is_overdue(question),
            Standing::Held { .. } => question.close,
            _ => false,
        };
        if has_to_end {
            let expired = !question.close;
            return of_hold(match self.cancel_freeze(hold, deadline).await {
                Cancellation::Closed => HoldState::Released { expired },
                Cancellation::NoTrade => HoldState::Unknown {
                    reason: String::from("Alipay says that it both has the freeze and has it not"),
                },
                Cancellation::Unknown(reason) => HoldState::Unknown { reason },
            });
        }
        of_hold(match standing {
            Standing::Waiting if hold_bar_code_of(hold).is_some() => HoldState::Processing,
            Standing::Waiting => waiting_for_payer(hold, None, question.offered_at.unwrap_or(question.first_sent_at)),
            Standing::NeverHeld => HoldState::Released { expired: !question.close && is_overdue(question) },
            other => state_of(other),
        })
    }

    async fn no_freeze(&self, question: &HoldQuestion, deadline: Deadline) -> HoldAnswer {
        let is_qr_code = hold_bar_code_of(&question.hold).is_none();
        match question.offered_at.filter(|_| is_qr_code) {
            Some(offered_at) => self.not_followed(offered_at, question, deadline).await,
            None if is_qr_code && !question.close && !question.is_over && !question.is_settled() => {
                self.offer_voucher_again(question, deadline).await
            }
            None => self.freeze_not_there(question, deadline).await,
        }
    }

    /// Nobody has anything with which the freeze could be made but the request itself.
    async fn freeze_not_there(&self, question: &HoldQuestion, deadline: Deadline) -> HoldAnswer {
        // A hint about what is over closes nothing and makes nothing.
        if !question.close && (question.is_over || !question.is_settled()) {
            return HoldAnswer::unknown("Alipay has no such freeze");
        }
        match self.cancel_freeze(&question.hold, deadline).await {
            Cancellation::Closed => HoldAnswer::not_done(not_received()),
            Cancellation::NoTrade if question.is_settled() => HoldAnswer::not_done(not_received()),
            Cancellation::NoTrade => HoldAnswer::unknown("the request may still be on its way to Alipay"),
            Cancellation::Unknown(reason) => HoldAnswer::unknown(reason),
        }
    }

    /// A payer may have the code and has not followed it. As long as it can be scanned there is nothing that closes it.
    async fn not_followed(&self, offered_at: Timestamp, question: &HoldQuestion, deadline: Deadline) -> HoldAnswer {
        // Every request for it was sent before it was handed out, but one of them may have been carried out later.
        let is_dead = question.now >= offered_at.plus(QR_CODE_LIFETIME).plus(question.settling);
        if !question.close && !is_dead {
            return HoldAnswer::bare(waiting_for_payer(&question.hold, None, offered_at));
        }
        let ended = HoldAnswer::bare(HoldState::Released { expired: !question.close });
        match self.cancel_freeze(&question.hold, deadline).await {
            Cancellation::Closed => ended,
            Cancellation::NoTrade if is_dead => ended,
            Cancellation::NoTrade => HoldAnswer::unknown("the QR code can still be scanned"),
            Cancellation::Unknown(reason) => HoldAnswer::unknown(reason),
        }
    }

    /// Nobody ever got the code, because the answer with it was lost: it is asked for again, so that the payer gets one.
    async fn offer_voucher_again(&self, question: &HoldQuestion, deadline: Deadline) -> HoldAnswer {
        let Some(amount) = amount::to_alipay(question.hold.money) else {
            return HoldAnswer::not_done(amount_not_supported());
        };
        match self.offer_voucher(&question.hold, &amount, question.now, deadline).await {
            Ok(HoldAnswer { state: HoldState::NotDone(failure), .. }) => HoldAnswer::unknown(failure.message),
            Ok(answer) => answer,
            Err(refusal) => HoldAnswer::unknown(format!("Alipay answered {} {}", refusal.code, refusal.sub_code)),
        }
    }

    /// Closes a freeze: unconfirmed, it can't be confirmed any more; what is held is let go.
    pub(super) async fn cancel_freeze(&self, hold: &AuthorizeRequest, deadline: Deadline) -> Cancellation {
        let (number, request_number) = numbers_of(hold);
        let content = CancelContent { out_order_no: &number, out_request_no: &request_number, remark: "given up" };
        match self.client.call::<FreezeCanceled>("alipay.fund.auth.operation.cancel", &content, deadline).await {
            Ok(Reply::Done(canceled)) if canceled.out_order_no.as_ref().is_some_and(|found| *found != number) => {
                Cancellation::Unknown(String::from("Alipay answered about another pre-authorization"))
            }
            Ok(Reply::Done(canceled)) => match canceled.action.as_deref() {
                Some("close" | "unfreeze") => Cancellation::Closed,
                None | Some("") => Cancellation::NoTrade,
                Some(action) => Cancellation::Unknown(format!("Alipay answered with the action {action}")),
            },
            Ok(Reply::Refused(refusal)) if refusal.is_no_freeze() => Cancellation::NoTrade,
            Ok(Reply::Refused(refusal)) => Cancellation::Unknown(format!("{} {}", refusal.code, refusal.sub_code)),
            Ok(Reply::Waiting) => Cancellation::Unknown(String::from("Alipay has not finished")),
            Ok(Reply::Unclear(code)) => Cancellation::Unknown(code),
            Err(error) => Cancellation::Unknown(error.to_string()),
        }
    }

    /// Where a hold stands, without doing anything about it.
    pub(super) async fn look_at_hold(&self, hold: &AuthorizeRequest, deadline: Deadline) -> HoldAnswer {
        match self.query_freeze(hold, deadline).await {
            Ok(Some(freeze)) => {
                let state = state_of(self.standing(&freeze, hold.money));
                HoldAnswer { refs: refs_of_hold(freeze.auth_no), ..HoldAnswer::bare(state) }
            }
            Ok(None) => HoldAnswer::unknown("Alipay does not know what it has held"),
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    /// What the refusal of an operation comes to. That of the first request is final; one of a repetition may be because
    /// an earlier one was carried out, which shows in where the hold stands, or because one still is on its way.
    pub(super) async fn refused_operation(
        &self,
        failure: Failure,
        hold: &AuthorizeRequest,
        sent: &Sent,
        deadline: Deadline,
    ) -> HoldAnswer {
        let answer = self.look_at_hold(hold, deadline).await;
        match &answer.state {
            HoldState::Held { .. } if sent.is_first || sent.is_settled() => {
                HoldAnswer { refused: Some(failure), ..answer }
            }
            HoldState::Held { .. } => HoldAnswer::unknown("an earlier request may still be on its way to Alipay"),
            HoldState::Unknown { .. } if sent.is_first => HoldAnswer { refused: Some(failure), ..answer },
            _ => answer,
        }
    }
}

/// An operation that can't be put into a request. If it was sent before, by whatever stood here then, nobody can tell what
/// became of that.
pub(super) fn cannot_be_sent(failure: Failure, sent: &Sent) -> HoldAnswer {
    let unknown = HoldAnswer::unknown(failure.message.clone());
    HoldAnswer { refused: sent.is_first.then_some(failure), ..unknown }
}

/// Whether Alipay should have given up waiting for the payer. A freeze that was refused looks like one that waits, when
/// the process ended before it could close it.
fn is_overdue(question: &HoldQuestion) -> bool {
    let (since, lifetime) = match hold_bar_code_of(&question.hold) {
        Some(_) => (question.first_sent_at, BAR_CODE_LIFETIME),
        None => (question.offered_at.unwrap_or(question.first_sent_at), QR_CODE_LIFETIME),
    };
    question.now.since(since) >= lifetime + CONFIRM_MARGIN
}

/// The state of a freeze that has been confirmed. What ended without our asking has run out, as far as Alipay tells.
fn state_of(standing: Standing) -> HoldState {
    match standing {
        Standing::Held { held_minor, expires_at } => HoldState::Held { held_minor, expires_at, honor_until: None },
        Standing::Captured(captured_minor) => HoldState::Captured { captured_minor, fee_minor: None },
        Standing::Released => HoldState::Released { expired: true },
        Standing::Waiting => HoldState::Unknown { reason: String::from("the payer has not confirmed it") },
        Standing::NeverHeld => HoldState::Unknown { reason: String::from("it was closed before anything was held") },
        Standing::Other(reason) => HoldState::Unknown { reason },
    }
}
