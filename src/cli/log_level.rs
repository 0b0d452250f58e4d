//! `tollgate log-level`: what the running gateway logs, through the admin API.

use clap::Args;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::output;

/// Flags of `log-level`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// What to log from now on: off, error, warn, info, debug, trace, or a list such as info,tollgate::delivery=debug.
    /// Without it, what is logged is shown
    filter: Option<String>,
    /// Put back what the configuration says after this time, such as 90s, 10m or 2h
    #[arg(long = "for", value_name = "TIME", value_parser = seconds, requires = "filter")]
    for_s: Option<u64>,
    /// Put back what the configuration says now
    #[arg(long, conflicts_with = "filter")]
    reset: bool,
}

fn seconds(text: &str) -> Result<u64, String> {
    let parsed: SignedDuration = text.parse().map_err(|_| String::from("not a time such as 90s, 10m or 2h"))?;
    match u64::try_from(parsed.as_secs()) {
        Ok(seconds @ 1..=86_400) => Ok(seconds),
        _ => Err(String::from("must be from 1s to 24h")),
    }
}

/// Shows or changes what is logged.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let path = ["log-level"];
    let value = match &arguments.filter {
        None if !arguments.reset => admin.get(&path, &[]).await?,
        filter => {
            let body = json!({ "filter": filter, "for_s": arguments.for_s });
            admin.call(Method::PUT, &path, Some(&body)).await?
        }
    };
    if arguments.admin.json {
        output::json(&value)?;
    } else {
        output::line(&text_of(&value))?;
    }
    Ok(Outcome::Fine)
}

fn text_of(value: &Value) -> String {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let (filter, configured) = (text("filter").unwrap_or_default(), text("configured_filter").unwrap_or_default());
    match text("until") {
        Some(until) => format!("{filter} (until {until}, then {configured} as configured)"),
        None if filter == configured => format!("{filter} (as configured)"),
        None => format!("{filter} (configured: {configured}; --reset puts that back)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_bounds() {
        for (text, expected) in [("90s", 90), ("10m", 600), ("2h", 7_200), ("1h30m", 5_400), ("24h", 86_400)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "10", "0s", "-5m", "25h", "soon", "100ms"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_logged_is_said_with_what_comes_back() {
        let told = |filter: &str, until: Option<&str>| {
            text_of(&json!({ "filter": filter, "configured_filter": "info", "until": until }))
        };
        assert_eq!(told("info", None), "info (as configured)");
        assert_eq!(told("debug", None), "debug (configured: info; --reset puts that back)");
        assert_eq!(told("debug", Some("T")), "debug (until T, then info as configured)");
    }
}
