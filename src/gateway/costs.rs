//! What payments have really cost, by day, channel and currency, beside what all of them would have cost on one channel.
//!
//! Each payment's part follows from its row alone, so that the sums can always be made again: a change of a row takes away
//! what it was and adds what it is. A clean stop leaves the sums in a file beside the journal, with the sequence of the last
//! commit; a start that does not find exactly that counts the rows again, a page at a time in the background.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, RwLock, RwLockReadGuard};
use utoipa::ToSchema;

use crate::actors::router::RouterHandle;
use crate::domain::audit::{Change, Operator};
use crate::domain::fees::FxRate;
use crate::domain::ids::ChannelName;
use crate::domain::money::{Currency, Money};
use crate::domain::payment::{Payment, PaymentStatus, RefundStatus};
use crate::domain::routing::RoutingSetup;
use crate::domain::time::{Day, Timestamp};
use crate::gateway::audit;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::money_figures::MoneyFigures;
use crate::gateway::outside::DiskWork;
use crate::gateway::page::PageRequest;
use crate::gateway::payments::rows::commit_finish;
use crate::gateway::retention::rest_after;
use crate::storage::record::decode;
use crate::storage::unreadable::UnreadableRows;
use crate::storage::whole_file::WholeFiles;
use crate::storage::{Batch, Committed, Row as StoredRow, Scan, StoreError, keys, prefix_end};

/// The file with the sums.
const FILE: &str = "costs";
/// Changes when sums of an earlier program can't be gone on with, and when programs begin to keep something that earlier ones
/// did not: who finds the file of this version knows that no such program has written to the store since.
const VERSION: u32 = 2;
/// Rows counted at once; outcomes wait for their reading.
const PAGE_ROWS: usize = 64;
/// How long counting waits for outcomes that are being stored, while further ones wait for it.
const GATE_WAIT: Duration = Duration::from_millis(50);
/// How long it leaves them alone when that did not do.
const GATE_PAUSE: Duration = Duration::from_millis(200);
/// How often a new month is looked for, besides when it should begin: clocks are set.
const MONTH_INTERVAL: Duration = Duration::from_secs(30);

/// What the payments of one day, channel and currency come to. Signed, because changes are added, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cell {
    payments: i64,
    amount_minor: i64,
    /// As charged: the provider's own figure where there is one, else ours.
    fees_minor: i64,
    /// Ours for all of them.
    estimated_minor: i64,
    /// Payments whose provider gave the figure.
    reported: i64,
    baseline_minor: i64,
    /// Payments of which it is not known what they would have cost; they count with what they did cost.
    baseline_unknown: i64,
    refunds: i64,
    refunded_minor: i64,
}

impl Cell {
    fn fields(&mut self) -> [&mut i64; 9] {
        [
            &mut self.payments,
            &mut self.amount_minor,
            &mut self.fees_minor,
            &mut self.estimated_minor,
            &mut self.reported,
            &mut self.baseline_minor,
            &mut self.baseline_unknown,
            &mut self.refunds,
            &mut self.refunded_minor,
        ]
    }

    fn add(&mut self, mut more: Self, sign: i64) {
        for (field, more) in self.fields().into_iter().zip(more.fields()) {
            *field = field.saturating_add(sign.saturating_mul(*more));
        }
    }
}

/// Where a payment counts, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    day: Day,
    channel: ChannelName,
    currency: Currency,
    cell: Cell,
}

impl Part {
    /// `None` for a payment that was not charged.
    fn of(payment: &Payment, baseline: &str) -> Option<Self> {
        if payment.status != PaymentStatus::Success {
            return None;
        }
        let attempt = payment.current()?;
        let estimate = attempt.decision.chosen_channel().and_then(|verdict| verdict.fee_minor);
        let fees_minor = payment.fee_minor.or(estimate).unwrap_or(0);
        let on_baseline = attempt.decision.channels.iter().find(|verdict| verdict.channel.as_str() == baseline);
        let baseline_minor = if attempt.channel.as_str() == baseline {
            Some(fees_minor)
        } else {
            on_baseline.and_then(|verdict| verdict.fee_minor)
        };
        let money = payment.terms.money;
        let refunds = payment.refunds.iter().filter(|refund| refund.status == RefundStatus::Success).count();
        Some(Self {
            day: Day::of(payment.paid_at.unwrap_or(payment.created_at)),
            channel: attempt.channel.clone(),
            currency: money.currency,
            cell: Cell {
                payments: 1,
                amount_minor: money.amount_minor,
                fees_minor,
                estimated_minor: estimate.unwrap_or(fees_minor),
                reported: i64::from(payment.fee_reported),
                baseline_minor: baseline_minor.unwrap_or(fees_minor),
                baseline_unknown: i64::from(baseline_minor.is_none()),
                refunds: i64::try_from(refunds).unwrap_or(i64::MAX),
                refunded_minor: payment.refunded_minor(),
            },
        })
    }
}

type Days = BTreeMap<Day, BTreeMap<(ChannelName, Currency), Cell>>;

#[derive(Default)]
struct Sums {
    /// The channel that is compared with.
    baseline: String,
    days: Days,
    /// Amounts charged by month, as far as they are asked for.
    months: HashMap<(Day, ChannelName), BTreeMap<Currency, i64>>,
    /// While rows are counted: up to which key (inclusive) they are in the sums.
    counted_to: Option<Vec<u8>>,
    /// Whether a change may be missing.
    is_doubtful: bool,
}

impl Sums {
    /// None yet, with all rows to be counted.
    fn to_count(baseline: &str) -> Self {
        Self { baseline: baseline.to_owned(), counted_to: Some(Vec::new()), ..Self::default() }
    }

    /// Takes over what became of a payment: what it was and what it is. `None` when that makes no difference, or when its
    /// row will be read.
    fn note(&mut self, key: &[u8], before: Option<&Payment>, after: &Payment) -> Option<(Option<Part>, Part)> {
        let was = before.and_then(|payment| Part::of(payment, &self.baseline));
        let is = Part::of(after, &self.baseline)?;
        let is_unread = self.counted_to.as_ref().is_some_and(|counted_to| key > counted_to.as_slice());
        if was.as_ref() == Some(&is) || is_unread {
            return None;
        }
        if let Some(was) = &was {
            self.add(was, -1);
        }
        self.add(&is, 1);
        Some((was, is))
    }

    fn add(&mut self, part: &Part, sign: i64) {
        let key = (part.channel.clone(), part.currency);
        self.days.entry(part.day).or_default().entry(key).or_default().add(part.cell, sign);
        let month = self.months.entry((part.day.month(), part.channel.clone())).or_default();
        let amount = month.entry(part.currency).or_default();
        *amount = amount.saturating_add(sign.saturating_mul(part.cell.amount_minor));
    }

    fn is_complete(&self) -> bool {
        self.counted_to.is_none() && !self.is_doubtful
    }
}

#[derive(Serialize, Deserialize)]
struct Row {
    day: Day,
    channel: ChannelName,
    currency: Currency,
    cell: Cell,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// The store's last commit when they were complete.
    sequence: u64,
    baseline: String,
    rows: Vec<Row>,
}

struct Files {
    files: Arc<dyn WholeFiles>,
    disk_work: DiskWork,
}

struct Inner {
    core: Core,
    router: RouterHandle,
    money: MoneyFigures,
    sums: Mutex<Sums>,
    /// The sums with another channel to compare with, while they are counted; then they take the place of the others.
    recounted: Mutex<Option<Sums>>,
    is_counting: AtomicBool,
    /// Told when there is something to count again.
    recount: Notify,
    /// Held shared by whoever stores an outcome and notes it, alone by whoever reads rows to count them: what is read has
    /// either been noted before, or will be noted after.
    gate: RwLock<()>,
    files: Mutex<Option<Files>>,
    unreadable: UnreadableRows,
}

/// What payments cost. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Costs(Arc<Inner>);

/// Held over a commit: whoever is cut off within it may have stored an outcome that nobody notes.
struct Doubt<'a> {
    costs: &'a Costs,
    is_certain: bool,
}

impl Doubt<'_> {
    fn dispel(mut self) {
        self.is_certain = true;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.is_certain {
            self.costs.0.sums.lock().is_doubtful = true;
        }
    }
}

/// What went through a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelTotals {
    /// Payments charged today (UTC).
    pub today: u32,
    /// Their amounts, in minor units of the settlement currency.
    pub today_minor: i64,
    /// Amounts charged this month (UTC), in minor units of the settlement currency.
    pub this_month_minor: i64,
}

/// Which costs are asked for. Days are in UTC and both inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CostsFilter {
    /// The first day.
    pub from: Option<Day>,
    /// The last day.
    pub to: Option<Day>,
    /// Only this channel.
    pub channel: Option<String>,
    /// A row for each channel and currency over all days, in place of one a day.
    pub by_channel: bool,
}

/// Costs of one channel in one currency, of a day or of all that was asked for. Amounts are in minor units.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CostRowView {
    /// The day (UTC) on which they were charged; null when days are added up.
    pub day: Option<String>,
    /// The channel.
    pub channel: String,
    /// The currency.
    pub currency: String,
    /// Payments that were charged.
    pub payments: i64,
    /// What they were about.
    pub amount: i64,
    /// What the channel took: its own figure where it gave one, else by its fees.
    pub fees: i64,
    /// What it takes by its fees, for all of them.
    pub fees_estimated: i64,
    /// Payments for which the provider gave the figure.
    pub fees_reported: i64,
    /// What they would have cost on the baseline channel.
    pub baseline_fees: i64,
    /// Payments of which that is not known; they count there with what they cost.
    pub baseline_unknown: i64,
    /// The difference.
    pub saved: i64,
    /// Refunds of them so far. Providers keep the fees.
    pub refunds: i64,
    /// What went back.
    pub refunded: i64,
}

/// Costs added up over channels, days and currencies, each currency's sum converted once by the configured rates. Amounts are in
/// minor units.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct CostTotalsView {
    /// The settlement currency.
    pub currency: String,
    /// Payments that were charged.
    pub payments: i64,
    /// What they were about.
    pub amount: i64,
    /// What the channels took.
    pub fees: i64,
    /// What they would have cost on the baseline channel.
    pub baseline_fees: i64,
    /// The difference.
    pub saved: i64,
    /// The difference as a share of the baseline, in percent with one decimal; null of nothing.
    pub saved_percent: Option<f64>,
    /// Currencies that have no rate of exchange; they are in the rows only.
    pub left_out: Vec<String>,
}

/// A page of costs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CostsView {
    /// Whether all stored payments are counted; after a crash they are counted again in the background.
    pub complete: bool,
    /// The channel that is compared with.
    pub baseline_channel: String,
    /// Everything that was asked for, on this page or not, in one currency.
    pub totals: CostTotalsView,
    /// The rows, newest day first.
    pub items: Vec<CostRowView>,
    /// Ask for this next; null when there is no more.
    pub next_cursor: Option<String>,
}

impl Costs {
    /// Costs of a store without payments.
    /// Whatever ends is told to `money`, too.
    pub(crate) fn new(core: Core, router: RouterHandle, money: MoneyFigures) -> Self {
        let baseline = core.config.routing.baseline_channel().to_owned();
        Self(Arc::new(Inner {
            core,
            router,
            money,
            sums: Mutex::new(Sums { baseline, ..Sums::default() }),
            recounted: Mutex::default(),
            recount: Notify::new(),
            is_counting: AtomicBool::new(false),
            gate: RwLock::default(),
            files: Mutex::default(),
            unreadable: UnreadableRows::default(),
        }))
    }

    /// Takes over what the process before has left, or has everything counted again. `last_change` is the store's last change
    /// before this process has made any. No outcome may be stored before.
    ///
    /// `true` when all that is in the store was written by programs that leave the file in its present version: the one before
    /// did, and nobody has written anything since.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(crate) async fn open(
        &self,
        files: Arc<dyn WholeFiles>,
        disk_work: DiskWork,
        last_change: u64,
    ) -> Result<bool, GatewayError> {
        let inner = &self.0;
        let saved = saved(files.as_ref());
        *inner.files.lock() = Some(Files { files, disk_work });
        let baseline = inner.sums.lock().baseline.clone();
        let saved = saved.filter(|saved| saved.version == VERSION && saved.sequence == last_change);
        let is_continued = saved.is_some();
        if let Some(saved) = saved.filter(|saved| saved.baseline == baseline) {
            let mut sums = inner.sums.lock();
            for Row { day, channel, currency, cell } in saved.rows {
                sums.add(&Part { day, channel, currency, cell }, 1);
            }
            return Ok(is_continued);
        }
        inner.sums.lock().counted_to = Some(Vec::new());
        inner.is_counting.store(true, Ordering::SeqCst);
        // A small store is counted at once.
        inner.count_page().await?;
        Ok(is_continued)
    }

    /// Starts counting what is left to count, and telling the router each month's volume.
    pub(crate) fn start(&self) {
        let inner = Arc::clone(&self.0);
        let stopping = inner.core.stopping.clone();
        self.0.core.tasks.spawn(async move {
            let work = async {
                inner.count_all().await;
                loop {
                    inner.tell_months();
                    let now = inner.core.clock.now();
                    let month_ends_in = Day::of(now).next_month().start().since(now);
                    // At the end of all days no month follows.
                    let wait = if month_ends_in.is_zero() { MONTH_INTERVAL } else { MONTH_INTERVAL.min(month_ends_in) };
                    let _ = tokio::time::timeout(wait, inner.recount.notified()).await;
                    inner.count_again().await;
                }
            };
            stopping.run_until_cancelled(work).await;
        });
    }

    /// Commits what finishes something of a payment, and notes what it costs now. `before` is `None` for one that was not
    /// there.
    pub(crate) async fn commit(
        &self,
        batch: Batch,
        before: Option<&Payment>,
        after: &Payment,
    ) -> Result<Committed, StoreError> {
        self.note_after(commit_finish(&self.0.core, batch), before, after).await
    }

    /// As [`Costs::commit`], with an operator's change in the audit.
    pub(crate) async fn commit_audited(
        &self,
        batch: Batch,
        by: &Operator,
        change: &Change,
        before: &Payment,
        after: &Payment,
    ) -> Result<Committed, StoreError> {
        self.note_after(audit::commit(&self.0.core, batch, by, change), Some(before), after).await
    }

    async fn note_after(
        &self,
        committing: impl Future<Output = Result<Committed, StoreError>>,
        before: Option<&Payment>,
        after: &Payment,
    ) -> Result<Committed, StoreError> {
        let _changing = self.changing().await;
        let doubt = Doubt { costs: self, is_certain: false };
        let committed = committing.await;
        doubt.dispel();
        match &committed {
            Ok(_) => {
                self.note(before, after);
                self.0.money.note(before, after);
            }
            Err(StoreError::Precondition { .. } | StoreError::Overloaded(_) | StoreError::Invalid(_)) => {}
            // It may be stored. The next start counts again.
            Err(_) => self.0.sums.lock().is_doubtful = true,
        }
        committed
    }

    /// To be held over the commit of an outcome and its note.
    async fn changing(&self) -> RwLockReadGuard<'_, ()> {
        self.0.gate.read().await
    }

    fn note(&self, before: Option<&Payment>, after: &Payment) {
        let inner = &self.0;
        let key = keys::payment(&after.merchant_id, &after.payment_no);
        let noted = inner.sums.lock().note(&key, before, after);
        if let Some(recounted) = inner.recounted.lock().as_mut() {
            let _ = recounted.note(&key, before, after);
        }
        if let Some((was, is)) = noted {
            inner.count_figures(was.as_ref(), &is);
            inner.tell_month(&is.channel);
        }
    }

    /// Compares with another channel from now on. All rows are counted again for that, in the background; until then
    /// everything is compared with the channel before.
    pub(crate) fn compare_with(&self, baseline: &str) {
        let inner = &self.0;
        let mut recounted = inner.recounted.lock();
        if inner.sums.lock().baseline == baseline {
            *recounted = None;
        } else if recounted.as_ref().is_none_or(|sums| sums.baseline != baseline) {
            *recounted = Some(Sums::to_count(baseline));
        }
        drop(recounted);
        inner.recount.notify_one();
    }

    /// What went through a channel today and this month.
    pub(crate) fn channel_totals(&self, channel: &ChannelName, now: Timestamp) -> ChannelTotals {
        self.0.totals(channel, now)
    }

    /// A page of what payments cost.
    pub(crate) fn view(&self, filter: &CostsFilter, page: &PageRequest) -> Result<CostsView, GatewayError> {
        let rows_max = page.rows()?;
        let inner = &self.0;
        let after = page.place_after(&[], |place| is_place(place, filter.by_channel))?;
        let sums = inner.sums.lock();
        let fits = |(channel, _): &(ChannelName, Currency)| {
            filter.channel.as_deref().is_none_or(|wanted| wanted == channel.as_str())
        };
        let first = filter.from.unwrap_or(Day::FIRST);
        let last = filter.to.unwrap_or(Day::LAST);
        // A range that ends before it begins has nothing in it.
        let in_range = || (first <= last).then(|| sums.days.range(first..=last)).into_iter().flatten();
        let mut by_currency: BTreeMap<Currency, Cell> = BTreeMap::new();
        for ((_, currency), cell) in in_range().flat_map(|(_, cells)| cells).filter(|(key, _)| fits(key)) {
            by_currency.entry(*currency).or_default().add(*cell, 1);
        }
        let days = in_range().rev();
        let mut rows: Vec<(Option<Day>, ChannelName, Currency, Cell)> = Vec::new();
        if filter.by_channel {
            let mut totals: BTreeMap<(ChannelName, Currency), Cell> = BTreeMap::new();
            for (key, cell) in days.flat_map(|(_, cells)| cells).filter(|(key, _)| fits(key)) {
                totals.entry(key.clone()).or_default().add(*cell, 1);
            }
            rows.extend(totals.into_iter().map(|((channel, currency), cell)| (None, channel, currency, cell)));
        } else {
            for (day, cells) in days {
                let cells = cells.iter().filter(|(key, cell)| fits(key) && **cell != Cell::default());
                rows.extend(cells.map(|((channel, currency), cell)| (Some(*day), channel.clone(), *currency, *cell)));
                // One more than the page says that there is a next one; those before the cursor may be as many again.
                if after.is_none() && rows.len() > rows_max {
                    break;
                }
            }
        }
        let (complete, baseline) = (sums.is_complete(), sums.baseline.clone());
        drop(sums);
        let totals = totals_view(&inner.router.table().setup, &by_currency);
        let place = |row: &(Option<Day>, ChannelName, Currency, Cell)| {
            let day = row.0.map(|day| day.to_string()).unwrap_or_default();
            format!("{day} {} {}", row.1, row.2).into_bytes()
        };
        if let Some(after) = after {
            // Days fall, channels and currencies rise.
            let is_behind = |row: &(Option<Day>, ChannelName, Currency, Cell)| {
                let (found, wanted) = (place(row), after.as_slice());
                let day_length = if row.0.is_some() { 10 } else { 0 };
                let (found_day, wanted_day) = (&found[..day_length], wanted.get(..day_length).unwrap_or_default());
                found_day < wanted_day || (found_day == wanted_day && found.as_slice() > wanted)
            };
            rows.retain(is_behind);
        }
        let has_more = rows.len() > rows_max;
        rows.truncate(rows_max);
        let next_cursor = rows.last().filter(|_| has_more).map(|row| hex::encode(place(row)));
        let items = rows.into_iter().map(|(day, channel, currency, cell)| row_view(day, &channel, currency, cell));
        Ok(CostsView { complete, baseline_channel: baseline, totals, items: items.collect(), next_cursor })
    }

    /// Leaves the sums for the next start, unless something may be missing. After the last commit.
    pub(crate) async fn write_final(&self, all_work_ended: bool) {
        let Some(Files { files, disk_work }) = self.0.files.lock().take() else { return };
        let content = {
            let sums = self.0.sums.lock();
            let baseline = sums.baseline.clone();
            if !all_work_ended || !sums.is_complete() {
                return;
            }
            let rows = sums.days.iter().flat_map(|(day, cells)| {
                cells.iter().map(|((channel, currency), cell)| Row {
                    day: *day,
                    channel: channel.clone(),
                    currency: *currency,
                    cell: *cell,
                })
            });
            let sequence = self.0.core.store.health().last_change;
            let saved = Saved { version: VERSION, sequence, baseline, rows: rows.collect() };
            serde_json::to_vec(&saved)
        };
        let written = disk_work.run(move || files.write(FILE, &content.map_err(std::io::Error::other)?)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!(?written, "what payments cost was not written down; the next start counts it again");
        }
    }
}

impl Inner {
    /// Counts what there is to count since the start.
    async fn count_all(&self) {
        while self.is_counting.load(Ordering::SeqCst) {
            self.rest_between(|| self.count_page()).await;
        }
    }

    /// Counts all rows again, as long as somebody wants them compared with another channel.
    async fn count_again(&self) {
        while self.recounted.lock().is_some() {
            self.rest_between(|| self.count_page_again()).await;
        }
    }

    /// Counts a page and rests as long as that took.
    async fn rest_between<F: Future<Output = Result<bool, GatewayError>>>(&self, count: impl FnOnce() -> F) {
        let began = self.core.clock.monotonic();
        let rest = match count().await {
            Ok(true) => rest_after(self.core.clock.monotonic().since(began)),
            Ok(false) => GATE_PAUSE,
            Err(error) => {
                tracing::warn!(%error, "costs could not be counted; tried again");
                MONTH_INTERVAL
            }
        };
        tokio::time::sleep(rest).await;
    }

    /// Counts a page of rows; `false` when outcomes were being stored all the time.
    async fn count_page(&self) -> Result<bool, GatewayError> {
        let Ok(gate) = tokio::time::timeout(GATE_WAIT, self.gate.write()).await else { return Ok(false) };
        let counted_to = self.sums.lock().counted_to.clone();
        let Some(counted_to) = counted_to else { return Ok(true) };
        let (page, end) = self.read_page(&counted_to)?;
        self.sums.lock().counted_to = Some(end.clone().unwrap_or_default());
        drop(gate);
        for payment in self.payments_of(&page) {
            let mut sums = self.sums.lock();
            if let Some(part) = Part::of(&payment, &sums.baseline) {
                sums.add(&part, 1);
            }
        }
        if page.len() < PAGE_ROWS {
            self.sums.lock().counted_to = None;
            self.is_counting.store(false, Ordering::SeqCst);
            self.tell_months();
        }
        Ok(true)
    }

    /// The same for the sums that are to take the place of the others, which they do with the last page.
    async fn count_page_again(&self) -> Result<bool, GatewayError> {
        // To the end of the page: sums take places only between outcomes.
        let Ok(_gate) = tokio::time::timeout(GATE_WAIT, self.gate.write()).await else { return Ok(false) };
        let counted_to = self.recounted.lock().as_ref().and_then(|sums| sums.counted_to.clone());
        let Some(counted_to) = counted_to else { return Ok(true) };
        let (page, end) = self.read_page(&counted_to)?;
        let payments = self.payments_of(&page);
        let mut recounted = self.recounted.lock();
        // Nobody is asked for this one any more when it has begun anew meanwhile.
        let Some(sums) = recounted.as_mut().filter(|sums| sums.counted_to.as_ref() == Some(&counted_to)) else {
            return Ok(true);
        };
        let parts: Vec<Part> = payments.iter().filter_map(|payment| Part::of(payment, &sums.baseline)).collect();
        parts.iter().for_each(|part| sums.add(part, 1));
        sums.counted_to = end;
        if page.len() < PAGE_ROWS {
            sums.counted_to = None;
            let mut present = self.sums.lock();
            sums.is_doubtful = present.is_doubtful;
            if let Some(sums) = recounted.take() {
                *present = sums;
            }
        }
        Ok(true)
    }

    /// The rows after a key, and the last one's, or the end of all where there are no more.
    fn read_page(&self, counted_to: &[u8]) -> Result<(Vec<StoredRow>, Option<Vec<u8>>), GatewayError> {
        let prefix = keys::payments();
        let end = prefix_end(&prefix);
        let start = if counted_to.is_empty() { prefix } else { [counted_to, &[0]].concat() };
        let page = self.core.store.scan(&Scan { start, end: end.clone(), limit: PAGE_ROWS, reverse: false })?;
        let last = page.last().filter(|_| page.len() == PAGE_ROWS).map(|row| row.key.clone());
        Ok((page, last.or(end)))
    }

    fn payments_of(&self, page: &[StoredRow]) -> Vec<Payment> {
        let read = |row: &StoredRow| match decode::<Payment>(&row.versioned.value) {
            Ok(payment) => Some(payment),
            Err(error) => {
                let _ = self.unreadable.report(&row.key, error);
                None
            }
        };
        page.iter().filter_map(read).collect()
    }

    fn count_figures(&self, was: Option<&Part>, is: &Part) {
        let before = was.map(|was| was.cell).unwrap_or_default();
        let fees_minor = is.cell.fees_minor - before.fees_minor;
        let baseline_minor = is.cell.baseline_minor - before.baseline_minor;
        self.money.note_fees(&is.channel, is.currency, fees_minor, baseline_minor);
    }

    fn totals(&self, channel: &ChannelName, now: Timestamp) -> ChannelTotals {
        let table = self.router.table();
        let settled = |currency: Currency, minor: i64| {
            table.setup.in_settlement_currency(Money::new(minor, currency)).unwrap_or(0)
        };
        let today = Day::of(now);
        let sums = self.sums.lock();
        let mut totals = ChannelTotals::default();
        for ((_, currency), cell) in
            sums.days.get(&today).into_iter().flatten().filter(|((found, _), _)| found == channel)
        {
            totals.today = totals.today.saturating_add(u32::try_from(cell.payments).unwrap_or(0));
            totals.today_minor = totals.today_minor.saturating_add(settled(*currency, cell.amount_minor));
        }
        let month = sums.months.get(&(today.month(), channel.clone()));
        let amounts = month.into_iter().flatten().map(|(currency, minor)| settled(*currency, *minor));
        totals.this_month_minor = amounts.fold(0, i64::saturating_add);
        totals
    }

    fn tell_month(&self, channel: &ChannelName) {
        let totals = self.totals(channel, self.core.clock.now());
        self.router.note_month(channel, totals.this_month_minor);
    }

    fn tell_months(&self) {
        for facts in &self.router.table().setup.channels {
            self.tell_month(&facts.name);
        }
    }
}

fn saved(files: &dyn WholeFiles) -> Option<Saved> {
    match files.read(FILE) {
        Ok(bytes) => serde_json::from_slice(&bytes?).ok(),
        Err(error) => {
            tracing::warn!(%error, "what is known of payments' costs can't be read; it is counted again");
            None
        }
    }
}

/// Whether rows of costs have such a place in their list: day, channel and currency, without a day where days are added up.
fn is_place(place: &[u8], by_channel: bool) -> bool {
    let Ok(place) = std::str::from_utf8(place) else { return false };
    let mut parts = place.splitn(3, ' ');
    let (day, channel, currency) = (parts.next(), parts.next(), parts.next());
    let is_day = day.is_some_and(|day| if by_channel { day.is_empty() } else { day.parse::<Day>().is_ok() });
    let is_currency = currency.is_some_and(|code| code.parse::<Currency>().is_ok());
    is_day && is_currency && channel.is_some_and(|channel| !channel.is_empty())
}

/// Sums by currency in the settlement currency, each rounded half up once.
fn totals_view(setup: &RoutingSetup, by_currency: &BTreeMap<Currency, Cell>) -> CostTotalsView {
    let settlement = setup.settlement_currency;
    let mut totals = CostTotalsView { currency: settlement.to_string(), ..CostTotalsView::default() };
    for (currency, cell) in by_currency {
        let Some(rate) = setup.rate_of(*currency) else {
            totals.left_out.push(currency.to_string());
            continue;
        };
        let numerator = i128::from(rate.billionths()) * i128::from(settlement.minor_per_unit());
        let denominator = i128::from(FxRate::ONE.billionths()) * i128::from(currency.minor_per_unit());
        let settled = |minor: i64| {
            let doubled = i128::from(minor).saturating_mul(2 * numerator).saturating_add(denominator);
            i64::try_from(doubled.div_euclid(2 * denominator)).unwrap_or(i64::MAX)
        };
        totals.payments = totals.payments.saturating_add(cell.payments);
        totals.amount = totals.amount.saturating_add(settled(cell.amount_minor));
        totals.fees = totals.fees.saturating_add(settled(cell.fees_minor));
        totals.baseline_fees = totals.baseline_fees.saturating_add(settled(cell.baseline_minor));
    }
    totals.saved = totals.baseline_fees.saturating_sub(totals.fees);
    totals.saved_percent = percent_of(totals.saved, totals.baseline_fees);
    totals
}

/// A share in percent with one decimal, rounded half up; `None` of nothing.
fn percent_of(part: i64, whole: i64) -> Option<f64> {
    let (part, whole) = (i128::from(part), i128::from(whole));
    (whole > 0).then(|| (2_000 * part + whole).div_euclid(2 * whole) as f64 / 10.0)
}

fn row_view(day: Option<Day>, channel: &ChannelName, currency: Currency, cell: Cell) -> CostRowView {
    CostRowView {
        day: day.map(|day| day.to_string()),
        channel: channel.to_string(),
        currency: currency.to_string(),
        payments: cell.payments,
        amount: cell.amount_minor,
        fees: cell.fees_minor,
        fees_estimated: cell.estimated_minor,
        fees_reported: cell.reported,
        baseline_fees: cell.baseline_minor,
        baseline_unknown: cell.baseline_unknown,
        saved: cell.baseline_minor.saturating_sub(cell.fees_minor),
        refunds: cell.refunds,
        refunded: cell.refunded_minor,
    }
}

#[cfg(test)]
mod tests;
