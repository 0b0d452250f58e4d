//! Which addresses a host's name leads to, and how long that may take.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::delivery::test_name_server::A;
use crate::domain::time::Timestamp;

fn manual_clock() -> Clock {
    Clock::manual(Timestamp::from_unix_s(1_700_000_000))
}

fn is_not_public(result: &DeliveryResult) -> bool {
    matches!(result, Err(DeliveryError::NotAllowed(reason)) if reason.contains("not on the public internet"))
}

#[tokio::test]
async fn a_healthy_name_is_not_held_up_by_names_whose_servers_are_silent() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let server =
        NameServer::start(|name, _| if name == "good.internal" { has(&["127.0.0.1"], 60) } else { Says::Nothing })
            .await;
    let delivery = Arc::new(asking(&server, settings(), Clock::system()));
    let mut silent = tokio::task::JoinSet::new();
    for number in 0..48 * 16 {
        let delivery = Arc::clone(&delivery);
        let url = format!("http://{}.silent.internal/", number % 48);
        silent.spawn(async move { delivery.deliver(request(&url)).await });
    }
    let names_asked = || server.asked().iter().filter(|(_, kind)| *kind == A).count() >= 48;
    eventually(|| names_asked().then_some(())).await;
    let answer = delivery.deliver(request(&named(&receiver, "good.internal"))).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(silent.try_join_next().is_none(), "it was sent while all others were waiting");
    assert_eq!(delivery.figures().look_ups_ok, 1);
}

#[tokio::test]
async fn a_silent_name_server_is_said_in_words_and_remembered() {
    let server = NameServer::start(|_, _| Says::Nothing).await;
    let quick = DeliverySettings { dns_timeout: Duration::from_millis(300), ..settings() };
    let delivery = asking(&server, quick, manual_clock());
    for _ in 0..2 {
        let answer = delivery.deliver(request("http://a.internal/")).await;
        assert_eq!(answer, Err(DeliveryError::NotResolvedInTime));
    }
    let figures = delivery.figures();
    assert_eq!((figures.look_ups_timed_out, figures.look_ups_cached), (1, 1));
    let nobody = NameServer::start(|_, _| Says::NoSuchName).await;
    let delivery = asking(&nobody, settings(), manual_clock());
    assert_eq!(delivery.deliver(request("http://a.internal/")).await, Err(DeliveryError::NotResolved));
    assert_eq!(delivery.figures().look_ups_failed, 1);
}

#[tokio::test]
async fn a_name_with_one_address_that_is_not_allowed_is_refused_as_a_whole() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let port = receiver.url.rsplit(':').next().unwrap().trim_end_matches("/hook").to_owned();
    // Each with an address at which the receiver answers, so that only vetting can keep the request from it.
    for others in [["10.0.0.1"], ["169.254.169.254"], ["8.8.8.8"], ["::1"], ["::ffff:10.0.0.1"], ["64:ff9b::a00:1"]] {
        let addresses = [&["127.0.0.1"][..], &others].concat();
        let server = NameServer::start(move |_, _| has(&addresses, 60)).await;
        let delivery = asking(&server, settings(), manual_clock());
        for _ in 0..3 {
            let answer = delivery.deliver(request(&format!("http://mixed.internal:{port}/hook"))).await;
            assert!(is_not_public(&answer), "{others:?}: {answer:?}");
        }
        let figures = delivery.figures();
        assert_eq!((figures.look_ups_refused, figures.look_ups_cached), (1, 2), "counted once an answer");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_public_name_with_a_private_address_beside_a_public_one_is_refused() {
    for private in ["127.0.0.1", "192.168.0.1", "::1", "fe80::1"] {
        let server = NameServer::start(move |_, _| has(&["8.8.8.8", private], 60)).await;
        let strict = DeliverySettings { allowed_private_networks: Vec::new(), ..settings() };
        let delivery = asking(&server, strict, manual_clock());
        let answer = delivery.deliver(request("https://mixed.example/")).await;
        assert!(is_not_public(&answer), "{private}: {answer:?}");
    }
}

#[tokio::test]
async fn a_name_that_changes_to_an_inner_address_is_refused_at_the_next_connection() {
    let receiver = Receiver::start(|_, _| reply(200, "Connection: close\r\n", b"")).await;
    let asked = AtomicUsize::new(0);
    let server = NameServer::start(move |_, kind| {
        let turn = if kind == A { asked.fetch_add(1, Ordering::SeqCst) } else { 0 };
        if turn == 0 { has(&["127.0.0.1"], 60) } else { has(&["10.0.0.1"], 60) }
    })
    .await;
    let clock = manual_clock();
    let delivery = asking(&server, settings(), clock.clone());
    let url = named(&receiver, "rebound.internal");
    assert_eq!(delivery.deliver(request(&url)).await.unwrap().status, 200);
    // The vetted answer holds for its time, and is used.
    clock.advance(Duration::from_secs(59));
    assert_eq!(delivery.deliver(request(&url)).await.unwrap().status, 200);
    clock.advance(Duration::from_secs(2));
    let answer = delivery.deliver(request(&url)).await;
    assert!(is_not_public(&answer), "{answer:?}");
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn an_address_that_does_not_answer_is_passed_over() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let server = NameServer::start(|_, _| has(&["127.0.0.2", "127.0.0.1"], 60)).await;
    let delivery = asking(&server, settings(), manual_clock());
    let answer = delivery.deliver(request(&named(&receiver, "two.internal"))).await;
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test]
async fn a_name_in_the_list_of_hosts_needs_no_name_server() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let server = NameServer::start(|_, _| Says::NoSuchName).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts");
    std::fs::write(&path, "127.0.0.1 good.internal\n10.0.0.1 bad.internal\n").unwrap();
    let settings = settings();
    let world = World {
        clock: manual_clock(),
        hosts: HostsFile::new(path),
        name_servers: Box::new(SystemNameServers::at(server.address, settings.dns_timeout)),
        authorities: Authorities::Machine,
    };
    let delivery = HttpDelivery::within(settings, world).unwrap();
    let answer = delivery.deliver(request(&named(&receiver, "good.internal"))).await;
    assert_eq!(answer.unwrap().status, 200);
    assert!(is_not_public(&delivery.deliver(request("http://bad.internal/")).await), "it is vetted, too");
    assert!(server.asked().is_empty());
}
