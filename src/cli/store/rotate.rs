//! Rotation of the master key.

use reqwest::Method;
use serde_json::Value;

use super::{LOOK_WAIT, counted, failure, storage_there};
use crate::cli::admin::{Admin, AdminArguments};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::progress::Bar;
use crate::domain::audit::Operator;
use crate::gateway::OpenError;
use crate::gateway::rotation::rotate_offline;

pub(super) async fn run(admin: &AdminArguments, offline: bool, context: &Context) -> Result<(), Failure> {
    let view = if offline { rotated_offline(admin, context).await? } else { rotated(admin, context).await? };
    say_rotated(admin, &view)
}

async fn rotated(admin: &AdminArguments, context: &Context) -> Result<Value, Failure> {
    let gateway = Admin::new(admin, context)?;
    let path = ["store", "rotate-key"];
    let mut view = gateway.call(Method::POST, &path, None).await?;
    let bar = Bar::count("secrets sealed again");
    while view["state"] == "running" {
        tokio::time::sleep(LOOK_WAIT).await;
        view = gateway.call(Method::GET, &path, None).await?;
        bar.show_count(view["resealed"].as_u64().unwrap_or(0));
    }
    Ok(view)
}

async fn rotated_offline(admin: &AdminArguments, context: &Context) -> Result<Value, Failure> {
    storage_there(admin, context)?;
    let by = Operator::process("rotation");
    let view = rotate_offline(admin.config(context)?, context.clock.clone(), context.random.clone(), &by).await;
    let view = view.map_err(|error| match error {
        OpenError::Store(error) => failure(error),
        other => Failure::Failed(other.to_string()),
    })?;
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
    let number = |name: &str| view[name].as_u64().unwrap_or(0);
    let resealed = counted(number("resealed"), "secret");
    output::line(&format!("{resealed} sealed again under the new master key {}", text("key_id")))?;
    if number("unreadable") > 0 {
        let left = counted(number("unreadable"), "record");
        output::line(&format!("{left} could not be read and stayed as they were; the log names them"))?;
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
