//! Backups, and restoring them.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use super::{LOOK_WAIT, described, failure, shown, storage_there, warn_of_audit};
use crate::cli::admin::{Admin, AdminArguments};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::gateway::backups::{self, Point, Progress};

pub(super) fn offline(admin: &AdminArguments, destination: &Path, context: &Context) -> Result<(), Failure> {
    let storage = storage_there(admin, context)?;
    let written = backups::write_offline(&storage, destination, context.clock.now(), &mut shown("copying"));
    let manifest = written.map_err(failure)?;
    if admin.json {
        return output::json(&json!({
            "destination": destination.display().to_string(),
            "state": "done",
            "first_sequence": manifest.first_sequence,
            "last_sequence": manifest.last_sequence,
            "last_time": manifest.last_time.rfc3339(),
        }));
    }
    say_backed_up(destination, &described(&manifest))
}

pub(super) async fn online(admin: &AdminArguments, destination: &Path, context: &Context) -> Result<(), Failure> {
    let gateway = Admin::new(admin, context)?;
    let absolute = std::path::absolute(destination)
        .map_err(|error| Failure::Usage(format!("{} can't be used: {error}", destination.display())))?;
    let body = json!({ "destination": absolute.display().to_string() });
    let path = ["store", "backup"];
    let mut view = gateway.call(Method::POST, &path, Some(&body)).await?;
    let mut show = shown("copying");
    while view["state"] == "running" {
        let number = |name: &str| view[name].as_u64().unwrap_or(0);
        show(Progress { bytes: number("bytes"), bytes_total: number("bytes_total") });
        tokio::time::sleep(LOOK_WAIT).await;
        view = gateway.call(Method::GET, &path, None).await?;
    }
    if view["state"] != "done" {
        let problem = view["problem"].as_str().unwrap_or("the gateway was started again meanwhile");
        return Err(Failure::Failed(format!("the backup failed: {problem}")));
    }
    drop(show);
    if admin.json {
        return output::json(&view);
    }
    say_backed_up(&absolute, &range_of(&view))
}

fn range_of(view: &Value) -> String {
    let last_time = view["last_time"].as_str().unwrap_or("-");
    format!("sequences {} to {}, {last_time}", view["first_sequence"], view["last_sequence"])
}

fn say_backed_up(destination: &Path, range: &str) -> Result<(), Failure> {
    output::line(&format!("backed up into {} ({range})", destination.display()))?;
    output::line("The master key is not in it. Keep master.key somewhere else: without it the secrets can't be read.")
}

pub(super) fn restore(admin: &AdminArguments, backup: &Path, point: Point, context: &Context) -> Result<(), Failure> {
    let directory = admin.data_directory(context)?;
    let (now, random) = (context.clock.now(), &context.random);
    let restored =
        backups::restore(backup, &directory, point, now, random, &mut shown("verifying")).map_err(failure)?;
    if admin.json {
        warn_of_audit(&restored.audit);
        return output::json(&json!({
            "directory": directory.display().to_string(),
            "until_sequence": restored.until_sequence,
            "until_time": restored.until_time.rfc3339(),
            "asked_since": restored.asked_since.rfc3339(),
            "audit_intact": restored.audit.is_ok(),
        }));
    }
    output::line(&format!(
        "restored {} up to sequence {} of {}",
        directory.display(),
        restored.until_sequence,
        restored.until_time.rfc3339()
    ))?;
    output::line(&format!("providers will be asked about everything since {}", restored.asked_since.rfc3339()))?;
    warn_of_audit(&restored.audit);
    say_what_is_next(&directory)
}

/// What the operator has to do before a directory is opened that was made of a backup or an export.
pub(super) fn say_what_is_next(directory: &Path) -> Result<(), Failure> {
    output::line(&format!(
        "Put master.key into {} (or name it in [security] master_key_file) before you start the gateway.",
        directory.display()
    ))?;
    output::line(
        "It opens held: no money moves until every provider was asked what happened since. See `tollgate store hold`.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_described_without_quotes() {
        let view = json!({ "first_sequence": 1, "last_sequence": 9, "last_time": "2026-11-21T08:00:00Z" });
        assert_eq!(range_of(&view), "sequences 1 to 9, 2026-11-21T08:00:00Z");
    }
}
