//! `tollgate simulate`: what traffic would have cost, by mode and channel. Every line goes through the same pure decision as a
//! payment, over a table made from the configuration, or from what is in force in a running gateway; nothing is sent.

mod chart;
mod engine;
mod in_force;
mod report;
mod traffic;

use std::fs::File;
use std::io::{BufReader, IsTerminal, Read};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::admin::{Admin, AdminArguments};
use super::context::{ConfigArguments, Context};
use super::failure::{Failure, Outcome};
use super::output;
use crate::config::Config;
use crate::domain::routing::RoutingMode;
use crate::domain::time::{Day, Timestamp};

use engine::{Settings, Simulation, SuccessRate};
use report::Report;
pub(super) use report::share;
use traffic::Traffic;

/// Flags of `simulate`.
#[derive(Debug, Args)]
#[command(after_help = FORMAT)]
pub(super) struct Arguments {
    /// Traffic: CSV with a header, or JSON lines; - for standard input
    #[arg(long, value_name = "FILE")]
    traffic: PathBuf,
    /// Mode to route with; may be given several times, all four when not given
    #[arg(long, value_name = "MODE")]
    mode: Vec<ModeName>,
    /// Channel to compare with: what every payment would cost there, whatever its method
    #[arg(long, value_name = "CHANNEL")]
    against: Option<String>,
    /// Share of payments that a channel approves, from 0 to 1, such as stripe=0.95; may be given for each channel
    #[arg(long, value_name = "CHANNEL=SHARE")]
    success: Vec<SuccessRate>,
    /// Day (UTC) whose fees are in force; today when not given
    #[arg(long, value_name = "DAY")]
    at: Option<Day>,
    /// Seed of the random numbers that share load among equals
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Show the first 1,000 lines of the traffic one by one, too
    #[arg(long)]
    lines: bool,
    /// Write a bar chart
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON for scripts in place of tables
    #[arg(long)]
    json: bool,
    /// Rules, channels with their fees, and routing as they are in force in a running gateway, in place of the file's
    #[arg(long)]
    in_force: bool,
    /// Address of that gateway's admin API; TOLLGATE_ADMIN_URL, or [server] admin_listen of the configuration when not given
    #[arg(long, visible_alias = "url", value_name = "URL", requires = "in_force")]
    admin_url: Option<String>,
    /// Its admin token; TOLLGATE_ADMIN_TOKEN, a file or admin.token in the data directory when not given
    #[arg(long, visible_alias = "token", value_name = "TOKEN", requires = "in_force")]
    admin_token: Option<String>,
    /// File with its admin token; TOLLGATE_ADMIN_TOKEN_FILE when not given
    #[arg(long, visible_alias = "token-file", value_name = "FILE", requires = "in_force")]
    admin_token_file: Option<PathBuf>,
    /// Who vouches for its certificate (PEM); TOLLGATE_CA_FILE, or whom this machine trusts when not given
    #[arg(long, value_name = "FILE", requires = "in_force")]
    ca_file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArguments,
}

const FORMAT: &str = "\
Columns of the traffic: amount (or amount_minor) in MINOR units such as cents, currency, and if known country, card_country, \
merchant_country, method, tier, and count (so many such payments; 1 when not given). Lines that begin with # are skipped.

Fees are those of payments that go through, and of the whole file in one month: the volume that a channel got earlier in the \
file chooses its tier. --success is what the router knows of a channel (as if its window were full of such outcomes) and gives \
the expected approvals; without it all channels are equally good. Breakers are closed, nothing is in flight, caps do not \
bite, and no channel is being maintained.";

/// A mode as it is given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeName {
    Balanced,
    Cost,
    Success,
    Geographic,
}

impl From<ModeName> for RoutingMode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Balanced => Self::Balanced,
            ModeName::Cost => Self::Cost,
            ModeName::Success => Self::Success,
            ModeName::Geographic => Self::Geographic,
        }
    }
}

/// Routes the traffic and says what it costs.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> Result<Outcome, Failure> {
    let gateway = AdminArguments {
        admin_url: arguments.admin_url.clone(),
        admin_token: arguments.admin_token.clone(),
        admin_token_file: arguments.admin_token_file.clone(),
        ca_file: arguments.ca_file.clone(),
        config: arguments.config.file(context),
        data_dir: arguments.config.data_dir.clone(),
        ..AdminArguments::default()
    };
    let file_text = gateway.config.as_deref().map(|file| gateway.text_of(file)).transpose()?;
    let mut config = arguments.config.load_with(context, Vec::new(), file_text)?;
    let mut version = None;
    if arguments.in_force {
        let admin = Admin::new(&gateway, context)?;
        let (in_force, its_version) = in_force::put_on(&config, &admin).await?;
        (config, version) = (in_force, Some(its_version));
    }
    let settings = Settings { version, ..settings(arguments, &config, context.clock.now()) };
    let simulation = Simulation::new(&config, &settings)?;
    let report = read(arguments, simulation)?;
    if let Some(path) = &arguments.svg {
        std::fs::write(path, chart::svg(&report)).map_err(|error| {
            Failure::Failed(format!("the chart can't be written to {} ({error}); name another file", path.display()))
        })?;
    }
    if arguments.json {
        output::json(&report.json())?
    } else {
        output::line(&report.text())?
    }
    Ok(Outcome::Fine)
}

fn settings(arguments: &Arguments, config: &Config, now: Timestamp) -> Settings {
    let mut modes: Vec<RoutingMode> = Vec::new();
    for mode in arguments.mode.iter().copied().map(RoutingMode::from) {
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    if modes.is_empty() {
        modes = ModeName::value_variants().iter().copied().map(RoutingMode::from).collect();
    }
    Settings {
        modes,
        against: arguments.against.clone().unwrap_or_else(|| config.routing.baseline_channel().to_owned()),
        success: arguments.success.clone(),
        version: None,
        at: arguments.at.map_or(now, Day::start),
        seed: arguments.seed,
        keeps_lines: arguments.lines,
    }
}

fn read(arguments: &Arguments, mut simulation: Simulation) -> Result<Report, Failure> {
    let path = &arguments.traffic;
    let is_stdin = path.as_os_str() == "-";
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::Usage(format!("the traffic {} can't be read ({error}); name a file", path.display()))
    };
    let source: Box<dyn Read> = if is_stdin {
        if std::io::stdin().is_terminal() {
            output::note("reading traffic from standard input");
        }
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).map_err(|error| unreadable(&error))?)
    };
    let mut traffic = Traffic::new(BufReader::with_capacity(1 << 16, source));
    let at_line = |number: u64, what: &str| Failure::Usage(format!("{}, line {number}: {what}", path.display()));
    while let Some(line) = traffic.next_line() {
        let line = line.map_err(|wrong| at_line(wrong.line, &wrong.what))?;
        simulation.take(&line).map_err(|what| at_line(line.number, &what))?;
    }
    if simulation.is_empty() {
        return Err(unreadable(&"there are no payments in it"));
    }
    simulation.report().map_err(|what| unreadable(&what))
}
