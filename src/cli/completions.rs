//! `tollgate completions`: what a shell reads to complete the command line.

use clap::Args;
use clap_complete::Shell;

use super::failure::{Failure, Outcome};
use super::output;
use super::usage;

/// Flags of `completions`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut usage::command(), "tollgate", &mut script);
    output::bytes(&script)?;
    Ok(Outcome::Fine)
}
