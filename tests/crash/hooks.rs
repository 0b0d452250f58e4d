//! Two more endpoints of the merchant: one whose receiver never takes anything, and which is left alone over all kills; and one
//! whose receiver is gone, which is disabled over all kills, and in the end, when it is there again, gets what was kept for it
//! by a job that is killed in the middle.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate::random::Random;

use crate::check::Lives;
use crate::client::Client;
use crate::process::{Process, Serving};
use crate::receiver::{Delivery, Manner, Receiver};
use crate::report::{Report, say};
use crate::{admitted, serve, serve_command, share};

/// Requests to an endpoint before its breaker opens: as many tries as it takes, and what may be in flight meanwhile.
const BEFORE_IT_OPENS: usize = 10 + 16;
/// Requests that may have no answer, or one that is not on disk.
const IN_FLIGHT_MAX: usize = 16;
/// A breaker is open for 10 s at first, and twice as long each time: more probes than this are not made in an hour.
const PROBES_MAX: usize = 16;
/// With fewer kills it says little.
const KILLS_TELLING: usize = 12;
/// Kills while the job is at work.
const KILLS_OF_JOB: usize = 6;
/// It is at work for longer than this.
const AT_WORK: Duration = Duration::from_millis(30);
/// The job, and what it begins, end within this.
const DONE_WITHIN: usize = 60;

/// Their paths.
pub struct Hooks {
    dead: String,
    gone: String,
}

impl Hooks {
    /// Makes them.
    pub async fn make(shop: &Client, receiver: &Receiver) -> Self {
        let mut paths = Vec::new();
        for manner in [Manner::Dead, Manner::Gone] {
            let made = shop.post("/api/v1/webhooks/endpoints", json!({ "url": receiver.url_of(manner) })).await;
            assert_eq!(made.status, 201, "{}", made.text);
            paths.push(format!("/api/v1/webhooks/endpoints/{}", made.data("id")));
        }
        let [dead, gone] = paths.try_into().unwrap();
        Self { dead, gone }
    }

    /// What is so from the first life on that had time for it.
    pub async fn after_a_start(&self, shop: &Client, receiver: &Receiver) {
        let gone = shop.get(&self.gone).await;
        if receiver.asked(Manner::Gone).len() > IN_FLIGHT_MAX {
            panic!("it is asked again and again although it is gone: {}", gone.text);
        }
        let dead = shop.get(&self.dead).await;
        let state = dead.body["data"]["health"]["state"].as_str().unwrap_or_default().to_owned();
        if receiver.asked(Manner::Dead).len() > BEFORE_IT_OPENS {
            assert!(["open", "failing"].contains(&state.as_str()), "{}", dead.text);
        }
    }

    /// The one that is dead was left alone, and the one that was gone gets all that was kept, however often the job is killed.
    pub async fn in_the_end(
        &self,
        mut serving: Serving,
        (directory, sandbox_url, opening): (&Path, &str, Duration),
        (shop, receiver): (&mut Client, &Receiver),
        (lives, report): (&mut Lives, &Report),
        (events, kills, random): (&[Value], usize, &Random),
    ) -> Serving {
        let asked = receiver.asked(Manner::Dead).len();
        // At each start it may be time for a probe, and a probe that is killed is made again.
        let asked_max = BEFORE_IT_OPENS + kills / 3 + PROBES_MAX;
        assert!(
            kills < KILLS_TELLING || asked <= asked_max,
            "a dead endpoint was asked {asked} times, not {asked_max}"
        );
        let disabled = shop.get(&self.gone).await;
        assert_eq!(disabled.data("status"), "disabled", "{}", disabled.text);
        let refused: HashSet<String> = ids(&receiver.asked(Manner::Gone));

        receiver.come_back();
        let send_kept = json!({ "status": "enabled", "kept": "send" }).to_string();
        let enabled = shop.request("PATCH", &self.gone, Some(send_kept), None).await;
        assert_eq!(enabled.status, 200, "{}", enabled.text);
        let mut seen = job(shop).await;
        let mut seen_before = Vec::new();
        for kill in 0..KILLS_OF_JOB {
            report.step(format!("kill {} of a job", kill + 1));
            if kill % 2 == 0 {
                if kill > 0 {
                    serving = serve(directory, sandbox_url);
                    shop.url.clone_from(&serving.url);
                    admitted(shop).await;
                }
                let now = job(shop).await;
                goes_on(&seen, &now);
                seen = now;
                seen_before.push(seen["changed"].as_u64().unwrap());
                tokio::time::sleep(AT_WORK.mul_f64(share(random))).await;
                serving.process.kill_running();
            } else {
                // It goes on while the gateway opens.
                let mut short_lived = Process::start(serve_command(directory, sandbox_url), false);
                tokio::time::sleep(opening.mul_f64(share(random) * 1.2)).await;
                short_lived.kill_running();
            }
            report.killed();
            lives.ended(receiver).await;
        }
        serving = serve(directory, sandbox_url);
        shop.url.clone_from(&serving.url);
        admitted(shop).await;
        for _ in 0..10 * DONE_WITHIN {
            let now = job(shop).await;
            goes_on(&seen, &now);
            seen = now;
            let taken = ids(&taken(receiver));
            if seen["status"] == "done" && taken.len() + refused.len() >= kept_of(events) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let arrived = taken(receiver);
        let taken = ids(&arrived);
        assert_eq!(seen["status"], "done", "{seen}");
        // What it was asked about before it was disabled it has refused; all else was kept.
        assert_eq!(
            taken.union(&refused).count(),
            kept_of(events),
            "{} taken, {} refused: {seen}",
            taken.len(),
            refused.len()
        );
        // Some may have been planned while it was being disabled, and wait for it without the job.
        let changed = usize::try_from(seen["changed"].as_u64().unwrap()).unwrap();
        assert!(
            (taken.len().saturating_sub(IN_FLIGHT_MAX)..=taken.len()).contains(&changed),
            "{} taken: {seen}",
            taken.len()
        );
        let at_work = seen_before.iter().filter(|before| **before < seen["changed"].as_u64().unwrap()).count();
        assert!(kills < KILLS_TELLING || at_work > 0, "the job had nothing left to do at any kill: {seen}");
        let again = arrived.len() - taken.len();
        assert!(again <= KILLS_OF_JOB * IN_FLIGHT_MAX, "{again} came again over {KILLS_OF_JOB} kills");
        say(&format!(
            "hooks: dead one asked {asked} times; {changed} sent by a job that had more to do before {at_work} of {} kills, {again} again",
            seen_before.len()
        ));
        serving
    }
}

/// Events for the one that was gone: all but those about itself.
fn kept_of(events: &[Value]) -> usize {
    events.iter().filter(|event| event["event"] != "webhook.endpoint_disabled").count()
}

fn ids(deliveries: &[Delivery]) -> HashSet<String> {
    deliveries.iter().map(|delivery| delivery.header("webhook-id").to_owned()).collect()
}

fn taken(receiver: &Receiver) -> Vec<Delivery> {
    receiver.asked(Manner::Gone).into_iter().filter(|delivery| delivery.is_taken).collect()
}

/// The job that sends what was kept.
async fn job(shop: &Client) -> Value {
    let jobs = shop.get("/api/v1/webhooks/jobs?limit=100").await;
    assert_eq!(jobs.status, 200, "{}", jobs.text);
    let found = jobs.items().into_iter().find(|job| job["kind"] == "enable");
    found.unwrap_or_else(|| panic!("the job is lost: {}", jobs.text))
}

fn goes_on(before: &Value, now: &Value) {
    assert_eq!((&before["id"], &before["created_at"]), (&now["id"], &now["created_at"]));
    for count in ["looked_at", "changed", "skipped"] {
        assert!(before[count].as_u64() <= now[count].as_u64(), "a job goes back: {before}, then {now}");
    }
    assert!(before["status"] != "done" || before == now, "a job goes on after its end: {before}, then {now}");
    assert!(["running", "done"].contains(&now["status"].as_str().unwrap()), "{now}");
}
