//! Limits by client address, over a proxy that is trusted and without one.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate::config::Config;
use tollgate::domain::audit::Operator;
use tollgate::domain::limit::ForwardingHeader;

use crate::support::{Answer, Client, House, LogBook, nonce, unix_s};

const LIMITS: &str = "/api/v1/limits";
const PAYMENTS: &str = "/api/v1/payments";
const WRONG: &str = "v1=0000000000000000000000000000000000000000000000000000000000000000";

type Headers = HashMap<String, String>;

/// The tests are the proxy.
fn behind_proxy(config: &mut Config) {
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

/// A signed request that a proxy passes on for `forwarded_for`.
async fn through_proxy(shop: &Client, header: &str, forwarded_for: &str) -> Answer {
    let mut headers = shop.signed("GET", LIMITS, "", None, unix_s(), &nonce());
    headers.insert(header.to_owned(), forwarded_for.to_owned());
    shop.send("GET", LIMITS, None, headers).await
}

async fn from(shop: &Client, address: &str) -> Answer {
    through_proxy(shop, "x-forwarded-for", address).await
}

/// The same with a wrong signature.
async fn wrongly_from(shop: &Client, address: &str) -> Answer {
    let mut headers = shop.signed("GET", LIMITS, "", None, unix_s(), &nonce());
    headers.insert("x-signature".to_owned(), WRONG.to_owned());
    headers.insert("x-forwarded-for".to_owned(), address.to_owned());
    shop.send("GET", LIMITS, None, headers).await
}

async fn metric(house: &House, name: &str) -> u64 {
    let text = house.admin("GET", "/metrics", None).await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap_or_else(|| panic!("{text}"));
    line.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_failures_block_an_address_and_no_other_with_the_same_key() {
    let log = LogBook::open();
    let house = House::start_with(behind_proxy).await;
    let shop = house.merchant("enterprise").await;
    let attacker = "192.0.2.77";
    for _ in 0..10 {
        // Named on the left by the client itself: whoever that is pays nothing.
        wrongly_from(&shop, &format!("198.51.100.5, {attacker}")).await.expect(401, "UNAUTHENTICATED");
    }
    let refused = wrongly_from(&shop, attacker).await.expect(429, "RATE_LIMIT_EXCEEDED");
    let retry_after = refused.body["retry_after"].as_u64().unwrap();
    assert!((1..=60).contains(&retry_after), "{}", refused.text);
    let expected = json!({
        "code": "RATE_LIMIT_EXCEEDED",
        "message": "Too many failed authentications from your address; check key and signature, and try again later",
        "limit": "client_address",
        "violated_policies": ["client_address"],
        "retry_after": retry_after,
        "request_id": refused.header("x-request-id"),
    });
    assert_eq!(refused.body, expected);
    assert_eq!(refused.header("retry-after"), retry_after.to_string());
    assert!(refused.headers.keys().all(|name| !name.contains("ratelimit")), "{refused:?}");
    // That is what a block is: the right signature does not open it, and other ports and the address's IPv6 form neither.
    for same in [attacker, "192.0.2.77:4711", "::ffff:192.0.2.77", "198.51.100.5, 192.0.2.77"] {
        from(&shop, same).await.expect(429, "RATE_LIMIT_EXCEEDED");
    }
    let mut headers = shop.signed("GET", LIMITS, "", None, unix_s(), &nonce());
    headers.insert("x-forwarded-for".to_owned(), attacker.to_owned());
    headers.insert("accept-language".to_owned(), "zh".to_owned());
    let chinese = shop.send("GET", LIMITS, None, headers).await.expect(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(chinese.body["message"], "来自您的地址的认证失败次数过多; 请检查密钥和签名, 稍后重试");

    for other in ["198.51.100.5", "192.0.2.78", "2001:db8::1", "192.0.2.77, 198.51.100.6"] {
        from(&shop, other).await.expect(200, "SUCCESS");
    }
    shop.get(LIMITS).await.expect(200, "SUCCESS");
    // What needs no authentication goes on.
    let headers = Headers::from([("x-forwarded-for".to_owned(), attacker.to_owned())]);
    assert_eq!(shop.send("GET", "/openapi.json", None, headers).await.status, 200);
    assert_eq!(metric(&house, "tollgate_address_failed_authentications_total").await, 10);
    assert_eq!(metric(&house, "tollgate_address_refused_total{reason=\"failed_authentication\"}").await, 6);
    assert_eq!(metric(&house, "tollgate_address_refused_total{reason=\"rate\"}").await, 0);
    house.stop().await;
    let logged = log.text();
    assert_eq!(logged.matches("192.0.2.0/24").count(), 1, "once a block");
    assert!(!logged.contains(attacker), "addresses are shortened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipv6_network_counts_as_one_client() {
    let house = House::start_with(behind_proxy).await;
    let shop = house.merchant("enterprise").await;
    for host in 1..=10 {
        wrongly_from(&shop, &format!("[2001:db8:0:7::{host:x}]:443")).await.expect(401, "UNAUTHENTICATED");
    }
    from(&shop, "2001:db8:0:7:ffff::1").await.expect(429, "RATE_LIMIT_EXCEEDED");
    from(&shop, "2001:db8:0:8::1").await.expect(200, "SUCCESS");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_and_a_used_nonce_block_nobody() {
    let house = House::start_with(|config| {
        behind_proxy(config);
        config.limits.client_address.failed_authentications_per_minute = 1;
    })
    .await;
    let shop = house.merchant("enterprise").await;
    let send = |mut headers: Headers| {
        headers.insert("x-forwarded-for".to_owned(), "203.0.113.9".to_owned());
        shop.send("GET", LIMITS, None, headers)
    };
    let once = shop.signed("GET", LIMITS, "", None, unix_s(), &nonce());
    send(once.clone()).await.expect(200, "SUCCESS");
    for _ in 0..3 {
        send(once.clone()).await.expect(401, "NONCE_REUSED");
        send(shop.signed("GET", LIMITS, "", None, unix_s() - 4_000, &nonce())).await.expect(401, "SIGNATURE_EXPIRED");
    }
    // Nor does a nonce that is none, signed rightly; a wrong signature would say the same.
    let bad_nonce = send(shop.signed("GET", LIMITS, "", None, unix_s(), "a b")).await.expect(401, "UNAUTHENTICATED");
    assert_eq!(bad_nonce.body["message"], "The key or the signature is wrong");
    // Nor one without any credentials.
    for _ in 0..3 {
        send(Headers::new()).await.expect(401, "UNAUTHENTICATED");
    }
    send(shop.signed("GET", LIMITS, "", None, unix_s(), &nonce())).await.expect(200, "SUCCESS");
    assert_eq!(metric(&house, "tollgate_address_failed_authentications_total").await, 0);
    // Whoever shows something that is wrong has tried.
    send(Headers::from([("x-api-key".to_owned(), shop.key.id.clone())])).await.expect(401, "UNAUTHENTICATED");
    send(shop.signed("GET", LIMITS, "", None, unix_s(), &nonce())).await.expect(429, "RATE_LIMIT_EXCEEDED");
    house.stop().await;
}

/// With a window of 60 s, no time passes during the test that would matter.
fn sixty_a_minute(config: &mut Config) {
    behind_proxy(config);
    config.limits.client_address.per_second = 1;
    config.limits.client_address.burst = 60;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_s_requests_count_on_every_path_but_the_probes() {
    let house = House::start_with(sixty_a_minute).await;
    let shop = house.merchant("premium").await;
    let headers = Headers::from([("x-forwarded-for".to_owned(), "203.0.113.9".to_owned())]);
    for _ in 0..20 {
        assert_eq!(shop.send("GET", "/openapi.json", None, headers.clone()).await.status, 200);
        from(&shop, "203.0.113.9").await.expect(200, "SUCCESS");
        shop.send("GET", "/nothing", None, headers.clone()).await.expect(404, "NOT_FOUND");
        assert_eq!(shop.send("GET", "/healthz", None, headers.clone()).await.status, 200);
        assert_eq!(shop.send("GET", "/readyz", None, headers.clone()).await.status, 200);
    }
    let refusal = from(&shop, "203.0.113.9").await.expect(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refusal.body["limit"], "client_address", "{}", refusal.text);
    let message = "Request rate exceeds the limit of your address: more than 1 requests per second";
    assert_eq!(refusal.body["message"], message);
    assert!((1..=65).contains(&refusal.body["retry_after"].as_u64().unwrap()), "{}", refusal.text);
    shop.send("GET", "/openapi.json", None, headers.clone()).await.expect(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(shop.send("GET", "/healthz", None, headers).await.status, 200);
    // The merchant is refused nothing: not from elsewhere, and its own limits don't know of it.
    let elsewhere = from(&shop, "203.0.113.10").await.expect(200, "SUCCESS");
    let hour = &elsewhere.body["data"]["windows"][2];
    assert_eq!((&hour["name"], &hour["used"]), (&json!("hour"), &json!(21)), "{}", elsewhere.text);
    assert_eq!(metric(&house, "tollgate_address_refused_total{reason=\"rate\"}").await, 2);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loopback_is_exempt_but_not_what_comes_through_it() {
    let house = House::start_with(|config| {
        sixty_a_minute(config);
        config.server.trusted_proxies.clear();
    })
    .await;
    let shop = house.merchant("premium").await;
    for _ in 0..100 {
        shop.get(LIMITS).await.expect(200, "SUCCESS");
    }
    // Nobody believes the header, but there is one: whoever sends it is not on this machine.
    for host in 0..60 {
        from(&shop, &format!("203.0.113.{host}")).await.expect(200, "SUCCESS");
    }
    from(&shop, "203.0.113.200").await.expect(429, "RATE_LIMIT_EXCEEDED");
    through_proxy(&shop, "via", "1.1 proxy").await.expect(429, "RATE_LIMIT_EXCEEDED");
    shop.get(LIMITS).await.expect(200, "SUCCESS");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxy_that_names_nobody_is_not_limited() {
    let house = House::start_with(sixty_a_minute).await;
    let shop = house.merchant("premium").await;
    let unnamed = metric(&house, "tollgate_address_unnamed_total").await;
    for _ in 0..35 {
        from(&shop, "unknown").await.expect(200, "SUCCESS");
        from(&shop, "127.0.0.1, 127.0.0.2").await.expect(200, "SUCCESS");
    }
    for _ in 0..12 {
        wrongly_from(&shop, "_hidden").await.expect(401, "UNAUTHENTICATED");
    }
    // With the look at the figure itself, which comes from the proxy's machine.
    assert_eq!(metric(&house, "tollgate_address_unnamed_total").await - unnamed, 83);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwarded_is_read_where_it_is_configured_and_the_other_is_not() {
    let house = House::start_with(|config| {
        sixty_a_minute(config);
        config.server.client_address_header = ForwardingHeader::Forwarded;
    })
    .await;
    let shop = house.merchant("premium").await;
    for port in 1_000..1_060 {
        let forwarded = format!("for=198.51.100.{port};proto=http, for=\"[2001:db8::9]:{port}\";proto=https");
        let mut headers = shop.signed("GET", LIMITS, "", None, unix_s(), &nonce());
        headers.insert("forwarded".to_owned(), forwarded);
        // From the client, through a proxy that does not write it.
        headers.insert("x-forwarded-for".to_owned(), format!("192.0.2.{}", port % 250));
        shop.send("GET", LIMITS, None, headers).await.expect(200, "SUCCESS");
    }
    let forwarded = "for=\"[2001:db8::ffff]\"";
    through_proxy(&shop, "forwarded", forwarded).await.expect(429, "RATE_LIMIT_EXCEEDED");
    through_proxy(&shop, "forwarded", "for=192.0.2.1").await.expect(200, "SUCCESS");
    house.stop().await;
}

/// A refusal comes before the body, which then nobody reads: the connection is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_request_s_body_is_not_waited_for() {
    let house = House::start_with(|config| {
        behind_proxy(config);
        config.limits.client_address.failed_authentications_per_minute = 1;
    })
    .await;
    let shop = house.merchant("premium").await;
    wrongly_from(&shop, "203.0.113.9").await.expect(401, "UNAUTHENTICATED");
    let mut connection = TcpStream::connect(house.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST {PAYMENTS} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 203.0.113.9\r\ncontent-type: application/json\r\n\
         content-length: 50000\r\n\r\n{{"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("connection: close") && answer.contains("\"client_address\""), "{answer}");
    house.stop().await;
}

/// Somebody else's server can be made to fetch a URL, and a browser by ten pictures in a page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_credentials_keep_nobody_out_but_count_for_the_rate() {
    let house = House::start_with(sixty_a_minute).await;
    let shop = house.merchant("premium").await;
    let nothing = || Headers::from([("x-forwarded-for".to_owned(), "203.0.113.9".to_owned())]);
    for _ in 0..30 {
        shop.send("GET", "/api/v1/x.png", None, nothing()).await.expect(401, "UNAUTHENTICATED");
    }
    for _ in 0..30 {
        from(&shop, "203.0.113.9").await.expect(200, "SUCCESS");
    }
    shop.send("GET", "/api/v1/x.png", None, nothing()).await.expect(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(metric(&house, "tollgate_address_refused_total{reason=\"rate\"}").await, 1);
    assert_eq!(metric(&house, "tollgate_address_refused_total{reason=\"failed_authentication\"}").await, 0);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_operators_tokens_count_by_themselves() {
    let house = House::start_with(behind_proxy).await;
    let shop = house.merchant("premium").await;
    let with_token = |token: &str, address: &str| {
        let headers = Headers::from([
            ("authorization".to_owned(), format!("Bearer {token}")),
            ("x-forwarded-for".to_owned(), address.to_owned()),
        ]);
        house.admin_as("GET", "/admin/v1/merchants", None, headers)
    };
    let token = house.admin_token.clone();
    // A page that has ten pictures from this address is no guess.
    let nothing = || Headers::from([("x-forwarded-for".to_owned(), "203.0.113.9".to_owned())]);
    for path in ["/metrics", "/admin/v1/merchants"].iter().cycle().take(20) {
        house.admin_as("GET", path, None, nothing()).await.expect(401, "UNAUTHENTICATED");
    }
    // Nor one to whose pictures' URLs somebody has added a user and a password.
    for authorization in ["Basic YTpi", "Bearer "].iter().cycle().take(20) {
        let mut headers = nothing();
        headers.insert("authorization".to_owned(), (*authorization).to_owned());
        house.admin_as("GET", "/admin/v1/merchants", None, headers).await.expect(401, "UNAUTHENTICATED");
    }
    // A merchant's wrong keys from the same address are not the operator's.
    for _ in 0..10 {
        wrongly_from(&shop, "203.0.113.9").await.expect(401, "UNAUTHENTICATED");
    }
    for number in 0..10 {
        with_token(&token, "203.0.113.9").await.expect(200, "SUCCESS");
        with_token(&format!("guess-{number}"), "203.0.113.9").await.expect(401, "UNAUTHENTICATED");
    }
    for guess in ["guess-11", &token] {
        let refused = with_token(guess, "203.0.113.9").await.expect(429, "RATE_LIMIT_EXCEEDED");
        assert_eq!(refused.body["limit"], "client_address", "{}", refused.text);
        assert!(!refused.header("retry-after").is_empty());
    }
    with_token(&token, "203.0.113.10").await.expect(200, "SUCCESS");
    house.admin("GET", "/admin/v1/merchants", None).await.expect(200, "SUCCESS");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switched_off_nobody_is_limited() {
    let house = House::start_with(|config| {
        sixty_a_minute(config);
        config.limits.client_address.enabled = false;
    })
    .await;
    let shop = house.merchant("premium").await;
    for _ in 0..12 {
        wrongly_from(&shop, "203.0.113.9").await.expect(401, "UNAUTHENTICATED");
    }
    for _ in 0..70 {
        from(&shop, "203.0.113.9").await.expect(200, "SUCCESS");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_with_a_password_in_it_blocks_nobody_and_a_guessed_secret_does() {
    let house = House::start_with(behind_proxy).await;
    let shop = house.merchant("premium").await;
    let with_basic = |user_and_password: &str| {
        let headers = Headers::from([
            ("authorization".to_owned(), format!("Basic {}", STANDARD.encode(user_and_password))),
            ("x-forwarded-for".to_owned(), "203.0.113.9".to_owned()),
            ("x-forwarded-proto".to_owned(), "https".to_owned()),
        ]);
        shop.send("GET", LIMITS, None, headers)
    };
    for _ in 0..20 {
        with_basic("a:b").await.expect(401, "UNAUTHENTICATED");
    }
    assert_eq!(metric(&house, "tollgate_address_failed_authentications_total").await, 0);
    from(&shop, "203.0.113.9").await.expect(200, "SUCCESS");
    let guess = format!("{}:guess", shop.key.id);
    for _ in 0..10 {
        with_basic(&guess).await.expect(401, "UNAUTHENTICATED");
    }
    from(&shop, "203.0.113.9").await.expect(429, "RATE_LIMIT_EXCEEDED");
    house.stop().await;
}

/// Many requests at once, whose bodies are held back until all of them are let in, are not as many tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_holds_for_requests_that_were_let_in_before_it() {
    let house = House::start_with(|config| {
        behind_proxy(config);
        config.limits.client_address.failed_authentications_per_minute = 1;
    })
    .await;
    let shop = house.merchant("premium").await;
    let mut connection = TcpStream::connect(house.url.trim_start_matches("http://")).await.unwrap();
    let mut head = format!(
        "POST {PAYMENTS} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 203.0.113.9\r\ncontent-type: application/json\r\n\
         content-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n"
    );
    for (name, value) in shop.signed("POST", PAYMENTS, "{}", None, unix_s(), &nonce()) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    connection.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut go_on = [0; 12];
    connection.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    wrongly_from(&shop, "203.0.113.9").await.expect(401, "UNAUTHENTICATED");
    connection.write_all(b"{}").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("HTTP/1.1 429") && answer.contains("\"client_address\""), "{answer}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_change_with_a_reload_and_what_was_used_counts_on() {
    let house = House::start_with(sixty_a_minute).await;
    let shop = house.merchant("premium").await;
    let reload = |change: fn(&mut Config)| {
        let mut config = house.gateway.config().clone();
        change(&mut config);
        let gateway = house.gateway.clone();
        async move { gateway.reload(&config, &Operator::process("signal")).await }
    };
    for _ in 0..30 {
        from(&shop, "203.0.113.9").await.expect(200, "SUCCESS");
    }
    let reloaded = reload(|config| {
        let rules = &mut config.limits.client_address;
        (rules.per_second, rules.burst, rules.failed_authentications_per_minute) = (2, 20, 3);
        rules.exempt_networks.push("198.51.100.0/24".parse().unwrap());
        rules.addresses_max = 1_024;
    })
    .await
    .unwrap();
    let changed = ["burst", "exempt_networks", "failed_authentications_per_minute", "per_second"];
    assert_eq!(reloaded.applied, changed.map(|key| format!("limits.client_address.{key}")));
    assert_eq!(reloaded.needs_restart, ["limits.client_address.addresses_max"]);
    let refusal = from(&shop, "203.0.113.9").await.expect(429, "RATE_LIMIT_EXCEEDED");
    let message = "Request rate exceeds the limit of your address: more than 2 requests per second";
    assert_eq!(refusal.body["message"], message, "30 are more than 20");
    for _ in 0..25 {
        from(&shop, "198.51.100.1").await.expect(200, "SUCCESS");
    }
    for _ in 0..3 {
        wrongly_from(&shop, "198.18.0.77").await.expect(401, "UNAUTHENTICATED");
    }
    from(&shop, "198.18.0.77").await.expect(429, "RATE_LIMIT_EXCEEDED");

    // What is not valid changes nothing, not even what would be.
    let refused = reload(|config| {
        config.limits.client_address.exempt_networks.clear();
        config.limits.client_address.burst = 0;
        config.limits.near_percent = vec![30];
    });
    let refused = refused.await.unwrap_err();
    assert!(refused.to_string().contains("limits.client_address.burst"), "{refused}");
    from(&shop, "198.51.100.1").await.expect(200, "SUCCESS");

    let back = reload(|_| {}).await.unwrap();
    assert_eq!((back.applied.len(), back.needs_restart.len()), (4, 0));
    from(&shop, "203.0.113.9").await.expect(200, "SUCCESS");
    from(&shop, "198.18.0.77").await.expect(429, "RATE_LIMIT_EXCEEDED");
    let off = reload(|config| config.limits.client_address.enabled = false).await.unwrap();
    assert_eq!(off.applied, ["limits.client_address.enabled"]);
    from(&shop, "198.18.0.77").await.expect(200, "SUCCESS");
    reload(|_| {}).await.unwrap();
    from(&shop, "198.18.0.77").await.expect(429, "RATE_LIMIT_EXCEEDED");
    house.stop().await;
}

/// Sends a head for a large body and reads the first line that comes back: the gateway goes on once it has a place for it.
async fn begin_large_body(url: &str, path: &str, headers: &Headers) -> (TcpStream, String) {
    let mut connection = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 50000\r\n\
         expect: 100-continue\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    connection.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut line = [0; 12];
    connection.read_exact(&mut line).await.unwrap();
    (connection, String::from_utf8(line.to_vec()).unwrap())
}

/// One in eight places, but sixteen at least, on either listener; with limits by address or without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_each_client_has_its_own_share_of_places_for_large_bodies() {
    for enabled in [true, false] {
        let house = House::start_with(|config| {
            behind_proxy(config);
            config.limits.client_address.enabled = enabled;
            config.server.requests_in_flight_max = 64;
            config.server.body_timeout_ms = 60_000;
            config.server.drain_timeout_ms = 0;
        })
        .await;
        let shop = house.merchant("premium").await;
        let of_merchant = || shop.signed("POST", PAYMENTS, "", None, unix_s(), &nonce());
        let of_operator = || Headers::from([("authorization".to_owned(), format!("Bearer {}", house.admin_token))]);
        let listeners: [(&str, &str, &dyn Fn() -> Headers); 2] =
            [(&house.url, PAYMENTS, &of_merchant), (&house.admin_url, "/admin/v1/merchants", &of_operator)];
        for (url, path, signed) in listeners {
            let begin = |address: &str| {
                let mut headers = signed();
                headers.insert("x-forwarded-for".to_owned(), address.to_owned());
                async move { begin_large_body(url, path, &headers).await }
            };
            let mut held = Vec::new();
            for _ in 0..16 {
                let (connection, line) = begin("203.0.113.9").await;
                assert_eq!(line, "HTTP/1.1 100");
                held.push(connection);
            }
            assert_eq!(begin("203.0.113.9").await.1, "HTTP/1.1 503", "it has its share");
            assert_eq!(begin("198.51.100.5, 203.0.113.9").await.1, "HTTP/1.1 503", "whatever it says itself");
            for other in ["203.0.113.10", "2001:db8::1", "unknown"] {
                let (connection, line) = begin(other).await;
                assert_eq!(line, "HTTP/1.1 100", "{other}");
                held.push(connection);
            }
        }
        house.stop().await;
    }
}
