//! `tollgate store …`: backups, restoring them, checking them, what is held after a restore, and the master key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::output;
use super::table::{Column, table};
use crate::domain::audit::Operator;
use crate::domain::time::Timestamp;
use crate::gateway::backups::{self, Manifest, Progress, StoreError, Until};
use crate::gateway::rotation::rotate_offline;

/// Wait between two looks at a backup that a gateway makes.
const LOOK_WAIT: Duration = Duration::from_millis(500);
/// Progress is shown at each of these parts.
const PROGRESS_PARTS: u64 = 10;

/// Flags of `store`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a backup into a directory that is empty or not there
    ///
    /// The running gateway does it. The master key is never in a backup: keep it somewhere else.
    Backup {
        /// The directory, on the gateway's machine
        destination: PathBuf,
        /// Do it without a gateway, from --data-dir, which nobody else may have open
        #[arg(long)]
        offline: bool,
    },
    /// Make a data directory (--data-dir) from a backup; it opens held
    Restore {
        /// The backup's directory
        backup: PathBuf,
        /// The last sequence or time (RFC 3339) to restore; the end of the backup when not given
        #[arg(long, value_name = "SEQUENCE|TIME", value_parser = until)]
        until: Option<Until>,
    },
    /// Read a whole backup and compare everything with its checksums
    Verify {
        /// The backup's directory
        backup: PathBuf,
    },
    /// Make a new master key and seal every secret again under it
    ///
    /// The running gateway does it. Run it again if it was interrupted: it goes on. The old key is kept in a file of its
    /// own, because backups from before need it.
    RotateKey {
        /// Do it without a gateway, on --data-dir, which nobody else may have open
        #[arg(long)]
        offline: bool,
    },
    /// Show what is held after a restore, channel by channel
    Hold,
    /// Say that a channel was compared with its provider by hand
    Confirm {
        /// The channel's name
        channel: String,
    },
}

/// Does what was asked.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let Arguments { admin, action } = arguments;
    match action {
        Action::Backup { destination, offline: true } => backup_offline(&admin, &destination, context)?,
        Action::Backup { destination, offline: false } => backup_online(&admin, &destination, context).await?,
        Action::Restore { backup, until } => restore_into(&admin, &backup, until, context)?,
        Action::Verify { backup } => {
            let manifest = backups::verify(&backup, &mut shown("verified")).map_err(failure)?;
            output::line(&format!("{} is whole: {}", backup.display(), described(&manifest)))?;
        }
        Action::RotateKey { offline } => {
            let rotated =
                if offline { rotated_offline(&admin, context).await? } else { rotated(&admin, context).await? };
            say_rotated(&admin, &rotated)?;
        }
        Action::Hold => {
            let hold = Admin::new(&admin, context)?.call(Method::GET, &["hold"], None).await?;
            show_hold(&admin, &hold)?;
        }
        Action::Confirm { channel } => {
            let body = json!({ "channel": channel });
            let hold = Admin::new(&admin, context)?.call(Method::POST, &["hold", "confirm"], Some(&body)).await?;
            show_hold(&admin, &hold)?;
        }
    }
    Ok(Outcome::Fine)
}

fn backup_offline(admin: &AdminArguments, destination: &Path, context: &Context) -> Result<(), Failure> {
    let directory = admin.data_directory(context)?;
    if !directory.is_dir() {
        return Err(Failure::Usage(format!(
            "{} is no data directory; give another with --data-dir",
            directory.display()
        )));
    }
    let written = backups::write_offline(&directory, destination, context.clock.now(), &mut shown("copied"));
    say_backed_up(destination, &described(&written.map_err(failure)?))
}

async fn backup_online(admin: &AdminArguments, destination: &Path, context: &Context) -> Result<(), Failure> {
    let gateway = Admin::new(admin, context)?;
    let absolute = std::path::absolute(destination)
        .map_err(|error| Failure::Usage(format!("{} can't be used: {error}", destination.display())))?;
    let body = json!({ "destination": absolute.display().to_string() });
    let path = ["store", "backup"];
    let mut view = gateway.call(Method::POST, &path, Some(&body)).await?;
    let mut show = shown("copied");
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
    let range = format!("sequences {} to {}, {}", view["first_sequence"], view["last_sequence"], view["last_time"]);
    say_backed_up(&absolute, &range)
}

fn say_backed_up(destination: &Path, range: &str) -> Result<(), Failure> {
    output::line(&format!("backed up into {} ({range})", destination.display()))?;
    output::line("The master key is not in it. Keep master.key somewhere else: without it the secrets can't be read.")
}

async fn rotated(admin: &AdminArguments, context: &Context) -> Result<Value, Failure> {
    let gateway = Admin::new(admin, context)?;
    let path = ["store", "rotate-key"];
    let mut view = gateway.call(Method::POST, &path, None).await?;
    let mut shown = 0;
    while view["state"] == "running" {
        tokio::time::sleep(LOOK_WAIT).await;
        view = gateway.call(Method::GET, &path, None).await?;
        let resealed = view["resealed"].as_u64().unwrap_or(0);
        if resealed > shown {
            output::note(&format!("{resealed} secrets sealed again"));
            shown = resealed;
        }
    }
    Ok(view)
}

async fn rotated_offline(admin: &AdminArguments, context: &Context) -> Result<Value, Failure> {
    let config = admin.config(context)?;
    let directory = config.storage.dir.clone();
    if !directory.is_dir() {
        return Err(Failure::Usage(format!(
            "{} is no data directory; give another with --data-dir",
            directory.display()
        )));
    }
    let by = Operator::process("rotation");
    let view = rotate_offline(config, context.clock.clone(), context.random.clone(), &by).await;
    let view = view.map_err(|error| Failure::Failed(error.to_string()))?;
    serde_json::to_value(view).map_err(|error| Failure::Failed(error.to_string()))
}

fn say_rotated(admin: &AdminArguments, view: &Value) -> Result<(), Failure> {
    if view["state"] != "done" {
        let problem = view["problem"].as_str().unwrap_or("the gateway was started again meanwhile");
        return Err(Failure::Failed(format!("the rotation is not finished: {problem}")));
    }
    if admin.json {
        return output::json(view);
    }
    let text = |name: &str| view[name].as_str().unwrap_or("-").to_owned();
    output::line(&format!("{} secrets sealed again under the new master key {}", view["resealed"], text("key_id")))?;
    if view["unreadable"].as_u64().unwrap_or(0) > 0 {
        output::line(&format!("{} records could not be read and were left; the log names them", view["unreadable"]))?;
    }
    for place in view["kept_in"].as_array().into_iter().flatten() {
        let place = place.as_str().unwrap_or("-");
        output::line(&format!(
            "The old key is in {place}. Backups from before need it: move it to where they are kept, and back the new \
             master key up."
        ))?;
    }
    Ok(())
}

fn restore_into(admin: &AdminArguments, backup: &Path, until: Option<Until>, context: &Context) -> Result<(), Failure> {
    let directory = admin.data_directory(context)?;
    let restored =
        backups::restore(backup, &directory, until, context.clock.now(), &mut shown("verified")).map_err(failure)?;
    output::line(&format!(
        "restored {} up to sequence {} of {}",
        directory.display(),
        restored.until_sequence,
        restored.until_time.rfc3339()
    ))?;
    output::line(&format!(
        "Put master.key into {} (or name it in [security] master_key_file) before you start the gateway.",
        directory.display()
    ))?;
    output::line(
        "It opens held: no money moves until every provider was asked what happened since. See `tollgate store hold`.",
    )
}

fn show_hold(admin: &AdminArguments, hold: &Value) -> Result<(), Failure> {
    if admin.json {
        return output::json(hold);
    }
    if hold["held"] != true {
        return output::line("nothing is held");
    }
    output::line(&format!(
        "held: restored up to sequence {} of {}",
        hold["restored_until_sequence"],
        hold["restored_until_time"].as_str().unwrap_or("-")
    ))?;
    let channels = hold["channels"].as_array().cloned().unwrap_or_default();
    let columns = [
        Column::Left("Channel"),
        Column::Left("State"),
        Column::Right("Objects"),
        Column::Right("Agreeing"),
        Column::Right("Adopted"),
        Column::Right("Foreign"),
        Column::Right("To look at"),
    ];
    let rows: Vec<Vec<String>> = channels
        .iter()
        .map(|channel| {
            let text = |name: &str| channel[name].as_str().unwrap_or("-").to_owned();
            let number = |name: &str| channel[name].to_string();
            let items = channel["items"].as_array().map_or(0, Vec::len).to_string();
            let counts = ["objects", "agreeing", "adopted", "foreign"].map(number);
            [text("channel"), text("state")].into_iter().chain(counts).chain([items]).collect()
        })
        .collect();
    output::line(&table(&columns, &rows))?;
    for channel in &channels {
        let name = channel["channel"].as_str().unwrap_or("-");
        if let Some(problem) = channel["problem"].as_str() {
            output::line(&format!("{name}: {problem}"))?;
        }
        for item in channel["items"].as_array().into_iter().flatten() {
            output::line(&format!(
                "{name}: {} ({}): {}",
                item["provider_no"].as_str().unwrap_or("-"),
                item["reference"].as_str().unwrap_or("no reference"),
                item["reason"].as_str().unwrap_or("-")
            ))?;
        }
    }
    output::line("When you have compared a channel, say so with `tollgate store confirm CHANNEL`.")
}

fn described(manifest: &Manifest) -> String {
    format!(
        "sequences {} to {}, the last of {}",
        manifest.first_sequence,
        manifest.last_sequence,
        manifest.last_time.rfc3339()
    )
}

/// Shows progress on standard error, at each tenth.
fn shown(word: &'static str) -> impl FnMut(Progress) {
    let mut last_part = 0;
    move |Progress { bytes, bytes_total }| {
        let part = bytes.saturating_mul(PROGRESS_PARTS).checked_div(bytes_total).unwrap_or(0);
        if part > last_part {
            last_part = part;
            output::note(&format!("{word} {} % of {} MiB", part * 100 / PROGRESS_PARTS, bytes_total >> 20));
        }
    }
}

fn until(text: &str) -> Result<Until, String> {
    if let Ok(sequence) = text.parse() {
        return Ok(Until::Sequence(sequence));
    }
    let time = Timestamp::parse_rfc3339(text).map(Until::Time);
    time.ok_or_else(|| String::from("must be a sequence or a time such as 2026-11-21T08:00:00Z"))
}

fn failure(error: StoreError) -> Failure {
    match error {
        StoreError::Invalid(reason) => Failure::Usage(reason),
        other => Failure::Failed(other.to_string()),
    }
}
