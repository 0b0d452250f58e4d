//! Makes a channel from its configuration.

use std::sync::Arc;
use std::time::Duration;

use crate::channels::Channel;
use crate::channels::alipay::AlipayChannel;
use crate::channels::btcpay::BtcpayChannel;
use crate::channels::credentials::Credentials;
use crate::channels::http::HttpClient;
use crate::channels::instant::InstantChannel;
use crate::channels::paypal::PaypalChannel;
use crate::channels::stripe::StripeChannel;
use crate::clock::Clock;
use crate::config::{ChannelConfig, ChannelKind};
use crate::domain::ids::ChannelName;

/// A channel can't be set up as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("channel `{channel}`: {reason}")]
pub struct ChannelSetupError {
    /// The channel's name.
    pub channel: ChannelName,
    /// What is wrong, and what to do about it.
    pub reason: String,
}

/// The channel `name` that speaks to the provider (or emulator) at `base_url`. Must be called within a tokio runtime.
///
/// Credentials by kind: stripe `secret_key`; paypal `client_id` and `client_secret`; alipay `app_id`, `app_private_key`
/// (PKCS#8 or PKCS#1, PEM or the bare base64) and `alipay_public_key`; btcpay `api_key` and `store_id`. Each may have a
/// `default_payment_token`, which stands in where a payment brings none; the emulators' credentials do, real ones have no
/// use for it. What a provider sends of its own accord is checked with stripe's and btcpay's `webhook_secret`, paypal's
/// `webhook_id`, `webhook_ca` and `merchant_id`, and alipay's `seller_id`, where they are there.
///
/// # Errors
/// [`ChannelSetupError`] when a credential is missing or unusable, or the address must not be used.
pub fn build(
    name: &ChannelName,
    config: &ChannelConfig,
    base_url: &str,
    credentials: &Credentials,
    clock: Clock,
) -> Result<Arc<dyn Channel>, ChannelSetupError> {
    let failed = |reason: String| ChannelSetupError { channel: name.clone(), reason };
    if config.kind == ChannelKind::Instant {
        return Ok(Arc::new(InstantChannel));
    }
    let timeout = Duration::from_millis(config.timeout_ms);
    let http = HttpClient::new(base_url, timeout, config.caps.concurrent, clock.clone())
        .map_err(|error| failed(error.to_string()))?;
    let channel: Arc<dyn Channel> = match config.kind {
        ChannelKind::Stripe => Arc::new(StripeChannel::new(http, credentials).map_err(failed)?),
        ChannelKind::Alipay => {
            let hold_valid = Duration::from_secs(config.hold_valid_s);
            Arc::new(AlipayChannel::new(http, credentials, clock, hold_valid).map_err(failed)?)
        }
        ChannelKind::Paypal => Arc::new(PaypalChannel::new(http, credentials, clock).map_err(failed)?),
        ChannelKind::Btcpay => Arc::new(BtcpayChannel::new(http, credentials).map_err(failed)?),
        ChannelKind::Instant => Arc::new(InstantChannel),
        ChannelKind::Custom => {
            return Err(failed(String::from(
                "its kind is \"custom\": the program that embeds Tollgate has to bring it along",
            )));
        }
    };
    Ok(channel)
}

/// A credential that the channel can't do without.
pub(crate) fn required(credentials: &Credentials, name: &str) -> Result<String, String> {
    credentials
        .get(name)
        .map(str::to_owned)
        .ok_or_else(|| format!("credential `{name}` is missing; give `{name}_env` or `{name}_file`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::tests::config;
    use crate::sandbox::credentials;

    fn reason(kind: ChannelKind, base_url: &str, credentials: &Credentials) -> String {
        let built = build(&ChannelName::new("x"), &config(kind), base_url, credentials, Clock::system());
        built.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn every_kind_is_built_with_its_credentials() {
        let kinds =
            [ChannelKind::Stripe, ChannelKind::Paypal, ChannelKind::Alipay, ChannelKind::Btcpay, ChannelKind::Instant];
        for kind in kinds {
            assert_eq!(reason(kind, "http://127.0.0.1:1", &Credentials::new(credentials::of(kind))), "");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_without_showing_it() {
        let nothing = Credentials::default();
        assert!(reason(ChannelKind::Stripe, "http://127.0.0.1:1", &nothing).contains("secret_key_env"));
        assert!(reason(ChannelKind::Alipay, "http://127.0.0.1:1", &nothing).contains("app_id_env"));
        assert!(reason(ChannelKind::Paypal, "http://127.0.0.1:1", &nothing).contains("client_id_env"));
        assert!(reason(ChannelKind::Btcpay, "http://127.0.0.1:1", &nothing).contains("api_key_env"));
        assert!(reason(ChannelKind::Custom, "http://127.0.0.1:1", &nothing).contains("bring it along"));
        let wrong = Credentials::new([("app_id", "1"), ("app_private_key", "c2VjcmV0"), ("alipay_public_key", "x")]);
        let said = reason(ChannelKind::Alipay, "http://127.0.0.1:1", &wrong);
        assert!(said.contains("private key") && !said.contains("c2VjcmV0"), "{said}");
        let of_stripe = Credentials::new(credentials::of(ChannelKind::Stripe));
        assert!(reason(ChannelKind::Stripe, "http://api.stripe.com", &of_stripe).contains("https://"));
    }
}
