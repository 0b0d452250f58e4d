//! What is said of files that can't be used, and how often they are looked at.

use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

const NOW: Timestamp = Timestamp::from_unix_s(1_700_000_000);

struct Files {
    directory: TempDir,
    server: config::ServerConfig,
}

/// A certificate and its key, both as PEM.
fn issue(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(vec![String::from("a.example"), String::from("b.example")]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()))
}

/// In the form in which certificates and keys are kept in files.
fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl Files {
    fn with(certificate: &str, key: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut server = config::Config::embedded().unwrap().server;
        let path = |name: &str| Some(directory.path().join(name));
        (server.tls_certificate, server.tls_key) = (path("certificate.pem"), path("key.pem"));
        let files = Self { directory, server };
        files.put(certificate, key);
        files
    }

    fn put(&self, certificate: &str, key: &str) {
        let key_path = self.directory.path().join("key.pem");
        std::fs::write(self.directory.path().join("certificate.pem"), certificate).unwrap();
        std::fs::write(&key_path, key).unwrap();
        std::fs::set_permissions(key_path, std::fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn check(&self) -> Result<Vec<String>, InvalidCertificate> {
        check_files(&self.server, NOW)
    }
}

#[track_caller]
fn assert_refused(certificate: &str, key: &str, path: &str, words: &str) {
    let said = Files::with(certificate, key).check().unwrap_err().to_string();
    assert!(said.starts_with(path) && said.contains(words), "{said}");
}

#[test]
fn a_pair_that_can_be_used_is_described() {
    let (certificate, key) = issue(|params| params.not_after = date_time_ymd(2023, 11, 24));
    let files = Files::with(&certificate, &key);
    let said = files.check().unwrap();
    assert_eq!(said, ["server.tls_certificate: for a.example, b.example, valid until 2023-11-24T00:00:00Z (9 days)"]);
    // The order of several certificates tells which is the listener's.
    let (other, _) = issue(|_| {});
    assert!(Files::with(&format!("{certificate}{other}"), &key).check().is_ok());
    let key_path = files.directory.path().join("key.pem");
    std::fs::set_permissions(key_path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = files.check().unwrap();
    assert!(said.len() == 2 && said[1].starts_with("server.tls_key: everybody on this machine"), "{said:?}");
    assert!(check_files(&config::Config::embedded().unwrap().server, NOW).unwrap().is_empty(), "none is named");
}

#[test]
fn what_can_not_be_used_is_said_with_what_to_do() {
    let (certificate, key) = issue(|_| {});
    let (other, other_key) = issue(|_| {});
    let (of_certificate, of_key) = ("server.tls_certificate: ", "server.tls_key: ");
    assert_refused(&certificate, &other_key, of_key, "is not the key of");
    assert_refused(&format!("{other}{certificate}"), &key, of_key, "the certificate before those that vouch for it");
    assert_refused("", &key, of_certificate, "has no certificate");
    assert_refused(&key, &certificate, of_certificate, "has no certificate");
    assert_refused(&certificate, "", of_key, "has no private key");
    assert_refused(&certificate, &certificate, of_key, "has no private key");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_refused(&certificate, encrypted, of_key, "is encrypted");
    assert_refused(&certificate, &key.replace("-----END", "!!"), of_key, "");
    let damaged = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert_refused(damaged, &key, of_certificate, "can't be used");
    let short = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    assert_refused(&certificate, short, of_key, "can't be used");
    assert_refused(&certificate.repeat(17), &key, of_certificate, "more than 16");
    assert_refused(&"x".repeat(1024 * 1024 + 1), &key, of_certificate, "longer than 1048576 bytes");
    let (expired, expired_key) = issue(|params| params.not_after = date_time_ymd(2023, 11, 14));
    assert_refused(&expired, &expired_key, of_certificate, "has expired at 2023-11-14");
    let (early, early_key) = issue(|params| params.not_before = date_time_ymd(2023, 11, 15));
    assert_refused(&early, &early_key, of_certificate, "is not valid before 2023-11-15");
    let mut files = Files::with(&certificate, &key);
    files.server.tls_key = Some(files.directory.path().to_owned());
    assert!(files.check().unwrap_err().to_string().contains("not a regular file"));
    files.server.tls_key = Some(files.directory.path().join("nowhere.pem"));
    assert!(files.check().unwrap_err().to_string().contains("can't be read"));
}

#[test]
fn nothing_of_a_key_is_ever_said() {
    let (certificate, key) = issue(|_| {});
    let secret = key.lines().nth(1).unwrap();
    for damaged in
        [key.replace("-----END", "!!"), key.replace(secret, &format!("{secret}!")), key.replace("PRIVATE", "")]
    {
        let said = format!("{:?}", Files::with(&certificate, &damaged).check().map(|_| ()).unwrap_err());
        assert!(!said.contains(&secret[..16]), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn files_that_have_changed_are_found_without_being_told() {
    let until = |year: i32| issue(|params| params.not_after = date_time_ymd(year, 1, 1));
    let (certificate, key) = until(2030);
    let files = Files::with(&certificate, &key);
    let clock = Clock::virtual_from(NOW);
    let certificates = Arc::new(Certificates::open(&files.server, &clock).await.unwrap());
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    certificates.start(&tasks, &stopping);
    let shown = certificates.of(Listener::Merchants).unwrap();
    let first = shown.not_after();
    tokio::time::sleep(LOOK_INTERVAL * 3).await;
    assert_eq!(shown.not_after(), first);
    // As certbot does it: one file after the other, with a look between them.
    let (certificate, key) = until(2031);
    std::fs::write(files.directory.path().join("key.pem"), key).unwrap();
    tokio::time::sleep(LOOK_INTERVAL * 2).await;
    assert_eq!(shown.not_after(), first);
    std::fs::write(files.directory.path().join("certificate.pem"), certificate).unwrap();
    tokio::time::sleep(LOOK_INTERVAL * 2).await;
    assert!(shown.not_after() > first);
    tasks.close();
    stopping.cancel();
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_valid_in_a_while_is_taken_up_then_and_counted_once() {
    let (certificate, key) = issue(|params| params.not_after = date_time_ymd(2030, 1, 1));
    let files = Files::with(&certificate, &key);
    let clock = Clock::virtual_from(NOW);
    let certificates = Arc::new(Certificates::open(&files.server, &clock).await.unwrap());
    let _figures = CertificateFigures::new(&Figures::default(), &certificates).unwrap();
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    certificates.start(&tasks, &stopping);
    let shown = certificates.of(Listener::Merchants).unwrap();
    let figures = || {
        let counts = shown.counts.get().unwrap();
        (counts.reload_failures.get(), counts.not_loaded.get())
    };
    let first = shown.not_after();
    // Not quite two hours ahead.
    let (early, early_key) = issue(|params| {
        params.not_before = date_time_ymd(2023, 11, 15);
        params.not_after = date_time_ymd(2031, 1, 1);
    });
    files.put(&early, &early_key);
    tokio::time::sleep(LOOK_INTERVAL * 10).await;
    assert_eq!((shown.not_after(), figures()), (first, (1, 1)));
    for _ in 0..2 {
        let refused = certificates.look_again().await;
        assert!(refused[0].to_string().contains("is not valid before 2023-11-15"), "{refused:?}");
    }
    assert_eq!(figures(), (1, 1), "said once, and still so");
    tokio::time::sleep(Duration::from_secs(2 * 3_600)).await;
    assert!(shown.not_after() > first);
    assert_eq!(figures(), (1, 0));
    files.put(&certificate, &key);
    assert!(certificates.look_again().await.is_empty());
    // What is in use already is no failure, whatever was there in between.
    files.put(&early, "");
    assert_eq!((certificates.look_again().await.len(), figures()), (1, (2, 1)));
    files.put(&certificate, &key);
    assert!(certificates.look_again().await.is_empty());
    assert_eq!(figures(), (2, 0));
    tasks.close();
    stopping.cancel();
    tasks.wait().await;
}

#[tokio::test]
async fn one_that_is_out_of_date_is_better_than_no_listener_at_the_start() {
    let (certificate, key) = issue(|params| params.not_after = date_time_ymd(2023, 11, 1));
    let files = Files::with(&certificate, &key);
    let opened = Certificates::open(&files.server, &Clock::virtual_from(NOW)).await.unwrap();
    assert!(opened.of(Listener::Merchants).unwrap().not_after() < NOW);
    assert!(opened.of(Listener::Operator).is_none());
}
