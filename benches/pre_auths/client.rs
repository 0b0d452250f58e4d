//! A merchant's client: a connection that is kept, requests signed as they are sent, answers checked.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tollgate::domain::signature::SignedParts;

use crate::house::{CHANNEL, House};
use crate::http::Connection;

/// Numbers of requests, each used once in a run.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

const PRE_AUTHS: &str = "/api/v1/pre-auths";
/// Wait before what there was no room for is sent again.
const NO_ROOM_WAIT: Duration = Duration::from_millis(2);

/// See the module.
pub struct Client<'a> {
    house: &'a House,
    connection: Connection,
    request: Vec<u8>,
}

/// A pre-auth that was created, and how long the request took.
pub struct Created {
    pub pre_auth_no: String,
    pub took_us: u64,
}

impl<'a> Client<'a> {
    pub async fn connect(house: &'a House) -> Self {
        let connection = Connection::open(house.address).await.expect("a connection");
        Self { house, connection, request: Vec::new() }
    }

    /// Has money held.
    pub async fn create(&mut self) -> Created {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let body = format!(
            "{{\"order_no\":\"ROOM-{number:012}\",\"amount\":5000,\"currency\":\"USD\",\"channel\":\"{CHANNEL}\",\
             \"payment_token\":\"tok_visa\",\"description\":\"Two nights, breakfast included\"}}"
        );
        let (answer, took_us) = self.post(PRE_AUTHS, "", &body, 201, "\"status\":\"requires_capture\"").await;
        let (_, rest) = answer.split_once("\"pre_auth_no\":\"").expect("its number");
        let pre_auth_no = rest.split('"').next().expect("its number").to_owned();
        Created { pre_auth_no, took_us }
    }

    /// Takes all of it; returns how long the request took, in microseconds.
    pub async fn capture(&mut self, pre_auth_no: &str) -> u64 {
        let path = format!("{PRE_AUTHS}/{pre_auth_no}/capture");
        self.post(&path, &format!("take-{pre_auth_no}"), "{}", 200, "\"status\":\"captured\"").await.1
    }

    async fn post(&mut self, path: &str, key: &str, body: &str, expected: u16, says: &str) -> (String, u64) {
        loop {
            self.write(path, key, body);
            let started = Instant::now();
            let (status, answer) = self.connection.exchange(&self.request).await.expect("an answer");
            let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            let answer = String::from_utf8_lossy(answer).into_owned();
            if status == 503 {
                self.house.come_again.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(NO_ROOM_WAIT).await;
                continue;
            }
            assert!(status == expected && answer.contains(says), "{path} was answered {status} {answer}");
            return (answer, took_us);
        }
    }

    fn write(&mut self, path: &str, key: &str, body: &str) {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
        let (timestamp, nonce) = (unix_s.to_string(), format!("n-{number:014}"));
        let parts = SignedParts {
            key_id: &self.house.key_id,
            timestamp: &timestamp,
            nonce: &nonce,
            method: "POST",
            path_and_query: path,
            idempotency_key: key,
            body: body.as_bytes(),
        };
        let signature = parts.sign(&self.house.secret);
        let key_line = if key.is_empty() { String::new() } else { format!("idempotency-key: {key}\r\n") };
        self.request.clear();
        write!(
            self.request,
            "POST {path} HTTP/1.1\r\nhost: bench\r\nx-api-key: {}\r\nx-timestamp: {timestamp}\r\nx-nonce: {nonce}\r\n\
             x-signature: {signature}\r\n{key_line}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.house.key_id,
            body.len(),
        )
        .expect("memory");
    }
}
