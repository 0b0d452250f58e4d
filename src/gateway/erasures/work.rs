//! Working erasures off, one at a time and a page at a time, so that nobody waits for them.

use std::time::Duration;

use crate::domain::ids::{MerchantId, PRE_AUTH_NO_PREFIX};
use crate::domain::payment::{Erasability, Payment};
use crate::domain::pre_auth::PreAuth;
use crate::domain::time::Timestamp;
use crate::domain::webhook::Notification;
use crate::gateway::core::Core;
use crate::gateway::erasures::objects::{self, Erasable, Stored};
use crate::gateway::erasures::redact::{number_in, redacted_answer};
use crate::gateway::erasures::{
    CONFLICTS_MAX, Counts, EraseCustomer, ErasureRecord, Erasures, KEEP_FINISHED, identity_of,
};
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::IdempotencyRecord;
use crate::gateway::payments::rows::commit_finish;
use crate::gateway::retention::rest_after;
use crate::storage::record::{Record, decode, encode};
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{Batch, Row, Scan, StoreError, keys, prefix_end};

/// From the start to the first look for data that is old enough.
const FIRST_EXPIRY: Duration = Duration::from_secs(600);
/// From one such look to the next.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(86_400);
/// To the next such look when the clock was not to be believed.
const DOUBT_INTERVAL: Duration = Duration::from_secs(3_600);
/// After an erasure that did not come to its end.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// Rows read at once.
const PAGE_ROWS: usize = 256;
/// Erasures that were done long ago, taken away at once.
const OLD_ROWS_MAX: usize = 128;

/// Works for as long as it is polled.
pub(super) async fn run(erasures: &Erasures) {
    let core = &erasures.0.core;
    let mut expiry_at = core.clock.monotonic().plus(FIRST_EXPIRY);
    loop {
        let wait = match work_off(erasures).await {
            Ok(()) => expiry_at.since(core.clock.monotonic()),
            Err(error) => {
                tracing::warn!(%error, "customers' data is not erased yet; tried again later");
                RETRY_INTERVAL
            }
        };
        // Whichever comes first; a wake before this is remembered.
        let _ = tokio::time::timeout(wait, erasures.0.wake.notified()).await;
        if core.clock.monotonic() < expiry_at {
            continue;
        }
        if core.clock_guard.is_believed(&core.clock) {
            expiry_at = core.clock.monotonic().plus(EXPIRY_INTERVAL);
            if let Err(error) = expire(erasures).await {
                tracing::warn!(%error, "old customers' data was not looked for; tried again in a day");
            }
        } else {
            expiry_at = core.clock.monotonic().plus(DOUBT_INTERVAL);
            tracing::debug!("old customers' data is not looked for while the clock is not to be believed");
        }
    }
}

/// Works all off that wait. One that can't be ended holds up none of the others; the answer is why the last of them could
/// not.
async fn work_off(erasures: &Erasures) -> Result<(), GatewayError> {
    let mut worked_off = Ok(());
    for erasure_id in erasures.waiting()? {
        if let Err(error) = work_off_one(erasures, &erasure_id).await {
            tracing::warn!(erasure_id, %error, "an erasure is not done yet");
            worked_off = Err(error);
        }
    }
    worked_off
}

async fn work_off_one(erasures: &Erasures, erasure_id: &str) -> Result<(), GatewayError> {
    let core = &erasures.0.core;
    let key = keys::erasure(erasure_id);
    let Some(stored) = core.store.get(&key)? else { return Ok(()) };
    let mut record: ErasureRecord = decode(&stored.value)?;
    // Counted anew, because what is open or can't be read is found again.
    (record.done.open_payments, record.done.open_pre_auths, record.done.unreadable) = (0, 0, 0);
    let subject = subject_of(core, &record)?;
    let unreadable = &erasures.0.unreadable;
    Job { core, unreadable, key, revision: stored.revision, record, subject }.run().await
}

/// Begins an erasure of what is old enough, if there is anything, and takes old erasures away.
async fn expire(erasures: &Erasures) -> Result<(), GatewayError> {
    let core = &erasures.0.core;
    forget_finished(erasures).await?;
    let days = core.settings().retention.customer_data_days;
    if days == 0 {
        return Ok(());
    }
    let cutoff = core.clock.now().minus(Duration::from_secs(days.saturating_mul(86_400)));
    if is_any_older::<Payment>(erasures, cutoff).await? || is_any_older::<PreAuth>(erasures, cutoff).await? {
        erasures.begin_older_than(cutoff).await?;
    }
    Ok(())
}

/// Whether there is anything to erase that has not changed since `cutoff`.
async fn is_any_older<T: Erasable>(erasures: &Erasures, cutoff: Timestamp) -> Result<bool, GatewayError> {
    let (core, unreadable) = (&erasures.0.core, &erasures.0.unreadable);
    let subject = Subject::OlderThan(cutoff);
    let mut pages = Pages::new(T::rows());
    while let Some(page) = pages.next(core).await? {
        let mut newest_of = None;
        for object in page.iter().filter_map(|row| object_in::<T>(unreadable, row)) {
            match subject.verdict(&object) {
                Verdict::Erase if object.erasability() == Erasability::Erasable => return Ok(true),
                Verdict::LeaveRest => newest_of = Some(object.merchant_id().clone()),
                Verdict::Erase | Verdict::Leave => {}
            }
        }
        if let Some(merchant_id) = newest_of {
            pages.skip_rest(&T::rows_of(&merchant_id), &page);
        }
    }
    Ok(false)
}

async fn forget_finished(erasures: &Erasures) -> Result<(), GatewayError> {
    let core = &erasures.0.core;
    let now = core.clock.now();
    let mut batch = Batch::finishing();
    for row in core.store.scan(&Scan::prefix(&keys::erasures(), OLD_ROWS_MAX))? {
        let Some(record) = erasures.read(&row) else { continue };
        if record.finished_at.is_some_and(|at| now.since(at) >= KEEP_FINISHED) {
            batch.delete(row.key);
        }
    }
    if !batch.writes.is_empty() {
        core.store.commit(batch).await?;
    }
    Ok(())
}

/// What an erasure is of.
enum Subject {
    /// The payment or pre-auth with this number.
    One(String),
    Customer(EraseCustomer),
    OlderThan(Timestamp),
}

/// What is to become of one payment or pre-auth.
enum Verdict {
    Erase,
    Leave,
    /// Leave it and all later ones of its merchant.
    LeaveRest,
}

fn subject_of(core: &Core, record: &ErasureRecord) -> Result<Subject, GatewayError> {
    if let Some(payment_no) = &record.payment_no {
        return Ok(Subject::One(payment_no.to_string()));
    }
    if let Some(pre_auth_no) = &record.pre_auth_no {
        return Ok(Subject::One(pre_auth_no.to_string()));
    }
    if let Some(cutoff) = record.older_than {
        return Ok(Subject::OlderThan(cutoff));
    }
    let sealed = record.sealed_customer.as_deref().unwrap_or_default();
    let customer = core.vault.unseal(&identity_of(&record.erasure_id), sealed)?;
    let customer = serde_json::from_slice(&customer)
        .map_err(|_| GatewayError::Internal("an erasure does not say whose data it is of".to_owned()))?;
    Ok(Subject::Customer(customer))
}

impl Subject {
    fn verdict<T: Erasable>(&self, object: &T) -> Verdict {
        let applies = match self {
            Self::One(number) => object.number() == number,
            Self::Customer(customer) => object.is_of(customer),
            // A merchant's are in the order in which they were made.
            Self::OlderThan(cutoff) if object.created_at() >= *cutoff => return Verdict::LeaveRest,
            Self::OlderThan(cutoff) => object.updated_at() < *cutoff,
        };
        if applies { Verdict::Erase } else { Verdict::Leave }
    }
}

/// Pages of rows under a prefix, with rests between them.
struct Pages {
    scan: Scan,
    is_over: bool,
}

impl Pages {
    fn new(prefix: Vec<u8>) -> Self {
        let end = prefix_end(&prefix);
        Self { scan: Scan { start: prefix, end, limit: PAGE_ROWS, reverse: false }, is_over: false }
    }

    async fn next(&mut self, core: &Core) -> Result<Option<Vec<Row>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let began = core.clock.monotonic();
        let page = core.store.scan(&self.scan)?;
        self.is_over = page.len() < PAGE_ROWS;
        if let Some(last) = page.last() {
            // The first key after it.
            self.scan.start = [last.key.as_slice(), &[0]].concat();
        }
        tokio::time::sleep(rest_after(core.clock.monotonic().since(began))).await;
        Ok(Some(page))
    }

    /// Leaves the rest of what begins with this out, if `page` ended among it.
    fn skip_rest(&mut self, prefix: &[u8], page: &[Row]) {
        if page.last().is_some_and(|last| last.key.starts_with(prefix))
            && let Some(after) = prefix_end(prefix)
        {
            self.scan.start = after;
        }
    }
}

fn object_in<T: Erasable>(unreadable: &UnreadableRows, row: &Row) -> Option<T> {
    decode(&row.versioned.value).map_err(|error| unreadable.report(&row.key, error)).ok()
}

/// One erasure being worked off.
struct Job<'a> {
    core: &'a Core,
    unreadable: &'a UnreadableRows,
    key: Vec<u8>,
    revision: u64,
    record: ErasureRecord,
    subject: Subject,
}

impl Job<'_> {
    async fn run(mut self) -> Result<(), GatewayError> {
        // The row of a single one was erased when it was asked for.
        if !matches!(self.subject, Subject::One(_)) {
            self.erase_all::<Payment>().await?;
            self.erase_all::<PreAuth>().await?;
        }
        self.redact_answers().await?;
        self.redact_notifications().await?;
        self.record.finished_at = Some(self.core.clock.now());
        self.record.sealed_customer = None;
        self.commit(Batch::finishing(), |_| {}).await?;
        let Counts { payments, open_payments, pre_auths, open_pre_auths, answers, notifications, unreadable } =
            self.record.done;
        let erasure_id = &self.record.erasure_id;
        tracing::info!(
            erasure_id,
            payments,
            open_payments,
            pre_auths,
            open_pre_auths,
            answers,
            notifications,
            "customers' data was erased"
        );
        if unreadable > 0 {
            tracing::error!(erasure_id, unreadable, "customers' data may still be in rows that can't be read");
        }
        Ok(())
    }

    /// Commits a change of other rows with what this counts; says whether those rows were as they were read.
    async fn commit(&mut self, mut batch: Batch, count: impl Fn(&mut Counts)) -> Result<bool, StoreError> {
        let mut next = self.record.clone();
        count(&mut next.done);
        let own = batch.preconditions.len();
        batch.replace(self.key.clone(), self.revision, encode(&next)?);
        match commit_finish(self.core, batch).await {
            Ok(committed) => {
                (self.revision, self.record) = (committed.sequence, next);
                Ok(true)
            }
            Err(StoreError::Precondition { index }) if index != own => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn erase_all<T: Erasable>(&mut self) -> Result<(), GatewayError> {
        let prefix = self.record.merchant_id.as_ref().map_or_else(T::rows, T::rows_of);
        let mut pages = Pages::new(prefix);
        while let Some(page) = pages.next(self.core).await? {
            let mut newest_of = None;
            for row in &page {
                let Some(object) = object_in::<T>(self.unreadable, row) else {
                    self.record.done.unreadable += 1;
                    continue;
                };
                match self.subject.verdict(&object) {
                    Verdict::Leave => {}
                    Verdict::LeaveRest => newest_of = Some(object.merchant_id().clone()),
                    Verdict::Erase => {
                        self.erase(Stored { object, revision: row.versioned.revision }).await?;
                    }
                }
            }
            if let Some(merchant_id) = newest_of {
                pages.skip_rest(&T::rows_of(&merchant_id), &page);
            }
        }
        Ok(())
    }

    async fn erase<T: Erasable>(&mut self, mut stored: Stored<T>) -> Result<(), GatewayError> {
        for _ in 0..CONFLICTS_MAX {
            let Stored { object, revision } = stored;
            match object.erasability() {
                Erasability::Nothing => return Ok(()),
                Erasability::Open => {
                    *T::open_in(&mut self.record.done) += 1;
                    return Ok(());
                }
                Erasability::Erasable => {}
            }
            let (merchant_id, number) = (object.merchant_id(), object.number());
            let mut batch = Batch::finishing();
            let erased = encode(&object.without_customer(self.core.clock.now()))?;
            batch.replace(T::row(merchant_id, number), revision, erased);
            if self.commit(batch, |counts| *T::erased_in(counts) += 1).await? {
                return Ok(());
            }
            stored = objects::read(self.core, merchant_id, number)?;
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// Whether what belongs to the payment or pre-auth with this number is to be redacted: that itself has been. `None`
    /// when it can't be read.
    fn covers(&self, merchant_id: &MerchantId, number: &str) -> Result<Option<bool>, StoreError> {
        if let Subject::One(wanted) = &self.subject {
            return Ok(Some(wanted == number));
        }
        match number.starts_with(PRE_AUTH_NO_PREFIX) {
            true => self.is_erased::<PreAuth>(merchant_id, number),
            false => self.is_erased::<Payment>(merchant_id, number),
        }
    }

    fn is_erased<T: Erasable>(&self, merchant_id: &MerchantId, number: &str) -> Result<Option<bool>, StoreError> {
        let key = T::row(merchant_id, number);
        let Some(versioned) = self.core.store.get(&key)? else { return Ok(Some(false)) };
        let object = object_in::<T>(self.unreadable, &Row { key, versioned });
        Ok(object.map(|object| object.is_erased()))
    }

    async fn redact_answers(&mut self) -> Result<(), GatewayError> {
        let prefix = self.record.merchant_id.as_ref().map_or_else(keys::idempotencies, keys::idempotencies_of);
        self.redact_all(prefix, Self::without_answer, |counts| counts.answers += 1).await
    }

    /// Receivers may have answered with what they were told elsewhere about the customer, and merchants may have sent it along
    /// for their tracing.
    async fn redact_notifications(&mut self) -> Result<(), GatewayError> {
        let prefix = self.record.merchant_id.as_ref().map_or_else(keys::notifications, keys::notifications_of);
        self.redact_all(prefix, Self::without_customer, |counts| counts.notifications += 1).await
    }

    async fn redact_all(
        &mut self,
        prefix: Vec<u8>,
        redact: fn(&Self, &Row) -> Result<Redaction, GatewayError>,
        count: fn(&mut Counts),
    ) -> Result<(), GatewayError> {
        let mut pages = Pages::new(prefix);
        while let Some(page) = pages.next(self.core).await? {
            for row in page {
                self.redact_one(row, redact, count).await?;
            }
        }
        Ok(())
    }

    /// Redacts a row, and one that others change meanwhile as it is then.
    async fn redact_one(
        &mut self,
        mut row: Row,
        redact: fn(&Self, &Row) -> Result<Redaction, GatewayError>,
        count: fn(&mut Counts),
    ) -> Result<(), GatewayError> {
        for _ in 0..CONFLICTS_MAX {
            let redacted = match redact(self, &row)? {
                Redaction::NotNeeded => return Ok(()),
                Redaction::Unreadable => {
                    self.record.done.unreadable += 1;
                    return Ok(());
                }
                Redaction::To(value) => value,
            };
            let mut batch = Batch::finishing();
            batch.replace(row.key.clone(), row.versioned.revision, redacted);
            if self.commit(batch, count).await? {
                return Ok(());
            }
            let Some(versioned) = self.core.store.get(&row.key)? else { return Ok(()) };
            row.versioned = versioned;
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// The row of an idempotency key with its answer redacted.
    fn without_answer(&self, row: &Row) -> Result<Redaction, GatewayError> {
        let Some(record) = self.decoded::<IdempotencyRecord>(row) else { return Ok(Redaction::Unreadable) };
        let Some(body) = record.plain_answer().map(|answer| answer.body.clone()) else {
            return Ok(Redaction::NotNeeded);
        };
        // An answer may name a pre-auth by the merchant's own number of it.
        let is_of_pre_auth = record.object_no.starts_with(PRE_AUTH_NO_PREFIX);
        let number = if is_of_pre_auth { Some(record.object_no.clone()) } else { number_in(&body) };
        let (Some(merchant_id), Some(number)) = (keys::merchant_of(&row.key), number) else {
            return Ok(Redaction::NotNeeded);
        };
        let Some(redacted) = redacted_answer(&body) else { return Ok(Redaction::NotNeeded) };
        match self.covers(&merchant_id, &number)? {
            None => Ok(Redaction::Unreadable),
            Some(false) => Ok(Redaction::NotNeeded),
            Some(true) => Ok(Redaction::To(encode(&record.with_body(redacted))?)),
        }
    }

    /// The row of a notification without what others have written in it.
    fn without_customer(&self, row: &Row) -> Result<Redaction, GatewayError> {
        let Some(notification) = self.decoded::<Notification>(row) else { return Ok(Redaction::Unreadable) };
        let Some(number) = notification.object_no.clone() else { return Ok(Redaction::NotNeeded) };
        // Those still to be sent are not touched: their senders hold them.
        if notification.status.is_open() || !notification.may_tell_of_customer() {
            return Ok(Redaction::NotNeeded);
        }
        match self.covers(&notification.merchant_id, &number)? {
            None => Ok(Redaction::Unreadable),
            Some(false) => Ok(Redaction::NotNeeded),
            Some(true) => Ok(Redaction::To(encode(&notification.without_customer())?)),
        }
    }

    fn decoded<R: Record>(&self, row: &Row) -> Option<R> {
        decode(&row.versioned.value).map_err(|error| self.unreadable.report(&row.key, error)).ok()
    }
}

/// What becomes of a row that may belong to an erased payment or pre-auth.
enum Redaction {
    /// It stays as it is.
    NotNeeded,
    /// It, or what it belongs to, can't be read.
    Unreadable,
    /// It is replaced by this.
    To(Vec<u8>),
}
