//! Who is asking: signatures and keys checked against what is stored, replays refused.

mod nonces;

use std::sync::Arc;

use subtle::ConstantTimeEq;

use crate::domain::ids::KeyId;
use crate::domain::merchant::{Merchant, MerchantStatus};
use crate::domain::signature::{SignedParts, nonce_is_valid};
use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::error::{Forbidden, GatewayError};
use crate::gateway::merchants::{KnownMerchant, Merchants};

use nonces::{NonceRejection, Nonces};

/// Stands in for the secret of a key that does not exist, so that refusing it takes as long.
const NO_SECRET: &str = "sk_0000000000000000000000000000000000000000000000000000000000000000";

/// What a request brings to show who sends it.
#[derive(Clone, Copy, Debug)]
pub enum Credentials<'a> {
    /// A signature over the request.
    Signed {
        /// `X-Signature`.
        signature: &'a str,
        /// What was signed.
        parts: SignedParts<'a>,
    },
    /// The key itself, over a transport that nobody else reads.
    Basic {
        /// The key's id.
        key_id: &'a str,
        /// The key's secret.
        secret: &'a str,
    },
}

/// A merchant whose request is authentic.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The merchant.
    pub merchant: Arc<Merchant>,
    /// The key it used.
    pub key_id: KeyId,
    pub(crate) known: KnownMerchant,
}

/// Checks credentials.
pub(crate) struct Authentication {
    core: Core,
    nonces: Nonces,
    started_at: Timestamp,
}

impl Authentication {
    pub(crate) fn new(core: Core) -> Self {
        let seed = core.random.draw_u64();
        let started_at = core.clock.now();
        let nonces = Nonces::new(core.config.auth.nonces_max, seed);
        Self { core, nonces, started_at }
    }

    /// When this gateway was started.
    pub(crate) const fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Finds out who sent a request.
    pub(crate) fn check(&self, merchants: &Merchants, credentials: Credentials<'_>) -> Result<Caller, GatewayError> {
        let now = self.core.clock.now();
        let key_id = KeyId::new(match credentials {
            Credentials::Signed { parts, .. } => parts.key_id,
            Credentials::Basic { key_id, .. } => key_id,
        });
        let known_key = merchants.key(&key_id)?;
        let secret = known_key.as_ref().map_or(NO_SECRET, |known| known.secret.as_str());
        let authentic = match credentials {
            Credentials::Signed { signature, parts } => parts.verify(secret, signature),
            Credentials::Basic { secret: given, .. } => bool::from(given.as_bytes().ct_eq(secret.as_bytes())),
        };
        let Some(known_key) = known_key.filter(|_| authentic) else { return Err(GatewayError::Unauthenticated) };
        if let Credentials::Signed { parts, .. } = credentials {
            self.check_freshness(&parts, now)?;
        }
        let known = merchants.merchant(&known_key.merchant_id).map_err(|error| match error {
            GatewayError::NotFound(_) => GatewayError::Unauthenticated,
            other => other,
        })?;
        // Key and merchant are looked up one after the other; a key taken away in between is not the merchant's any more.
        if !known.merchant.keys.contains(&key_id) {
            return Err(GatewayError::Unauthenticated);
        }
        if known.merchant.status == MerchantStatus::Suspended {
            return Err(GatewayError::Forbidden(Forbidden::Suspended));
        }
        Ok(Caller { merchant: Arc::clone(&known.merchant), key_id, known })
    }

    /// The time must be within the window, and a nonce is good once. Nonces are forgotten with the process, so what was
    /// signed before it started may only read.
    fn check_freshness(&self, parts: &SignedParts<'_>, now: Timestamp) -> Result<(), GatewayError> {
        let expired = GatewayError::SignatureExpired { server_time: now };
        let Ok(signed_s) = parts.timestamp.parse::<i64>() else { return Err(expired) };
        let past_s = i64::try_from(self.core.config.auth.timestamp_past_s).unwrap_or(i64::MAX);
        let future_s = i64::try_from(self.core.config.auth.timestamp_future_s).unwrap_or(i64::MAX);
        let age_s = now.unix_s().saturating_sub(signed_s);
        if age_s > past_s || age_s < -future_s {
            return Err(expired);
        }
        if parts.method != "GET" && signed_s < self.started_at.unix_s() {
            return Err(expired);
        }
        if !nonce_is_valid(parts.nonce) {
            return Err(GatewayError::InvalidNonce);
        }
        self.nonces.use_once(parts.key_id, parts.nonce, signed_s, now.unix_s() - past_s).map_err(|rejection| {
            match rejection {
                NonceRejection::Used => GatewayError::NonceReused,
                NonceRejection::Full => GatewayError::Overloaded { retry_after_s: 5 },
            }
        })
    }
}
