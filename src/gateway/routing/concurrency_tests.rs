//! Decisions while the routing changes again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::audit::Operator;
use crate::domain::money::{Currency, Money};
use crate::domain::routing::{DecisionRecord, RouteRequest};
use crate::gateway::page::PageRequest;
use crate::gateway::{Environment, Gateway};
use crate::random::Random;

const CHANGES: u64 = 60;

fn request<'a>(metadata: &'a BTreeMap<String, String>, order_no: &'a str, at: &Clock) -> RouteRequest<'a> {
    RouteRequest {
        money: Money::new(1_000, Currency::USD),
        country: None,
        country_from_address: false,
        card_country: None,
        merchant_country: None,
        method: None,
        requested: None,
        allowed: &[],
        merchant_id: "m_1",
        tier: "starter",
        order_no,
        metadata,
        at: at.now(),
        tried: &[],
        refusing_token: &[],
        needs_pre_auth: false,
        draw: 0,
    }
}

/// What of a decision follows from the setup alone.
fn seen(record: &DecisionRecord) -> (bool, bool, Vec<u32>, Option<String>) {
    let weights = record.channels.iter().map(|verdict| verdict.weight).collect();
    let rule = record.rule.as_ref().map(|rule| rule.id.to_string());
    (record.smart, record.rules_first, weights, rule)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_decision_sees_half_a_change() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = Config::embedded().unwrap();
    opened.storage.dir = directory.path().join("data");
    (opened.storage.segment_bytes, opened.storage.group_bytes_max) = (1 << 20, 1 << 18);
    opened.storage.ballast_bytes = 0;
    let variable = Box::new(|_: &str| None);
    let environment = Environment { clock: Clock::system(), random: Random::seeded(1), variable };
    let gateway = Gateway::open(opened.clone(), environment).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let decider = {
        let (gateway, is_over) = (gateway.clone(), Arc::clone(&is_over));
        std::thread::spawn(move || {
            let (metadata, clock) = (BTreeMap::new(), gateway.clock().clone());
            let mut by_version = BTreeMap::<u64, Vec<_>>::new();
            while !is_over.load(Ordering::Acquire) {
                let record = gateway.0.router.quote(&request(&metadata, "O-1", &clock)).unwrap();
                let of_version = by_version.entry(record.setup_version).or_default();
                let seen = seen(&record);
                if !of_version.contains(&seen) {
                    of_version.push(seen);
                }
            }
            by_version
        })
    };
    let by = Operator::process("signal");
    // Through the file, several things at once, and through the API, one behind the other.
    for round in 0..CHANGES / 2 {
        let odd = round % 2 == 1;
        let mut wanted = opened.clone();
        (wanted.routing.rules_first, wanted.routing.smart) = (odd, !odd);
        wanted.channels.get_mut("stripe").unwrap().weight = if odd { 11 } else { 22 };
        wanted.channels.get_mut("alipay").unwrap().weight = if odd { 33 } else { 44 };
        gateway.reload(&wanted, &by).await.unwrap();
        let rule =
            json!({ "id": format!("r-{round}"), "name": format!("r-{round}"), "position": 1, "channels": ["stripe"] });
        gateway.routing().create_rule(rule.as_object().unwrap().clone(), &by).await.unwrap();
    }
    is_over.store(true, Ordering::Release);
    let by_version = tokio::task::spawn_blocking(move || decider.join().unwrap()).await.unwrap();
    assert!(by_version.len() > 5, "decisions were made all the time");
    for (version, seen) in &by_version {
        assert_eq!(seen.len(), 1, "version {version} looked like {seen:?}");
        let (smart, rules_first, weights, rule) = &seen[0];
        // Version 1 is the start; then a reload and a rule in turn.
        let Some(change) = version.checked_sub(2) else { continue };
        let odd = change / 2 % 2 == 1;
        let expected = if odd { vec![33, 100, 100, 11] } else { vec![44, 100, 100, 22] };
        assert_eq!((*smart, *rules_first, weights), (!odd, odd, &expected), "version {version}");
        let rules_made = change.div_ceil(2);
        let newest = rules_made.checked_sub(1).map(|round| format!("r-{round}"));
        assert_eq!(*rule, newest, "version {version}");
    }
    let page = PageRequest { limit: Some(1), cursor: None };
    let last = gateway.routing().versions(&page).await.unwrap();
    assert_eq!(last.items[0].version, CHANGES + 1, "each change is a version, and no other thing is");
    gateway.stop().await.unwrap();
}
