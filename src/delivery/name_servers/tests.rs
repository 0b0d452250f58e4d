//! Tests of `name_servers`, against one that speaks UDP.

use super::*;
use crate::delivery::test_name_server::{A, AAAA, NameServer, Says, has};

/// Long enough for a name server on this machine, however busy it is.
const PATIENT: Duration = Duration::from_secs(60);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(400);

async fn ask(server: &NameServer, timeout: Duration, name: &str) -> Result<Found, LookUpError> {
    SystemNameServers::at(server.address, timeout).ask(name).await
}

fn sorted(found: Found) -> (Vec<String>, Duration) {
    let mut addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
    addresses.sort();
    (addresses, found.ttl)
}

#[tokio::test]
async fn all_addresses_of_both_kinds_are_found_with_the_shorter_time_to_live() {
    let server =
        NameServer::start(
            |_, kind| {
                if kind == A { has(&["192.0.2.1", "192.0.2.2"], 300) } else { has(&["2001:db8::1"], 20) }
            },
        )
        .await;
    let (addresses, ttl) = sorted(ask(&server, PATIENT, "shop.example").await.unwrap());
    assert_eq!(addresses, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    assert_eq!(ttl, Duration::from_secs(20));
    let mut asked = server.asked();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, [("shop.example".to_owned(), A), ("shop.example".to_owned(), AAAA)]);
}

#[tokio::test]
async fn one_kind_is_enough() {
    let server = NameServer::start(|_, _| has(&["2001:db8::1"], 60)).await;
    assert_eq!(sorted(ask(&server, PATIENT, "shop.example").await.unwrap()).0, ["2001:db8::1"]);
    let server = NameServer::start(|_, kind| if kind == A { has(&["192.0.2.1"], 60) } else { Says::Nothing }).await;
    assert_eq!(sorted(ask(&server, PATIENT, "shop.example").await.unwrap()).0, ["192.0.2.1"]);
}

#[tokio::test]
async fn a_name_without_addresses_and_one_that_is_not_there_are_not_found() {
    let server =
        NameServer::start(|name, _| if name == "empty.example" { has(&[], 60) } else { Says::NoSuchName }).await;
    for name in ["empty.example", "missing.example", "not a name"] {
        assert_eq!(ask(&server, PATIENT, name).await, Err(LookUpError::NotFound), "{name}");
    }
}

#[tokio::test]
async fn a_server_that_fails_says_nothing_about_the_name() {
    let fails = NameServer::start(|_, _| Says::Fails).await;
    assert_eq!(ask(&fails, PATIENT, "shop.example").await, Err(LookUpError::Failed));
    let half = NameServer::start(|_, kind| if kind == A { Says::Fails } else { Says::NoSuchName }).await;
    assert_eq!(ask(&half, PATIENT, "shop.example").await, Err(LookUpError::Failed));
    let other = NameServer::start(|_, kind| if kind == A { has(&["192.0.2.1"], 60) } else { Says::Fails }).await;
    assert_eq!(sorted(ask(&other, PATIENT, "shop.example").await.unwrap()).0, ["192.0.2.1"]);
}

#[tokio::test]
async fn silence_ends_in_time() {
    let server = NameServer::start(|_, _| Says::Nothing).await;
    assert_eq!(ask(&server, SHORT, "silent.example").await, Err(LookUpError::TimedOut));
    let half = NameServer::start(|_, kind| if kind == A { Says::NoSuchName } else { Says::Nothing }).await;
    assert!(ask(&half, SHORT, "half.example").await.is_err());
}

#[tokio::test]
async fn very_many_questions_that_nobody_answers_do_not_hold_up_another() {
    let server =
        NameServer::start(|name, _| if name == "good.example" { has(&["192.0.2.1"], 60) } else { Says::Nothing }).await;
    let servers = SystemNameServers::at(server.address, PATIENT);
    let mut silent = tokio::task::JoinSet::new();
    for number in 0..300 {
        silent.spawn(servers.ask(&format!("{number}.silent.example")));
    }
    let wanted = || server.asked().len() >= 300;
    crate::delivery::testing::eventually(|| wanted().then_some(())).await;
    assert_eq!(sorted(servers.ask("good.example").await.unwrap()).0, ["192.0.2.1"]);
    assert!(silent.try_join_next().is_none(), "the others are still asked for");
}
