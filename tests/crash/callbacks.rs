//! What providers have sent of their own accord: what was answered 200 is kept over all kills, and was gone into.

use std::time::Duration;

use crate::client;
use crate::messenger::Messenger;
use crate::process::{ADMIN_TOKEN, Serving};
use crate::report::Report;

/// Notifications that are sent once more in the end.
const REPEATED: usize = 200;
/// How long it takes at most until all that was told is gone into.
const GONE_INTO_WITHIN: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(100);

/// Nothing is left to be gone into, and whatever is sent once more is known. Returns how many were taken, and how many of
/// them were so more than once.
pub async fn are_acted_upon(messenger: &Messenger, serving: &Serving, report: &Report) -> [usize; 2] {
    are_gone_into(serving).await;
    messenger.keep_back(true);
    // What was on its way is there.
    tokio::time::sleep(2 * STEP).await;
    let outcome = |name| format!("outcome=\"{name}\"");
    let [taken, duplicate, ignored] = ["taken", "duplicate", "ignored"].map(outcome);
    let count = async |outcome: &str| figure(serving, "tollgate_callbacks_total", outcome).await;
    let before = (count(&taken).await + count(&ignored).await, count(&duplicate).await);
    let lately = messenger.taken_lately(REPEATED);
    for notification in &lately {
        assert_eq!(messenger.repeat(notification).await, 200, "it is not taken again");
        report.checked();
    }
    let after = (count(&taken).await + count(&ignored).await, count(&duplicate).await);
    assert_eq!(after, (before.0, before.1 + lately.len()), "what was answered 200 is not known any more");
    messenger.keep_back(false);
    messenger.none_was_refused();
    let (all, different) = messenger.taken();
    [different, all - different]
}

/// Waits until nothing is left to be gone into.
pub async fn are_gone_into(serving: &Serving) {
    for step in 0.. {
        if figure(serving, "tollgate_callbacks_open", "").await == 0 {
            return;
        }
        assert!(step < GONE_INTO_WITHIN.as_millis() / STEP.as_millis(), "notifications are not gone into");
        tokio::time::sleep(STEP).await;
    }
}

/// The sum of a metric's figures whose labels contain this.
async fn figure(serving: &Serving, name: &str, label: &str) -> usize {
    let request = client::http_client().get(format!("{}/metrics", serving.admin_url)).bearer_auth(ADMIN_TOKEN);
    let text = request.send().await.unwrap().text().await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    let figures: Vec<f64> = lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(!figures.is_empty(), "no {name} with {label}");
    figures.iter().sum::<f64>() as usize
}
