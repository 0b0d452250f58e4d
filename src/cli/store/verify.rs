//! Whether a backup, a data directory or an export is whole.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{described, failure, shown, storage_there};
use crate::cli::admin::AdminArguments;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output;
use crate::gateway::backups::{self, StoreError};
use crate::gateway::exports::{
    Anchor, AuditHead, ChainProblem, VerifiedDirectory, is_data_directory, verify_directory, verify_export,
};

/// What was found whole.
struct Found {
    /// `backup`, `data directory` or `export`.
    kind: &'static str,
    /// What is in it, in words.
    text: String,
    /// What is in it, for scripts.
    json: Value,
    audit: Result<AuditHead, ChainProblem>,
}

pub(super) fn run(
    admin: &AdminArguments,
    path: Option<PathBuf>,
    anchor: Option<Anchor>,
    context: &Context,
) -> Result<Outcome, Failure> {
    let path = match path {
        Some(path) => path,
        None => storage_there(admin, context)?.dir,
    };
    let found = verify(&path, anchor)?;
    let is_fine = found.audit.is_ok();
    if admin.json {
        output::json(&as_json(&path, found))?;
    } else {
        output::line(&format!("{} is whole ({}): {}", path.display(), found.kind, found.text))?;
        output::line(&audit_text(&found.audit))?;
    }
    Ok(if is_fine { Outcome::Fine } else { Outcome::Failed })
}

fn verify(path: &Path, anchor: Option<Anchor>) -> Result<Found, Failure> {
    let mut progress = shown("verifying");
    if path.is_file() {
        let verified = verify_export(path, anchor, &mut progress).map_err(failure)?;
        let summary = verified.summary;
        let (from, until, rows) = (summary.header.from, summary.until, summary.rows);
        let moment = if from == until { format!("sequence {until}") } else { format!("sequences {from} to {until}") };
        return Ok(Found {
            kind: "export",
            text: format!("{moment}, {rows} rows"),
            json: json!({ "from_sequence": from, "until_sequence": until, "rows": rows }),
            audit: verified.audit,
        });
    }
    if !path.is_dir() {
        return Err(Failure::Usage(format!("{} is not there", path.display())));
    }
    if path.join(backups::MANIFEST).exists() || !is_data_directory(path) {
        let verified = backups::verify(path, anchor, &mut progress).map_err(failure)?;
        let manifest = verified.manifest;
        return Ok(Found {
            kind: "backup",
            text: described(&manifest),
            json: json!({
                "first_sequence": manifest.first_sequence,
                "last_sequence": manifest.last_sequence,
                "last_time": manifest.last_time.rfc3339(),
            }),
            audit: verified.audit,
        });
    }
    let verified = verify_directory(path, anchor, &mut progress).map_err(|error| in_directory(path, error))?;
    Ok(Found {
        kind: "data directory",
        text: directory_text(&verified),
        json: json!({
            "journal_first_sequence": verified.journal_first,
            "segments": verified.segments,
            "last_sequence": verified.last_sequence,
            "base_from_sequence": verified.base_from,
            "torn": verified.torn.as_ref().map(|(file, offset)| json!({ "file": file, "byte": offset })),
            "held": verified.held.is_some(),
        }),
        audit: verified.audit,
    })
}

/// Who has it open may change it at any moment: what was read would say nothing.
fn in_directory(path: &Path, error: StoreError) -> Failure {
    match error {
        StoreError::Io { message, .. } if message == backups::IN_USE => Failure::Failed(format!(
            "a process has {} open: stop it, or verify a backup (`tollgate store backup DIR`, then `tollgate store verify \
             DIR`)",
            path.display()
        )),
        StoreError::Corrupt(what) => Failure::Failed(format!("{}: {what}", path.display())),
        other => failure(other),
    }
}

fn directory_text(verified: &VerifiedDirectory) -> String {
    let VerifiedDirectory { journal_first, segments, last_sequence, base_from, torn, held, .. } = verified;
    let mut text = match journal_first {
        None => String::from("an empty journal"),
        Some(first) => format!("a journal of {segments} segments, sequences {first} to {last_sequence}"),
    };
    if let Some(from) = base_from {
        text.push_str(&format!("; a base up to sequence {from}"));
    }
    if held.is_some() {
        text.push_str("; held");
    }
    if let Some((file, offset)) = torn {
        text.push_str(&format!(
            "; {file} ends at byte {offset} with a frame that a crash has torn and that was never acknowledged: the next \
             start cuts it off"
        ));
    }
    text
}

fn audit_text(audit: &Result<AuditHead, ChainProblem>) -> String {
    match audit {
        Ok(AuditHead { number: 0, .. }) => String::from("audit: no entries"),
        Ok(AuditHead { number, hash }) => format!("audit: {number} entries, none touched ({number}:{hash})"),
        Err(problem) => format!("audit: it can't be trusted: {problem}"),
    }
}

fn as_json(path: &Path, found: Found) -> Value {
    let Found { kind, mut json, audit, .. } = found;
    json["path"] = path.display().to_string().into();
    json["kind"] = kind.into();
    json["audit"] = match audit {
        Ok(AuditHead { number, hash }) => json!({ "intact": true, "number": number, "hash": hash }),
        Err(problem) => json!({ "intact": false, "problem": problem.to_string() }),
    };
    json
}
