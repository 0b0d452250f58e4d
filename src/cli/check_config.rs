//! `tollgate check-config`: what is in effect, or what is wrong.

use clap::Args;

use super::context::{ConfigArguments, Context};
use super::failure::{Failure, Outcome};
use super::output;
use crate::config::effective_toml;
use crate::gateway::certificates;
use crate::gateway::countries::check_file;

/// Flags of `check-config`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

/// Prints the effective configuration.
pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<Outcome, Failure> {
    let config = arguments.config.load(context, Vec::new())?;
    if let Some(path) = &config.routing.geoip_database {
        check_file(path).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    let notes = certificates::check_files(&config.server, context.clock.now())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    output::line(&effective_toml(&config)?)?;
    for note in notes {
        // As a comment, so that what is printed is a configuration.
        output::line(&format!("# {note}"))?;
    }
    Ok(Outcome::Fine)
}
