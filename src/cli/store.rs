//! `tollgate store …`: how the store stands, backups, restoring and checking them, exports, the master
//! key, and what is held after a restore.

mod backup;
mod hold;
mod rotate;
mod status;
mod transfer;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::output;
use super::progress::Bar;
use crate::config::StorageConfig;
use crate::domain::time::Timestamp;
use crate::gateway::backups::{Manifest, Point, Progress, StoreError, Until};
use crate::gateway::exports::{Anchor, AuditHead, ChainProblem};

/// Wait between two looks at a backup that a gateway makes.
const LOOK_WAIT: Duration = Duration::from_millis(500);

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
    /// Show how the store stands: sequences, files, room on the disk
    Status {
        /// Look without a gateway, at --data-dir; changes nothing
        #[arg(long)]
        offline: bool,
    },
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
        /// Ask the providers from this time on (RFC 3339) if that is earlier, for a machine whose clock was ahead
        #[arg(long, value_name = "TIME", value_parser = time)]
        ask_since: Option<Timestamp>,
    },
    /// Read a whole backup, data directory or export and say whether it is whole; changes nothing
    ///
    /// Every checksum, every frame and row, and the chain of the audit. Ends with 1 when something is damaged. A data
    /// directory must not be open: verify a backup of it instead.
    Verify {
        /// A backup, a data directory or an export; --data-dir when not given
        path: Option<PathBuf>,
        /// Number and hash of an audit entry that were written down elsewhere; shows whether entries were cut off
        #[arg(long, value_name = "NUMBER:HASH", value_parser = anchor)]
        anchor: Option<Anchor>,
    },
    /// Write all rows of one moment into a file that other programs can read (docs/store-format.md)
    ///
    /// The running gateway does it. Secrets stay encrypted; the master key is not in it.
    Export {
        /// The file, on the gateway's machine, which is not there yet
        file: PathBuf,
        /// Do it without a gateway, from --data-dir, which nobody else may have open
        #[arg(long)]
        offline: bool,
    },
    /// Make a data directory (--data-dir) from an export; it opens held
    Import {
        /// The export
        file: PathBuf,
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
        Action::Status { offline: true } => status::offline(&admin, context)?,
        Action::Status { offline: false } => status::online(&admin, context).await?,
        Action::Backup { destination, offline: true } => backup::offline(&admin, &destination, context)?,
        Action::Backup { destination, offline: false } => backup::online(&admin, &destination, context).await?,
        Action::Restore { backup, until, ask_since } => {
            backup::restore(&admin, &backup, Point { until, ask_since }, context)?;
        }
        Action::Verify { path, anchor } => return verify::run(&admin, path, anchor, context),
        Action::Export { file, offline: true } => transfer::export_offline(&admin, &file, context)?,
        Action::Export { file, offline: false } => transfer::export_online(&admin, &file, context).await?,
        Action::Import { file } => transfer::import_into(&admin, &file, context)?,
        Action::RotateKey { offline } => rotate::run(&admin, offline, context).await?,
        Action::Hold => {
            let held = Admin::new(&admin, context)?.call(Method::GET, &["hold"], None).await?;
            hold::show_hold(&admin, &held)?;
        }
        Action::Confirm { channel } => {
            let body = json!({ "channel": channel });
            let held = Admin::new(&admin, context)?.call(Method::POST, &["hold", "confirm"], Some(&body)).await?;
            hold::show_hold(&admin, &held)?;
        }
    }
    Ok(Outcome::Fine)
}

/// What the configuration says of the store, whose directory must be there.
fn storage_there(admin: &AdminArguments, context: &Context) -> Result<StorageConfig, Failure> {
    let storage = admin.storage(context)?;
    if storage.dir.is_dir() {
        return Ok(storage);
    }
    Err(Failure::Usage(format!("{} is no data directory; give another with --data-dir", storage.dir.display())))
}

/// A broken chain of the audit is no reason not to go on.
fn warn_of_audit(audit: &Result<AuditHead, ChainProblem>) {
    if let Err(problem) = audit {
        output::note(&format!("warning: the audit in it can't be trusted: {problem}"));
    }
}

/// Such as `1 row` or `2 rows`.
fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn described(manifest: &Manifest) -> String {
    format!(
        "sequences {} to {}, the last of {}",
        manifest.first_sequence,
        manifest.last_sequence,
        manifest.last_time.rfc3339()
    )
}

/// Shows how far something is, on a terminal.
fn shown(doing: &'static str) -> impl FnMut(Progress) {
    let bar = Bar::bytes(doing);
    move |progress| bar.show(progress)
}

fn until(text: &str) -> Result<Until, String> {
    if let Ok(sequence) = text.parse() {
        return Ok(Until::Sequence(sequence));
    }
    let time = Timestamp::parse_rfc3339(text).map(Until::Time);
    time.ok_or_else(|| String::from("must be a sequence or a time such as 2026-11-21T08:00:00Z"))
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| String::from("must be a time such as 2026-11-21T08:00:00Z"))
}

fn failure(error: StoreError) -> Failure {
    match error {
        StoreError::Invalid(reason) => Failure::Usage(reason),
        other => Failure::Failed(other.to_string()),
    }
}

fn anchor(text: &str) -> Result<Anchor, String> {
    Anchor::parse(text)
        .ok_or_else(|| String::from("must be a number, a colon and 64 hexadecimal digits, such as 17:9f86…"))
}
