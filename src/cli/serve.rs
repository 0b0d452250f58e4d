//! `tollgate serve`: the gateway until it is told to stop.

use std::net::SocketAddr;

use clap::Args;

use super::context::{ConfigArguments, Context, override_of};
use super::failure::{Failure, Outcome};
use super::open_files;
use super::running::RunningGateway;
use super::signals::{Asked, Signals};
use crate::config::Config;
use crate::telemetry;

/// Flags of `serve`.
#[derive(Debug, Default, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Address of the merchants' listener, in place of [server] listen
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Address of the operator's listener, in place of [server] admin_listen
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<SocketAddr>,
}

impl Arguments {
    fn load(&self, context: &Context) -> Result<Config, Failure> {
        let flags =
            [("--listen", "server.listen", self.listen), ("--admin-listen", "server.admin_listen", self.admin_listen)];
        let given = flags.into_iter().filter_map(|(flag, path, address)| Some((flag, path, address?)));
        let overrides = given.map(|(flag, path, address)| override_of(flag, path, address.to_string())).collect();
        self.config.load(context, overrides)
    }
}

/// Runs the gateway until SIGTERM or SIGINT, then stops it in good order.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let mut config = arguments.load(context)?;
    let loaded = config.clone();
    telemetry::init(&config.telemetry).map_err(|error| Failure::Usage(error.to_string()))?;
    open_files::prepare(&mut config);
    let mut signals = Signals::listen()?;
    let running = RunningGateway::start(config.clone(), context).await?;
    tracing::info!(
        listen = %running.address,
        admin_listen = %running.admin_address,
        mode = ?config.mode,
        data_dir = %config.storage.dir.display(),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    let failure = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break None,
                Asked::Reload => check_again(&arguments, context, &loaded),
            },
            reason = running.gateway.failed() => break Some(reason),
        }
    };
    if let Some(reason) = failure {
        // The store takes nothing more, so there is nothing to drain; what was acknowledged is safe.
        return Err(Failure::Failed(format!("{reason}; start it again, it recovers what was acknowledged")));
    }
    tracing::info!("stopping");
    running.stop().await?;
    tracing::info!("stopped");
    Ok(Outcome::Fine)
}

/// Reads the configuration again and says in the log what it is worth. What is running keeps what it started with.
fn check_again(arguments: &Arguments, context: &Context, running: &Config) {
    match arguments.load(context) {
        Ok(config) if config == *running => tracing::info!("the configuration has not changed"),
        Ok(_) => tracing::warn!("the configuration has changed and is valid; start the gateway again to use it"),
        Err(failure) => tracing::error!(problem = %failure, "the configuration has changed and can't be used"),
    }
}
