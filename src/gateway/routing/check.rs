//! Looking whether a channel is set up right, by a call of its provider that moves nothing.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::channels::{Capabilities, CheckFailure, CheckReport};
use crate::config::{ChannelConfig, ServerConfig};
use crate::domain::ids::ChannelName;
use crate::gateway::error::GatewayError;
use crate::gateway::routing::control::Routing;

/// How much longer than its calls' timeout a check may take, so that an adapter can say itself what was too slow; and how
/// much earlier than the request it ends that asked for it.
const MARGIN: Duration = Duration::from_secs(1);

/// What a look at a channel has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChannelCheckView {
    /// The channel.
    #[schema(example = "stripe")]
    pub channel: String,
    /// Whose protocol it speaks.
    #[schema(example = "stripe")]
    pub kind: String,
    /// `fine`, `wrong_mode` (play money where there is real money, or the other way round), `refused` (by the provider),
    /// `unreachable`, `no_credentials` or `not_supported` (this channel can't be checked).
    pub result: String,
    /// What is wrong, in one sentence; null when nothing is.
    pub problem: Option<String>,
    /// What to do about it.
    pub advice: Option<String>,
    /// Whose account the credentials are, as the provider names it, where it says so.
    pub account: Option<String>,
    /// Whether they move real money, where that can be told.
    pub livemode: Option<bool>,
    /// What else is worth knowing, a sentence each.
    pub findings: Vec<String>,
    /// What the channel can do with these credentials: `charge`, `refund`, `pre_auth`, `partial_capture`, `notifications`,
    /// `check`.
    #[schema(value_type = Object)]
    pub capabilities: Capabilities,
    /// Where the provider sends what it has to tell, as far as `[callbacks] public_url` says.
    pub callback_url: Option<String>,
    /// How long the look took, in milliseconds.
    pub duration_ms: u64,
}

/// What came of a look.
enum Found {
    Fine(CheckReport),
    WrongMode(CheckReport),
    Failed(CheckFailure),
    NoCredentials(String),
}

impl Routing {
    /// Makes a harmless, authenticated call of a channel's provider and says what it found. Nothing is changed by it, the
    /// channel's health neither; it ends soon after the channel's `timeout_ms`.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub async fn check_channel(&self, name: &str) -> Result<ChannelCheckView, GatewayError> {
        let (routing, name) = (self.clone(), name.to_owned());
        // A task of its own: an adapter of somebody else's may do what none should.
        self.0.core.carry(async move { routing.look_at(&name).await }).await
    }

    async fn look_at(&self, name: &str) -> Result<ChannelCheckView, GatewayError> {
        let core = &self.0.core;
        let view = self.views().into_iter().find(|view| view.name == name).ok_or(GatewayError::NotFound("channel"))?;
        let config = core.config.channels.get(name).ok_or(GatewayError::NotFound("channel"))?;
        let began = core.clock.monotonic();
        let channel = self.0.channels.get(&ChannelName::new(name));
        let capabilities = channel.as_ref().map(|channel| channel.capabilities()).unwrap_or_default();
        let found = match channel {
            None => Found::NoCredentials(view.lacks.unwrap_or_else(|| format!("channel {name} is not set up"))),
            Some(channel) => {
                let patience = patience(config, &core.config.server);
                match tokio::time::timeout(patience, channel.check()).await {
                    Ok(Ok(report)) if report.livemode.is_some_and(|real| real != core.livemode()) => {
                        Found::WrongMode(report)
                    }
                    Ok(Ok(report)) => Found::Fine(report),
                    Ok(Err(failure)) => Found::Failed(failure),
                    Err(_elapsed) => Found::Failed(CheckFailure::Unreachable(format!(
                        "no answer within {} ms",
                        patience.as_millis()
                    ))),
                }
            }
        };
        let duration = core.clock.monotonic().since(began);
        let callback_url = core.config.callbacks.url_of(name).filter(|_| capabilities.notifications);
        let mut view = ChannelCheckView {
            channel: view.name,
            kind: view.kind,
            capabilities,
            callback_url,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            ..told(found, name)
        };
        if config.sandbox && view.result == "unreachable" {
            view.advice = Some(format!(
                "The channel talks to an emulator: `tollgate channel faults {name}` says how it misbehaves, `--down false` \
                 brings it back."
            ));
        }
        if capabilities.notifications && view.callback_url.is_none() && !config.sandbox {
            view.findings.push(format!(
                "[callbacks] public_url is not set: where the provider reaches this gateway (…/callbacks/{name}) is not known here."
            ));
        }
        Ok(view)
    }
}

/// How long a look may take.
fn patience(channel: &ChannelConfig, server: &ServerConfig) -> Duration {
    let request = Duration::from_millis(server.request_timeout_ms);
    let own = Duration::from_millis(channel.timeout_ms).saturating_add(MARGIN);
    own.min(request.saturating_sub(MARGIN).max(request / 2))
}

/// What came of a look in words; what is known of the channel anyhow is left empty.
fn told(found: Found, name: &str) -> ChannelCheckView {
    let credentials = format!("[channels.{name}.credentials]");
    let (result, report, problem, advice) = match found {
        Found::Fine(report) => ("fine", report, None, None),
        Found::WrongMode(report) => {
            let problem = match report.livemode {
                Some(true) => "The credentials move real money, and this gateway is in sandbox mode.",
                _ => "The credentials move play money, and this gateway is in live mode.",
            };
            let advice =
                format!("Give {credentials} and base_url of the other mode, or take another data directory for it.");
            ("wrong_mode", report, Some(problem.to_owned()), Some(advice))
        }
        Found::Failed(failure) => {
            let (result, advice) = match &failure {
                CheckFailure::Refused(_) => (
                    "refused",
                    Some(format!(
                        "See what {credentials} names, that it belongs to the provider's account and mode (base_url), and what \
                         rights it has there (docs/channels.md)."
                    )),
                ),
                CheckFailure::Unreachable(_) => (
                    "unreachable",
                    Some(format!(
                        "See base_url, name servers and firewall between this machine and the provider, and the provider's own \
                         page about its state; `tollgate channel disable {name}` keeps payments away meanwhile."
                    )),
                ),
                CheckFailure::NotSupported => ("not_supported", None),
            };
            (result, CheckReport::default(), Some(sentence(&failure.to_string())), advice)
        }
        Found::NoCredentials(lacks) => {
            let advice = "Put in place what is missing, then load the configuration again (SIGHUP, POST /admin/v1/config/reload).";
            ("no_credentials", CheckReport::default(), Some(sentence(&lacks)), Some(advice.to_owned()))
        }
    };
    let CheckReport { account, livemode, findings } = report;
    ChannelCheckView {
        channel: String::new(),
        kind: String::new(),
        result: result.to_owned(),
        problem,
        advice,
        account,
        livemode,
        findings,
        capabilities: Capabilities::default(),
        callback_url: None,
        duration_ms: 0,
    }
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_look_ends_after_its_calls_and_before_its_request() {
        let config = Config::embedded().unwrap();
        let patience = |timeout_ms, request_timeout_ms| {
            let channel = ChannelConfig { timeout_ms, ..config.channels["stripe"].clone() };
            let server = ServerConfig { request_timeout_ms, ..config.server.clone() };
            super::patience(&channel, &server).as_millis()
        };
        assert_eq!(patience(10_000, 30_000), 11_000);
        assert_eq!(patience(45_000, 30_000), 29_000);
        assert_eq!(patience(10_000, 1_000), 500);
    }

    #[test]
    fn every_end_has_its_word_and_what_is_wrong_its_sentence() {
        let report = |livemode| CheckReport { livemode: Some(livemode), ..CheckReport::default() };
        let refused = CheckFailure::Refused(String::from("no such key"));
        let unreachable = CheckFailure::Unreachable(String::from("connection failed"));
        let ends = [
            (Found::Fine(report(false)), "fine", ""),
            (Found::WrongMode(report(true)), "wrong_mode", "The credentials move real money, and"),
            (Found::WrongMode(report(false)), "wrong_mode", "The credentials move play money, and"),
            (Found::Failed(refused), "refused", "The provider refused: no such key."),
            (Found::Failed(unreachable), "unreachable", "The provider could not be asked: connection failed."),
            (Found::Failed(CheckFailure::NotSupported), "not_supported", "This channel can't be checked."),
            (Found::NoCredentials(String::from("set X")), "no_credentials", "Set X."),
        ];
        for (found, result, problem) in ends {
            let view = told(found, "stripe");
            assert_eq!(view.result, result);
            assert!(view.problem.clone().unwrap_or_default().starts_with(problem), "{view:?}");
            assert_eq!(view.problem.is_none(), result == "fine");
            assert_eq!(view.advice.is_none(), ["fine", "not_supported"].contains(&result), "{view:?}");
        }
    }
}
