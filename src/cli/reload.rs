//! `tollgate reload`: the running gateway reads its configuration again.

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::paging;

/// Flags of `reload`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
}

/// Asks for it, and prints what came of each key that has changed. Failed when a file that the configuration names can't be
/// used.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let reloaded = admin.call(Method::POST, &["config", "reload"], None).await?;
    paging::print(&reloaded, arguments.admin.json, reloaded_text)?;
    let is_refused = reloaded["refused"].as_array().is_some_and(|refused| !refused.is_empty());
    Ok(if is_refused { Outcome::Failed } else { Outcome::Fine })
}

fn reloaded_text(reloaded: &Value) -> String {
    let items = |key: &str| reloaded[key].as_array().into_iter().flatten();
    let texts = |key: &str| items(key).filter_map(Value::as_str).map(String::from).collect::<Vec<_>>();
    let mut lines = Vec::new();
    lines.extend(texts("applied").into_iter().map(|key| format!("in force now     {key}")));
    lines.extend(texts("needs_restart").into_iter().map(|key| format!("needs a restart  {key}")));
    let unfit = items("unfit").map(|unfit| {
        let text = |key: &str| unfit[key].as_str().unwrap_or("-").to_owned();
        format!("not in force     {}: {}", text("what"), text("problem"))
    });
    lines.extend(unfit);
    let refused = items("refused").filter_map(|refused| refused["problem"].as_str());
    lines.extend(refused.map(|problem| format!("not taken up     {problem}")));
    if lines.is_empty() { String::from("the configuration has not changed") } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_key_says_what_came_of_it() {
        let reloaded = json!({ "applied": ["telemetry.log"], "needs_restart": ["server.listen"],
            "unfit": [{ "what": "rules.a", "problem": "names no channel" }],
            "refused": [{ "key": "server.tls_key", "problem": "server.tls_key: /k is damaged" }] });
        let text = reloaded_text(&reloaded);
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "in force now     telemetry.log",
            "needs a restart  server.listen",
            "not in force     rules.a: names no channel",
            "not taken up     server.tls_key: /k is damaged",
        ];
        assert_eq!(lines, expected);
        assert!(reloaded_text(&json!({ "applied": [], "needs_restart": [], "unfit": [] })).contains("not changed"));
    }
}
