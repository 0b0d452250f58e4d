//! Looking for the PaymentIntent of a charge or a hold in Stripe's list, which can be asked by time only.
//!
//! The time in which it may have been made is cut into spans, and a span with more than a page into halves, so that the
//! likely moments are seen first. On a busy account that takes more pages than one call has time for. What has been
//! looked through in vain is remembered in that case, and the next call goes on behind it: nothing can be added any
//! more to times that have passed. After a restart the search begins anew.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::channels::http::Deadline;
use crate::channels::stripe::StripeChannel;
use crate::channels::stripe::resolve::{CLOCK_SLACK, KEY_LIFETIME, PAGES_MAX};
use crate::channels::stripe::response::{ErrorReply, List, PaymentIntent, Reply, read};
use crate::channels::{HoldQuestion, ResolveRequest};
use crate::domain::time::Timestamp;

/// Charges whose search is remembered; beyond that the oldest are forgotten, and begin anew.
const REMEMBERED_MAX: usize = 4_096;

/// How far before the time when a request was sent its PaymentIntent is looked for when that time is in doubt.
const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(7 * 86_400);

/// What a PaymentIntent is known by, and what is known about the request that may have made it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'a> {
    /// Our number.
    pub(super) reference: &'a str,
    /// The key of the request.
    pub(super) provider_key: &'a str,
    pub(super) first_sent_at: Timestamp,
    pub(super) sent_by: Timestamp,
    pub(super) settling: Duration,
    pub(super) now: Timestamp,
    /// As [`ResolveRequest::key_age`] says it.
    pub(super) key_age: Option<Duration>,
}

impl<'a> From<&'a ResolveRequest> for Sought<'a> {
    fn from(request: &'a ResolveRequest) -> Self {
        Self {
            reference: &request.charge.reference,
            provider_key: &request.charge.provider_key,
            first_sent_at: request.first_sent_at,
            sent_by: request.sent_by,
            settling: request.settling,
            now: request.now,
            key_age: request.key_age(),
        }
    }
}

impl<'a> From<&'a HoldQuestion> for Sought<'a> {
    fn from(question: &'a HoldQuestion) -> Self {
        Self {
            reference: &question.hold.reference,
            provider_key: &question.hold.provider_key,
            first_sent_at: question.first_sent_at,
            sent_by: question.sent_by,
            settling: question.settling,
            now: question.now,
            key_age: question.key_age(),
        }
    }
}

impl Sought<'_> {
    /// Whether Stripe is sure to remember the key.
    pub(super) fn key_is_remembered(&self) -> bool {
        self.key_age.is_some_and(|age| age < KEY_LIFETIME)
    }

    /// By when the last request with the key has taken effect, if it ever does, once the key is not used any more: until
    /// its time was over it may have been sent again.
    pub(super) fn settled_after_key(&self) -> Timestamp {
        self.sent_by.max(self.first_sent_at.plus(KEY_LIFETIME)).plus(self.settling)
    }
}

/// A time to be looked through, in whole seconds, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    from_s: i64,
    to_s: i64,
    /// The last one seen of a second that has more than a page.
    after: Option<String>,
}

impl Span {
    const fn new(from_s: i64, to_s: i64) -> Self {
        Self { from_s, to_s, after: None }
    }

    /// Two parts, the one to be looked through first in front; `None` for a single second. What was made before the
    /// request was sent, by a clock that is behind, is the least likely.
    fn split(&self, sent_s: i64) -> Option<(Self, Self)> {
        let Self { from_s, to_s, .. } = *self;
        if from_s < sent_s && sent_s <= to_s {
            return Some((Self::new(sent_s, to_s), Self::new(from_s, sent_s - 1)));
        }
        let middle_s = from_s + (to_s - from_s) / 2;
        (from_s < to_s).then(|| (Self::new(from_s, middle_s), Self::new(middle_s + 1, to_s)))
    }
}

/// What is remembered of one search.
#[derive(Debug, Default)]
struct Search {
    /// By then Stripe had done all that it will ever do for the key.
    executed_by: Option<Timestamp>,
    /// What is left to be looked through, the next one last.
    left: Option<Vec<Span>>,
}

/// Searches that have not come to an end, by the charge's key. Keys begin with the time of their payment, so that the
/// first is the oldest.
#[derive(Debug, Default)]
pub(super) struct Searches(Mutex<BTreeMap<String, Search>>);

impl Searches {
    /// Notes that Stripe had done by `at` all that it will ever do for `key`; gives the earliest such time.
    pub(super) fn executed_by(&self, key: &str, at: Timestamp) -> Timestamp {
        self.with(key, |search| *search.executed_by.insert(search.executed_by.map_or(at, |known| known.min(at))))
    }

    fn resume(&self, key: &str) -> Option<Vec<Span>> {
        self.0.lock().get_mut(key).and_then(|search| search.left.take())
    }

    fn keep(&self, key: &str, left: Vec<Span>) {
        self.with(key, |search| search.left = Some(left));
    }

    fn forget(&self, key: &str) {
        self.0.lock().remove(key);
    }

    fn with<T>(&self, key: &str, change: impl FnOnce(&mut Search) -> T) -> T {
        let mut searches = self.0.lock();
        if searches.len() >= REMEMBERED_MAX && !searches.contains_key(key) {
            searches.pop_first();
        }
        change(searches.entry(key.to_owned()).or_default())
    }
}

impl StripeChannel {
    /// By when Stripe had done all that it will ever do for the key, which it still remembers. That is not bound to the
    /// first try: a repetition may have been the first to arrive, at any time up to now.
    pub(super) fn executed_by(&self, reply: &ErrorReply, sought: &Sought<'_>) -> Timestamp {
        if reply.replayed {
            return self.searches.executed_by(sought.provider_key, sought.now);
        }
        if reply.is_key_conflict() {
            // The request that took the key may be under way still.
            return self.searches.executed_by(sought.provider_key, sought.now.plus(sought.settling));
        }
        sought.now
    }

    /// Looks for the PaymentIntent among those of the time in which it may have been made: from when the request was
    /// first sent to `executed_by`. `is_settled` says that no request is on its way.
    pub(super) async fn find_intent(
        &self,
        sought: &Sought<'_>,
        executed_by: Timestamp,
        is_settled: bool,
        deadline: Deadline,
    ) -> Result<Option<PaymentIntent>, String> {
        let key = sought.provider_key;
        let until = executed_by.max(sought.first_sent_at).plus(CLOCK_SLACK);
        // Only what can't change any more need not be looked at again.
        let is_past = is_settled && sought.now >= until;
        let resumed = if is_past { self.searches.resume(key) } else { None };
        let mut left = resumed.unwrap_or_else(|| spans_of(sought, until));
        let found = self.look_through(&mut left, sought, deadline).await;
        match &found {
            Err(_) if is_past => self.searches.keep(key, left),
            Ok(found) if is_settled || found.is_some() => self.searches.forget(key),
            _ => {}
        }
        found
    }

    /// Looks through spans, the last one first, and takes away those that are done.
    async fn look_through(
        &self,
        left: &mut Vec<Span>,
        sought: &Sought<'_>,
        deadline: Deadline,
    ) -> Result<Option<PaymentIntent>, String> {
        for _ in 0..PAGES_MAX {
            let Some(span) = left.last_mut() else { return Ok(None) };
            let (since, until) = (Timestamp::from_unix_s(span.from_s), Timestamp::from_unix_s(span.to_s));
            let answer = self.client.list_intents(since, until, span.after.as_deref(), deadline).await;
            let page = match read::<List<PaymentIntent>>(&answer.map_err(|error| error.to_string())?)? {
                Reply::Object(page) => page,
                Reply::Error(reply) => return Err(format!("Stripe's list was answered with status {}", reply.status)),
            };
            let last = page.data.last().map(|intent| intent.id.clone());
            if let Some(intent) =
                page.data.into_iter().find(|intent| intent.is_of(sought.reference, sought.provider_key))
            {
                return Ok(Some(intent));
            }
            if !page.has_more || last.is_none() {
                left.pop();
            } else if let Some((first, second)) = span.split(sought.first_sent_at.unix_s()) {
                left.pop();
                left.extend([second, first]);
            } else {
                span.after = last;
            }
        }
        if left.is_empty() {
            return Ok(None);
        }
        Err(String::from("Stripe's list is too long to be looked through at once"))
    }
}

/// What has to be looked through, the last one first: where it most likely is, the time of the first try, and then the
/// time in which the request may have been repeated.
fn spans_of(sought: &Sought<'_>, until: Timestamp) -> Vec<Span> {
    let since = sought.first_sent_at.minus(CLOCK_SLACK);
    let first_over = sought.first_sent_at.plus(sought.settling).plus(CLOCK_SLACK).min(until);
    let mut spans = Vec::new();
    if first_over.unix_s() < until.unix_s() {
        spans.push(Span::new(first_over.unix_s() + 1, until.unix_s()));
    }
    if sought.key_age.is_none() {
        // The clock may have been ahead when it was sent, so that it was made before that; the least likely, looked at last.
        let earliest = sought.now.minus(KEY_LIFETIME).max(since.minus(CLOCK_AHEAD_MAX));
        if earliest < since {
            spans.insert(0, Span::new(earliest.unix_s(), since.unix_s() - 1));
        }
    }
    spans.push(Span::new(since.unix_s(), first_over.unix_s()));
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_leave_nothing_out_and_begin_where_the_request_was_sent() {
        let mut left = vec![Span::new(40, 107)];
        let mut seconds = Vec::new();
        while let Some(span) = left.pop() {
            match span.split(100) {
                Some((first, second)) => left.extend([second, first]),
                None => seconds.push(span.from_s),
            }
        }
        let expected: Vec<i64> = (100..=107).chain(40..100).collect();
        assert_eq!(seconds, expected);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let searches = Searches::default();
        let at = Timestamp::from_unix_s;
        let key = |number: usize| format!("tg7_PY{number:08}_1");
        for number in 0..=REMEMBERED_MAX {
            searches.executed_by(&key(number), at(10));
        }
        assert_eq!(searches.0.lock().len(), REMEMBERED_MAX);
        assert_eq!(searches.executed_by(&key(1), at(20)), at(10), "the earliest time stands");
        assert_eq!(searches.executed_by(&key(0), at(20)), at(20));
    }
}
