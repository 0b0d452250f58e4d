//! Exports, and making a data directory of one.

use std::path::Path;

use reqwest::Method;
use serde_json::json;

use super::backup::say_what_is_next;
use super::{LOOK_WAIT, counted, failure, shown, storage_there, warn_of_audit};
use crate::cli::admin::{Admin, AdminArguments};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::progress::Bar;
use crate::gateway::exports::{self, Imported};

pub(super) fn export_offline(admin: &AdminArguments, file: &Path, context: &Context) -> Result<(), Failure> {
    let storage = storage_there(admin, context)?;
    let written = exports::write_offline(&storage, file, context.clock.now(), &mut rows_shown());
    let summary = written.map_err(failure)?;
    if admin.json {
        return output::json(&json!({
            "destination": file.display().to_string(),
            "state": "done",
            "rows": summary.rows,
            "sequence": summary.until,
        }));
    }
    say_exported(file, summary.rows, summary.until)
}

pub(super) async fn export_online(admin: &AdminArguments, file: &Path, context: &Context) -> Result<(), Failure> {
    let gateway = Admin::new(admin, context)?;
    let absolute = std::path::absolute(file)
        .map_err(|error| Failure::Usage(format!("{} can't be used: {error}", file.display())))?;
    let body = json!({ "destination": absolute.display().to_string() });
    let path = ["store", "export"];
    let mut view = gateway.call(Method::POST, &path, Some(&body)).await?;
    let mut show = rows_shown();
    while view["state"] == "running" {
        show(view["rows_read"].as_u64().unwrap_or(0));
        tokio::time::sleep(LOOK_WAIT).await;
        view = gateway.call(Method::GET, &path, None).await?;
    }
    if view["state"] != "done" {
        let problem = view["problem"].as_str().unwrap_or("the gateway was started again meanwhile");
        return Err(Failure::Failed(format!("the export failed: {problem}")));
    }
    drop(show);
    if admin.json {
        return output::json(&view);
    }
    say_exported(&absolute, view["rows"].as_u64().unwrap_or(0), view["sequence"].as_u64().unwrap_or(0))
}

fn say_exported(file: &Path, rows: u64, sequence: u64) -> Result<(), Failure> {
    let rows = counted(rows, "row");
    output::line(&format!("exported {rows} into {}, everything up to sequence {sequence}", file.display()))?;
    output::line("The master key is not in it. Keep master.key somewhere else: without it the secrets can't be read.")
}

pub(super) fn import_into(admin: &AdminArguments, file: &Path, context: &Context) -> Result<(), Failure> {
    let directory = admin.data_directory(context)?;
    let imported = exports::import(file, &directory, context.clock.now(), &context.random, &mut shown("verifying"))
        .map_err(failure)?;
    let Imported { summary, audit } = imported;
    if admin.json {
        warn_of_audit(&audit);
        return output::json(&json!({
            "directory": directory.display().to_string(),
            "rows": summary.rows,
            "until_sequence": summary.until,
            "exported_at": summary.header.made_at.rfc3339(),
            "audit_intact": audit.is_ok(),
        }));
    }
    output::line(&format!(
        "imported {} into {}, everything up to sequence {} (exported {})",
        counted(summary.rows, "row"),
        directory.display(),
        summary.until,
        summary.header.made_at.rfc3339()
    ))?;
    warn_of_audit(&audit);
    say_what_is_next(&directory)
}

/// Shows how many rows were read, on a terminal.
fn rows_shown() -> impl FnMut(u64) {
    let bar = Bar::count("rows");
    move |rows| bar.show_count(rows)
}
