//! The gateway inside another program: calls that come without HTTP.
//!
//! The program has found out by itself for whom it calls, so there are no credentials; it asks the merchant's limits only if
//! it wants them to count ([`Gateway::admit`]).

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::ids::{KeyId, MerchantId};
use crate::domain::merchant::MerchantStatus;
use crate::gateway::Gateway;
use crate::gateway::answer::{Answered, Renderer, Reply, StoredAnswer};
use crate::gateway::auth::Caller;
use crate::gateway::error::{Forbidden, GatewayError};
use crate::gateway::idempotency::{IdempotencyKey, Origin};

/// What stands for the method of a call without HTTP, so that its idempotency keys are not those of requests.
const METHOD: &str = "CALL";
/// The id of the key that was not needed.
const NO_KEY: &str = "in-process";

impl Gateway {
    /// The merchant with this id as the one who calls, for a program that has found out by itself who that is.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::Forbidden`] for a suspended merchant.
    pub fn caller(&self, merchant_id: &str) -> Result<Caller, GatewayError> {
        let known = self.0.merchants.merchant(&MerchantId::new(merchant_id))?;
        if known.merchant.status == MerchantStatus::Suspended {
            return Err(GatewayError::Forbidden(Forbidden::Suspended));
        }
        Ok(Caller { merchant: Arc::clone(&known.merchant), key_id: KeyId::new(NO_KEY), known })
    }
}

impl Origin {
    /// A call without HTTP and without an idempotency key; of payments and pre-auths, the order number sees to it that
    /// there is one. The answer is the object, to be read by [`Answered::read`].
    pub fn in_process() -> Self {
        Self { idempotency: None, claim: None, permit: None, renderer: renderer() }
    }

    /// The same with a key, so that the call may be repeated: `operation` names what is done, such as
    /// `payments/PY…/refunds`, and `command` is what is asked for. The same key with another command is refused.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the key is empty, longer than 255 characters, or not visible ASCII.
    pub fn in_process_once(operation: &str, key: &str, command: &impl Serialize) -> Result<Self, GatewayError> {
        let body = serde_json::to_vec(command).map_err(|error| GatewayError::Internal(error.to_string()))?;
        let idempotency = IdempotencyKey::new(METHOD, operation, key, &body)?;
        Ok(Self { idempotency: Some(idempotency), ..Self::in_process() })
    }
}

impl Answered {
    /// The object that an in-process call answers with: a [`PaymentView`](crate::gateway::view::PaymentView) where a payment
    /// was created or canceled, a [`RefundView`](crate::gateway::view::RefundView) and so on. What the channel certainly did
    /// not do is an object in status `failed`.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when the answer is of another kind.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, GatewayError> {
        serde_json::from_str(&self.answer.body)
            .map_err(|error| GatewayError::Internal(format!("the answer is another object: {error}")))
    }
}

fn renderer() -> Renderer {
    Arc::new(|reply| match reply {
        Reply::PaymentCreated(payment) | Reply::PaymentCanceled(payment) => rendered(200, payment),
        Reply::PaymentNotTaken(payment) => rendered(502, payment),
        Reply::RefundCreated(refund) => rendered(200, refund),
        Reply::RefundNotDone(refund) => rendered(502, refund),
        Reply::PreAuthCreated(pre_auth) | Reply::PreAuthCaptured(pre_auth) | Reply::PreAuthCanceled(pre_auth) => {
            rendered(200, pre_auth)
        }
        Reply::ChannelPreAuthCreated(pre_auth) => rendered(200, pre_auth),
        Reply::ChannelPreAuthCaptured(operation) | Reply::ChannelPreAuthCanceled(operation) => rendered(200, operation),
        Reply::PreAuthNotDone { pre_auth_no } => rendered(502, &serde_json::json!({ "pre_auth_no": pre_auth_no })),
    })
}

/// Views are plain data, which can always be written.
fn rendered(status: u16, view: &impl Serialize) -> StoredAnswer {
    StoredAnswer { status, body: serde_json::to_string(view).unwrap_or_default() }
}
