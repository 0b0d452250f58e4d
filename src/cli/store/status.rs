//! How the store stands.

use reqwest::Method;
use serde_json::Value;

use super::{failure, storage_there};
use crate::cli::admin::{Admin, AdminArguments};
use crate::cli::context::Context;
use crate::cli::duration::duration_text;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::table::{Column, or_dash, table};
use crate::gateway::store::StoreView;

pub(super) async fn online(admin: &AdminArguments, context: &Context) -> Result<(), Failure> {
    let view = Admin::new(admin, context)?.call(Method::GET, &["store"], None).await?;
    show(admin, &view)
}

pub(super) fn offline(admin: &AdminArguments, context: &Context) -> Result<(), Failure> {
    let storage = storage_there(admin, context)?;
    let view = StoreView::offline(&storage, context.clock.now()).map_err(failure)?;
    let view = serde_json::to_value(view)
        .map_err(|error| Failure::Failed(format!("what was found can't be written as JSON: {error}")))?;
    show(admin, &view)
}

fn show(admin: &AdminArguments, view: &Value) -> Result<(), Failure> {
    if admin.json { output::json(view) } else { output::line(&status_table(view)) }
}

fn status_table(view: &Value) -> String {
    let row = |name: &str, text: String| vec![String::from(name), text];
    let number = |value: &Value| or_dash(value.as_u64().map(|number| number.to_string()).as_deref());
    let (base, journal) = (&view["base"], &view["journal"]);
    let mut rows = vec![
        row("directory", or_dash(view["directory"].as_str())),
        row("in use", yes_no(&view["in_use"])),
        row("format", number(&view["format"])),
        row("committed", number(&view["committed_sequence"])),
        row("applied", number(&view["applied_sequence"])),
        row("checkpoint", number(&view["checkpoint_sequence"])),
        row("base from", number(&base["from_sequence"])),
        row("base age", base["age_s"].as_u64().map_or_else(|| or_dash(None), duration_text)),
        row("base size", size(&base["bytes"])),
        row("journal from", number(&journal["first_sequence"])),
        row("journal segments", number(&journal["segments"])),
        row("journal size", size(&journal["bytes"])),
        row("index size", size(&view["index_bytes"])),
        row("free", format!("{}{}", size(&view["free_bytes"]), low_note(view))),
        row("accepts new work", yes_no(&view["accepts_new"])),
        row("failed", or_dash(view["poisoned"].as_str())),
        row("held", yes_no(&view["held"])),
    ];
    for remark in view["remarks"].as_array().into_iter().flatten() {
        rows.push(row("remark", or_dash(remark.as_str())));
    }
    table(&[Column::Left("store"), Column::Left("")], &rows)
}

fn low_note(view: &Value) -> &'static str {
    if view["low_space"] == true { " (low: new work is refused)" } else { "" }
}

fn yes_no(value: &Value) -> String {
    or_dash(value.as_bool().map(|is_so| if is_so { "yes" } else { "no" }))
}

/// Bytes as people read them.
fn size(value: &Value) -> String {
    let Some(bytes) = value.as_u64() else { return or_dash(None) };
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        None => format!("{bytes} B"),
        Some((shift, unit)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_figure_has_a_line() {
        let view = json!({ "directory": "/data", "in_use": true, "format": 1, "committed_sequence": 70,
            "applied_sequence": 69, "checkpoint_sequence": 60,
            "base": { "from_sequence": 50, "made_at": "2025-01-24T10:40:00Z", "age_s": 7_300, "bytes": 1_572_864 },
            "journal": { "first_sequence": 3, "segments": 2, "bytes": 2048 }, "index_bytes": 12, "free_bytes": 5u64 << 30,
            "low_space": true, "accepts_new": false, "poisoned": "a sync failed", "held": true, "remarks": ["look here"] });
        let text = status_table(&view);
        let line = |name: &str| {
            let found = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            found[name.len()..].trim().to_owned()
        };
        for (name, value) in [
            ("directory", "/data"),
            ("committed", "70"),
            ("applied", "69"),
            ("checkpoint", "60"),
            ("base from", "50"),
            ("base age", "2 h"),
            ("base size", "1.5 MiB"),
            ("journal segments", "2"),
            ("journal size", "2.0 KiB"),
            ("index size", "12 B"),
            ("free", "5.0 GiB (low: new work is refused)"),
            ("accepts new work", "no"),
            ("failed", "a sync failed"),
            ("held", "yes"),
            ("remark", "look here"),
        ] {
            assert_eq!(line(name), value, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let text = status_table(&json!({ "format": 1, "base": null, "remarks": [] }));
        for name in ["applied", "base from", "base age", "base size", "free", "failed"] {
            assert!(text.lines().any(|line| line.starts_with(name) && line.ends_with(" -")), "{name}: {text}");
        }
    }
}
