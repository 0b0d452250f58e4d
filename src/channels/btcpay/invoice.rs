//! What an invoice means for its payment.

use std::time::Duration;

use crate::channels::btcpay::BtcpayChannel;
use crate::channels::btcpay::response::{AdditionalStatus, Invoice, InvoiceStatus};
use crate::channels::{ChargeAnswer, ChargeRequest, ChargeState, NextAction, ProviderRefs, StrayKind};
use crate::domain::money::Money;
use crate::domain::time::Timestamp;

/// How far the server's clock may be behind ours when its time for an invoice is over.
const CLOCK_SLACK: Duration = Duration::from_secs(300);
/// Minor units that a payment in full may seem to lack: what was paid in coins is counted in the currency by a rate.
const ROUNDING_MINOR: i64 = 1;

impl BtcpayChannel {
    /// What the present state of an invoice means. Without a time it was made just now.
    pub(super) fn judge(&self, invoice: &Invoice, charge: &ChargeRequest, now: Option<Timestamp>) -> ChargeAnswer {
        let is_ours = invoice.store_id == self.client.store_id() && invoice.is_of(charge);
        if !is_ours || !invoice.asks_for(charge.money) {
            return ChargeAnswer::unknown(format!("invoice {} is not that of this payment", invoice.id));
        }
        let is_watched = now.is_none_or(|now| invoice.is_monitored(now.minus(CLOCK_SLACK)));
        answer(invoice, state_of(invoice, charge.money, is_watched))
    }
}

/// An answer with the invoice's number.
pub(super) fn answer(invoice: &Invoice, state: ChargeState) -> ChargeAnswer {
    let refs = ProviderRefs { channel_order_no: Some(invoice.id.clone()), ..ProviderRefs::default() };
    ChargeAnswer::with(state, refs)
}

/// Nothing is known, and why.
pub(super) fn unknown(reason: impl Into<String>) -> ChargeState {
    ChargeState::Unknown { reason: reason.into() }
}

/// `is_watched` says that the server still looks for payments.
fn state_of(invoice: &Invoice, asked: Money, is_watched: bool) -> ChargeState {
    match invoice.status {
        InvoiceStatus::New => ChargeState::ActionRequired {
            next_action: invoice.checkout_link.clone().map(|url| NextAction::Redirect { url }),
            expires_at: Some(Timestamp::from_unix_s(invoice.monitoring_expiration)),
        },
        InvoiceStatus::Processing => ChargeState::Processing,
        InvoiceStatus::Settled => settled(invoice, asked),
        InvoiceStatus::Expired | InvoiceStatus::Invalid => over(invoice, asked, is_watched),
        InvoiceStatus::Other => unknown("the invoice is in a state that is not known"),
    }
}

fn settled(invoice: &Invoice, asked: Money) -> ChargeState {
    let success = ChargeState::Success { fee_minor: None };
    match (invoice.additional_status, invoice.paid(asked)) {
        // Somebody has said so at the server, whatever was paid.
        (AdditionalStatus::Marked, _) => success,
        (AdditionalStatus::PaidOver, None) => ChargeState::Stray { kind: StrayKind::Over, received: None },
        (AdditionalStatus::PaidOver, Some(paid)) if paid.amount_minor > asked.amount_minor => {
            ChargeState::Stray { kind: StrayKind::Over, received: Some(paid) }
        }
        (_, Some(paid)) if paid.amount_minor < asked.amount_minor.saturating_sub(ROUNDING_MINOR) => {
            unknown(format!("the invoice is settled, and {paid} of {asked} was paid"))
        }
        _ => success,
    }
}

/// The payer's time is over, or somebody closed it. What came nevertheless came late or in part.
fn over(invoice: &Invoice, asked: Money, is_watched: bool) -> ChargeState {
    let special = invoice.additional_status;
    let paid = invoice.paid(asked);
    let has_paid = match paid {
        Some(paid) => paid.amount_minor > 0,
        None => {
            matches!(special, AdditionalStatus::PaidLate | AdditionalStatus::PaidPartial | AdditionalStatus::PaidOver)
        }
    };
    let is_full = match paid {
        Some(paid) => paid.amount_minor >= asked.amount_minor.saturating_sub(ROUNDING_MINOR),
        None => special != AdditionalStatus::PaidPartial,
    };
    match (has_paid, special) {
        (true, AdditionalStatus::Invalid | AdditionalStatus::Other) => {
            unknown("something was paid for the invoice, and the server does not take it for paid")
        }
        (true, _) if is_full => ChargeState::Stray { kind: StrayKind::Late, received: paid },
        // The rest may come.
        (true, _) if is_watched => unknown(watched("it was paid in part", invoice)),
        (true, _) => ChargeState::Stray { kind: StrayKind::Partial, received: paid },
        (false, _) if is_watched => unknown(watched("it was not paid", invoice)),
        (false, _) => ChargeState::Canceled,
    }
}

fn watched(so_far: &str, invoice: &Invoice) -> String {
    let until = Timestamp::from_unix_s(invoice.monitoring_expiration).rfc3339();
    format!("{so_far}, and what comes late is looked for until {until}")
}
