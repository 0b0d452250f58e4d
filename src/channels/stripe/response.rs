//! What Stripe answers, as far as it matters here. Everything that Stripe may extend has a catch-all.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::channels::NextAction;
use crate::channels::http::HttpAnswer;
use crate::channels::stripe::amount;
use crate::domain::money::Money;
use crate::domain::time::Timestamp;

/// Where a PaymentIntent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum IntentStatus {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    Processing,
    RequiresCapture,
    Canceled,
    Succeeded,
    #[serde(other)]
    Other,
}

/// A PaymentIntent.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PaymentIntent {
    pub(super) id: String,
    pub(super) status: IntentStatus,
    pub(super) amount: i64,
    #[serde(default)]
    pub(super) amount_received: i64,
    /// What can still be captured; means something only while it can be.
    #[serde(default)]
    pub(super) amount_capturable: Option<i64>,
    pub(super) currency: String,
    #[serde(default)]
    pub(super) capture_method: Option<String>,
    #[serde(default)]
    pub(super) cancellation_reason: Option<String>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) created: i64,
    #[serde(default)]
    pub(super) client_secret: Option<String>,
    #[serde(default)]
    pub(super) latest_charge: Option<Expandable<Charge>>,
    #[serde(default)]
    pub(super) last_payment_error: Option<ApiError>,
    #[serde(default)]
    pub(super) next_action: Option<NextActionObject>,
    /// Where the payer of the emulator chooses a means of payment; Stripe itself has nothing like it.
    #[serde(default)]
    pub(super) sandbox_payer_page: Option<String>,
}

/// A field that is an id, or the object itself where its expansion was asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Expandable<T> {
    Object(Box<T>),
    Id(String),
}

impl<T> Expandable<T> {
    pub(super) fn object(&self) -> Option<&T> {
        match self {
            Self::Object(object) => Some(object),
            Self::Id(_) => None,
        }
    }
}

/// A charge of a PaymentIntent.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Charge {
    #[serde(default)]
    pub(super) balance_transaction: Option<Expandable<BalanceTransaction>>,
    #[serde(default)]
    pub(super) payment_method_details: Option<PaymentMethodDetails>,
}

/// With what a charge was made.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PaymentMethodDetails {
    #[serde(default)]
    pub(super) card: Option<CardDetails>,
}

/// The card's part of a charge.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct CardDetails {
    /// Until when it can be captured, in Unix seconds.
    #[serde(default)]
    pub(super) capture_before: Option<i64>,
}

/// What credentials open.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Account {
    pub(super) id: String,
    #[serde(default)]
    pub(super) charges_enabled: Option<bool>,
}

/// What a charge did to the account's balance.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BalanceTransaction {
    pub(super) fee: i64,
    pub(super) currency: String,
    /// What the charge is worth in `currency`, before fees.
    #[serde(default)]
    pub(super) amount: i64,
}

/// What the payer has to do.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct NextActionObject {
    #[serde(default)]
    pub(super) redirect_to_url: Option<RedirectToUrl>,
}

/// A page for the payer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RedirectToUrl {
    #[serde(default)]
    pub(super) url: Option<String>,
}

/// Why something was refused; also the last error of a PaymentIntent.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ApiError {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) code: Option<String>,
    #[serde(default)]
    pub(super) decline_code: Option<String>,
    #[serde(default)]
    pub(super) advice_code: Option<String>,
    #[serde(default)]
    pub(super) network_decline_code: Option<String>,
    #[serde(default)]
    pub(super) network_advice_code: Option<String>,
    #[serde(default)]
    pub(super) payment_intent: Option<Box<PaymentIntent>>,
}

/// A page of a list.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    #[serde(default)]
    pub(super) has_more: bool,
}

/// A refund.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    #[serde(default)]
    pub(super) status: Option<String>,
    pub(super) amount: i64,
    pub(super) currency: String,
    #[serde(default)]
    pub(super) created: i64,
    #[serde(default)]
    pub(super) failure_reason: Option<String>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
}

/// An answer that is Stripe's beyond doubt: an object of the expected kind, or one of its errors.
#[derive(Clone, Debug)]
pub(super) enum Reply<T> {
    /// The object asked for.
    Object(T),
    /// Refused, or failed.
    Error(ErrorReply),
}

/// An error as it arrived.
#[derive(Clone, Debug)]
pub(super) struct ErrorReply {
    /// The HTTP status, 400 or higher.
    pub(super) status: u16,
    /// Whether it is the recorded answer to an earlier request with the same key.
    pub(super) replayed: bool,
    /// What Stripe says.
    pub(super) error: ApiError,
}

impl ErrorReply {
    /// Whether the body is one of Stripe's own errors, and not of something between.
    pub(super) fn is_stripes(&self) -> bool {
        let kinds = ["api_error", "card_error", "idempotency_error", "invalid_request_error"];
        self.error.kind.as_deref().is_some_and(|kind| kinds.contains(&kind))
    }

    /// Whether the key was used before with other parameters.
    pub(super) fn is_key_conflict(&self) -> bool {
        self.status == 400 && self.error.kind.as_deref() == Some("idempotency_error")
    }
}

/// Reads an answer; `Err` says why it can't be believed.
pub(super) fn read<T: for<'de> Deserialize<'de>>(answer: &HttpAnswer) -> Result<Reply<T>, String> {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: ApiError,
    }
    let status = answer.status;
    if status == 200 {
        return serde_json::from_slice(&answer.body)
            .map(Reply::Object)
            .map_err(|_| String::from("Stripe's answer can't be read"));
    }
    let replayed = answer.header_is("idempotent-replayed", "true");
    match serde_json::from_slice::<ErrorBody>(&answer.body) {
        Ok(body) if status >= 400 => Ok(Reply::Error(ErrorReply { status, replayed, error: body.error })),
        // A 5xx often comes from something in front of Stripe and is unknown whatever its body.
        _ if status >= 500 => Ok(Reply::Error(ErrorReply { status, replayed, error: ApiError::default() })),
        _ => Err(format!("an answer with HTTP status {status} that is not Stripe's")),
    }
}

impl PaymentIntent {
    /// Whether it was made for this attempt of what has this reference.
    pub(super) fn is_of(&self, reference: &str, provider_key: &str) -> bool {
        let carries = |name: &str, value: &str| self.metadata.get(name).is_some_and(|found| found == value);
        carries(super::REFERENCE_KEY, reference) && carries(super::ATTEMPT_KEY, provider_key)
    }

    /// Whether it is of this amount.
    pub(super) fn amounts_to(&self, money: Money) -> bool {
        self.currency.eq_ignore_ascii_case(money.currency.code())
            && amount::from_stripe(self.amount, money.currency) == Some(money)
    }

    /// Whether it was made only to use up its key.
    pub(super) fn is_for_closing(&self) -> bool {
        self.metadata.contains_key(super::CLOSED_KEY)
    }

    /// Whether it holds money first, to be captured later.
    pub(super) fn is_hold(&self) -> bool {
        self.capture_method.as_deref() == Some("manual")
    }

    /// Until when what is held can be captured, where the charge is there as an object and says so.
    pub(super) fn capture_before(&self) -> Option<Timestamp> {
        let details = self.latest_charge.as_ref()?.object()?.payment_method_details.as_ref()?;
        details.card.as_ref()?.capture_before.map(Timestamp::from_unix_s)
    }

    /// What the payer has to do, where there is a page for it.
    pub(super) fn page_for_payer(&self) -> Option<NextAction> {
        let redirect = self.next_action.as_ref().and_then(|action| action.redirect_to_url.as_ref());
        let url = redirect.and_then(|redirect| redirect.url.as_ref()).or(self.sandbox_payer_page.as_ref());
        url.map(|url| NextAction::Redirect { url: url.clone() })
    }

    /// Stripe's own fee in minor units of the payment's currency. Where it takes the fee in another currency, that in which
    /// it settles, it is the share of the payment that it is there, rounded half up.
    pub(super) fn fee_minor(&self, money: Money) -> Option<i64> {
        let transaction = self.latest_charge.as_ref()?.object()?.balance_transaction.as_ref()?.object()?;
        if transaction.currency.eq_ignore_ascii_case(money.currency.code()) {
            return amount::from_stripe(transaction.fee, money.currency).map(|fee| fee.amount_minor);
        }
        let (fee, whole) = (i128::from(transaction.fee), i128::from(transaction.amount));
        if whole <= 0 {
            return None;
        }
        i64::try_from((2 * fee * i128::from(money.amount_minor) + whole).div_euclid(2 * whole)).ok()
    }
}
