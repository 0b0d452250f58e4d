//! The running store: how it stands, backups, exports, and rotation of the key that its secrets are under.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::call::{Call, OperatorCall};
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::backups::{BackupView, Backups};
use crate::gateway::error::GatewayError;
use crate::gateway::exports::ExportView;
use crate::gateway::rotation::KeyRotationView;
use crate::gateway::store::StoreView;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, "/admin/v1/store", status)
        .with(Verb::Post, "/admin/v1/store/backup", begin)
        .with(Verb::Get, "/admin/v1/store/backup", read)
        .with(Verb::Post, "/admin/v1/store/export", begin_export)
        .with(Verb::Get, "/admin/v1/store/export", read_export)
        .with(Verb::Post, "/admin/v1/store/rotate-key", rotate)
        .with(Verb::Get, "/admin/v1/store/rotate-key", read_rotation)
}

/// Read how the store stands
#[utoipa::path(
    get, path = "/admin/v1/store", operation_id = "get_store", tag = "Store",
    responses((status = 200, description = "The store and its files", body = Envelope<StoreView>)),
)]
pub(crate) async fn status(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.store_view().await?)
}

/// Where a backup is written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BeginBackup {
    /// Absolute path of a directory on the gateway's machine that is empty or not there.
    destination: String,
}

/// Begin a backup
///
/// It goes on in the background. The master key is not in it and must be kept elsewhere.
#[utoipa::path(
    post, path = "/admin/v1/store/backup", operation_id = "begin_backup", tag = "Store", request_body = BeginBackup,
    responses(
        (status = 200, description = "The backup as it begins", body = Envelope<BackupView>),
        (status = 409, description = "`INVALID_STATE`: another one is running"),
    ),
)]
pub(crate) async fn begin(OperatorCall { call, operator }: OperatorCall) -> Outcome {
    let command: BeginBackup = call.json()?;
    call.ok(call.gateway.begin_backup(&operator, &command.destination).await?)
}

/// Read how the last backup goes
#[utoipa::path(
    get, path = "/admin/v1/store/backup", operation_id = "get_backup", tag = "Store",
    responses((status = 200, description = "The last backup of this process", body = Envelope<BackupView>)),
)]
pub(crate) async fn read(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(backups_of(&call)?.view())
}

/// Where an export is written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BeginExport {
    /// Absolute path of a file on the gateway's machine that is not there yet.
    destination: String,
}

/// Begin an export
///
/// It goes on in the background. All rows of one moment in one file that other programs can read; secrets in it are
/// encrypted, and the master key is not in it.
#[utoipa::path(
    post, path = "/admin/v1/store/export", operation_id = "begin_export", tag = "Store", request_body = BeginExport,
    responses(
        (status = 200, description = "The export as it begins", body = Envelope<ExportView>),
        (status = 409, description = "`INVALID_STATE`: another one is running"),
    ),
)]
pub(crate) async fn begin_export(OperatorCall { call, operator }: OperatorCall) -> Outcome {
    let command: BeginExport = call.json()?;
    call.ok(call.gateway.begin_export(&operator, &command.destination).await?)
}

/// Read how the last export goes
#[utoipa::path(
    get, path = "/admin/v1/store/export", operation_id = "get_export", tag = "Store",
    responses(
        (status = 200, description = "The last export of this process", body = Envelope<ExportView>),
        (status = 404, description = "`NOT_FOUND`: the gateway keeps its records in memory"),
    ),
)]
pub(crate) async fn read_export(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let own_store = call.gateway.own_store().ok_or(GatewayError::NotFound("directory to export"))?;
    call.ok(own_store.exports().view())
}

/// Rotate the master key
///
/// A new key takes the place of the one in the master key file, and every secret in the store is sealed again under it, in
/// the background. A rotation that did not come to its end goes on. The old key is kept in a file beside the new one:
/// backups from before need it.
#[utoipa::path(
    post, path = "/admin/v1/store/rotate-key", operation_id = "rotate_master_key", tag = "Store",
    responses(
        (status = 200, description = "The rotation as it begins", body = Envelope<KeyRotationView>),
        (status = 409, description = "`INVALID_STATE`: one is running"),
    ),
)]
pub(crate) async fn rotate(OperatorCall { call, operator }: OperatorCall) -> Outcome {
    call.no_fields()?;
    call.ok(call.gateway.key_rotation().begin(&operator)?)
}

/// Read how the rotation of the master key goes
#[utoipa::path(
    get, path = "/admin/v1/store/rotate-key", operation_id = "get_master_key_rotation", tag = "Store",
    responses((status = 200, description = "The last rotation of this process", body = Envelope<KeyRotationView>)),
)]
pub(crate) async fn read_rotation(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.key_rotation().view())
}

fn backups_of(call: &Call) -> Result<&Backups, GatewayError> {
    call.gateway.backups().ok_or(GatewayError::NotFound("directory to back up"))
}
