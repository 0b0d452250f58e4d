//! What is held after a restore, as it is shown.

use serde_json::Value;

use crate::cli::admin::AdminArguments;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::table::{Column, table};

pub(super) fn show_hold(admin: &AdminArguments, hold: &Value) -> Result<(), Failure> {
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
    output::line(&format!(
        "providers are asked about everything since {}",
        hold["asked_since"].as_str().unwrap_or("-")
    ))?;
    let channels = hold["channels"].as_array().cloned().unwrap_or_default();
    let columns = [
        Column::Left("Channel"),
        Column::Left("State"),
        Column::Right("Objects"),
        Column::Right("Agreeing"),
        Column::Right("Adopted"),
        Column::Right("Foreign"),
        Column::Right("Pre-auths"),
        Column::Right("To look at"),
    ];
    let rows: Vec<Vec<String>> = channels
        .iter()
        .map(|channel| {
            let text = |name: &str| channel[name].as_str().unwrap_or("-").to_owned();
            let number = |name: &str| channel[name].to_string();
            let items = channel["items"].as_array().map_or(0, Vec::len).to_string();
            let counts = ["objects", "agreeing", "adopted", "foreign", "pre_auths"].map(number);
            [text("channel"), text("state")].into_iter().chain(counts).chain([items]).collect()
        })
        .collect();
    output::line(&table(&columns, &rows))?;
    for channel in &channels {
        let name = channel["channel"].as_str().unwrap_or("-");
        if let Some(until) = channel["waiting_until"].as_str() {
            output::line(&format!(
                "{name}: waiting until {until}, because requests of the process before may take effect until then"
            ))?;
        }
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
