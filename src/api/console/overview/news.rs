//! The page's parts as they are now, made once for everybody who looks at the same, and only while somebody does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use crate::api::console::reading::Reading;
use crate::domain::time::Monotonic;
use crate::gateway::Gateway;

use super::{Now, Shown};

/// Parts are made anew after so long, if anybody wants them.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// A part of the page.
pub(super) struct Part {
    /// Where it stands in the page.
    pub(super) place: &'static str,
    /// Of what it says.
    pub(super) hash: u64,
    /// The event that brings it to a page.
    pub(super) event: String,
}

/// All parts, as soon as they are made; none when they could not be.
pub(super) type Parts = Shared<BoxFuture<'static, Option<Arc<[Part]>>>>;

/// See the module.
pub(in crate::api::console) struct News {
    reading: Reading,
    /// By what is shown, and since when; none older than an interval once somebody asks.
    made: Mutex<HashMap<Shown, (Monotonic, Parts)>>,
}

impl News {
    /// Made in places of `reading`.
    pub(in crate::api::console) fn new(reading: Reading) -> Self {
        Self { reading, made: Mutex::default() }
    }

    /// The parts of a page that shows this.
    pub(super) fn of(&self, gateway: &Gateway, shown: &Shown) -> Parts {
        self.shared(shown, gateway.clock().monotonic(), || {
            let (reading, gateway, shown) = (self.reading.clone(), gateway.clone(), shown.clone());
            by_itself(async move { make(&reading, gateway, shown).await })
        })
    }

    fn shared(
        &self,
        shown: &Shown,
        now: Monotonic,
        make: impl FnOnce() -> BoxFuture<'static, Option<Arc<[Part]>>>,
    ) -> Parts {
        let mut made = self.made.lock();
        made.retain(|_, (begun, _)| now.since(*begun) < INTERVAL);
        let (_, parts) = made.entry(shown.clone()).or_insert_with(|| (now, make().shared()));
        parts.clone()
    }
}

/// Goes on whether anybody waits for it or not: what stands still while it waits for a place, or has one, keeps that from
/// everybody.
fn by_itself(
    work: impl Future<Output = Option<Arc<[Part]>>> + Send + 'static,
) -> BoxFuture<'static, Option<Arc<[Part]>>> {
    let made = tokio::spawn(work);
    async move { made.await.ok().flatten() }.boxed()
}

async fn make(reading: &Reading, gateway: Gateway, shown: Shown) -> Option<Arc<[Part]>> {
    let parts = reading.run(async move { Now::of(&gateway, &shown).map(|now| now.fragments()) }).await;
    match parts {
        Ok(Ok(Ok(parts))) => Some(parts.into_iter().map(part).collect()),
        Ok(Ok(Err(error))) => {
            tracing::error!(%error, "a page's news can't be written");
            None
        }
        Ok(Err(error)) | Err(error) => {
            tracing::warn!(%error, "a page's news can't be read");
            None
        }
    }
}

fn part((place, html): (&'static str, String)) -> Part {
    // JSON has no line breaks, which would end the event's data.
    let event = format!("event: fragment\ndata: {}\n\n", json!({ "id": place, "html": html }));
    Part { place, hash: xxh3_64(html.as_bytes()), event }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::clock::Clock;
    use crate::domain::time::Timestamp;

    #[tokio::test]
    async fn news_that_nobody_waits_for_any_more_keep_no_place() {
        let reading = Reading::new();
        let (go_on, may_go_on) = tokio::sync::watch::channel(false);
        let holding = |reading: Reading| {
            let mut may_go_on = may_go_on.clone();
            async move { reading.run(async move { drop(may_go_on.wait_for(|may| *may).await) }).await }
        };
        // All places are taken, and the news have to wait for one.
        let held: Vec<_> = (0..2).map(|_| tokio::spawn(holding(reading.clone()))).collect();
        while reading.has_room() {
            tokio::task::yield_now().await;
        }
        let made =
            |reading: Reading| by_itself(async move { reading.run(async { Arc::from([]) }).await.ok() }).shared();
        let kept: Vec<Parts> = (0..2).map(|_| made(reading.clone())).collect();
        assert!(kept.iter().all(|news| news.clone().now_or_never().is_none()));
        go_on.send(true).unwrap();
        for held in held {
            held.await.unwrap().unwrap();
        }
        assert_eq!(reading.run(async { 7 }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn news_are_made_once_an_interval_for_all_who_look_at_the_same() {
        let (clock, news) = (Clock::manual(Timestamp::from_unix_s(1_700_000_000)), News::new(Reading::new()));
        let times = Cell::new(0);
        let ask = |minutes: usize| {
            news.shared(&Shown { minutes, currency: None }, clock.monotonic(), || {
                times.set(times.get() + 1);
                let text = format!("{minutes} minutes, {}", times.get());
                async move { Some([part(("tiles", text))].into_iter().collect()) }.boxed()
            })
        };
        let (one, other) = (ask(60), ask(60));
        let (one, other) = (one.await.unwrap(), other.await.unwrap());
        assert_eq!(one[0].event, "event: fragment\ndata: {\"html\":\"60 minutes, 1\",\"id\":\"tiles\"}\n\n");
        assert!(Arc::ptr_eq(&one, &other));
        assert_ne!(ask(15).await.unwrap()[0].hash, one[0].hash, "others look at something else");
        clock.advance(INTERVAL);
        assert_eq!(times.get(), 2, "nobody wants them");
        assert!(ask(60).await.unwrap()[0].event.contains("60 minutes, 3"));
        assert_eq!(news.made.lock().len(), 1, "what is old is forgotten");
    }
}
