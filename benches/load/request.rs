//! The requests, and whether an answer is the right one.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use tollgate::domain::signature::SignedParts;

use crate::report::Section;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A payment, with an order number of its own.
    Payment,
    /// The merchant's limits.
    Limits,
    /// The same, from a merchant that is to be refused.
    Flood,
}

impl Kind {
    pub fn named(name: &str) -> Self {
        match name {
            "payment" => Self::Payment,
            "limits" => Self::Limits,
            _ => panic!("--only is payment or limits, not {name:?}"),
        }
    }

    pub fn section(self) -> Section {
        match self {
            Self::Payment => Section::Payment,
            Self::Limits | Self::Flood => Section::Limits,
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Payment => "/api/v1/payments",
            Self::Limits | Self::Flood => "/api/v1/limits",
        }
    }
}

/// Who asks. The bare handler gets the same bytes, signatures and all.
#[derive(Clone, Debug)]
pub struct Merchant {
    pub key_id: String,
    pub secret: String,
}

impl Merchant {
    /// Writes a whole signed request. `number` is used once in a run.
    pub fn write_request(&self, kind: Kind, number: u64, request: &mut Vec<u8>, body: &mut Vec<u8>) {
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
        let (timestamp, nonce) = (unix_s.to_string(), format!("n-{number:012}"));
        body.clear();
        let method = match kind {
            Kind::Limits | Kind::Flood => "GET",
            Kind::Payment => {
                write!(
                    body,
                    "{{\"order_no\":\"ORDER-{number:012}\",\"amount\":5000,\"currency\":\"USD\",\"country\":\"US\",\
                     \"method\":\"card\",\"description\":\"Two nights, breakfast included\"}}"
                )
                .expect("memory");
                "POST"
            }
        };
        let parts = SignedParts {
            key_id: &self.key_id,
            timestamp: &timestamp,
            nonce: &nonce,
            method,
            path_and_query: kind.path(),
            idempotency_key: "",
            body,
        };
        request.clear();
        write!(
            request,
            "{method} {} HTTP/1.1\r\nhost: load\r\nx-api-key: {}\r\nx-timestamp: {timestamp}\r\nx-nonce: {nonce}\r\n\
             x-signature: {}\r\n",
            kind.path(),
            self.key_id,
            parts.sign(&self.secret),
        )
        .expect("memory");
        if kind == Kind::Payment {
            write!(request, "content-type: application/json\r\ncontent-length: {}\r\n", body.len()).expect("memory");
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
    }
}

/// Whether the answer says what it must: the payment is taken and this one's, the limits are there.
pub fn is_right(kind: Kind, is_gateway: bool, number: u64, status: u16, body: &[u8]) -> bool {
    match kind {
        Kind::Payment => {
            let order = format!("\"order_no\":\"ORDER-{number:012}\"");
            status == 201
                && contains(body, order.as_bytes())
                && (!is_gateway || contains(body, b"\"status\":\"success\""))
        }
        Kind::Flood if is_gateway => status == 429 && contains(body, b"\"violated_policies\":["),
        Kind::Limits | Kind::Flood => status == 200 && contains(body, b"\"windows\":["),
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
