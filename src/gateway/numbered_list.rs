//! Pages of what merchants have under numbers that tell the order, payments and pre-auths: newest first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::ids::{ChannelName, MerchantId, RefundNo, object_made_at};
use crate::domain::time::Timestamp;
use crate::gateway::command::PaymentFilter;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::page::{Page, PageRequest, are_texts, cursor_of};
use crate::gateway::payments::rows::{Refunded, object_of_refund};
use crate::storage::record::{Record, decode};
use crate::storage::{Scan, keys};

/// Rows looked at for one page: a filter that fits few of them gives a short page with a cursor to go on from.
const ROWS_LOOKED_AT_MAX: usize = 2_000;
/// Rows read at once.
const CHUNK_ROWS: usize = 200;
/// Merchants asked for an order number when nobody knows whose it is.
const MERCHANTS_ASKED_MAX: usize = 10_000;
/// Holders of one order number that are looked for.
const FOUND_MAX: usize = 50;
/// The last second that a number can say.
const NUMBERS_END: Timestamp = Timestamp::from_unix_s(253_402_300_799);
/// How far the time in a number may be from the one at which its object was made.
const NUMBER_SLACK: Duration = Duration::from_secs(5);
/// What the cursors begin with of a list whose first page had those that hold an order number: no number does.
const WITHOUT_HOLDERS: u8 = 0xff;

/// What is listed.
pub(super) trait Numbered: Record {
    /// Where it stands.
    type Status: PartialEq;

    /// The status that is written so; otherwise the names of all of them.
    fn status_named(text: &str) -> Result<Self::Status, Vec<&'static str>>;

    /// Prefix of all rows of all merchants.
    fn rows() -> Vec<u8>;

    /// Prefix of all rows of a merchant.
    fn rows_of(merchant_id: &MerchantId) -> Vec<u8>;

    /// First key of the rows of a merchant that were made in the second of `from` or later.
    fn rows_from(merchant_id: &MerchantId, from: Timestamp) -> Vec<u8>;

    /// The row of a number.
    fn row(merchant_id: &MerchantId, number: &str) -> Vec<u8>;

    /// The row that says which number holds an order number.
    fn order(merchant_id: &MerchantId, order_no: &str) -> Vec<u8>;

    /// Where it stands.
    fn status(&self) -> Self::Status;

    /// The channel that has it.
    fn channel(&self) -> Option<&ChannelName>;

    /// Its order number.
    fn order_no(&self) -> &str;

    /// When it was made.
    fn created_at(&self) -> Timestamp;
}

/// By what all merchants' objects are in order: the number, and the beginning of the merchant's keys.
type NumberAndMerchant = (Vec<u8>, Vec<u8>);

/// What a filter asks for, checked.
struct Wanted<'a, T: Numbered> {
    status: Option<T::Status>,
    channel: Option<&'a str>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl<T: Numbered> Wanted<'_, T> {
    fn includes(&self, object: &T) -> bool {
        self.status.as_ref().is_none_or(|status| object.status() == *status)
            && self.channel.is_none_or(|name| object.channel().is_some_and(|channel| channel.as_str() == name))
            && self.to.is_none_or(|to| object.created_at() < to)
            && !self.ends_before(object)
    }

    /// Where the rows begin and end that may be included, of all rows of a merchant's, which have this prefix.
    fn range(&self, prefix: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let (all, end) = (prefix.to_vec(), crate::storage::prefix_end(prefix));
        let Some(merchant_id) = keys::merchant_of(prefix) else { return (all, end) };
        let from = self.from.map(|from| T::rows_from(&merchant_id, from.minus(NUMBER_SLACK)));
        let to = self.to.map(|to| T::rows_from(&merchant_id, to.plus(NUMBER_SLACK).min(NUMBERS_END)));
        (from.unwrap_or(all), to.or(end))
    }

    /// Whether this one and all older ones are too old.
    fn ends_before(&self, object: &T) -> bool {
        self.from.is_some_and(|from| object.created_at() < from)
    }
}

/// A page of a merchant's.
pub(super) fn list<T: Numbered>(
    core: &Core,
    merchant_id: &MerchantId,
    filter: &PaymentFilter,
    page: &PageRequest,
) -> Result<Page<T>, GatewayError> {
    let wanted = check::<T>(filter)?;
    page.rows()?;
    if let Some(order_no) = &filter.order_no {
        return list_by_order(core, merchant_id, order_no, &wanted, page);
    }
    scan(core, merchant_id, &wanted, None, page)
}

/// A page of all merchants'. Numbers begin with the second in which they were given, so that they tell the order. With an
/// order number the first page has those that hold it, which are found at once; the next ones look for earlier ones.
pub(super) fn list_all<T: Numbered>(
    core: &Core,
    filter: &PaymentFilter,
    page: &PageRequest,
) -> Result<Page<T>, GatewayError> {
    let wanted = check::<T>(filter)?;
    let rows_wanted = page.rows()?;
    if let Some(order_no) = filter.order_no.as_deref().filter(|_| page.cursor.is_none())
        && let Some(holders) = page_of_holders(core, order_no, &wanted, rows_wanted)?
    {
        return Ok(holders);
    }
    let place = page.place_after(&[], |place| {
        let (number, lists_holders) = number_and_way(place);
        let is_way = lists_holders || filter.order_no.is_some();
        is_way && (are_texts(number) || (number.is_empty() && !lists_holders))
    })?;
    let (before, lists_holders) = place.as_deref().map_or((&[][..], true), number_and_way);
    let before = Some(before).filter(|number| !number.is_empty());
    let is_filtered = *filter != PaymentFilter::default();
    let looked_at_max = if is_filtered { ROWS_LOOKED_AT_MAX } else { rows_wanted };
    // The newest, by their numbers; of merchants with the same number, which chance would have to draw, by the merchant.
    let mut newest: BTreeMap<NumberAndMerchant, Arc<[u8]>> = BTreeMap::new();
    for_each_merchant(core, T::rows(), |prefix| {
        let (start, end) = wanted.range(prefix);
        let before = before.map(|number| [prefix, number].concat());
        let end = end.into_iter().chain(before).min();
        if end.as_ref().is_some_and(|end| *end <= start) {
            return Ok(true);
        }
        let mut scan = Scan { start, end, limit: CHUNK_ROWS.min(looked_at_max), reverse: true };
        loop {
            let rows = core.store.scan(&scan)?;
            let found = rows.len();
            for row in rows {
                let number = row.key[prefix.len()..].to_vec();
                let is_full = newest.len() >= looked_at_max;
                if is_full && newest.first_key_value().is_some_and(|((oldest, _), _)| *oldest >= number) {
                    return Ok(true);
                }
                scan.end = Some(row.key.clone());
                newest.insert((number, prefix.to_vec()), row.versioned.value);
                if newest.len() > looked_at_max {
                    newest.pop_first();
                }
            }
            if found < scan.limit {
                return Ok(true);
            }
        }
    })?;
    let is_last_page = newest.len() < looked_at_max;
    let mut items = Vec::new();
    let mut last_looked_at = None;
    let cursor = |number: Vec<u8>| match lists_holders {
        true => cursor_of(&[], &number),
        false => cursor_of(&[], &[&[WITHOUT_HOLDERS], number.as_slice()].concat()),
    };
    for ((number, prefix), value) in newest.into_iter().rev() {
        let object: T = decode(&value)?;
        let is_order = filter.order_no.as_ref().is_none_or(|order_no| object.order_no() == *order_no);
        let is_listed = || Ok::<_, GatewayError>(lists_holders || !is_holder(core, &prefix, &number, &object)?);
        if is_order && wanted.includes(&object) && is_listed()? {
            items.push(object);
        }
        if items.len() == rows_wanted {
            return Ok(Page { items, next_cursor: Some(cursor(number)) });
        }
        last_looked_at = Some(number);
    }
    let next_cursor = last_looked_at.filter(|_| !is_last_page).map(cursor);
    Ok(Page { items, next_cursor })
}

/// The first page of those with an order number: who holds it now. None when nobody does, or so many that they fill more
/// than the page or were not all looked for.
fn page_of_holders<T: Numbered>(
    core: &Core,
    order_no: &str,
    wanted: &Wanted<'_, T>,
    rows_wanted: usize,
) -> Result<Option<Page<T>>, GatewayError> {
    let (mut holders, is_all) = with_order::<T>(core, order_no)?;
    if holders.is_empty() || holders.len() > rows_wanted || !is_all {
        return Ok(None);
    }
    holders.retain(|object| wanted.includes(object));
    holders.sort_by_key(|object| std::cmp::Reverse(object.created_at()));
    Ok(Some(Page { items: holders, next_cursor: Some(cursor_of(&[], &[WITHOUT_HOLDERS])) }))
}

/// Whether this one, with this number, holds its order number now.
fn is_holder<T: Numbered>(core: &Core, prefix: &[u8], number: &[u8], object: &T) -> Result<bool, GatewayError> {
    let Some(merchant_id) = keys::merchant_of(prefix) else { return Ok(false) };
    let holder = core.store.get(&T::order(&merchant_id, object.order_no()))?;
    Ok(holder.is_some_and(|holder| &holder.value[..] == without_end(number)))
}

/// A number as it stands in a key, without the zero byte that ends it there.
fn without_end(number: &[u8]) -> &[u8] {
    number.strip_suffix(&[0]).unwrap_or(number)
}

/// What stands in a cursor of [`list_all`]: the number to go on after, and whether holders are listed on the way.
fn number_and_way(place: &[u8]) -> (&[u8], bool) {
    match place.strip_prefix(&[WITHOUT_HOLDERS]) {
        Some(number) => (number, false),
        None => (place, true),
    }
}

/// When the last one was made that was looked at for a page with this cursor, to the second. None when none was.
pub fn looked_back_to(next_cursor: &str) -> Option<Timestamp> {
    let place = hex::decode(next_cursor).ok()?;
    let (number, _) = number_and_way(&place);
    object_made_at(std::str::from_utf8(without_end(number)).ok()?)
}

/// One by its number alone: whose it is has to be found out.
pub(super) fn find<T: Numbered>(core: &Core, number: &str) -> Result<T, GatewayError> {
    let mut found = None;
    for_each_merchant(core, T::rows(), |prefix| {
        let Some(merchant_id) = keys::merchant_of(prefix) else { return Ok(true) };
        if let Some(stored) = core.store.get(&T::row(&merchant_id, number))? {
            found = Some(decode(&stored.value)?);
        }
        Ok(found.is_none())
    })?;
    found.ok_or(GatewayError::NotFound(T::NAME))
}

/// Those that hold this order number now, of all merchants, and whether these are all: each merchant has at most one, a
/// bounded number of merchants is asked.
pub(super) fn with_order<T: Numbered>(core: &Core, order_no: &str) -> Result<(Vec<T>, bool), GatewayError> {
    let mut found = Vec::new();
    let (mut asked, mut is_all) = (0, true);
    for_each_merchant(core, T::rows(), |prefix| {
        let Some(merchant_id) = keys::merchant_of(prefix) else { return Ok(true) };
        is_all = asked < MERCHANTS_ASKED_MAX && found.len() < FOUND_MAX;
        if !is_all {
            return Ok(false);
        }
        if let Some(holder) = core.store.get(&T::order(&merchant_id, order_no))?
            && let Some(stored) = core.store.get(&T::row(&merchant_id, &String::from_utf8_lossy(&holder.value)))?
        {
            found.push(decode(&stored.value)?);
        }
        asked += 1;
        Ok(true)
    })?;
    Ok((found, is_all))
}

/// Whose refund it is, by its number alone, and what it is a refund of.
pub(super) fn holder_of_refund(core: &Core, refund_no: &RefundNo) -> Result<(MerchantId, Refunded), GatewayError> {
    let mut found = None;
    for_each_merchant(core, keys::refunds(), |prefix| {
        let Some(merchant_id) = keys::merchant_of(prefix) else { return Ok(true) };
        match object_of_refund(core, &merchant_id, refund_no) {
            Ok(object) => found = Some((merchant_id, object)),
            Err(GatewayError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(found.is_none())
    })?;
    found.ok_or(GatewayError::NotFound("refund"))
}

/// Calls `each` with the beginning of the keys below `all` of every merchant, also of merchants that are gone, until it
/// says that this is enough.
fn for_each_merchant(
    core: &Core,
    all: Vec<u8>,
    mut each: impl FnMut(&[u8]) -> Result<bool, GatewayError>,
) -> Result<(), GatewayError> {
    let end = crate::storage::prefix_end(&all);
    let mut start = all;
    loop {
        let next = Scan { start, end: end.clone(), limit: 1, reverse: false };
        let Some(row) = core.store.scan(&next)?.into_iter().next() else { return Ok(()) };
        let prefix = keys::of_one_merchant(&row.key);
        if !each(prefix)? {
            return Ok(());
        }
        let Some(behind) = crate::storage::prefix_end(prefix) else { return Ok(()) };
        start = behind;
    }
}

fn check<T: Numbered>(filter: &PaymentFilter) -> Result<Wanted<'_, T>, GatewayError> {
    let time = |field: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => Timestamp::parse_rfc3339(text)
            .map(Some)
            .ok_or_else(|| GatewayError::field(field, "must be an RFC 3339 time, such as 2025-01-24T10:30:45Z")),
    };
    let status = match &filter.status {
        None => None,
        Some(text) => Some(
            T::status_named(text)
                .map_err(|known| GatewayError::field("status", format!("must be one of {}", known.join(", "))))?,
        ),
    };
    Ok(Wanted {
        status,
        channel: filter.channel.as_deref(),
        from: time("from", &filter.from)?,
        to: time("to", &filter.to)?,
    })
}

/// The one that holds the order number, quickly; earlier ones that are over under it by looking through the list.
fn list_by_order<T: Numbered>(
    core: &Core,
    merchant_id: &MerchantId,
    order_no: &str,
    wanted: &Wanted<'_, T>,
    page: &PageRequest,
) -> Result<Page<T>, GatewayError> {
    if page.cursor.is_none()
        && let Some(holder) = core.store.get(&T::order(merchant_id, order_no))?
    {
        let row = T::row(merchant_id, &String::from_utf8_lossy(&holder.value));
        let stored = core.store.get(&row)?.ok_or(GatewayError::NotFound(T::NAME))?;
        let next_cursor = Some(cursor_of(&T::rows_of(merchant_id), &row));
        let object: T = decode(&stored.value)?;
        let items = if wanted.includes(&object) { vec![object] } else { Vec::new() };
        return Ok(Page { items, next_cursor });
    }
    scan(core, merchant_id, wanted, Some(order_no), page)
}

fn scan<T: Numbered>(
    core: &Core,
    merchant_id: &MerchantId,
    wanted: &Wanted<'_, T>,
    order_no: Option<&str>,
    page: &PageRequest,
) -> Result<Page<T>, GatewayError> {
    let rows_wanted = page.rows()?;
    let prefix = T::rows_of(merchant_id);
    let mut items = Vec::new();
    let (start, end) = wanted.range(&prefix);
    let mut end = end.into_iter().chain(page.key_after(&prefix)?).min();
    if end.as_ref().is_some_and(|end| *end <= start) {
        return Ok(Page { items, next_cursor: None });
    }
    let mut looked_at = 0;
    while looked_at < ROWS_LOOKED_AT_MAX {
        let chunk = Scan { start: start.clone(), end: end.clone(), limit: CHUNK_ROWS, reverse: true };
        let rows = core.store.scan(&chunk)?;
        for row in &rows {
            looked_at += 1;
            let object: T = decode(&row.versioned.value)?;
            if wanted.ends_before(&object) {
                return Ok(Page { items, next_cursor: None });
            }
            if wanted.includes(&object) && order_no.is_none_or(|order_no| object.order_no() == order_no) {
                items.push(object);
            }
            if items.len() == rows_wanted {
                return Ok(Page { items, next_cursor: Some(cursor_of(&prefix, &row.key)) });
            }
        }
        match rows.last() {
            Some(last) if rows.len() == CHUNK_ROWS => end = Some(last.key.clone()),
            _ => return Ok(Page { items, next_cursor: None }),
        }
    }
    let next_cursor = end.map(|key| cursor_of(&prefix, &key));
    Ok(Page { items, next_cursor })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::domain::ids::PaymentNo;
    use crate::domain::payment::Payment;
    use crate::random::Random;
    use crate::storage::Batch;
    use crate::storage::memory::MemoryStore;
    use crate::storage::vault::Vault;

    #[tokio::test]
    async fn where_there_are_more_merchants_than_are_asked_nobody_is_told_that_all_were() {
        let random = Random::seeded(1);
        let core = Core::new(
            Arc::new(MemoryStore::new()),
            Clock::manual(Timestamp::from_unix_s(1_700_000_000)),
            random.clone(),
            Config::embedded().unwrap(),
            Vault::with_key(&[7; 32], random),
        );
        let payment = |number: usize| {
            let merchant_id = MerchantId::new(format!("m_{number:05}"));
            keys::payment(&merchant_id, &PaymentNo::new("PY20231114221320AAAAAAAA"))
        };
        let mut batch = Batch::new();
        // They are not read: nobody has the order number.
        (0..MERCHANTS_ASKED_MAX).for_each(|number| batch.put(payment(number), vec![1]));
        core.store.commit(batch).await.unwrap();
        let (found, is_all) = with_order::<Payment>(&core, "O-1").unwrap();
        assert_eq!((found.len(), is_all), (0, true));
        let mut batch = Batch::new();
        batch.put(payment(MERCHANTS_ASKED_MAX), vec![1]);
        core.store.commit(batch).await.unwrap();
        let (found, is_all) = with_order::<Payment>(&core, "O-1").unwrap();
        assert_eq!((found.len(), is_all), (0, false));
    }
}
