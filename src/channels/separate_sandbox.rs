//! Finds the emulators of a sandbox that runs as a process of its own, and tells it where to find us.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::channels::http::HttpClient;
use crate::clock::Clock;

/// It answers from memory on this machine.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where each emulator of the sandbox at `url` listens, by provider.
///
/// # Errors
/// Why it does not answer as a sandbox.
pub async fn separate_sandbox_urls(url: &str, clock: Clock) -> Result<BTreeMap<String, String>, String> {
    let http = HttpClient::new(url, TIMEOUT, 1, clock).map_err(|error| error.to_string())?;
    let answer = http.send(http.get("/control", &[]), http.deadline()).await.map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("it answered {}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|_| "its answer is not a sandbox's".to_owned())
}

/// Has the sandbox at `url` send its notifications to `<base>/callbacks/<channel>`.
///
/// # Errors
/// Why it does not.
pub async fn register_callbacks(url: &str, base: &str, clock: Clock) -> Result<(), String> {
    let http = HttpClient::new(url, TIMEOUT, 1, clock).map_err(|error| error.to_string())?;
    let request = http.put_json("/control/callbacks", &serde_json::json!({ "url": base }));
    let answer = http.send(request, http.deadline()).await.map_err(|error| error.to_string())?;
    if answer.status == 200 { Ok(()) } else { Err(format!("it answered {}", answer.status)) }
}
