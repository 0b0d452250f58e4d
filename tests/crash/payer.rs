//! Payers: they act on the emulators' pages, whatever becomes of the gateway.

use serde_json::Value;

/// Acts on the page that a payment or a pre-auth waits for, if there is one: `approve` or `decline`.
pub async fn act(http: &reqwest::Client, object: &Value, action: &str) {
    if let Some(url) = object["next_action"]["url"].as_str() {
        visit(http, &format!("{url}/{action}")).await;
    }
}

/// Does what is done at this address of an emulator.
pub async fn visit(http: &reqwest::Client, address: &str) {
    let response = http.post(address).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200, "{address}");
}
