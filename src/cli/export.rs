//! `tollgate export`: statements for reconciliation as CSV, to standard output or into a file that is whole or not there.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tempfile::NamedTempFile;

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::output;
use super::signals::Signals;

/// How often what has come so far is shown anew.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

/// Flags of `export`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// What to export
    #[arg(value_enum)]
    statement: Statement,
    /// From this day (UTC), such as 2026-01-01, or moment (RFC 3339) on
    #[arg(long, value_name = "DAY", value_parser = NonEmptyStringValueParser::new())]
    from: String,
    /// Before this day or moment; now when not given
    #[arg(long, value_name = "DAY", value_parser = NonEmptyStringValueParser::new())]
    to: Option<String>,
    /// Only this merchant's
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    merchant: Option<String>,
    /// Into this file, which is then complete; standard output when not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Statement {
    /// A row a payment or capture of a pre-auth
    Payments,
    /// A row a refund
    Refunds,
    /// Totals by day, channel and currency
    Fees,
}

/// Asks the admin API and writes what comes while it comes.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let statement = match arguments.statement {
        Statement::Payments => "payments",
        Statement::Refunds => "refunds",
        Statement::Fees => "fees",
    };
    let admin = Admin::new(&arguments.admin, context)?;
    let mut query = vec![("from", arguments.from.as_str())];
    query.extend(arguments.to.as_deref().map(|to| ("to", to)));
    query.extend(arguments.merchant.as_deref().map(|merchant| ("merchant_id", merchant)));
    let mut download = admin.download(&["exports", statement], &query).await?;
    let mut target = Target::open(arguments.output.as_deref())?;
    let mut counted = Counted::default();
    // Not among the rows.
    let is_shown = arguments.output.is_some() || !std::io::stdout().is_terminal();
    let progress = if is_shown { progress() } else { ProgressBar::hidden() };
    let mut signals = matches!(target, Target::File(..)).then(Signals::listen).transpose()?;
    loop {
        let part = tokio::select! {
            part = download.part() => part?,
            // What has come is dropped with its file, which nobody would look for.
            () = asked_to_end(&mut signals) => {
                return Err(Failure::Failed(String::from("stopped before all of it had come; nothing was written")));
            }
        };
        let Some(part) = part else { break };
        counted.take(&part);
        progress.set_position(counted.rows());
        if !target.write(&part)? {
            // Whoever reads has had enough.
            return Ok(Outcome::Fine);
        }
    }
    progress.finish_and_clear();
    target.finish()?;
    if let Some(path) = arguments.output {
        let (rows, bytes) = (counted.rows(), counted.bytes);
        if arguments.admin.json {
            output::json(&json!({ "file": path.display().to_string(), "rows": rows, "bytes": bytes }))?;
        } else {
            output::note(&format!("{}: {rows} rows, {bytes} bytes", path.display()));
        }
    }
    Ok(Outcome::Fine)
}

/// Ready when the process is asked to end, which the end of its terminal does not mean; never where it ends by itself then.
async fn asked_to_end(signals: &mut Option<Signals>) {
    match signals {
        Some(signals) => signals.stop().await,
        None => std::future::pending().await,
    }
}

/// What has come so far, on a terminal; nothing elsewhere.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let bar = match ProgressStyle::with_template("{spinner} {human_pos} rows, {per_sec}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    bar.enable_steady_tick(SHOWN_EVERY);
    bar
}

/// Where an export goes.
enum Target {
    Standard(std::io::Stdout),
    /// A pipe, a device: what is there stays there.
    Stream(File, PathBuf),
    /// Beside its place until it is complete; with the permissions of what it replaces.
    File(NamedTempFile, PathBuf, Option<Permissions>),
}

impl Target {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::Standard(std::io::stdout())) };
        let (path, permissions) = match std::fs::metadata(path) {
            Ok(there) if there.is_file() => {
                // Where a link points to, so that the link stays one.
                let place = std::fs::canonicalize(path).map_err(|error| not_written(path, &error))?;
                (place, Some(there.permissions()))
            }
            Ok(there) if !there.is_dir() => {
                let file = File::options().write(true).open(path).map_err(|error| not_taken(path, &error))?;
                return Ok(Self::Stream(file, path.to_owned()));
            }
            _ => (path.to_owned(), None),
        };
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = NamedTempFile::new_in(directory).map_err(|error| not_written(&path, &error))?;
        Ok(Self::File(file, path, permissions))
    }

    /// Writes a part; says whether there is still somebody to read it.
    fn write(&mut self, part: &[u8]) -> Result<bool, Failure> {
        match self {
            Self::Standard(target) => match target.lock().write_all(part) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
                Err(error) => {
                    Err(Failure::Failed(format!("the export can't be written ({error}); check where the output goes")))
                }
            },
            Self::Stream(target, path) => match target.write_all(part) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
                Err(error) => Err(not_taken(path, &error)),
            },
            Self::File(file, path, _) => match file.write_all(part) {
                Ok(()) => Ok(true),
                Err(error) => Err(not_written(path, &error)),
            },
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Standard(mut target) => match target.flush() {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    Err(Failure::Failed(format!("the export can't be written ({error}); check where the output goes")))
                }
                _ => Ok(()),
            },
            Self::Stream(mut target, path) => target.flush().map_err(|error| not_taken(&path, &error)),
            Self::File(file, path, permissions) => {
                if let Some(permissions) = permissions {
                    file.as_file().set_permissions(permissions).map_err(|error| not_written(&path, &error))?;
                }
                file.as_file().sync_all().map_err(|error| not_written(&path, &error))?;
                file.persist(&path).map_err(|error| not_written(&path, &error.error))?;
                Ok(())
            }
        }
    }
}

fn not_written(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("{} can't be written ({error}); nothing was left there", path.display()))
}

fn not_taken(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("{} can't be written to ({error}); what it took is not complete", path.display()))
}

/// How much has come.
#[derive(Debug, Default)]
struct Counted {
    bytes: u64,
    /// Line ends outside of quotes, the header's included.
    lines: u64,
    is_quoted: bool,
}

impl Counted {
    fn take(&mut self, part: &[u8]) {
        self.bytes += part.len() as u64;
        for byte in part {
            match byte {
                b'"' => self.is_quoted = !self.is_quoted,
                b'\n' if !self.is_quoted => self.lines += 1,
                _ => {}
            }
        }
    }

    fn rows(&self) -> u64 {
        self.lines.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_across_parts_and_line_ends_within_quotes_are_none() {
        let mut counted = Counted::default();
        for part in ["a,b\r\n1,\"x\r", "\ny \"\"z\"\" \n\"", "\r\n2,3\r\n"] {
            counted.take(part.as_bytes());
        }
        assert_eq!((counted.rows(), counted.bytes), (2, 28));
        assert_eq!(Counted::default().rows(), 0);
    }

    #[test]
    fn a_file_is_complete_or_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        let mut target = Target::open(Some(&path)).unwrap();
        assert!(target.write(b"a\r\n").unwrap());
        drop(target);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let mut target = Target::open(Some(&path)).unwrap();
        target.write(b"a\r\n").unwrap();
        target.write(b"1\r\n").unwrap();
        assert!(!path.exists());
        target.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"a\r\n1\r\n");
        assert!(Target::open(Some(&directory.path().join("none/a.csv"))).is_err());
    }

    #[test]
    fn a_link_and_its_targets_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};

        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("a.csv"), directory.path().join("link.csv"));
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        symlink("a.csv", &link).unwrap();
        let mut target = Target::open(Some(&link)).unwrap();
        target.write(b"a\r\n").unwrap();
        target.finish().unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&path).unwrap(), b"a\r\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_pipe_stays_one_and_is_written_to() {
        use std::os::unix::fs::FileTypeExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || std::fs::read(path).unwrap()
        });
        let mut target = Target::open(Some(&path)).unwrap();
        assert!(std::fs::metadata(&path).unwrap().file_type().is_fifo());
        assert!(target.write(b"a\r\n").unwrap());
        target.finish().unwrap();
        assert_eq!(reader.join().unwrap(), b"a\r\n");
    }
}
