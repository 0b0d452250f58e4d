//! What the providers' emulators did, from their own books.

use std::collections::HashMap;

use serde_json::Value;

use crate::client;

/// The emulators.
pub const PROVIDERS: [&str; 4] = ["stripe", "paypal", "alipay", "crypto"];

/// What one provider did for one payment or pre-auth, in minor units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Charges.
    pub charges: Vec<i64>,
    /// Holds.
    pub holds: Vec<i64>,
    /// What was taken of them.
    pub captures: Vec<i64>,
    /// What of them was let go by itself, not as the rest of what was taken.
    pub voids: Vec<i64>,
    /// What was given back.
    pub refunds: Vec<i64>,
}

/// What all of them did, by our number.
pub async fn read_all(http: &reqwest::Client, sandbox_url: &str) -> HashMap<String, Entries> {
    let mut all = HashMap::new();
    for provider in PROVIDERS {
        read(http, sandbox_url, provider, &mut all).await;
    }
    all
}

/// Adds what one of them did.
pub async fn read(http: &reqwest::Client, sandbox_url: &str, provider: &str, all: &mut HashMap<String, Entries>) {
    let path = format!("/control/{provider}/ledger");
    let ledger = client::send(http, sandbox_url, "GET", &path, None, HashMap::new()).await;
    let lines: &[Value] = ledger.body["items"].as_array().unwrap();
    for line in lines {
        let entries = all.entry(line["reference"].as_str().unwrap().to_owned()).or_default();
        let of_its_kind = match line["operation"].as_str().unwrap() {
            "charge" => &mut entries.charges,
            "hold" => &mut entries.holds,
            "capture" => &mut entries.captures,
            "void" => &mut entries.voids,
            "refund" => &mut entries.refunds,
            other => panic!("unexpected {other}"),
        };
        of_its_kind.push(line["amount_minor"].as_i64().unwrap());
    }
}
