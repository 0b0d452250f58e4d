//! The configuration of a running gateway: what is in force, what another one would change, and reading it again.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::call::OperatorCall;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::error::GatewayError;
use crate::gateway::reload::{ConfigCheck, ConfigView, Reloaded};

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/admin/v1/config", show).with(Verb::Post, "/admin/v1/config/check", check).with(
        Verb::Post,
        "/admin/v1/config/reload",
        reload,
    )
}

/// Another configuration file.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckConfig {
    /// What would stand in the configuration file, as TOML; what stands there now when not given.
    #[schema(example = "[tiers.starter]\nburst = 30\n")]
    toml: Option<String>,
}

/// Read the configuration
///
/// All of it as it is in force: built-in defaults, file, variables, flags, and what this API has changed on top. Secrets are
/// hidden.
#[utoipa::path(
    get, path = "/admin/v1/config", operation_id = "get_config", tag = "Service",
    responses((status = 200, description = "The configuration in force", body = Envelope<ConfigView>)),
)]
pub(crate) async fn show(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.config_in_force().await?)
}

/// Check another configuration
///
/// Says what reading the configuration again would change: what at once, what with the next start. With `toml`, as if that
/// stood in the configuration file. Nothing is changed.
#[utoipa::path(
    post, path = "/admin/v1/config/check", operation_id = "check_config", tag = "Service", request_body = Option<CheckConfig>,
    responses(
        (status = 200, description = "What would change", body = Envelope<ConfigCheck>),
        (status = 404, description = "`NOT_FOUND`: this gateway was not started from a configuration that can be read again"),
    ),
)]
pub(crate) async fn check(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let CheckConfig { toml } = call.json_or_default()?;
    let checked = Box::pin(call.gateway.check_config(toml)).await;
    call.ok(checked.map_err(GatewayError::from)?)
}

/// Read the configuration again
///
/// As SIGHUP does: what can change while the gateway runs is put in force, what can't is named. What was changed through
/// this API stays on top. A configuration that is not valid changes nothing. A certificate, its key or the country database
/// that has changed and can't be used is named in `refused`; the last good one stays in use.
#[utoipa::path(
    post, path = "/admin/v1/config/reload", operation_id = "reload_config", tag = "Service",
    responses(
        (status = 200, description = "What has changed", body = Envelope<Reloaded>),
        (status = 404, description = "`NOT_FOUND`: this gateway was not started from a configuration that can be read again"),
    ),
)]
pub(crate) async fn reload(OperatorCall { call, operator }: OperatorCall) -> Outcome {
    call.no_fields()?;
    let reloaded = call.gateway.reload_from_source(&operator).await;
    call.ok(reloaded.map_err(GatewayError::from)?)
}
