//! What a merchant's books are held against: every payment, every refund, and what a day's payments come to, read from
//! the store a page at a time, however many there are.
//!
//! A row counts at the moment at which its money moved: a payment when it was paid, a capture when it was taken, a refund
//! when it was given back. What has moved nothing counts when it was made. So a day that is over keeps its money: what was
//! in a statement of it is in every later one, and nothing comes twice in the statements of two days.

pub(in crate::gateway) mod late;
mod lines;
mod totals;
mod walk;

#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::domain::ids::MerchantId;
use crate::domain::time::{Day, Timestamp};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::outside::DiskWork;
use crate::storage::{Scan, keys};

pub use lines::{Cell, Line};

use walk::Walk;

/// Pages read at once, of all statements together: they shall not take the processors from payments.
const READERS_MAX: usize = 2;
/// A statement rests after a page for as long as the page took, but no longer.
const REST_MAX: Duration = Duration::from_millis(250);
/// Longest period of a statement.
const PERIOD_DAYS_MAX: u64 = 3_700;
const DAY: Duration = Duration::from_secs(86_400);

/// What a statement lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Payments, and captures of pre-auths.
    Payments,
    /// Refunds of both.
    Refunds,
    /// What they come to by day (UTC), channel and currency.
    Fees,
}

impl Statement {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Payments, Self::Refunds, Self::Fees];

    /// Its name in addresses and file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Payments => "payments",
            Self::Refunds => "refunds",
            Self::Fees => "fees",
        }
    }

    /// The names of its columns. Others may be added behind them in time; these stay.
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Payments => &lines::PAYMENT_COLUMNS,
            Self::Refunds => &lines::REFUND_COLUMNS,
            Self::Fees => &totals::COLUMNS,
        }
    }
}

/// The text names no statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be payments, refunds or fees")]
pub struct UnknownStatement;

impl FromStr for Statement {
    type Err = UnknownStatement;

    fn from_str(text: &str) -> Result<Self, UnknownStatement> {
        Self::ALL.into_iter().find(|statement| statement.as_str() == text).ok_or(UnknownStatement)
    }
}

/// From when to when, the end not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    from: Timestamp,
    to: Timestamp,
}

impl Period {
    /// Reads both ends: a day (its first moment, UTC) or RFC 3339. Without `to` it ends `now`.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when `from` is missing, one of them is no moment, or they are in no order.
    pub fn read(from: Option<&str>, to: Option<&str>, now: Timestamp) -> Result<Self, GatewayError> {
        let from = from.ok_or_else(|| GatewayError::field("from", "is missing"))?;
        let from = moment("from", from)?;
        let to = to.map_or(Ok(now), |to| moment("to", to))?;
        if to < from {
            return Err(GatewayError::field("to", "must not be before `from`"));
        }
        if to.since(from) > DAY * u32::try_from(PERIOD_DAYS_MAX).unwrap_or(u32::MAX) {
            return Err(GatewayError::field("from", format!("must be at most {PERIOD_DAYS_MAX} days before `to`")));
        }
        Ok(Self { from, to })
    }

    /// Its beginning.
    pub const fn from(&self) -> Timestamp {
        self.from
    }

    /// The first moment after it.
    pub const fn to(&self) -> Timestamp {
        self.to
    }

    fn includes(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }
}

fn moment(field: &str, text: &str) -> Result<Timestamp, GatewayError> {
    let day = || text.parse::<Day>().ok().map(Day::start);
    let moment = if is_dated(text) { day().or_else(|| Timestamp::parse_rfc3339(text)) } else { None };
    let moment = moment.filter(|at| at.unix_ms() >= 0);
    moment.ok_or_else(|| GatewayError::field(field, "must be a day such as 2026-01-31, or RFC 3339"))
}

/// Whether a text is a day, or a moment to the second with its distance from UTC: exactly what the OpenAPI document says, although
/// the parser would take more.
fn is_dated(text: &str) -> bool {
    // A digit stands for any.
    let shape: String = text.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    let Some(time) = shape.strip_prefix("0000-00-00") else { return false };
    let Some(behind) = time.strip_prefix("T00:00:00").or_else(|| time.strip_prefix("t00:00:00")) else {
        return time.is_empty();
    };
    let zone = match behind.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches('0');
            if !(1..=9).contains(&(fraction.len() - zone.len())) {
                return false;
            }
            zone
        }
        None => behind,
    };
    matches!(zone, "Z" | "z" | "+00:00" | "-00:00")
}

/// Makes statements. Cheap to clone.
#[derive(Clone)]
pub struct Reconciliation(Arc<Inner>);

struct Inner {
    core: Core,
    disk_work: DiskWork,
    readers: Arc<Semaphore>,
    late: late::Index,
}

impl Reconciliation {
    pub(crate) fn new(core: Core, disk_work: DiskWork) -> Self {
        Self(Arc::new(Inner {
            core,
            disk_work,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            late: late::Index::default(),
        }))
    }

    /// Has what statements find by the day on which its money moved entered, where that is missing. `is_continued`: everything
    /// in the store was written by programs that enter it themselves.
    pub(crate) fn start(&self, is_continued: bool) {
        self.0.late.start(&self.0.core, is_continued);
    }

    /// A statement about a period, of one merchant or of all of them, one after the other. It shows each row as it is when
    /// it is read.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`] for a merchant that neither exists nor has left anything behind.
    pub fn statement(
        &self,
        statement: Statement,
        merchant_id: Option<MerchantId>,
        period: Period,
    ) -> Result<StatementReader, GatewayError> {
        if let Some(merchant_id) = &merchant_id {
            self.check_known(merchant_id)?;
        }
        let is_indexed = self.0.late.is_complete();
        let walk = Walk::new(self.0.core.store.clone(), statement, merchant_id, period, is_indexed);
        Ok(StatementReader { inner: Arc::clone(&self.0), walk: Some(walk), rest: Duration::ZERO })
    }

    fn check_known(&self, merchant_id: &MerchantId) -> Result<(), GatewayError> {
        let store = &self.0.core.store;
        if store.get(&keys::merchant(merchant_id))?.is_some() {
            return Ok(());
        }
        for rows in [keys::payments_of(merchant_id), keys::pre_auths_of(merchant_id)] {
            if !store.scan(&Scan::prefix(&rows, 1))?.is_empty() {
                return Ok(());
            }
        }
        Err(GatewayError::NotFound("merchant"))
    }
}

/// Reads a statement page by page.
pub struct StatementReader {
    inner: Arc<Inner>,
    /// `None` once everything was read, or a page could not be.
    walk: Option<Walk>,
    rest: Duration,
}

impl StatementReader {
    /// The next lines, which may be none yet where few rows fit; `None` at the end.
    ///
    /// # Errors
    /// When the store can't be read; there is nothing more then.
    pub async fn next(&mut self) -> Result<Option<Vec<Line>>, GatewayError> {
        let Some(mut walk) = self.walk.take() else { return Ok(None) };
        if !self.rest.is_zero() {
            tokio::time::sleep(self.rest).await;
        }
        let inner = &self.inner;
        let internal = |reason: String| GatewayError::Internal(format!("a statement can't be read: {reason}"));
        let _reader = inner.readers.acquire().await.map_err(|error| internal(error.to_string()))?;
        let began = inner.core.clock.monotonic();
        let work = move || {
            let lines = walk.page();
            (walk, lines)
        };
        let (walk, lines) = inner.disk_work.run(work).await.map_err(internal)?;
        self.rest = inner.core.clock.monotonic().since(began).min(REST_MAX);
        let lines = lines?;
        if !walk.is_over() {
            self.walk = Some(walk);
        } else if lines.is_empty() {
            return Ok(None);
        }
        Ok(Some(lines))
    }
}
