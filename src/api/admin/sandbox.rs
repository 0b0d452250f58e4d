//! The built-in emulators' controls: how they misbehave, and what they did. There are none in live mode, nor with a
//! sandbox in a process of its own, which has its own.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::call::{Call, Named, OperatorCall};
use crate::api::envelope::{Envelope, Outcome};
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::config::FaultConfig;
use crate::gateway::sandbox::SandboxControl;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/admin/v1/sandbox/{channel}", get).with(Verb::Put, "/admin/v1/sandbox/{channel}", put).with(
        Verb::Get,
        "/admin/v1/sandbox/{channel}/ledger",
        ledger,
    )
}

/// How an emulator misbehaves, for the document; the type itself is the configuration's. Rates are shares from 0 to 1.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = Faults)]
pub(crate) struct FaultsSchema {
    /// Added to every answer.
    latency_ms: u64,
    /// Added to that at random, up to this much.
    latency_jitter_ms: u64,
    /// Declined.
    decline_rate: f64,
    /// Answered 500 before any effect.
    error_rate: f64,
    /// Answered 500 after the effect.
    error_after_effect_rate: f64,
    /// Connection closed after the effect with no byte sent.
    lost_response_rate: f64,
    /// Connection closed before the effect with no byte sent; the effect comes `late_effect_ms` later.
    late_effect_rate: f64,
    /// How late such an effect is.
    late_effect_ms: u64,
    /// Answered as over the provider's rate limit.
    rate_limited_rate: f64,
    /// Notifications sent twice.
    duplicate_notification_rate: f64,
    /// Nothing listens.
    down: bool,
    /// Seed of the faults' random numbers.
    #[schema(format = "uint64")]
    seed: u64,
}

/// What an emulator did, for the document.
#[derive(ToSchema)]
#[schema(as = LedgerEntry)]
#[allow(dead_code, reason = "describes entries that the emulator writes as JSON")]
pub(crate) struct LedgerEntrySchema {
    /// `charge`, `hold`, `capture`, `void` or `refund`.
    operation: String,
    /// The emulator's own number.
    provider_no: String,
    /// The payment's or pre-auth's number.
    reference: String,
    /// Minor units.
    amount_minor: i64,
    /// ISO 4217.
    currency: String,
    /// RFC 3339.
    at: String,
}

/// What an emulator did, all of it, in the order in which it happened.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ledger<T> {
    /// The entries.
    items: Vec<T>,
}

fn controls(call: &Call) -> Result<&SandboxControl, ApiError> {
    call.gateway.sandbox().ok_or(ApiError::PathNotFound)
}

/// Read how an emulator misbehaves
#[utoipa::path(
    get, path = "/admin/v1/sandbox/{channel}", operation_id = "get_faults", tag = "Sandbox",
    params(("channel" = String, Path, description = "The channel's name")),
    responses(
        (status = 200, description = "Its faults", body = Envelope<FaultsSchema>),
        (status = 404, description = "`NOT_FOUND`: no such emulator, or live mode"),
    ),
)]
pub(crate) async fn get(Named(channel): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(controls(&call)?.faults(&channel)?)
}

/// Tell an emulator to misbehave
///
/// Merges: what is not given stays as it is.
#[utoipa::path(
    put, path = "/admin/v1/sandbox/{channel}", operation_id = "set_faults", tag = "Sandbox",
    request_body(content_type = "application/json", content = ref("#/components/schemas/ChangedFaults")),
    params(("channel" = String, Path, description = "The channel's name")),
    responses(
        (status = 200, description = "Its faults now", body = Envelope<FaultsSchema>),
        (status = 404, description = "`NOT_FOUND`: no such emulator, or live mode"),
    ),
)]
pub(crate) async fn put(Named(channel): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let work = |call: Call| async move {
        let controls = controls(&call)?;
        // Read once as what it must become, which names a wrong field, and once as what was given, which is merged.
        call.json_or_default::<FaultConfig>()?;
        let patch: Map<String, Value> = call.json_or_default()?;
        call.ok(controls.set_faults(&channel, Value::Object(patch)).await?)
    };
    call.carry(work).await
}

/// Read what an emulator did
///
/// Not paged, so that a test can compare both books.
#[utoipa::path(
    get, path = "/admin/v1/sandbox/{channel}/ledger", operation_id = "get_ledger", tag = "Sandbox",
    params(("channel" = String, Path, description = "The channel's name")),
    responses(
        (status = 200, description = "Its ledger", body = Envelope<Ledger<LedgerEntrySchema>>),
        (status = 404, description = "`NOT_FOUND`: no such emulator, or live mode"),
    ),
)]
pub(crate) async fn ledger(Named(channel): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(Ledger { items: controls(&call)?.ledger(&channel)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_the_configuration_s_faults() {
        let described = serde_json::to_value(FaultsSchema::default()).unwrap();
        assert_eq!(described, serde_json::to_value(FaultConfig::default()).unwrap());
    }
}
