//! The command line: one file a command. Commands write what they have to say to standard output and end with an exit
//! code; only `main` ends the process.

mod admin;
mod audit;
mod channel;
mod check_config;
mod client;
mod completions;
mod config_file;
mod context;
mod costs;
mod demo;
mod duration;
mod erasure;
mod examples;
mod export;
mod failure;
mod healthcheck;
mod list_filter;
mod log_level;
mod logs;
mod man;
mod merchant;
mod open_files;
mod openapi;
mod output;
mod paging;
mod payment;
mod pre_auth;
mod progress;
mod reload;
mod request;
mod routing;
mod rule;
mod running;
mod sandbox;
mod serve;
mod service_manager;
mod signals;
mod signer;
mod simulate;
mod status;
mod store;
mod style;
mod table;
mod untrusted;
mod usage;
mod watch;
mod webhook;

#[cfg(test)]
mod scripted;

use std::ffi::OsString;
use std::io;

use clap::{FromArgMatches, Parser, Subcommand};

use context::Context;
use failure::{Failure, Outcome};
use style::When;

/// Exit code of a command that failed.
const EXIT_FAILED: u8 = 1;
/// Exit code of wrong usage or configuration.
const EXIT_USAGE: u8 = 2;

/// A payment gateway in one process. Without a command it serves, as `tollgate serve` does.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, max_term_width = 100)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Arguments,
    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = When::Auto)]
    color: When,
    /// Whether errors are to be JSON.
    #[arg(skip)]
    errors_as_json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until it is told to stop.
    Serve(serve::Arguments),
    /// Run the whole gateway with demo merchants and sandbox channels, and show what happens.
    Demo(demo::Arguments),
    /// Run only the providers' emulators.
    Sandbox(sandbox::Arguments),
    /// Show how a running gateway does, on one screen; ends with 1 when it takes no requests.
    Status(status::Arguments),
    /// Sign one merchant request, send it, and print the answer.
    Request(request::Arguments),
    /// Add, list, change and remove merchants and their keys.
    Merchant(merchant::Arguments),
    /// List, change and check channels; make the sandbox's emulators misbehave.
    Channel(channel::Arguments),
    /// List, add, change, check and remove rules of the routing.
    Rule(rule::Arguments),
    /// Show and change how channels are chosen; go back to an earlier version.
    Routing(routing::Arguments),
    /// List payments; show one, and where it went and why.
    Payment(payment::Arguments),
    /// List pre-auths; show one, and what was asked of its channel.
    PreAuth(pre_auth::Arguments),
    /// List merchants' webhook endpoints and what is on its way to them; pause, enable, send again.
    Webhook(webhook::Arguments),
    /// Show who changed what, and check that nobody touched that record.
    Audit(audit::Arguments),
    /// Erase customers' data.
    Erasure(erasure::Arguments),
    /// Look at, back up, restore, check and move the store; end the hold after a restore.
    Store(store::Arguments),
    /// Show what payments have cost, beside one channel for all of them.
    Costs(costs::Arguments),
    /// Export payments, refunds or totals by day as CSV, for reconciliation.
    Export(export::Arguments),
    /// Say what traffic would cost, by mode and channel.
    Simulate(simulate::Arguments),
    /// Ask whether the gateway is ready, for containers and scripts; the exit code says it.
    Healthcheck(healthcheck::Arguments),
    /// Show what the running gateway logs, or change it, for a while or until the next change.
    LogLevel(log_level::Arguments),
    /// Check the configuration and print what is in effect, secrets hidden; or what another one would change.
    CheckConfig(check_config::Arguments),
    /// Let a running gateway read its configuration again; what can change while it runs is in force then.
    Reload(reload::Arguments),
    /// Print the OpenAPI document.
    Openapi(openapi::Arguments),
    /// Print what a shell reads to complete this command line.
    Completions(completions::Arguments),
    /// Print the manual page, or write one for each command.
    Man(man::Arguments),
}

impl CommandLine {
    /// Reads the arguments, the program's name first.
    ///
    /// # Errors
    /// The exit code, when help was asked for (0) or the arguments are wrong (2); what is to be said has been written.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, u8> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let colors = When::of(&arguments);
        let parsed = usage::parsed(&arguments, colors.for_clap()).and_then(|matches| {
            let errors_as_json = usage::wants_json(&matches);
            Ok(Self { errors_as_json, ..Self::from_arg_matches(&matches)? })
        });
        parsed.map_err(|error| {
            let is_wrong = error.use_stderr();
            let exit_code = if is_wrong { EXIT_USAGE } else { 0 };
            if is_wrong && arguments.iter().any(|argument| argument == "--json") {
                let text = error.render().to_string();
                // Its first paragraph; behind it stand tips for people.
                let told = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
                output::json_error(&Failure::Usage(told.to_owned()).json(exit_code));
            } else {
                // A closed pipe is no reason to fail differently.
                let _ = error.print();
            }
            exit_code
        })
    }
}

/// Runs a command with the process's environment variables and returns the exit code: 0 fine, 1 failed, 2 wrong usage or
/// configuration.
pub async fn run(command_line: CommandLine, environment: Vec<(String, String)>) -> u8 {
    let context = Context::new(environment);
    command_line.color.choose();
    let errors_as_json = command_line.errors_as_json;
    match Box::pin(dispatch(command_line.command.unwrap_or(Command::Serve(command_line.serve)), &context)).await {
        Ok(Outcome::Fine) => 0,
        Ok(Outcome::Failed) => EXIT_FAILED,
        Err(failure) => {
            let exit_code = match failure {
                Failure::Failed(_) | Failure::Refused { .. } => EXIT_FAILED,
                Failure::Usage(_) => EXIT_USAGE,
            };
            if errors_as_json {
                output::json_error(&failure.json(exit_code));
            } else {
                output::error(&failure.to_string());
            }
            exit_code
        }
    }
}

/// Says that the process could not even begin, and returns the exit code.
pub fn report_no_runtime(error: &io::Error) -> u8 {
    output::error(&format!("no threads can be started ({error}); check the limits on processes and files"));
    EXIT_FAILED
}

async fn dispatch(command: Command, context: &Context) -> Result<Outcome, Failure> {
    match command {
        Command::Serve(arguments) => Box::pin(serve::run(arguments, context)).await,
        Command::Demo(arguments) => demo::run(arguments, context).await,
        Command::Sandbox(arguments) => sandbox::run(arguments, context).await,
        Command::Status(arguments) => status::run(arguments, context).await,
        Command::Request(arguments) => request::run(arguments, context).await,
        Command::Merchant(arguments) => merchant::run(arguments, context).await,
        Command::Channel(arguments) => channel::run(arguments, context).await,
        Command::Rule(arguments) => rule::run(arguments, context).await,
        Command::Routing(arguments) => routing::run(arguments, context).await,
        Command::Payment(arguments) => payment::run(arguments, context).await,
        Command::PreAuth(arguments) => pre_auth::run(arguments, context).await,
        Command::Webhook(arguments) => webhook::run(arguments, context).await,
        Command::Audit(arguments) => audit::run(arguments, context).await,
        Command::Erasure(arguments) => erasure::run(arguments, context).await,
        Command::Store(arguments) => store::run(arguments, context).await,
        Command::Costs(arguments) => costs::run(arguments, context).await,
        Command::Export(arguments) => export::run(arguments, context).await,
        Command::Simulate(arguments) => simulate::run(&arguments, context).await,
        Command::Healthcheck(arguments) => healthcheck::run(arguments, context).await,
        Command::LogLevel(arguments) => log_level::run(arguments, context).await,
        Command::CheckConfig(arguments) => check_config::run(&arguments, context).await,
        Command::Openapi(arguments) => openapi::run(&arguments),
        Command::Reload(arguments) => reload::run(arguments, context).await,
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_code_2_and_help_is_not() {
        let parse = |line: &str| CommandLine::from_arguments(line.split(' ').map(OsString::from)).map(|_| ());
        assert_eq!(parse("tollgate merchant"), Err(EXIT_USAGE));
        assert_eq!(parse("tollgate no-such-command"), Err(EXIT_USAGE));
        assert_eq!(parse("tollgate request GET"), Err(EXIT_USAGE));
        assert_eq!(parse("tollgate --help"), Err(0));
        assert_eq!(parse("tollgate --version"), Err(0));
        assert_eq!(parse("tollgate check-config"), Ok(()));
        assert_eq!(parse("tollgate demo --payments 0"), Err(EXIT_USAGE));
        assert_eq!(parse("tollgate demo --seconds nan"), Err(EXIT_USAGE));
    }

    #[test]
    fn serve_is_the_default_command() {
        let parse = |line: &str| CommandLine::try_parse_from(line.split(' '));
        let serve = parse("tollgate --listen 127.0.0.1:1 --data-dir x").unwrap();
        assert!(serve.command.is_none());
        assert!(matches!(parse("tollgate serve --listen 127.0.0.1:1").unwrap().command, Some(Command::Serve(_))));
        assert!(parse("tollgate --listen nowhere").is_err());
    }
}
