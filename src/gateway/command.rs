//! What clients ask for, as it is parsed from JSON. Unknown fields are refused by name; values are checked by the
//! resource that takes the command.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::domain::merchant::{LimitOverrides, MerchantStatus};
use crate::domain::payment::ReviewVerdict;

/// Body of `POST /payments`, of `POST /pre-auths` and of a quote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePayment {
    /// The merchant's own number, 1 to 64 characters from `A-Za-z0-9_-.`; unique among its payments that are not
    /// failed or canceled.
    #[schema(example = "ORDER-12345", min_length = 1, max_length = 64)]
    pub order_no: String,
    /// Minor units, from 1 to 999,999,999,999.
    #[schema(example = 50000, minimum = 1, maximum = 999_999_999_999_i64)]
    pub amount: i64,
    /// ISO 4217 code in capitals.
    #[schema(example = "USD")]
    pub currency: String,
    /// The payer's country, ISO 3166-1 alpha-2.
    #[serde(default)]
    pub country: Option<String>,
    /// Country of the payer's card, ISO 3166-1 alpha-2, where the merchant knows it; rules can ask for it.
    #[serde(default)]
    pub card_country: Option<String>,
    /// Payment method, such as `card` or `alipay`; any when absent.
    #[serde(default)]
    pub method: Option<String>,
    /// A channel by name; smart routing when absent.
    #[serde(default)]
    pub channel: Option<String>,
    /// The provider's token for the payer's means of payment; in the sandbox also a magic token such as `tok_declined`.
    #[serde(default)]
    pub payment_token: Option<String>,
    /// For receipts.
    #[serde(default)]
    pub customer_email: Option<String>,
    /// The payer's address.
    #[serde(default)]
    pub customer_ip: Option<String>,
    /// Shown to the payer, up to 255 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// Up to 20 of the merchant's own values, kept and given back.
    #[serde(default, deserialize_with = "unique_names")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Where the payer returns to after acting.
    #[serde(default)]
    pub return_url: Option<String>,
}

/// A pre-auth to take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreatePreAuth {
    /// What is asked for, as with a payment.
    pub wanted: CreatePayment,
    /// The merchant's own number of it, 1 to 64 characters from `A-Za-z0-9_-`, unique among its pre-auths.
    pub reference: Option<String>,
    /// Whether our number is to be the order number, because the merchant has none.
    pub is_order_unnamed: bool,
}

/// Body of `POST /pre-auths/{pre_auth_no}/capture`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CapturePreAuth {
    /// Minor units; all that is held when absent. What is not taken is released.
    #[serde(default)]
    pub amount: Option<i64>,
}

/// Body of `POST /pre-auths/{pre_auth_no}/cancel`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelPreAuth {
    /// Up to 255 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Body of `POST /channel/pre-auth`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateChannelPreAuth {
    /// The channel.
    pub channel: String,
    /// The merchant's own number of it, 1 to 64 characters from `A-Za-z0-9_-`, unique among its pre-auths.
    #[serde(default)]
    pub pre_auth_no: Option<String>,
    /// As for a payment; `pre_auth_no`, or else our number, when absent.
    #[serde(default)]
    pub order_no: Option<String>,
    /// Minor units, from 1 to 999,999,999,999.
    pub amount: i64,
    /// ISO 4217 code in capitals.
    pub currency: String,
    /// For receipts.
    #[serde(default)]
    pub customer_email: Option<String>,
    /// Shown to the payer, up to 255 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// As for a payment.
    #[serde(default)]
    pub payment_token: Option<String>,
}

impl From<CreateChannelPreAuth> for CreatePreAuth {
    fn from(command: CreateChannelPreAuth) -> Self {
        let order_no = command.order_no.or_else(|| command.pre_auth_no.clone());
        Self {
            is_order_unnamed: order_no.is_none(),
            reference: command.pre_auth_no,
            wanted: CreatePayment {
                order_no: order_no.unwrap_or_default(),
                amount: command.amount,
                currency: command.currency,
                channel: Some(command.channel),
                customer_email: command.customer_email,
                description: command.description,
                payment_token: command.payment_token,
                ..CreatePayment::default()
            },
        }
    }
}

/// Body of `POST /channel/pre-auth/capture`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureChannelPreAuth {
    /// The channel.
    pub channel: String,
    /// The channel's number.
    pub channel_pre_auth_no: String,
    /// Minor units; all that is held when absent. What is not taken is released.
    #[serde(default)]
    pub amount: Option<i64>,
    /// The pre-auth's own, where it is given.
    #[serde(default)]
    pub currency: Option<String>,
}

/// Body of `POST /channel/pre-auth/cancel`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelChannelPreAuth {
    /// The channel.
    pub channel: String,
    /// The channel's number.
    pub channel_pre_auth_no: String,
    /// Up to 255 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Body of `POST /payments/{payment_no}/refunds` and of `POST /pre-auths/{pre_auth_no}/refunds`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRefund {
    /// Minor units; all that is left when absent.
    #[serde(default)]
    pub amount: Option<i64>,
    /// Up to 255 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Body of an operator's `…/resolve`: how something ended that could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveByHand {
    /// `success`: the money moved. `failed`: it certainly did not.
    pub status: ResolvedStatus,
    /// How that was found out, 1 to 255 characters without customers' data. It stands in the audit.
    #[schema(example = "no such order in the provider's dashboard", min_length = 1, max_length = 255)]
    pub reason: String,
}

/// Body of an operator's `…/resolve` of a pre-auth: where something stands that could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolvePreAuthByHand {
    /// Where it stands at the provider.
    pub status: ResolvedPreAuthStatus,
    /// How that was found out, 1 to 255 characters without customers' data. It stands in the audit.
    #[schema(example = "captured by hand in the provider's dashboard", min_length = 1, max_length = 255)]
    pub reason: String,
    /// What was taken, in minor units; only with `captured`, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_amount: Option<i64>,
    /// When the provider lets the money go, RFC 3339; only with `requires_capture`. When absent, what was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedPreAuthStatus {
    /// The money is held.
    RequiresCapture,
    /// `captured_amount` of it was taken, and the rest is released.
    Captured,
    /// Nothing was taken, and nothing is held any more.
    Canceled,
    /// Nothing was ever held.
    Failed,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedStatus {
    /// The money moved.
    Success,
    /// It certainly did not.
    Failed,
}

impl ResolvedStatus {
    pub(crate) const fn verdict(self) -> ReviewVerdict {
        match self {
            Self::Success => ReviewVerdict::Success,
            Self::Failed => ReviewVerdict::Failed,
        }
    }
}

/// Which payments, or pre-auths, to list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PaymentFilter {
    /// Exactly this order number.
    pub order_no: Option<String>,
    /// In this status.
    pub status: Option<String>,
    /// On this channel.
    pub channel: Option<String>,
    /// Made at or after this, RFC 3339.
    pub from: Option<String>,
    /// Made before this, RFC 3339.
    pub to: Option<String>,
}

/// Body of `POST /merchants`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateMerchant {
    /// What people call it, 1 to 100 characters.
    pub name: String,
    /// Name of its tier.
    #[schema(example = "starter")]
    pub tier: String,
    /// ISO 3166-1 alpha-2.
    #[serde(default)]
    pub country: Option<String>,
    /// Limits that replace the tier's.
    #[serde(default, deserialize_with = "object")]
    #[schema(value_type = Option<Object>)]
    pub limits: Option<LimitOverrides>,
    /// The only channels it may use.
    #[serde(default)]
    pub channels: Option<Vec<String>>,
}

/// Body of `PATCH /merchants/{id}`: only what is given changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateMerchant {
    /// What people call it.
    #[serde(default)]
    pub name: Option<String>,
    /// Name of its tier.
    #[serde(default)]
    pub tier: Option<String>,
    /// ISO 3166-1 alpha-2.
    #[serde(default)]
    pub country: Option<String>,
    /// Limits that replace the tier's. Those that are not named stay; `null` for one gives it back to the tier, `null` for
    /// the whole all of them.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub limits: Option<ChangeLimits>,
    /// The only channels it may use; an empty list for all.
    #[serde(default)]
    pub channels: Option<Vec<String>>,
    /// `active` or `suspended`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub status: Option<MerchantStatus>,
}

/// What becomes of a merchant's own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ChangeLimits {
    /// All go back to the tier's; `null`.
    Clear,
    /// Only those that are named change.
    Merge(ChangedLimits),
}

/// Limits by name, each absent (it stays), or null (back to the tier's), or the figure that replaces the tier's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedLimits {
    /// Requests per second.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub per_second: Option<Option<u32>>,
    /// Requests per minute.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<Option<u32>>,
    /// Requests per hour.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<Option<u32>>,
    /// Requests at once, see the tier's `burst`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub burst: Option<Option<u32>>,
    /// Requests in flight.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<Option<u32>>,
}

impl ChangeLimits {
    /// The merchant's own limits after the change, from those before it.
    pub fn applied_to(&self, own: &LimitOverrides) -> LimitOverrides {
        match self {
            Self::Clear => LimitOverrides::default(),
            Self::Merge(changed) => LimitOverrides {
                per_second: changed.per_second.unwrap_or(own.per_second),
                per_minute: changed.per_minute.unwrap_or(own.per_minute),
                per_hour: changed.per_hour.unwrap_or(own.per_hour),
                burst: changed.burst.unwrap_or(own.burst),
                concurrent: changed.concurrent.unwrap_or(own.concurrent),
            },
        }
    }
}

impl<'de> Deserialize<'de> for ChangeLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(object(deserializer)?.map_or(Self::Clear, Self::Merge))
    }
}

/// Reads a field that is there, so that null is something else than nothing.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads an object with names, or null. Derived readers would also take a list of all values in their order, which nobody
/// means.
fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Named<T>>::deserialize(deserializer)?.map(|Named(value)| value))
}

struct Named<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Named<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Named<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Named)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Reads values by name. A name that is there twice is refused: which of the two was meant can't be known.
fn unique_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    Ok(Option::<UniqueNames>::deserialize(deserializer)?.map(|UniqueNames(values)| values))
}

struct UniqueNames(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for UniqueNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;

        impl<'de> Visitor<'de> for Values {
            type Value = UniqueNames;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueNames, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    if values.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
                    }
                    values.insert(name, value);
                }
                Ok(UniqueNames(values))
            }
        }

        deserializer.deserialize_map(Values)
    }
}
