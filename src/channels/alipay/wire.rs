//! The envelope of every call of Alipay's gateway: signed parameters out, a signed answer back. An answer counts only
//! when its signature holds over the very bytes that arrived.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::channels::alipay::codes::{Reply, reply_of};
use crate::channels::alipay::rsa2::{Signer, Verifier, canonical};
use crate::channels::http::{Deadline, HttpAnswer, HttpClient, HttpError};
use crate::clock::Clock;
use crate::domain::time::Timestamp;

/// Path of the gateway below its address.
const GATEWAY_PATH: &str = "/gateway.do";
/// Beijing is ahead of UTC by this, all the year round.
const BEIJING_OFFSET_S: i64 = 8 * 60 * 60;

/// Calls the gateway's methods.
pub(super) struct AlipayClient {
    http: HttpClient,
    clock: Clock,
    app_id: String,
    signer: Signer,
    verifier: Verifier,
}

/// Why there is no answer that counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// The request certainly did not arrive.
    #[error("{0}")]
    NotSent(String),
    /// Anything may have happened.
    #[error("{0}")]
    Unknown(String),
}

impl AlipayClient {
    /// Whether its host moves real money, where the host says so.
    pub(super) fn livemode(&self) -> Option<bool> {
        livemode_of(self.http.base_url().host_str().unwrap_or_default())
    }

    pub(super) fn new(http: HttpClient, clock: Clock, app_id: String, signer: Signer, verifier: Verifier) -> Self {
        Self { http, clock, app_id, signer, verifier }
    }

    /// The deadline of a call that begins now.
    pub(super) fn deadline(&self) -> Deadline {
        self.http.deadline()
    }

    /// The time now.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The application whose credentials these are.
    pub(super) fn app_id(&self) -> &str {
        &self.app_id
    }

    /// Whether `signature` is Alipay's signature of `text`.
    pub(super) fn is_signed(&self, text: &str, signature: &str) -> bool {
        self.verifier.verify(text.as_bytes(), signature)
    }

    /// Calls `method` once and reads its answer.
    ///
    /// # Errors
    /// [`CallError`] when nothing was sent, or no answer came that is Alipay's beyond doubt.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        content: &impl Serialize,
        deadline: Deadline,
    ) -> Result<Reply<T>, CallError> {
        self.call_notified(method, content, None, deadline).await
    }

    /// Calls `method` as [`AlipayClient::call`] does; Alipay tells `notify_url` what becomes of what it makes.
    ///
    /// # Errors
    /// As [`AlipayClient::call`].
    pub(super) async fn call_notified<T: DeserializeOwned>(
        &self,
        method: &str,
        content: &impl Serialize,
        notify_url: Option<&str>,
        deadline: Deadline,
    ) -> Result<Reply<T>, CallError> {
        let content = serde_json::to_string(content).map_err(|error| CallError::NotSent(error.to_string()))?;
        let not_signed = || CallError::NotSent(String::from("the request could not be signed"));
        let query = self.parameters(method, &content, notify_url).ok_or_else(not_signed)?;
        let form = [(String::from("biz_content"), content)];
        let answer = self.http.send(self.http.post_form(GATEWAY_PATH, &query, &form), deadline).await;
        let answer = answer.map_err(|error| match error {
            HttpError::NotSent(_) => CallError::NotSent(error.to_string()),
            HttpError::MayHaveArrived(_) => CallError::Unknown(error.to_string()),
        })?;
        let raw = self.open(method, &answer).map_err(CallError::Unknown)?;
        reply_of(raw.get()).map_err(CallError::Unknown)
    }

    /// The public parameters with their signature; they travel in the address, only the content in the body.
    fn parameters(&self, method: &str, content: &str, notify_url: Option<&str>) -> Option<Vec<(String, String)>> {
        let timestamp = beijing_time(self.clock.now())?;
        let mut public = vec![
            ("app_id", self.app_id.as_str()),
            ("charset", "utf-8"),
            ("format", "JSON"),
            ("method", method),
            ("sign_type", "RSA2"),
            ("timestamp", timestamp.as_str()),
            ("version", "1.0"),
        ];
        public.extend(notify_url.map(|url| ("notify_url", url)));
        let signature = self.signer.sign(&canonical(public.iter().copied().chain([("biz_content", content)])))?;
        let mut query: Vec<(String, String)> =
            public.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        query.push((String::from("sign"), signature));
        Some(query)
    }

    /// The part of an answer that is signed, if it is there and the signature holds.
    fn open(&self, method: &str, answer: &HttpAnswer) -> Result<Box<RawValue>, String> {
        if answer.status != 200 {
            return Err(format!("Alipay answered with HTTP status {}", answer.status));
        }
        let mut parts: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(&answer.body).map_err(|_| String::from("Alipay's answer can't be read"))?;
        let name = format!("{}_response", method.replace('.', "_"));
        let signed = parts.remove(&name).or_else(|| parts.remove("error_response"));
        let signed = signed.ok_or_else(|| String::from("Alipay's answer is not about what was asked"))?;
        let signature: String = parts
            .remove("sign")
            .and_then(|sign| serde_json::from_str(sign.get()).ok())
            .ok_or_else(|| String::from("Alipay's answer is not signed"))?;
        if self.verifier.verify(signed.get().as_bytes(), &signature) {
            Ok(signed)
        } else {
            Err(String::from("the signature of Alipay's answer is wrong"))
        }
    }
}

/// `yyyy-MM-dd HH:mm:ss` in Beijing; `None` for times that no calendar has.
pub(super) fn beijing_time(now: Timestamp) -> Option<String> {
    let there = jiff::Timestamp::from_second(now.unix_s().checked_add(BEIJING_OFFSET_S)?).ok()?;
    Some(there.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// The moment that Alipay means by `yyyy-MM-dd HH:mm:ss`.
pub(super) fn moment_of(text: &str) -> Option<Timestamp> {
    let there = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
    let as_if_utc = there.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    Some(Timestamp::from_unix_s(as_if_utc - BEIJING_OFFSET_S))
}

/// Whether a host of Alipay's moves real money; `None` for any other, such as the emulator's.
fn livemode_of(host: &str) -> Option<bool> {
    match host.trim_end_matches('.') {
        "openapi.alipay.com" => Some(true),
        "openapi-sandbox.dl.alipaydev.com" | "openapi.alipaydev.com" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_in_beijing_time() {
        let late_in_london = Timestamp::parse_rfc3339("2026-02-28T23:59:58Z").unwrap();
        assert_eq!(beijing_time(late_in_london).as_deref(), Some("2026-03-01 07:59:58"));
        assert_eq!(moment_of("2026-03-01 07:59:58"), Some(late_in_london));
        for text in ["", "2026-03-01", "2026-03-01T07:59:58Z", "2026-13-01 07:59:58"] {
            assert_eq!(moment_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_host_says_which_money_it_moves() {
        for (host, expected) in [
            ("openapi.alipay.com", Some(true)),
            ("openapi.alipay.com.", Some(true)),
            ("openapi-sandbox.dl.alipaydev.com", Some(false)),
            ("127.0.0.1", None),
            ("openapi.alipay.com.example", None),
        ] {
            assert_eq!(livemode_of(host), expected, "{host}");
        }
    }
}
