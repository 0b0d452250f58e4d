//! The Alipay emulator: one path, signed both ways, HTTP 200 whatever happens.

mod amount;
mod codes;
mod content;
mod freezes;
mod notify;
mod payer;
pub(super) mod rsa2;
mod trades;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use parking_lot::Mutex;
use serde_json::Value;

use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::credentials::{ALIPAY_APP_ID, ALIPAY_APP_PUBLIC_KEY, ALIPAY_PRIVATE_KEY};
use crate::sandbox::faults::{Draw, Faults};
use crate::sandbox::ledger::LedgerEntry;
use crate::sandbox::notify::Outbox;
use crate::sandbox::server::{Call, Emulator, Outcome, answer};
use crate::sandbox::{HELD_OPEN, page};

use rsa2::{Signer, Verifier, signed_text};

use codes::{call_limited, invalid, missing, system_error};
use content::Content;
use trades::{Step, Trades};

/// Where the payer's app is: it takes a signed order as a query or a form.
const APP_PATH: &str = "/pay/app";

/// The emulator behind one port.
pub(super) struct AlipayEmulator {
    trades: Mutex<Trades>,
    faults: Arc<Faults>,
    clock: Clock,
    random: Random,
    outbox: Arc<Outbox>,
    signer: Signer,
    verifier: Verifier,
}

impl AlipayEmulator {
    /// An emulator that signs and checks with the documented test keys.
    ///
    /// # Errors
    /// A sentence, should those keys not work.
    pub(super) fn new(
        faults: Arc<Faults>,
        clock: Clock,
        random: Random,
        settle_after: Duration,
        outbox: Arc<Outbox>,
    ) -> Result<Self, String> {
        Ok(Self {
            trades: Mutex::new(Trades::new(random.clone(), settle_after)),
            faults,
            clock,
            random,
            outbox,
            signer: Signer::new(ALIPAY_PRIVATE_KEY)?,
            verifier: Verifier::new(ALIPAY_APP_PUBLIC_KEY)?,
        })
    }

    async fn answer(&self, call: Call) -> Outcome {
        let now = self.clock.now();
        if call.path == APP_PATH {
            return Outcome::Answer(self.open_app(&call, now));
        }
        if let Some((id, visit)) = page::visit(&call) {
            let (status, waits) = {
                let mut trades = self.trades.lock();
                trades.catch_up(now);
                trades.visit(id, visit, now)
            };
            self.tell();
            return Outcome::Answer(page::render(id, status, waits));
        }
        if call.path != "/gateway.do" {
            return Outcome::Answer(answer(404, "text/html;charset=utf-8", "Not found"));
        }
        let draw = self.faults.draw();
        let parameters: Vec<(String, String)> = call.query.iter().cloned().chain(call.form()).collect();
        let step = self.serve(&parameters, &call, draw, now);
        // Often it is known elsewhere before the answer is here.
        self.tell();
        tokio::time::sleep(draw.latency).await;
        let value = match step {
            Step::Done(value) if !draw.lost_response => value,
            Step::Done(_) | Step::Lost | Step::Late => return Outcome::Cut,
            Step::Held => {
                tokio::time::sleep(HELD_OPEN).await;
                return Outcome::Cut;
            }
        };
        let method = parameter(&parameters, "method").unwrap_or("error");
        match self.signed(method, &value) {
            Some(body) => Outcome::Answer(answer(200, "text/html;charset=utf-8", body)),
            None => Outcome::Cut,
        }
    }

    fn serve(&self, parameters: &[(String, String)], call: &Call, draw: Draw, now: Timestamp) -> Step {
        let content = match self.checked(parameters) {
            Ok(content) => content,
            Err(refusal) => return Step::Done(refusal),
        };
        if draw.rate_limited {
            return Step::Done(call_limited());
        }
        if draw.error {
            return Step::Done(system_error());
        }
        let base_url = format!("http://{}", call.header("host").unwrap_or("127.0.0.1"));
        let method = parameter(parameters, "method").unwrap_or_default();
        let mut trades = self.trades.lock();
        trades.catch_up(now);
        if let Some(delay) = draw.late_effect
            && trades::has_effect(method)
        {
            trades.keep_late(now.plus(delay), method, content, base_url);
            return Step::Late;
        }
        match trades.call(method, &content, draw, &base_url, now) {
            // The effect stays; only the answer is spoilt.
            Step::Done(value) if draw.error_after_effect && value["code"] == "10000" => Step::Done(system_error()),
            step => step,
        }
    }

    /// The content of a request that is one of the application's beyond doubt.
    fn checked(&self, parameters: &[(String, String)]) -> Result<Content, Value> {
        for name in ["app_id", "method", "charset", "sign_type", "sign", "timestamp", "version", "biz_content"] {
            if parameter(parameters, name).is_none_or(str::is_empty) {
                return Err(missing(name));
            }
        }
        let is = |name: &str, value: &str| parameter(parameters, name) == Some(value);
        if !is("app_id", ALIPAY_APP_ID) {
            return Err(invalid("isv.invalid-app-id", "The application id is not known"));
        }
        if !is("sign_type", "RSA2") {
            return Err(invalid("isv.invalid-signature-type", "The signature type is not RSA2"));
        }
        let timestamp = parameter(parameters, "timestamp").unwrap_or_default();
        if jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", timestamp).is_err() {
            return Err(invalid("isv.invalid-timestamp", "The timestamp is not yyyy-MM-dd HH:mm:ss"));
        }
        let text = signed_text(parameters);
        if !self.verifier.verify(text.as_bytes(), parameter(parameters, "sign").unwrap_or_default()) {
            return Err(invalid("isv.invalid-signature", "The signature is wrong"));
        }
        let content = serde_json::from_str(parameter(parameters, "biz_content").unwrap_or_default());
        let content: Content =
            content.map_err(|_| invalid("isv.invalid-parameter", "biz_content is not valid JSON"))?;
        let notify_url = parameter(parameters, "notify_url").filter(|url| !url.is_empty()).map(str::to_owned);
        Ok(Content { notify_url, ..content })
    }

    /// What the payer's app shows for an order that was signed for it: the page that asks the payer.
    fn open_app(&self, call: &Call, now: Timestamp) -> Response<Full<Bytes>> {
        let parameters: Vec<(String, String)> = call.query.iter().cloned().chain(call.form()).collect();
        let page = self.checked(&parameters).and_then(|content| match parameter(&parameters, "method") {
            Some("alipay.fund.auth.order.app.freeze") => {
                let mut trades = self.trades.lock();
                trades.catch_up(now);
                trades.freezes.open_app(&content, now)
            }
            _ => Err(invalid("isv.invalid-method", "The app does not know the method")),
        });
        self.tell();
        match page {
            Ok(page) => page::render(&page, Some("not scanned"), true),
            Err(refusal) => answer(400, "application/json; charset=utf-8", refusal.to_string()),
        }
    }

    /// Signs what there is to tell and hands it over.
    fn tell(&self) {
        let notices = self.trades.lock().journal.take_notices();
        let now = self.clock.now();
        for notice in notices {
            let id = format!("2026{:016x}{:016x}", self.random.draw_u64(), self.random.draw_u64());
            if let Some(prepared) = notice.prepare(id, now, &self.signer) {
                // One too many is lost, as with a provider that gives up.
                let _ = self.outbox.push(prepared);
            }
        }
    }

    /// The answer as it goes out: the signature is over the very bytes of the object before it.
    fn signed(&self, method: &str, value: &Value) -> Option<String> {
        let text = value.to_string();
        let signature = self.signer.sign(&text)?;
        let name: String = method.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
        Some(format!(r#"{{"{}_response":{text},"sign":"{signature}"}}"#, name.replace('.', "_")))
    }
}

impl Emulator for AlipayEmulator {
    fn handle(&self, call: Call) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        Box::pin(self.answer(call))
    }

    fn catch_up(&self) {
        self.trades.lock().catch_up(self.clock.now());
        self.tell();
    }

    fn ledger(&self) -> Vec<LedgerEntry> {
        self.catch_up();
        self.trades.lock().journal.ledger.clone()
    }
}

fn parameter<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// A time as Alipay writes it, in Beijing.
fn beijing_time(at: Timestamp) -> Option<String> {
    let there = jiff::Timestamp::from_second(at.unix_s() + 8 * 60 * 60).ok()?;
    Some(there.strftime("%Y-%m-%d %H:%M:%S").to_string())
}
