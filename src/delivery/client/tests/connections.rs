//! How connections are kept and used again.

use super::*;
use crate::domain::time::Timestamp;

fn manual_clock() -> Clock {
    Clock::manual(Timestamp::from_unix_s(1_700_000_000))
}

/// A name server that knows every name.
async fn everywhere() -> NameServer {
    NameServer::start(|_, _| has(&["127.0.0.1"], 3_600)).await
}

#[tokio::test]
async fn kept_connections_are_bounded_over_all_hosts_and_those_used_last_stay() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let bounded = DeliverySettings { idle_connections_max: 50, ..settings() };
    let server = everywhere().await;
    let delivery = asking(&server, bounded, manual_clock());
    // Twice two at once to each host, so that there is more than one connection to it.
    for number in 0..300 {
        let url = named(&receiver, &format!("{number}.internal"));
        let (first, second) = tokio::join!(delivery.deliver(request(&url)), delivery.deliver(request(&url)));
        assert_eq!((first.unwrap().status, second.unwrap().status), (200, 200));
        assert!(delivery.figures().idle_connections <= 50);
    }
    assert_eq!(delivery.figures().idle_connections, 50);
    eventually(|| (receiver.open() == 50).then_some(())).await;
    let connections = receiver.connections();
    delivery.deliver(request(&named(&receiver, "299.internal"))).await.unwrap();
    assert_eq!(receiver.connections(), connections, "used again");
    delivery.deliver(request(&named(&receiver, "0.internal"))).await.unwrap();
    assert_eq!(receiver.connections(), connections + 1, "closed for others");
}

#[tokio::test]
async fn kept_connections_to_one_host_are_bounded() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let delivery = Arc::new(delivery());
    let mut deliveries = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (delivery, url) = (Arc::clone(&delivery), receiver.url.clone());
        deliveries.spawn(async move { delivery.deliver(request(&url)).await.unwrap().status });
    }
    assert_eq!(deliveries.join_all().await, [200; 40]);
    assert!(delivery.figures().idle_connections <= 4);
    eventually(|| (receiver.open() <= 4).then_some(())).await;
}

#[tokio::test]
async fn none_are_kept_where_none_may_be() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    for (of_one, in_all) in [(0, 100), (4, 0)] {
        let none =
            DeliverySettings { idle_connections_per_host_max: of_one, idle_connections_max: in_all, ..settings() };
        let delivery = HttpDelivery::new(none).unwrap();
        for _ in 0..2 {
            assert_eq!(delivery.deliver(request(&receiver.url)).await.unwrap().status, 200);
        }
        assert_eq!(delivery.figures().idle_connections, 0);
    }
    assert_eq!(receiver.connections(), 4);
}

#[tokio::test]
async fn a_connection_that_is_always_busy_is_replaced_when_it_is_old_enough() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let clock = manual_clock();
    let server = everywhere().await;
    let delivery = asking(&server, settings(), clock.clone());
    let url = named(&receiver, "busy.internal");
    for _ in 0..30 {
        assert_eq!(delivery.deliver(request(&url)).await.unwrap().status, 200);
        clock.advance(Duration::from_secs(20));
    }
    // 600 s at 300 s a connection.
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_uses_is_closed() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let clock = Clock::virtual_from(Timestamp::from_unix_s(1_700_000_000));
    let server = everywhere().await;
    let delivery = asking(&server, settings(), clock);
    assert_eq!(delivery.deliver(request(&receiver.url)).await.unwrap().status, 200);
    assert_eq!(delivery.figures().idle_connections, 1);
    tokio::time::sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
    assert_eq!(delivery.figures().idle_connections, 1);
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(delivery.figures().idle_connections, 0);
    eventually(|| (receiver.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_connection_that_its_receiver_has_closed_is_replaced() {
    let head = b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n";
    let receiver = Receiver::start(|_, _| Reply::ThenClose(head.to_vec())).await;
    let delivery = delivery();
    for turn in 1..=5 {
        assert_eq!(delivery.deliver(request(&receiver.url)).await.unwrap().status, 200);
        eventually(|| (receiver.open() == 0).then_some(())).await;
        assert_eq!(receiver.received().len(), turn);
    }
    assert_eq!(receiver.connections(), 5);
}

#[tokio::test]
async fn an_answer_that_is_somewhat_too_long_does_not_cost_its_connection() {
    for (bytes, connections) in [(CAP_BYTES, 1), (100_000, 1), (300_000, 4)] {
        let receiver = Receiver::start(move |_, _| reply(500, "", &vec![b'a'; bytes])).await;
        let delivery = delivery();
        for _ in 0..4 {
            let answer = delivery.deliver(request(&receiver.url)).await.unwrap();
            assert_eq!((answer.status, answer.response.len()), (500, CAP_BYTES));
        }
        assert_eq!(receiver.connections(), connections, "{bytes} bytes");
    }
}

#[tokio::test]
async fn a_long_answer_that_comes_slowly_is_not_waited_for() {
    let head = format!("HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n{}", "a".repeat(20_000));
    let receiver = Receiver::start(move |_, _| Reply::ThenDrip(head.clone().into_bytes())).await;
    let delivery = delivery();
    let answer = delivery.deliver(request(&receiver.url)).await.unwrap();
    assert_eq!((answer.status, answer.response.len()), (200, CAP_BYTES));
    eventually(|| (receiver.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_request_that_was_cut_off_takes_its_connection_with_it() {
    let receiver = Receiver::start(|_, _| Reply::ThenDrip(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec())).await;
    let delivery = delivery();
    let short = Duration::from_millis(100);
    let answer = delivery.deliver(DeliveryRequest { timeout: short, ..request(&receiver.url) }).await;
    assert_eq!(answer, Err(DeliveryError::TimedOut(short)));
    assert_eq!(delivery.figures().idle_connections, 0);
    eventually(|| (receiver.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn no_proxy_is_asked() {
    const CHILD: &str = "TOLLGATE_TEST_DELIVER_TO";
    if let Ok(url) = std::env::var(CHILD) {
        assert_eq!(delivery().deliver(request(&url)).await.unwrap().status, 200);
        return;
    }
    let proxy = Receiver::start(|_, _| reply(502, "", b"")).await;
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    // Variables are set for a process of its own: other tests must not see them.
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "delivery::client::tests::connections::no_proxy_is_asked"]).env(CHILD, &receiver.url);
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(variable, &proxy.url);
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((receiver.received().len(), proxy.connections()), (1, 0));
}
