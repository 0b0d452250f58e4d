//! An operator who changes the routing again and again: mode, a channel's weight, rules, and back to an earlier version.
//! Each change is a version. After a start what was answered last is in force, or the one change after it that was asked
//! for and not answered, each with its version and its entry in the audit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::Run;
use crate::process::Serving;

const MODES: [&str; 4] = ["balanced", "cost", "success", "geographic"];
/// Versions to which the operator goes back.
const VERSIONS_BACK: u64 = 5;
/// Rules that are there at once.
const RULES: usize = 3;

/// What of the routing is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Setup {
    mode: String,
    weight: u64,
    rules: Vec<String>,
}

/// A change that was asked for.
#[derive(Clone, Debug)]
struct Change {
    action: &'static str,
    object: String,
    leads_to: Setup,
}

/// What the routing should be.
#[derive(Default)]
pub struct Routing {
    /// By version, as far as it was answered or found after a start.
    versions: BTreeMap<u64, Setup>,
    /// What was asked for last and not answered.
    pending: Option<Change>,
    /// Changes by action and object as the audit has them: how many there must be.
    done: BTreeMap<(&'static str, String), usize>,
    /// Changes that were made but not answered.
    found_made: usize,
}

impl Setup {
    async fn of(serving: &Serving) -> (u64, Self) {
        let routing = serving.admin_data("GET", "/admin/v1/routing", None).await;
        let channel = serving.admin_data("GET", "/admin/v1/channels/alipay", None).await;
        let rules = serving.admin_data("GET", "/admin/v1/rules", None).await;
        let ids = rules["items"].as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap().to_owned());
        assert_eq!(routing["unfit"], json!([]), "{routing}");
        let setup = Self {
            mode: routing["mode"].as_str().unwrap().to_owned(),
            weight: channel["weight"].as_u64().unwrap(),
            rules: ids.collect(),
        };
        (routing["version"].as_u64().unwrap(), setup)
    }
}

impl Routing {
    /// As it is at first, with rules that are asked first so that they show in decisions.
    pub async fn begin(serving: &Serving) -> Self {
        serving.admin_data("PUT", "/admin/v1/routing", Some(json!({ "rules_first": true }))).await;
        let done = BTreeMap::from([(("routing.update", "routing".to_owned()), 1)]);
        Self { versions: BTreeMap::from([Setup::of(serving).await]), done, ..Self::default() }
    }

    /// How many changes were answered, and how many were not and were made.
    pub fn changes(&self) -> [usize; 2] {
        [self.done.values().sum::<usize>() - self.found_made, self.found_made]
    }

    fn last(&self) -> (u64, Setup) {
        let (version, setup) = self.versions.last_key_value().unwrap();
        (*version, setup.clone())
    }

    /// Notes that a change was made, which gave the routing its next version.
    fn made(&mut self, change: Change) {
        let (version, _) = self.last();
        self.versions.insert(version + 1, change.leads_to);
        *self.done.entry((change.action, change.object)).or_default() += 1;
    }

    /// What is in force after a start is what was answered last, or the one change that was not answered; decisions are
    /// made by it.
    pub async fn is_in_force(&mut self, run: &Run, serving: &Serving) {
        let (version, setup) = Setup::of(serving).await;
        let pending = self.pending.take();
        let (answered, expected) = self.last();
        if version == answered + 1
            && let Some(pending) = pending
        {
            assert_eq!(setup, pending.leads_to, "version {version} is not what {} asked for", pending.action);
            self.made(pending);
            self.found_made += 1;
        } else {
            assert_eq!((version, &setup), (answered, &expected), "what was answered last is not in force");
        }
        let listed = serving.admin_data("GET", "/admin/v1/routing/versions?limit=10", None).await;
        let items = listed["items"].as_array().unwrap();
        assert_eq!(items[0]["in_force"], true, "{listed}");
        for (item, number) in items.iter().zip((1..=version).rev()) {
            assert_eq!(item["version"], number, "versions have a gap");
            let Some(setup) = self.versions.get(&number) else { continue };
            let rules: Vec<&str> = match &item["overrides"]["rules"] {
                Value::Array(rules) => rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect(),
                _ => Vec::new(),
            };
            assert_eq!(rules, setup.rules, "version {number} does not hold its rules");
        }
        if let Some(newest) = setup.rules.last() {
            let body = json!({ "order_no": "Q-1", "amount": 500, "currency": "CNY", "metadata": { "rule": newest } });
            let quoted = run.shop.post("/api/v1/routing/quote", body).await;
            assert_eq!(quoted.status, 200, "{}", quoted.text);
            // Where no channel has room or is well, no rule can name one.
            let data = &quoted.body["data"];
            assert!(data["channel"].is_null() || data["rung"] == "rules", "{}", quoted.text);
        }
        run.report.checked();
    }

    /// Each change that was made stands in the audit as often as it was made.
    pub fn stands_in_audit(&self, entries: &HashMap<(String, String), usize>) {
        for ((action, object), count) in &self.done {
            let found = entries.get(&((*action).to_owned(), object.clone())).copied().unwrap_or(0);
            assert_eq!(found, *count, "{action} of {object} in the audit");
        }
        let ours: BTreeSet<&str> = self.done.keys().map(|(action, _)| *action).collect();
        let found: usize =
            entries.iter().filter(|((action, _), _)| ours.contains(action.as_str())).map(|(_, count)| count).sum();
        assert_eq!(found, self.done.values().sum::<usize>(), "the audit has changes of the routing that nobody made");
    }
}

/// Changes the routing until the process is gone.
pub async fn change_routing(run: Run) {
    for index in 0.. {
        if change_once(&run, index).await.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn change_once(run: &Run, index: usize) -> Option<()> {
    let (version, present) = run.record.lock().routing.last();
    let mut next = present.clone();
    let mut back_to = None;
    let (action, object, method, path, body) = match index % 5 {
        0 => {
            let place = MODES.iter().position(|mode| *mode == present.mode).unwrap();
            next.mode = MODES[(place + 1) % MODES.len()].to_owned();
            let body = json!({ "mode": next.mode });
            ("routing.update", "routing".to_owned(), "PUT", "/admin/v1/routing".to_owned(), Some(body))
        }
        1 | 3 if present.rules.len() < RULES => {
            let id = format!("r-{}-{index}", run.life);
            next.rules.push(id.clone());
            let body = json!({ "id": id, "name": id, "metadata": { "rule": [id] }, "channels": ["alipay", "stripe"] });
            ("rule.create", id, "POST", "/admin/v1/rules".to_owned(), Some(body))
        }
        1 | 3 => {
            let id = next.rules.remove(0);
            ("rule.delete", id.clone(), "DELETE", format!("/admin/v1/rules/{id}"), None)
        }
        2 => {
            next.weight = present.weight % 1_000 + 1;
            let body = json!({ "weight": next.weight });
            ("channel.update", "alipay".to_owned(), "PATCH", "/admin/v1/channels/alipay".to_owned(), Some(body))
        }
        _ => {
            let earlier = version.saturating_sub(VERSIONS_BACK).max(2);
            let setup = run.record.lock().routing.versions.get(&earlier).cloned();
            let Some(setup) = setup.filter(|setup| *setup != present) else { return Some(()) };
            next = setup;
            back_to = Some(earlier);
            let path = "/admin/v1/routing/rollback".to_owned();
            ("routing.rollback", format!("version {earlier}"), "POST", path, Some(json!({ "version": earlier })))
        }
    };
    let change = Change { action, object, leads_to: next };
    run.record.lock().routing.pending = Some(change.clone());
    let answer = run.change(method, path, body).await?;
    // What was removed is answered without a version.
    assert!(action == "rule.delete" || answer["version"] == version + 1, "{action} after {version}: {answer}");
    assert!(back_to.is_none() || answer["mode"] == change.leads_to.mode.as_str(), "{answer}");
    let mut record = run.record.lock();
    record.routing.pending = None;
    record.routing.made(change);
    Some(())
}
