//! TLS of our own: what is spoken, how certificates change, and what slow or foreign clients come to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate::config::Config;
use tollgate::domain::audit::Operator;
use tollgate::gateway::reload::Reloaded;

use crate::support::{House, eventually};

const NAME: &str = "pay.example.com";
/// Longer than any test lasts, so that only what ends sooner lets it pass.
const NEVER_MS: u64 = 60_000;
/// As long as a test waits for what has to happen.
const SOON: Duration = Duration::from_secs(15);

/// A certificate in PEM and its key.
struct Issue {
    certificate: String,
    key: String,
}

impl Issue {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
        Self { certificate, key: pem("PRIVATE KEY", &key.serialize_der()) }
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

/// In the form in which certificates and keys are kept in files.
fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The files that a gateway is configured with.
struct Files(TempDir);

impl Files {
    fn with(issue: &Issue) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.put(issue);
        files
    }

    fn put(&self, issue: &Issue) {
        std::fs::write(self.certificate(), &issue.certificate).unwrap();
        std::fs::write(self.key(), &issue.key).unwrap();
    }

    fn certificate(&self) -> PathBuf {
        self.0.path().join("fullchain.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("privkey.pem")
    }

    /// A gateway whose merchants' listener speaks TLS.
    async fn house(&self, change: impl FnOnce(&mut Config)) -> House {
        House::start_with(|config| {
            (config.server.tls_certificate, config.server.tls_key) = (Some(self.certificate()), Some(self.key()));
            change(config);
        })
        .await
    }
}

fn address(house: &House) -> SocketAddr {
    house.url.split("//").nth(1).unwrap().parse().unwrap()
}

/// How a client speaks TLS.
struct Speaker {
    trusted: Vec<CertificateDer<'static>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    protocols: Vec<&'static str>,
    from: Option<IpAddr>,
}

impl Speaker {
    fn trusting(issues: &[&Issue]) -> Self {
        let trusted = issues.iter().map(|issue| issue.der()).collect();
        Self { trusted, versions: rustls::ALL_VERSIONS.to_vec(), protocols: Vec::new(), from: None }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.trusted {
            roots.add(certificate.clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(NAME).unwrap();
        let stream = match self.from {
            Some(ip) => tcp_from(ip, address).await,
            None => TcpStream::connect(address).await.unwrap(),
        };
        tokio::time::timeout(SOON, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
    }
}

async fn tcp_from(ip: IpAddr, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(ip, 0)).unwrap();
    socket.connect(address).await.unwrap()
}

/// One request on a connection that stays open; gives back head and body.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str, headers: &[(&str, String)]) -> (String, String) {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {NAME}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

async fn metric(house: &House, name: &str) -> f64 {
    let metrics = house.admin("GET", "/metrics", None).await;
    let line = metrics.text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with(' '));
    line.unwrap_or_else(|| panic!("{name} in\n{}", metrics.text)).rsplit(' ').next().unwrap().parse().unwrap()
}

async fn handshakes(house: &House, result: &str) -> f64 {
    metric(house, &format!("tollgate_tls_handshakes_total{{listener=\"merchant\",result=\"{result}\"}}")).await
}

async fn failures(house: &House) -> f64 {
    metric(house, "tollgate_tls_reload_failures_total{listener=\"merchant\"}").await
}

async fn not_loaded(house: &House) -> f64 {
    metric(house, "tollgate_tls_certificate_not_loaded{listener=\"merchant\"}").await
}

async fn expiry(house: &House, listener: &str) -> f64 {
    metric(house, &format!("tollgate_tls_certificate_expiry_timestamp_seconds{{listener=\"{listener}\"}}")).await
}

/// Reads the configuration again, which is the same, so that the files are looked at.
async fn look_again(house: &House) -> Reloaded {
    let config = house.gateway.config().clone();
    house.gateway.reload(&config, &Operator::process("signal")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_12_and_13_are_spoken_with_http_1_1_inside() {
    let issue = Issue::new();
    let house = Files::with(&issue).house(|_| {}).await;
    for (version, spoken) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let speaker =
            Speaker { versions: vec![version], protocols: vec!["h2", "http/1.1"], ..Speaker::trusting(&[&issue]) };
        let mut stream = speaker.connect(address(&house)).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        for _ in 0..3 {
            let (head, body) = ask(&mut stream, "/readyz", &[]).await;
            assert!(head.starts_with("HTTP/1.1 200") && body.contains("ready"), "{head}{body}");
            assert!(head.contains("strict-transport-security: max-age=31536000\r\n"), "{head}");
        }
        // Ends as TLS ends; without that reading would fail here.
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.starts_with("HTTP/1.1 200"), "{rest}");
    }
    let only_http_2 = Speaker { protocols: vec!["h2"], ..Speaker::trusting(&[&issue]) };
    assert!(only_http_2.connect(address(&house)).await.is_err());
    assert!(Speaker::trusting(&[]).connect(address(&house)).await.is_err(), "nobody vouches for it");
    assert_eq!(handshakes(&house, "done").await, 2.0);
    eventually("the failed handshakes to be counted", || async {
        (handshakes(&house, "failed").await == 2.0).then_some(())
    })
    .await;
    // The other listener has no certificate.
    let admin = house.admin("GET", "/readyz", None).await;
    assert_eq!((admin.status, admin.header("strict-transport-security")), (200, ""));
    assert!(expiry(&house, "admin").await.is_nan());
    assert!(expiry(&house, "merchant").await > 4_000_000_000.0);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_taken_over_tls_where_it_is_not_over_plain_http() {
    let issue = Issue::new();
    let house = Files::with(&issue).house(|config| config.server.tls_hsts_max_age_s = 0).await;
    let shop = house.merchant("starter").await;
    let mut stream = Speaker::trusting(&[&issue]).connect(address(&house)).await.unwrap();
    let basic = |secret: &str| format!("Basic {}", STANDARD.encode(format!("{}:{secret}", shop.key.id)));
    // With a proxy's header the peer's address, which is loopback here, says nothing about the way.
    let forwarded = ("x-forwarded-for", String::from("203.0.113.9"));
    let (head, body) =
        ask(&mut stream, "/api/v1/limits", &[("authorization", basic(&shop.key.secret)), forwarded.clone()]).await;
    assert!(head.starts_with("HTTP/1.1 200") && body.contains("starter"), "{head}{body}");
    assert!(!head.contains("strict-transport-security"), "{head}");
    let (head, body) =
        ask(&mut stream, "/api/v1/limits", &[("authorization", basic("wrong")), forwarded.clone()]).await;
    assert!(head.starts_with("HTTP/1.1 401") && body.contains("UNAUTHENTICATED"), "{head}{body}");
    house.stop().await;

    let plain = House::start().await;
    let shop = plain.merchant("starter").await;
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", shop.key.id, shop.key.secret)));
    let headers = [("authorization".to_owned(), basic), (forwarded.0.to_owned(), forwarded.1)];
    let refused = shop.send("GET", "/api/v1/limits", None, headers.into()).await.expect(401, "UNAUTHENTICATED");
    assert!(refused.text.contains("over TLS only"), "{}", refused.text);
    plain.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_listener_has_a_certificate_of_its_own() {
    let issue = Issue::new();
    let files = Files::with(&issue);
    let house = House::start_with(|config| {
        config.server.admin_tls_certificate = Some(files.certificate());
        config.server.admin_tls_key = Some(files.key());
        config.admin.hosts = vec![NAME.to_owned()];
    })
    .await;
    let admin_address = house.admin_url.split("//").nth(1).unwrap().parse().unwrap();
    let mut stream = Speaker::trusting(&[&issue]).connect(admin_address).await.unwrap();
    let token = ("authorization", format!("Bearer {}", house.admin_token));
    let (head, metrics) = ask(&mut stream, "/metrics", &[token]).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}{metrics}");
    let done = "tollgate_tls_handshakes_total{listener=\"admin\",result=\"done\"} 1";
    assert!(metrics.lines().any(|line| line == done), "{metrics}");
    // What the console keeps in a browser is never sent over plain HTTP.
    let form = format!("token={}", house.admin_token);
    let log_in = format!(
        "POST /console/login HTTP/1.1\r\nhost: {NAME}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(log_in.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let cookie = answer.lines().find(|line| line.starts_with("set-cookie: ")).unwrap_or_else(|| panic!("{answer}"));
    assert!(cookie.split("; ").any(|part| part == "Secure"), "{cookie}");
    let plain = reqwest::get(format!("{}/healthz", house.url)).await.unwrap();
    assert_eq!(plain.status(), 200, "the merchants' speaks plain HTTP");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_under_load_without_a_lost_request() {
    const CLIENTS: usize = 8;
    const CHANGES: usize = 5;
    let issues: Vec<Issue> = (0..=CHANGES)
        .map(|year| Issue::with(|params| params.not_after = date_time_ymd(2090 + i32::try_from(year).unwrap(), 1, 1)))
        .collect();
    let files = Files::with(&issues[0]);
    let house = files.house(|_| {}).await;
    let speaker = Arc::new(Speaker::trusting(&issues.iter().collect::<Vec<_>>()));
    let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| {
            let (speaker, asked, stop, address) =
                (Arc::clone(&speaker), Arc::clone(&asked), Arc::clone(&stop), address(&house));
            tokio::spawn(async move {
                let mut stream = speaker.connect(address).await.unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let (head, _) = ask(&mut stream, "/healthz", &[]).await;
                    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                    asked.fetch_add(1, Ordering::Relaxed);
                    // Half of them keep their connection over all changes.
                    if index % 2 == 0 {
                        stream = speaker.connect(address).await.unwrap();
                    }
                }
            })
        })
        .collect();
    let mut ends = vec![expiry(&house, "merchant").await];
    for issue in &issues[1..] {
        let before = asked.load(Ordering::Relaxed);
        files.put(issue);
        look_again(&house).await;
        ends.push(expiry(&house, "merchant").await);
        let only_new = Speaker::trusting(&[issue]).connect(address(&house)).await.unwrap();
        assert_eq!(only_new.get_ref().1.peer_certificates().unwrap()[0], issue.der());
        eventually("requests while the certificate changes", || async {
            (asked.load(Ordering::Relaxed) > before + 20).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(ends.is_sorted() && ends.first() != ends.last(), "{ends:?}");
    assert_eq!((failures(&house).await, handshakes(&house, "failed").await), (0.0, 0.0));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_that_can_not_be_used_keeps_the_old_one_and_is_counted_once() {
    let issue = Issue::new();
    let files = Files::with(&issue);
    let house = files.house(|_| {}).await;
    let other = Issue::new();
    let expired = Issue::with(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    });
    type Breaking<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let broken: [Breaking<'_>; 4] = [
        ("a key of another issue", Box::new(|| std::fs::write(files.key(), &other.key).unwrap())),
        ("a certificate that is none", Box::new(|| std::fs::write(files.certificate(), "-----").unwrap())),
        ("an expired one", Box::new(|| files.put(&expired))),
        ("no files", Box::new(|| std::fs::remove_file(files.key()).unwrap())),
    ];
    let before = expiry(&house, "merchant").await;
    for (index, (what, make)) in broken.iter().enumerate() {
        make();
        for _ in 0..2 {
            // Who asks is told each time.
            let refused = look_again(&house).await.refused;
            assert!(refused.len() == 1 && refused[0].key.starts_with("server.tls_"), "{what}: {refused:?}");
        }
        assert_eq!(failures(&house).await, index as f64 + 1.0, "{what}");
        let stream = Speaker::trusting(&[&issue]).connect(address(&house)).await.expect(what);
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], issue.der());
        assert_eq!(expiry(&house, "merchant").await, before, "{what}");
    }
    assert_eq!(not_loaded(&house).await, 1.0);
    let shown = house.admin("GET", "/admin/v1/config", None).await.expect(200, "SUCCESS");
    assert_eq!(shown.body["data"]["last_reload"]["refused"][0]["key"], "server.tls_key", "{}", shown.text);
    files.put(&other);
    // What is refused as a whole changes nothing, these files neither.
    let mut wrong = house.gateway.config().clone();
    wrong.routing.default_channel = String::from("nobody");
    assert!(house.gateway.reload(&wrong, &Operator::process("signal")).await.is_err());
    assert!(Speaker::trusting(&[&issue]).connect(address(&house)).await.is_ok());
    assert!(look_again(&house).await.refused.is_empty());
    assert_eq!(not_loaded(&house).await, 0.0);
    assert_eq!(failures(&house).await, broken.len() as f64);
    assert!(Speaker::trusting(&[&other]).connect(address(&house)).await.is_ok());
    assert!(Speaker::trusting(&[&issue]).connect(address(&house)).await.is_err());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_plain_http_is_told_what_is_spoken() {
    let house = Files::with(&Issue::new()).house(|_| {}).await;
    let mut stream = TcpStream::connect(address(&house)).await.unwrap();
    stream.write_all(b"GET /api/v1/limits HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n") && head.contains("connection: close"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(body["message"].as_str().unwrap().contains("https://"), "{body}");
    assert_eq!(body["code"], "INVALID_REQUEST");
    eventually("it to be counted", || async { (handshakes(&house, "not_tls").await == 1.0).then_some(()) }).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_slow_with_their_handshakes_keep_nobody_out() {
    let issue = Issue::new();
    let house = Files::with(&issue)
        .house(|config| {
            (config.server.tls_handshakes_max, config.server.tls_handshake_timeout_ms) = (32, NEVER_MS);
            // So that loopback addresses are clients like any others.
            config.limits.client_address.exempt_networks.clear();
        })
        .await;
    // More than there are places, and none of them takes one.
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(address(&house)).await.unwrap());
    }
    // A client's share, sixteen of them, and what it tries beyond that.
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut stream = tcp_from("127.0.0.2".parse().unwrap(), address(&house)).await;
        stream.write_all(&[0x16, 3, 1]).await.unwrap();
        stalled.push(stream);
    }
    eventually("what is beyond its share to be refused", || async {
        (handshakes(&house, "refused").await == 4.0).then_some(())
    })
    .await;
    let same = Speaker { from: Some("127.0.0.2".parse().unwrap()), ..Speaker::trusting(&[&issue]) };
    assert!(same.connect(address(&house)).await.is_err(), "it holds all it may");
    let mut stream = Speaker::trusting(&[&issue]).connect(address(&house)).await.unwrap();
    assert!(ask(&mut stream, "/healthz", &[]).await.0.starts_with("HTTP/1.1 200"));
    // Nothing is under way with those, so stopping does not wait for them.
    tokio::time::timeout(SOON, house.stop()).await.unwrap();
    drop((silent, stalled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_handshakes_from_several_addresses_keep_nobody_waiting() {
    const PLACES: usize = 128;
    const ADDRESSES: u8 = 10;
    let issue = Issue::new();
    let house = Files::with(&issue)
        .house(|config| {
            // Whoever had to wait for those that stall would wait longer than the test does.
            (config.server.tls_handshakes_max, config.server.tls_handshake_timeout_ms) = (PLACES, NEVER_MS);
            config.limits.client_address.exempt_networks.clear();
        })
        .await;
    // Each takes its share of sixteen: more than there are places.
    let mut stalled = Vec::new();
    for address_no in 0..ADDRESSES {
        for connection_no in 0..16_u8 {
            let ip = IpAddr::from([127, 0, 1, address_no + 1]);
            let mut stream = tcp_from(ip, address(&house)).await;
            // A record of 512 bytes, of which none or some ever come.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 252][..1 + usize::from(connection_no % 9)]).await.unwrap();
            stalled.push(stream);
        }
    }
    let beyond = f64::from(ADDRESSES) * 16.0 - PLACES as f64;
    eventually("those that stall to take each other's places", || async {
        (handshakes(&house, "gave_way").await + handshakes(&house, "refused").await >= beyond - 16.0).then_some(())
    })
    .await;
    for _ in 0..5 {
        let mut stream = Speaker::trusting(&[&issue]).connect(address(&house)).await.unwrap();
        assert!(ask(&mut stream, "/healthz", &[]).await.0.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(handshakes(&house, "timed_out").await, 0.0, "nobody waited for the end of those that stall");
    house.stop().await;
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_takes_too_long_is_cut_off_and_gives_its_place_back() {
    let issue = Issue::new();
    // One client holds all places there are: sixteen is the least share.
    let house = Files::with(&issue)
        .house(|config| (config.server.tls_handshakes_max, config.server.tls_handshake_timeout_ms) = (16, 1_500))
        .await;
    let mut slow = Vec::new();
    for index in 0..20 {
        let mut stream = TcpStream::connect(address(&house)).await.unwrap();
        if index % 2 == 0 {
            stream.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
        }
        slow.push(stream);
    }
    for stream in &mut slow {
        let ended = tokio::time::timeout(SOON, stream.read(&mut [0; 16])).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    eventually("all of them to be counted", || async { (handshakes(&house, "timed_out").await == 20.0).then_some(()) })
        .await;
    assert!(Speaker::trusting(&[&issue]).connect(address(&house)).await.is_ok());
    house.stop().await;
}

/// Runs a command of the program with nothing in its environment but the token, and gives back its exit code and what it said.
async fn command(house: &House, line: &str) -> (i32, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    program.args(line.split(' ')).env_clear().env("TOLLGATE_ADMIN_TOKEN", &house.admin_token);
    program.current_dir(house.directory.path());
    let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_say_what_is_wrong_with_a_certificate_and_what_to_do() {
    let for_localhost = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
    };
    let issue = Issue::with(for_localhost);
    let other = Issue::with(|params| params.distinguished_name.push(DnType::CommonName, "another authority"));
    let (files, other, namesake) = (Files::with(&issue), Files::with(&other), Files::with(&Issue::new()));
    let house = House::start_with(|config| {
        config.server.admin_tls_certificate = Some(files.certificate());
        config.server.admin_tls_key = Some(files.key());
    })
    .await;
    let port = house.admin_url.rsplit(':').next().unwrap();
    let diff = |host: &str| format!("check-config --diff --admin-url https://{host}:{port}");
    let (own, others) = (files.certificate().display().to_string(), other.certificate().display().to_string());
    let (own_key, namesakes) = (files.key().display().to_string(), namesake.certificate().display().to_string());
    let token_file = house.directory.path().join("token");
    std::fs::write(&token_file, &house.admin_token).unwrap();

    let by_files = format!("{} --ca-file {own} --admin-token-file {}", diff("localhost"), token_file.display());
    let (_, said) = command(&house, &by_files).await;
    assert!(said.contains("the gateway refused: ") && said.contains("[NOT_FOUND]"), "it has no files to read: {said}");
    for (line, expected) in [
        (diff("localhost"), "with --ca-file (or TOLLGATE_CA_FILE), or, if nobody did, the server's own"),
        (
            format!("{} --ca-file {others}", diff("localhost")),
            "fullchain.pem does not vouch for the certificate of https",
        ),
        (format!("{} --ca-file {namesakes}", diff("localhost")), "was not signed by whom it names"),
        (format!("{} --ca-file {own_key}", diff("localhost")), "has no certificate; it must be PEM"),
        (format!("{} --ca-file {own}", diff("127.0.0.1")), "is for localhost; call it by a name that is in it"),
        (diff("localhost").replace("https:", "http:"), "https://"),
        (format!("merchant list --admin-url {}", house.url.replace("http:", "https:")), "does not speak TLS"),
    ] {
        let (code, said) = command(&house, &line).await;
        assert!(code > 0 && said.contains(expected), "{line}: {code} {said}");
    }
    // As `openssl req -x509` makes it.
    files.put(&Issue::with(|params| {
        for_localhost(params);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }));
    look_again(&house).await;
    let (code, said) = command(&house, &format!("{} --ca-file {own}", diff("localhost"))).await;
    assert!(code == 2 && said.contains("is that of an authority (CA:TRUE)"), "{code} {said}");
    let mine = house.directory.path().join("mine.toml");
    let server = format!("[server]\ntls_certificate = \"{own}\"\ntls_key = \"{own_key}\"\n");
    std::fs::write(&mine, server).unwrap();
    let (code, said) = command(&house, "check-config --config mine.toml").await;
    assert!(code == 0 && said.contains("authority (CA:TRUE)"), "{code} {said}");
    house.stop().await;

    files.put(&Issue::with(|params| {
        for_localhost(params);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    }));
    let house = files.house(|_| {}).await;
    let url = house.url.replace("http:", "https:").replace("127.0.0.1", "localhost");
    let line = format!("request GET /api/v1/limits --key a --secret b --url {url} --ca-file {own}");
    let (code, said) = command(&house, &line).await;
    assert!(code == 1 && said.contains("has expired at 2020-02-01T00:00:00Z; renew it there"), "{code} {said}");
    house.stop().await;
}

#[tokio::test]
async fn a_gateway_is_not_opened_with_a_pair_that_can_not_be_used() {
    let (issue, other) = (Issue::new(), Issue::new());
    let files = Files::with(&Issue { certificate: issue.certificate, key: other.key });
    let directory = tempfile::tempdir().unwrap();
    let opened = House::open(directory.path(), |config| {
        (config.server.tls_certificate, config.server.tls_key) = (Some(files.certificate()), Some(files.key()));
    })
    .await;
    let refused = opened.map(|_| ()).unwrap_err().to_string();
    assert!(refused.starts_with("server.tls_key: ") && refused.contains("is not the key of"), "{refused}");
}
