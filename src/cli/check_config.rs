//! `tollgate check-config`: what is in effect, or what is wrong, or what another configuration would change.

use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::{ConfigArguments, Context};
use super::failure::{Failure, Outcome};
use super::output;
use super::table::{Column, or_dash, table};
use crate::config::{Config, effective_toml};
use crate::gateway::certificates;
use crate::gateway::countries::check_file;
use crate::gateway::reload::KeyChangeView;
use crate::telemetry;

/// Characters of a value that a table shows.
const VALUE_CHARACTERS_MAX: usize = 40;
/// Where help shows the flags that are for `--diff` alone.
const HEADING: &str = "With --diff";

/// Flags of `check-config`.
#[derive(Debug, Args)]
#[command(after_help = DIFF)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Say what would change: from what a running gateway goes by, or from FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    diff: Option<Option<PathBuf>>,
    /// Address of the running gateway's admin API; TOLLGATE_ADMIN_URL, or [server] admin_listen of the configuration when not
    /// given
    #[arg(long, visible_alias = "url", help_heading = HEADING, value_name = "URL", requires = "diff")]
    admin_url: Option<String>,
    /// Its admin token; TOLLGATE_ADMIN_TOKEN, a file or admin.token in the data directory when not given
    #[arg(long, visible_alias = "token", help_heading = HEADING, value_name = "TOKEN", requires = "diff")]
    admin_token: Option<String>,
    /// File with its admin token; TOLLGATE_ADMIN_TOKEN_FILE when not given
    #[arg(long, visible_alias = "token-file", help_heading = HEADING, value_name = "FILE", requires = "diff")]
    admin_token_file: Option<PathBuf>,
    /// Who vouches for its certificate (PEM); TOLLGATE_CA_FILE, or whom this machine trusts when not given
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "diff")]
    ca_file: Option<PathBuf>,
    /// Print JSON for scripts in place of a table
    #[arg(long, help_heading = HEADING, requires = "diff")]
    json: bool,
}

const DIFF: &str = "\
With --diff and no FILE the running gateway says what would change if it read its configuration again: with the file given by \
--config in place of its own file, or with its own. Its environment variables and flags stay on top, as they would. Nothing is \
changed. With a FILE two files are compared without a gateway: FILE is the one before, --config the one after (the built-in \
defaults when not given).

Exit code with --diff: 0 when nothing differs, 1 when something does, 2 when it can't be said, such as for a configuration that \
is not valid.";

/// Prints the effective configuration, or the differences that were asked for.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> Result<Outcome, Failure> {
    let Some(diff) = &arguments.diff else {
        let config = load(&arguments.config, context)?;
        let notes = certificates::check_files(&config.server, context.clock.now())
            .map_err(|error| Failure::Usage(error.to_string()))?;
        output::line(&effective_toml(&config)?)?;
        for note in notes {
            // As a comment, so that what is printed is a configuration.
            output::line(&format!("# {note}"))?;
        }
        return Ok(Outcome::Fine);
    };
    let found = match diff {
        Some(before) => between_files(before, &arguments.config, context),
        None => from_running(arguments, context).await,
    };
    // 1 says that there are differences.
    let found = found.map_err(|failure| Failure::Usage(failure.to_string()))?;
    if arguments.json {
        output::json(&found)?;
    } else {
        output::line(&told(&found))?;
    }
    let differs = found["changes"].as_array().is_some_and(|changes| !changes.is_empty());
    Ok(if differs { Outcome::Failed } else { Outcome::Fine })
}

fn load(arguments: &ConfigArguments, context: &Context) -> Result<Config, Failure> {
    let config = arguments.load(context, Vec::new())?;
    if let Some(path) = &config.routing.geoip_database {
        check_file(path).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    let variable = |name: &str| context.variable(name).map(String::from);
    telemetry::check_headers(&config.telemetry, variable).map_err(Failure::Usage)?;
    Ok(config)
}

fn between_files(before: &Path, after: &ConfigArguments, context: &Context) -> Result<Value, Failure> {
    let of_before = ConfigArguments { config: Some(before.to_owned()), data_dir: after.data_dir.clone() };
    let (before, after) = (load(&of_before, context)?, load(after, context)?);
    let changes = before.changes_to(&after)?.into_iter().map(|change| KeyChangeView::of(change, &[]));
    // A running gateway refuses it if what can change at once does not go with what can't.
    let refused = before.with_changeable(&after).validate().err().map(|error| error.to_string());
    Ok(json!({ "changes": changes.collect::<Vec<_>>(), "refused": refused, "unfit": [] }))
}

async fn from_running(arguments: &Arguments, context: &Context) -> Result<Value, Failure> {
    let its = AdminArguments {
        admin_url: arguments.admin_url.clone(),
        admin_token: arguments.admin_token.clone(),
        admin_token_file: arguments.admin_token_file.clone(),
        ca_file: arguments.ca_file.clone(),
        config: arguments.config.config.clone(),
        data_dir: arguments.config.data_dir.clone(),
        ..AdminArguments::default()
    };
    let body = match &arguments.config.config {
        Some(path) => json!({ "toml": its.text_of(path)? }),
        None => json!({}),
    };
    let admin = Admin::new(&its, context)?;
    admin.call(Method::POST, &["config", "check"], Some(&body)).await
}

/// What was found, for people.
fn told(found: &Value) -> String {
    let changes = found["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if changes.is_empty() {
        return String::from("no difference");
    }
    let columns = [Column::Left("key"), Column::Left("before"), Column::Left("after"), Column::Left("in force")];
    let rows: Vec<Vec<String>> = changes.iter().map(row).collect();
    let mut lines = vec![table(&columns, &rows)];
    for unfit in found["unfit"].as_array().into_iter().flatten() {
        let text = |key: &str| unfit[key].as_str().unwrap_or_default();
        lines.push(format!(
            "changed through the admin API, and not in force any more: {}: {}",
            text("what"),
            text("problem")
        ));
    }
    if let Some(refused) = found["refused"].as_str() {
        lines.push(format!("without a restart nothing of it would be put in force: {refused}"));
    }
    lines.join("\n")
}

fn row(change: &Value) -> Vec<String> {
    let when = match (change["takes_effect"].as_str(), change["overridden"].as_bool()) {
        (_, Some(true)) => "not while the admin API says otherwise",
        (Some("at_once"), _) => "at once",
        _ => "after a restart",
    };
    vec![
        or_dash(change["key"].as_str()),
        value_text(&change["before"]),
        value_text(&change["after"]),
        String::from(when),
    ]
}

fn value_text(value: &Value) -> String {
    let text = match value {
        Value::Null => return or_dash(None),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= VALUE_CHARACTERS_MAX {
        return text;
    }
    let kept: String = text.chars().take(VALUE_CHARACTERS_MAX - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::scripted::Scripted;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn arguments(diff: Option<Option<PathBuf>>, config: Option<PathBuf>, admin_url: &str) -> Arguments {
        let config = ConfigArguments { config, data_dir: None };
        let admin_token = Some(String::from("t"));
        Arguments {
            config,
            diff,
            admin_url: Some(admin_url.to_owned()),
            admin_token,
            admin_token_file: None,
            ca_file: None,
            json: false,
        }
    }

    #[tokio::test]
    async fn two_files_are_compared_without_a_gateway() {
        let context = Context::new(Vec::new());
        let before = file("[tiers.starter]\nburst = 30");
        let after = file("[tiers.starter]\nburst = 40\n[server]\nlisten = \"127.0.0.1:9\"");
        let found = between_files(
            before.path(),
            &ConfigArguments { config: Some(after.path().to_owned()), data_dir: None },
            &context,
        )
        .unwrap();
        let text = told(&found);
        let lines: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [
                vec!["server.listen", "127.0.0.1:8080", "127.0.0.1:9", "after", "a", "restart"],
                vec!["tiers.starter.burst", "30", "40", "at", "once"],
            ]
        );
        let ends = async |before: &Path, after: &Path| {
            let diff = Some(Some(before.to_owned()));
            run(&arguments(diff, Some(after.to_owned()), "http://127.0.0.1:1"), &context).await
        };
        assert_eq!(ends(before.path(), after.path()).await.unwrap(), Outcome::Failed);
        assert_eq!(ends(after.path(), after.path()).await.unwrap(), Outcome::Fine);
        let wrong = file("[server]\nbody_max_bytes = 1");
        assert!(matches!(ends(before.path(), wrong.path()).await, Err(Failure::Usage(_))));
    }

    #[tokio::test]
    async fn a_running_gateway_is_asked_about_the_text_of_a_file() {
        let context = Context::new(Vec::new());
        let none = r#"{"code":"SUCCESS","message":"","data":{"changes":[],"refused":null,"unfit":[]}}"#;
        let refused = r#"{"code":"INVALID_REQUEST","message":"no","request_id":"r"}"#;
        let server = Scripted::start(&[(200, none), (200, none), (400, refused)]).await;
        let wanted = file("[tiers.starter]\nburst = 30");
        let ask = async |file: Option<PathBuf>| run(&arguments(Some(None), file, &server.url), &context).await;
        assert_eq!(ask(Some(wanted.path().to_owned())).await.unwrap(), Outcome::Fine);
        assert_eq!(ask(None).await.unwrap(), Outcome::Fine);
        assert!(matches!(ask(None).await, Err(Failure::Usage(_))), "1 is for differences");
        let asked: Vec<Value> = server.asked().iter().map(|asked| asked.json()).collect();
        assert_eq!(asked[..2], [json!({ "toml": "[tiers.starter]\nburst = 30" }), json!({})]);
        assert_eq!(server.asked()[0].uri.path(), "/admin/v1/config/check");
    }

    #[test]
    fn what_is_overridden_and_what_would_be_refused_is_said() {
        let text = told(&json!({
            "changes": [{ "key": "channels.stripe.weight", "before": 100, "after": [1, 2], "takes_effect": "at_once",
                "overridden": true }],
            "refused": "routing.default_channel names no channel",
            "unfit": [{ "what": "rules.a", "problem": "names no channel" }],
        }));
        for part in
            ["[1,2]", "not while the admin API says otherwise", "rules.a: names no channel", "without a restart"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(value_text(&json!("é".repeat(50))).chars().count(), VALUE_CHARACTERS_MAX);
    }
}
