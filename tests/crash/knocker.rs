//! A merchant with limits that bind, which knocks all the time: over all kills no window of what was admitted holds more than
//! its limit, and it is never told to wait for longer than its window.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tollgate::clock::Clock;
use tollgate::domain::time::Monotonic;

use crate::client::{self, Client, Key};
use crate::process::{Serving, try_send};

const BURST: usize = 20;
const PER_SECOND: usize = 10;
/// In any two seconds at most the burst.
const WINDOW: Duration = Duration::from_secs(2);
/// The window and a part of it, in whole seconds. After a crash what may have been admitted since the last heartbeat, which
/// is two seconds at least, counts as admitted; but only up to the start, so that nothing has to be waited for longer.
const WAIT_MAX_S: u64 = 3;
/// At most this part of all answers is 503.
const TURNED_AWAY_PART: usize = 4;
/// With so many kills there are lives long enough for it to be let in after a crash.
const KILLS_TELLING: usize = 12;
const PATH: &str = "/api/v1/payments?limit=1";

/// A request that was admitted: decided between the two.
#[derive(Clone, Copy)]
struct Admitted {
    sent: Monotonic,
    answered: Monotonic,
}

#[derive(Default)]
struct Seen {
    admitted: Vec<Admitted>,
    refused: usize,
    /// Refused for another reason: nothing is admitted while the last heartbeat is old, and a busy machine is late with it.
    turned_away: usize,
    /// Lives of the process in which it was admitted.
    lives: BTreeSet<usize>,
}

/// The merchant and what it was answered.
#[derive(Clone)]
pub struct Knocker {
    http: reqwest::Client,
    shop: Client,
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
}

impl Knocker {
    /// Makes the merchant. Only its burst binds: each crash is charged to the minute and the hour as well.
    pub async fn make(serving: &Serving) -> Self {
        let limits = json!({
            "per_second": PER_SECOND, "burst": BURST, "per_minute": 60_000, "per_hour": 3_600_000, "concurrent": 100,
        });
        let merchant = json!({ "name": "knocker", "tier": "premium", "limits": limits });
        let made = serving.admin_data("POST", "/admin/v1/merchants", Some(merchant)).await;
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let key = Key { id: text(&made["key"]["id"]), secret: text(&made["key"]["secret"]) };
        let shop = Client::new(&serving.url, key, &text(&made["merchant_id"]));
        Self { http: client::http_client(), shop, clock: Clock::system(), seen: Arc::default() }
    }

    /// Knocks at the process that was started last until it is gone.
    pub async fn knock(mut self, url: String, life: usize, is_killed: Arc<AtomicBool>) {
        self.shop.url = url;
        while let Some(is_admitted) = self.once(life, &is_killed).await {
            if !is_admitted {
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        }
    }

    /// Whether it was admitted; `None` when nobody is there.
    async fn once(&self, life: usize, is_killed: &AtomicBool) -> Option<bool> {
        let headers = self.shop.signed("GET", PATH, "", None, client::unix_s(), &client::nonce());
        let sent = self.clock.monotonic();
        let answer = match try_send(&self.http, &self.shop.url, "GET", PATH, None, headers).await {
            Ok(answer) => answer,
            Err(error) => {
                assert!(is_killed.load(Ordering::SeqCst), "not answered, and nobody had killed it: {error}");
                return None;
            }
        };
        let answered = self.clock.monotonic();
        let mut seen = self.seen.lock();
        match answer.status {
            200 => {
                seen.admitted.push(Admitted { sent, answered });
                seen.lives.insert(life);
            }
            429 => {
                let wait_s = answer.body["retry_after"].as_u64().unwrap();
                assert!(answer.body["limit"] == "second" && wait_s <= WAIT_MAX_S, "{}", answer.text);
                seen.refused += 1;
            }
            503 => seen.turned_away += 1,
            _ => panic!("{}", answer.text),
        }
        Some(answer.status == 200)
    }

    /// Waits as told until it is admitted, and looks at all windows.
    pub async fn in_the_end(mut self, url: &str, life: usize) -> String {
        self.shop.url = url.to_owned();
        let mut waits = 0;
        while self.once(life, &AtomicBool::new(false)).await != Some(true) {
            waits += 1;
            assert!(waits <= 3, "it waits as told and is not admitted");
            tokio::time::sleep(Duration::from_secs(WAIT_MAX_S)).await;
        }
        let seen = self.seen.lock();
        for first in &seen.admitted {
            let surely_inside =
                |other: &&Admitted| other.sent >= first.sent && other.answered < first.sent.plus(WINDOW);
            let held = seen.admitted.iter().filter(surely_inside).count();
            assert!(held <= BURST, "{held} of {BURST} in {WINDOW:?}");
        }
        assert!(seen.refused > 0, "its limits did not bind");
        let (admitted, turned_away) = (seen.admitted.len(), seen.turned_away);
        let answered = admitted + seen.refused + turned_away;
        assert!(turned_away <= answered / TURNED_AWAY_PART, "{turned_away} of {answered} were answered 503");
        // In the last life it waits until it is let in, and in the first there was no crash before.
        let lives = seen.lives.iter().filter(|&&admitted_in| admitted_in != life).count();
        assert!(lives > usize::from(life >= KILLS_TELLING), "it was not let in while others had their load: {lives}");
        format!("knocker: {admitted} admitted in {lives} lives, {} refused, {turned_away} turned away", seen.refused)
    }
}
