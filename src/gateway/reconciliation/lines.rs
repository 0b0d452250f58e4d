//! The lines of payments, captures and refunds.

use crate::domain::ids::{ChannelName, MerchantId};
use crate::domain::money::{Currency, Money};
use crate::domain::payment::{Payment, PaymentStatus};
use crate::domain::pre_auth::PreAuth;
use crate::domain::refund::{Refund, RefundStatus};
use crate::domain::routing::DecisionRecord;
use crate::domain::stray::{Stray, StrayAction};
use crate::domain::time::Timestamp;

/// One field of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Nothing is known, or nothing applies.
    Empty,
    /// A whole number.
    Number(i64),
    /// A text of ours, such as a status, a time or an amount.
    Own(String),
    /// A text that somebody else has chosen, who may have had spreadsheets in mind.
    Foreign(String),
}

/// One line of a statement, a cell a column.
pub type Line = Vec<Cell>;

/// Of payments and captures.
pub(super) const PAYMENT_COLUMNS: [&str; 22] = [
    "merchant_id",
    "kind",
    "number",
    "order_no",
    "status",
    "currency",
    "amount_minor",
    "amount",
    "refunded_minor",
    "refunded",
    "fee_minor",
    "fee",
    "fee_source",
    "net_minor",
    "net",
    "channel",
    "channel_no",
    "method",
    "country",
    "created_at",
    "paid_at",
    "failure_code",
];

/// Of refunds.
pub(super) const REFUND_COLUMNS: [&str; 17] = [
    "merchant_id",
    "kind",
    "refund_no",
    "number",
    "order_no",
    "status",
    "currency",
    "amount_minor",
    "amount",
    "channel",
    "channel_refund_no",
    "channel_no",
    "reason",
    "created_at",
    "refunded_at",
    "updated_at",
    "failure_code",
];

/// What a channel took for money that moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fee {
    /// `None` when it is not known.
    pub(super) minor: Option<i64>,
    source: &'static str,
}

impl Fee {
    const UNKNOWN: Self = Self { minor: None, source: "" };

    /// As for what payments have cost: the channel's own figure where it gave one, else ours.
    pub(super) fn of_payment(payment: &Payment) -> Self {
        if payment.status != PaymentStatus::Success {
            return Self::UNKNOWN;
        }
        let estimate = payment.current().and_then(|attempt| estimate(&attempt.decision));
        match payment.fee_minor {
            Some(minor) if payment.fee_reported => Self { minor: Some(minor), source: "reported" },
            known => Self::estimated(known.or(estimate)),
        }
    }

    /// The same of what was captured.
    pub(super) fn of_capture(pre_auth: &PreAuth) -> Self {
        match pre_auth.reported_fee_minor {
            Some(minor) => Self { minor: Some(minor), source: "reported" },
            None => Self::estimated(pre_auth.fee_minor()),
        }
    }

    fn estimated(minor: Option<i64>) -> Self {
        minor.map_or(Self::UNKNOWN, |minor| Self { minor: Some(minor), source: "estimated" })
    }
}

fn estimate(decision: &DecisionRecord) -> Option<i64> {
    decision.chosen_channel().and_then(|verdict| verdict.fee_minor)
}

/// The moment at which a payment counts.
pub(super) fn counts_at(payment: &Payment) -> Timestamp {
    payment.paid_at.filter(|_| is_paid(payment)).unwrap_or(payment.created_at)
}

/// Whether it is money.
pub(super) fn is_paid(payment: &Payment) -> bool {
    payment.status == PaymentStatus::Success
}

/// When a pre-auth's money was taken; `None` when none was.
pub(super) fn taken_at(pre_auth: &PreAuth) -> Option<Timestamp> {
    (pre_auth.captured_minor > 0).then(|| pre_auth.captured_at.unwrap_or(pre_auth.updated_at))
}

/// When a refund was given back; `None` when it was not.
pub(super) fn given_back_at(refund: &Refund) -> Option<Timestamp> {
    (refund.status == RefundStatus::Success).then_some(refund.updated_at)
}

/// Whether a refund gives back what came otherwise than it was asked for: no payment's amount holds that money.
pub(super) fn is_of_stray(strays: &[Stray], refund: &Refund) -> bool {
    strays.iter().any(|stray| matches!(&stray.action, StrayAction::Refunding(number) if *number == refund.refund_no))
}

/// What went back of what was asked for.
fn refunded_minor(refunds: &[Refund], strays: &[Stray]) -> i64 {
    let given_back = refunds.iter().filter(|refund| refund.status == RefundStatus::Success);
    given_back.filter(|refund| !is_of_stray(strays, refund)).map(|refund| refund.amount_minor).sum()
}

/// An amount in minor units and as a decimal.
pub(super) fn amounts(minor: Option<i64>, currency: Currency) -> [Cell; 2] {
    match minor {
        Some(minor) => [Cell::Number(minor), Cell::Own(Money::new(minor, currency).decimal())],
        None => [Cell::Empty, Cell::Empty],
    }
}

pub(super) fn own(text: impl ToString) -> Cell {
    Cell::Own(text.to_string())
}

fn time(at: Option<Timestamp>) -> Cell {
    at.map_or(Cell::Empty, |at| Cell::Own(at.rfc3339()))
}

fn foreign(text: Option<&str>) -> Cell {
    text.filter(|text| !text.is_empty()).map_or(Cell::Empty, |text| Cell::Foreign(text.to_owned()))
}

/// What was taken, given back, paid to the channel and kept of it, each in minor units and as a decimal, and where the fee is
/// from. Without a fee there is no net.
fn sums(taken_minor: i64, refunded_minor: i64, fee: Fee, currency: Currency) -> [Cell; 9] {
    let net_minor = fee.minor.map(|fee_minor| taken_minor - refunded_minor - fee_minor);
    let [taken, taken_decimal] = amounts(Some(taken_minor), currency);
    let [refunded, refunded_decimal] = amounts(Some(refunded_minor), currency);
    let [paid, paid_decimal] = amounts(fee.minor, currency);
    let [net, net_decimal] = amounts(net_minor, currency);
    [taken, taken_decimal, refunded, refunded_decimal, paid, paid_decimal, own(fee.source), net, net_decimal]
}

/// A payment's line.
pub(super) fn payment_line(payment: &Payment) -> Line {
    let terms = &payment.terms;
    let currency = terms.money.currency;
    let current = payment.current();
    let fee = Fee::of_payment(payment);
    let refunded = refunded_minor(&payment.refunds, &payment.strays);
    let [amount_minor, amount, refunded_minor, refunded, fee_minor, fee, fee_source, net_minor, net] =
        sums(terms.money.amount_minor, refunded, fee, currency);
    let cells: [Cell; PAYMENT_COLUMNS.len()] = [
        own(&payment.merchant_id),
        own("payment"),
        own(&payment.payment_no),
        foreign(Some(&terms.order_no)),
        own(payment.status.as_str()),
        own(currency),
        amount_minor,
        amount,
        refunded_minor,
        refunded,
        fee_minor,
        fee,
        fee_source,
        net_minor,
        net,
        current.map_or(Cell::Empty, |attempt| own(&attempt.channel)),
        foreign(current.and_then(|attempt| attempt.refs.channel_order_no.as_deref())),
        foreign(terms.method.as_deref()),
        foreign(terms.country.as_deref()),
        time(Some(payment.created_at)),
        time(payment.paid_at),
        foreign(payment.failure().map(|failure| failure.code.as_str())),
    ];
    cells.into()
}

/// The line of what was taken of a pre-auth.
pub(super) fn capture_line(pre_auth: &PreAuth) -> Line {
    let terms = &pre_auth.terms;
    let currency = terms.money.currency;
    let fee = Fee::of_capture(pre_auth);
    let refunded = refunded_minor(&pre_auth.refunds, &pre_auth.strays);
    let [amount_minor, amount, refunded_minor, refunded, fee_minor, fee, fee_source, net_minor, net] =
        sums(pre_auth.captured_minor, refunded, fee, currency);
    let cells: [Cell; PAYMENT_COLUMNS.len()] = [
        own(&pre_auth.merchant_id),
        own("capture"),
        own(&pre_auth.pre_auth_no),
        foreign(Some(&terms.order_no)),
        own(pre_auth.status.as_str()),
        own(currency),
        amount_minor,
        amount,
        refunded_minor,
        refunded,
        fee_minor,
        fee,
        fee_source,
        net_minor,
        net,
        own(&pre_auth.channel),
        foreign(pre_auth.refs.channel_order_no.as_deref()),
        foreign(terms.method.as_deref()),
        foreign(terms.country.as_deref()),
        time(Some(pre_auth.created_at)),
        time(taken_at(pre_auth)),
        Cell::Empty,
    ];
    cells.into()
}

/// What a refund is of.
pub(super) struct Origin<'a> {
    pub(super) merchant_id: &'a MerchantId,
    pub(super) number: &'a str,
    pub(super) order_no: &'a str,
    pub(super) currency: Currency,
    pub(super) channel: Option<&'a ChannelName>,
    pub(super) channel_no: Option<&'a str>,
    pub(super) strays: &'a [Stray],
}

/// A refund's line.
pub(super) fn refund_line(origin: &Origin<'_>, refund: &Refund) -> Line {
    let [amount_minor, amount] = amounts(Some(refund.amount_minor), origin.currency);
    let kind = if is_of_stray(origin.strays, refund) { "stray" } else { "refund" };
    let cells: [Cell; REFUND_COLUMNS.len()] = [
        own(origin.merchant_id),
        own(kind),
        own(&refund.refund_no),
        own(origin.number),
        foreign(Some(origin.order_no)),
        own(refund.status.as_str()),
        own(origin.currency),
        amount_minor,
        amount,
        origin.channel.map_or(Cell::Empty, own),
        foreign(refund.channel_refund_no.as_deref()),
        foreign(origin.channel_no),
        foreign(refund.reason.as_deref()),
        time(Some(refund.created_at)),
        time(given_back_at(refund)),
        time(Some(refund.updated_at)),
        foreign(refund.failure.as_ref().map(|failure| failure.code.as_str())),
    ];
    cells.into()
}
