//! What the money of a merchant's days comes to.

use std::collections::BTreeMap;

use crate::domain::ids::{ChannelName, MerchantId};
use crate::domain::money::Currency;
use crate::domain::payment::Payment;
use crate::domain::pre_auth::PreAuth;
use crate::domain::time::{Day, Timestamp};
use crate::gateway::error::GatewayError;
use crate::gateway::reconciliation::lines::{Cell, Fee, Line, amounts, own};

/// Days, channels and currencies of one merchant that are added up at once.
const GROUPS_MAX: usize = 50_000;

/// Of the totals.
pub(super) const COLUMNS: [&str; 16] = [
    "day",
    "merchant_id",
    "channel",
    "currency",
    "payments",
    "captures",
    "gross_minor",
    "gross",
    "refunds",
    "refunded_minor",
    "refunded",
    "fees_minor",
    "fees",
    "fees_unknown",
    "net_minor",
    "net",
];

#[derive(Clone, Copy, Debug, Default)]
struct Total {
    payments: i64,
    captures: i64,
    gross_minor: i64,
    refunds: i64,
    refunded_minor: i64,
    fees_minor: i64,
    fees_unknown: i64,
}

impl Total {
    fn take(&mut self, gross_minor: i64, fee: Fee) {
        self.gross_minor = self.gross_minor.saturating_add(gross_minor);
        self.fees_minor = self.fees_minor.saturating_add(fee.minor.unwrap_or(0));
        self.fees_unknown += i64::from(fee.minor.is_none());
    }
}

/// The sums of one merchant.
#[derive(Debug, Default)]
pub(super) struct Totals(BTreeMap<(Day, ChannelName, Currency), Total>);

impl Totals {
    fn group(&mut self, at: Timestamp, channel: &ChannelName, currency: Currency) -> Result<&mut Total, GatewayError> {
        let key = (Day::of(at), channel.clone(), currency);
        if self.0.len() >= GROUPS_MAX && !self.0.contains_key(&key) {
            return Err(GatewayError::Internal(format!(
                "a statement of fees has more than {GROUPS_MAX} lines of one merchant; a shorter period has fewer"
            )));
        }
        Ok(self.0.entry(key).or_default())
    }

    pub(super) fn add_payment(&mut self, at: Timestamp, payment: &Payment) -> Result<(), GatewayError> {
        let Some(attempt) = payment.current() else { return Ok(()) };
        let money = payment.terms.money;
        let total = self.group(at, &attempt.channel, money.currency)?;
        total.payments += 1;
        total.take(money.amount_minor, Fee::of_payment(payment));
        Ok(())
    }

    pub(super) fn add_capture(&mut self, at: Timestamp, pre_auth: &PreAuth) -> Result<(), GatewayError> {
        let total = self.group(at, &pre_auth.channel, pre_auth.terms.money.currency)?;
        total.captures += 1;
        total.take(pre_auth.captured_minor, Fee::of_capture(pre_auth));
        Ok(())
    }

    pub(super) fn add_refund(
        &mut self,
        at: Timestamp,
        channel: &ChannelName,
        currency: Currency,
        amount_minor: i64,
    ) -> Result<(), GatewayError> {
        let total = self.group(at, channel, currency)?;
        total.refunds += 1;
        total.refunded_minor = total.refunded_minor.saturating_add(amount_minor);
        Ok(())
    }

    /// The next lines, at most so many, by day, channel and currency. They are then forgotten.
    pub(super) fn take(&mut self, merchant_id: &MerchantId, lines_max: usize) -> Vec<Line> {
        let first = std::iter::from_fn(|| self.0.pop_first());
        first
            .take(lines_max)
            .map(|((day, channel, currency), total)| line(merchant_id, day, &channel, currency, total))
            .collect()
    }
}

fn line(merchant_id: &MerchantId, day: Day, channel: &ChannelName, currency: Currency, total: Total) -> Line {
    // Without all fees it would be too high.
    let net = (total.fees_unknown == 0)
        .then(|| total.gross_minor.saturating_sub(total.refunded_minor).saturating_sub(total.fees_minor));
    let [gross_minor, gross] = amounts(Some(total.gross_minor), currency);
    let [refunded_minor, refunded] = amounts(Some(total.refunded_minor), currency);
    let [fees_minor, fees] = amounts(Some(total.fees_minor), currency);
    let [net_minor, net] = amounts(net, currency);
    let cells: [Cell; COLUMNS.len()] = [
        own(day),
        own(merchant_id),
        own(channel),
        own(currency),
        Cell::Number(total.payments),
        Cell::Number(total.captures),
        gross_minor,
        gross,
        Cell::Number(total.refunds),
        refunded_minor,
        refunded,
        fees_minor,
        fees,
        Cell::Number(total.fees_unknown),
        net_minor,
        net,
    ];
    cells.into()
}
