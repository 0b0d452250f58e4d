//! The way through the store: merchant by merchant, kind by kind, in the order in which things were made.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::ids::{
    MerchantId, PAYMENT_NO_PREFIX, PRE_AUTH_NO_PREFIX, PaymentNo, PreAuthNo, REFUND_NO_PREFIX, first_dated_number,
};
use crate::domain::payment::Payment;
use crate::domain::pre_auth::PreAuth;
use crate::domain::refund::Refund;
use crate::domain::time::{Day, Timestamp};
use crate::gateway::error::GatewayError;
use crate::gateway::reconciliation::late::day_of;
use crate::gateway::reconciliation::lines::{
    Line, Origin, capture_line, counts_at, given_back_at, is_of_stray, is_paid, payment_line, refund_line, taken_at,
};
use crate::gateway::reconciliation::totals::Totals;
use crate::gateway::reconciliation::{Period, Statement};
use crate::storage::record::decode;
use crate::storage::{Row, Scan, Store, keys, prefix_end};

/// Rows looked at for one page.
const PAGE_ROWS: usize = 200;
/// So long before a period something may have been made whose money moved within it. A payment waits at most 30 days for
/// its payer and 30 for its provider, then for a person.
const PAYMENT_WAITS_MAX: Duration = days(100);
/// Of pre-auths: some providers hold money for a year.
const PRE_AUTH_WAITS_MAX: Duration = days(400);
/// Of refunds: they take days, and those that fail later stay where they were.
const REFUND_WAITS_MAX: Duration = days(100);

/// Numbers are drawn when what they are of is made, or shortly before; with room for a clock that is corrected between.
const MADE_BEFORE_NUMBERED_MAX: Duration = Duration::from_secs(3_600);

/// Makes the beginning of a merchant's keys.
type OfMerchant = fn(&MerchantId) -> Vec<u8>;

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

/// What is gone through of a merchant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Those that were made in the period, and before it as far as that has to be looked through.
    Made(Kind),
    /// Those that were made before or after that, by the index of what moved within the period.
    Late(Kind),
    Totals,
}

/// What has rows of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Payments,
    PreAuths,
    Refunds,
}

impl Kind {
    /// So long after it was made its money moves at the latest, but for what is resolved by hand.
    const fn waits_max(self) -> Duration {
        match self {
            Self::Payments => PAYMENT_WAITS_MAX,
            Self::PreAuths => PRE_AUTH_WAITS_MAX,
            Self::Refunds => REFUND_WAITS_MAX,
        }
    }

    /// What its numbers begin with.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Payments => PAYMENT_NO_PREFIX,
            Self::PreAuths => PRE_AUTH_NO_PREFIX,
            Self::Refunds => REFUND_NO_PREFIX,
        }
    }
}

const fn parts_of(statement: Statement) -> &'static [Part] {
    use Kind::{Payments, PreAuths, Refunds};
    use Part::{Late, Made, Totals};
    match statement {
        Statement::Payments => &[Late(Payments), Made(Payments), Late(PreAuths), Made(PreAuths)],
        Statement::Refunds => &[Late(Refunds), Made(Refunds)],
        Statement::Fees => {
            &[Late(Payments), Made(Payments), Late(PreAuths), Made(PreAuths), Late(Refunds), Made(Refunds), Totals]
        }
    }
}

#[derive(Debug)]
enum Place {
    /// The first merchant after this one is to be found.
    Behind(Option<MerchantId>),
    /// Within a merchant, with the parts that are left and the key to go on from.
    Within {
        merchant_id: MerchantId,
        parts: &'static [Part],
        next_key: Option<Vec<u8>>,
    },
    Over,
}

/// See the module.
pub(super) struct Walk {
    store: Arc<dyn Store>,
    statement: Statement,
    /// Only this merchant.
    only: Option<MerchantId>,
    period: Period,
    /// Whether the index of late money is complete.
    is_indexed: bool,
    place: Place,
    totals: Totals,
    /// What the refund before was of: several are often of the same.
    refunded: Option<Refunded>,
}

/// What refunds are of.
enum Refunded {
    Payment(Box<Payment>),
    PreAuth(Box<PreAuth>),
}

impl Walk {
    pub(super) fn new(
        store: Arc<dyn Store>,
        statement: Statement,
        only: Option<MerchantId>,
        period: Period,
        is_indexed: bool,
    ) -> Self {
        let (place, totals) = (Place::Behind(None), Totals::default());
        let mut walk = Self { store, statement, only, period, is_indexed, place, totals, refunded: None };
        if let Some(merchant_id) = walk.only.clone() {
            walk.place = walk.begin(merchant_id);
        }
        walk
    }

    fn begin(&self, merchant_id: MerchantId) -> Place {
        Place::Within { merchant_id, parts: parts_of(self.statement), next_key: None }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.place, Place::Over)
    }

    /// Looks at a bounded number of rows and says what is to be told of them.
    pub(super) fn page(&mut self) -> Result<Vec<Line>, GatewayError> {
        let mut lines = Vec::new();
        let mut looked_at = 0;
        // A merchant without a row costs a look, too, so that many of them end a page.
        while looked_at < PAGE_ROWS && !self.is_over() {
            looked_at += 1 + self.step(PAGE_ROWS - looked_at, &mut lines)?;
        }
        Ok(lines)
    }

    /// Goes one step on; says how many rows that cost.
    fn step(&mut self, rows_max: usize, lines: &mut Vec<Line>) -> Result<usize, GatewayError> {
        match std::mem::replace(&mut self.place, Place::Over) {
            Place::Over => Ok(0),
            Place::Behind(last) => {
                let next = self.merchant_behind(last.as_ref())?;
                self.place = next.map_or(Place::Over, |merchant_id| self.begin(merchant_id));
                Ok(0)
            }
            Place::Within { merchant_id, parts, next_key } => {
                let Some((part, later)) = parts.split_first() else {
                    self.place = if self.only.is_some() { Place::Over } else { Place::Behind(Some(merchant_id)) };
                    return Ok(0);
                };
                let (rows, next_key) = match part {
                    Part::Totals => self.take_totals(&merchant_id, rows_max, lines),
                    part => self.read_rows(*part, &merchant_id, next_key, rows_max, lines)?,
                };
                let parts = if next_key.is_some() { parts } else { later };
                self.place = Place::Within { merchant_id, parts, next_key };
                Ok(rows)
            }
        }
    }

    fn take_totals(
        &mut self,
        merchant_id: &MerchantId,
        lines_max: usize,
        lines: &mut Vec<Line>,
    ) -> (usize, Option<Vec<u8>>) {
        let taken = self.totals.take(merchant_id, lines_max);
        let count = taken.len();
        lines.extend(taken);
        // Any key goes on here: what was taken is not there any more.
        (count, (count == lines_max).then(Vec::new))
    }

    /// Reads rows of a part from a key on; says how many, and the key to go on from if there may be more.
    fn read_rows(
        &mut self,
        part: Part,
        merchant_id: &MerchantId,
        next_key: Option<Vec<u8>>,
        rows_max: usize,
        lines: &mut Vec<Line>,
    ) -> Result<(usize, Option<Vec<u8>>), GatewayError> {
        let (first, end) = match part {
            Part::Late(kind) => self.late_range(kind, merchant_id),
            Part::Made(kind) => self.range(kind, merchant_id),
            Part::Totals => return Ok((0, None)),
        };
        let scan = Scan { start: next_key.unwrap_or(first), end: Some(end), limit: rows_max, reverse: false };
        let rows = self.store.scan(&scan)?;
        for row in &rows {
            match part {
                Part::Made(Kind::Payments) => self.tell_payment(&decode(&row.versioned.value)?, lines)?,
                Part::Made(Kind::PreAuths) => self.tell_capture(&decode(&row.versioned.value)?, lines)?,
                Part::Made(Kind::Refunds) => self.tell_refund(merchant_id, row, lines)?,
                Part::Late(kind) => self.tell_late(kind, merchant_id, row, lines)?,
                Part::Totals => {}
            }
        }
        let next_key = rows.last().filter(|_| rows.len() == rows_max).map(|last| [last.key.as_slice(), &[0]].concat());
        Ok((rows.len(), next_key))
    }

    /// The keys of what is found by when it was made.
    fn range(&self, kind: Kind, merchant_id: &MerchantId) -> (Vec<u8>, Vec<u8>) {
        let from: fn(&MerchantId, Timestamp) -> Vec<u8> = match kind {
            Kind::Payments => keys::payments_from,
            Kind::PreAuths => keys::pre_auths_from,
            Kind::Refunds => keys::refunds_from,
        };
        let (first, end) = self.made_in(kind);
        (from(merchant_id, first), from(merchant_id, end))
    }

    /// When those were made that are found by that, from when and until when: from the beginning of the period's first day on,
    /// since what moves on the day on which it was made is not in the index. While that is not complete, all that may count
    /// within the period is among them.
    fn made_in(&self, kind: Kind) -> (Timestamp, Timestamp) {
        let first = match self.is_indexed {
            true => Day::of(self.period.from()).start().minus(MADE_BEFORE_NUMBERED_MAX),
            false => self.period.from().minus(kind.waits_max()),
        };
        (first, self.period.to().plus(Duration::from_secs(1)))
    }

    /// The entries of what moved on the days of the period.
    fn late_range(&self, kind: Kind, merchant_id: &MerchantId) -> (Vec<u8>, Vec<u8>) {
        let behind = self.period.to().plus(days(1));
        let from = |day: Timestamp| keys::late_money_from(merchant_id, kind.prefix(), &day_of(day));
        (from(self.period.from()), from(behind))
    }

    /// Tells what an entry is about, unless it is found by when it was made.
    fn tell_late(
        &mut self,
        kind: Kind,
        merchant_id: &MerchantId,
        entry: &Row,
        lines: &mut Vec<Line>,
    ) -> Result<(), GatewayError> {
        let Some((_, number)) = keys::parse_late_money(&entry.key) else { return Ok(()) };
        let (first, end) = self.made_in(kind);
        let made_from = |at| first_dated_number(kind.prefix(), at);
        if (made_from(first)..made_from(end)).contains(&String::from(number)) {
            return Ok(());
        }
        match kind {
            Kind::Payments => {
                let stored = self.store.get(&keys::payment(merchant_id, &PaymentNo::new(number)))?;
                stored.map_or(Ok(()), |stored| self.tell_payment(&decode(&stored.value)?, lines))
            }
            Kind::PreAuths => {
                let stored = self.store.get(&keys::pre_auth(merchant_id, &PreAuthNo::new(number)))?;
                stored.map_or(Ok(()), |stored| self.tell_capture(&decode(&stored.value)?, lines))
            }
            Kind::Refunds => {
                let origin = String::from_utf8_lossy(&entry.versioned.value).into_owned();
                self.tell_refund_of(merchant_id, number.as_bytes(), &origin, lines)
            }
        }
    }

    fn tell_payment(&mut self, payment: &Payment, lines: &mut Vec<Line>) -> Result<(), GatewayError> {
        let at = counts_at(payment);
        if !self.period.includes(at) {
            return Ok(());
        }
        match self.statement {
            Statement::Fees if is_paid(payment) => self.totals.add_payment(at, payment)?,
            Statement::Fees => {}
            _ => lines.push(payment_line(payment)),
        }
        Ok(())
    }

    fn tell_capture(&mut self, pre_auth: &PreAuth, lines: &mut Vec<Line>) -> Result<(), GatewayError> {
        let Some(at) = taken_at(pre_auth).filter(|at| self.period.includes(*at)) else { return Ok(()) };
        match self.statement {
            Statement::Fees => self.totals.add_capture(at, pre_auth)?,
            _ => lines.push(capture_line(pre_auth)),
        }
        Ok(())
    }

    fn tell_refund(&mut self, merchant_id: &MerchantId, row: &Row, lines: &mut Vec<Line>) -> Result<(), GatewayError> {
        let prefix_len = keys::refunds_of(merchant_id).len();
        let refund_no = row.key.get(prefix_len..row.key.len() - 1).unwrap_or_default();
        let number = String::from_utf8_lossy(&row.versioned.value);
        self.tell_refund_of(merchant_id, refund_no, &number, lines)
    }

    /// The same of what is a refund of `number`.
    fn tell_refund_of(
        &mut self,
        merchant_id: &MerchantId,
        refund_no: &[u8],
        number: &str,
        lines: &mut Vec<Line>,
    ) -> Result<(), GatewayError> {
        if !self.remember(merchant_id, number)? {
            return Ok(());
        }
        let Some((origin, refunds)) = self.refunded.as_ref().map(Refunded::parts) else { return Ok(()) };
        let Some(refund) = refunds.iter().find(|refund| refund.refund_no.as_str().as_bytes() == refund_no) else {
            return Ok(());
        };
        let given_back_at = given_back_at(refund);
        let at = given_back_at.unwrap_or(refund.created_at);
        if !self.period.includes(at) {
            return Ok(());
        }
        if self.statement == Statement::Refunds {
            lines.push(refund_line(&origin, refund));
        } else if let (Some(at), Some(channel)) = (given_back_at, origin.channel)
            && !is_of_stray(origin.strays, refund)
        {
            self.totals.add_refund(at, channel, origin.currency, refund.amount_minor)?;
        }
        Ok(())
    }

    /// Reads what a refund is of; says whether it is there.
    fn remember(&mut self, merchant_id: &MerchantId, number: &str) -> Result<bool, GatewayError> {
        let is_remembered = self.refunded.as_ref().is_some_and(|refunded| {
            let (origin, _) = refunded.parts();
            origin.number == number && origin.merchant_id == merchant_id
        });
        if is_remembered {
            return Ok(true);
        }
        let is_pre_auth = number.starts_with(PRE_AUTH_NO_PREFIX);
        let key = match is_pre_auth {
            true => keys::pre_auth(merchant_id, &PreAuthNo::new(number)),
            false => keys::payment(merchant_id, &PaymentNo::new(number)),
        };
        let stored = self.store.get(&key)?;
        self.refunded = match stored {
            None => None,
            Some(stored) if is_pre_auth => Some(Refunded::PreAuth(Box::new(decode(&stored.value)?))),
            Some(stored) => Some(Refunded::Payment(Box::new(decode(&stored.value)?))),
        };
        Ok(self.refunded.is_some())
    }

    /// The next merchant, also of those that are gone, that has something to tell.
    fn merchant_behind(&self, last: Option<&MerchantId>) -> Result<Option<MerchantId>, GatewayError> {
        let spaces: [(Vec<u8>, OfMerchant); 2] =
            [(keys::payments(), keys::payments_of), (keys::pre_auths(), keys::pre_auths_of)];
        let mut nearest: Option<MerchantId> = None;
        for (all, of_merchant) in spaces {
            let start = match last {
                None => Some(all.clone()),
                Some(last) => prefix_end(&of_merchant(last)),
            };
            let Some(start) = start else { continue };
            let scan = Scan { start, end: prefix_end(&all), limit: 1, reverse: false };
            let found = self.store.scan(&scan)?.first().and_then(|row| keys::merchant_of(&row.key));
            if let Some(found) = found
                && nearest.as_ref().is_none_or(|nearest| found.as_str() < nearest.as_str())
            {
                nearest = Some(found);
            }
        }
        Ok(nearest)
    }
}

impl Refunded {
    fn parts(&self) -> (Origin<'_>, &[Refund]) {
        match self {
            Self::Payment(payment) => {
                let current = payment.current();
                let origin = Origin {
                    merchant_id: &payment.merchant_id,
                    number: payment.payment_no.as_str(),
                    order_no: &payment.terms.order_no,
                    currency: payment.terms.money.currency,
                    channel: current.map(|attempt| &attempt.channel),
                    channel_no: current.and_then(|attempt| attempt.refs.channel_order_no.as_deref()),
                    strays: &payment.strays,
                };
                (origin, &payment.refunds)
            }
            Self::PreAuth(pre_auth) => {
                let origin = Origin {
                    merchant_id: &pre_auth.merchant_id,
                    number: pre_auth.pre_auth_no.as_str(),
                    order_no: &pre_auth.terms.order_no,
                    currency: pre_auth.terms.money.currency,
                    channel: Some(&pre_auth.channel),
                    channel_no: pre_auth.refs.channel_order_no.as_deref(),
                    strays: &pre_auth.strays,
                };
                (origin, &pre_auth.refunds)
            }
        }
    }
}
