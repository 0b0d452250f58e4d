//! `tollgate sandbox`: the provider emulators alone, for people who test their own integration.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::context::{ConfigArguments, Context, listen_address};
use super::failure::{Failure, Outcome};
use super::logs;
use super::output;
use super::signals::Signals;
use crate::config::Config;
use crate::sandbox::{Sandbox, SandboxOptions, serve_control};
use crate::telemetry;

/// Flags of `sandbox`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address of the control server
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090", value_parser = listen_address)]
    listen: SocketAddr,
    /// Where the emulators' notifications go, URL/callbacks/CHANNEL; nowhere when not given, until a gateway registers
    /// itself by PUT /control/callbacks {"url": …}, as `serve` does with [sandbox] url
    #[arg(long, value_name = "URL")]
    callbacks: Option<String>,
    /// Configuration file with faults in [sandbox.CHANNEL]
    #[command(flatten)]
    config: ConfigArguments,
}

/// Runs the emulators until SIGTERM or SIGINT.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let config = arguments.config.load(context, Vec::new())?;
    let logs = telemetry::init(&config.telemetry).map_err(|error| Failure::Usage(error.to_string()))?;
    logs::written(&logs, serve(arguments, config, context).await)
}

async fn serve(arguments: Arguments, config: Config, context: &Context) -> Result<Outcome, Failure> {
    let mut signals = Signals::listen()?;
    let faults = config.sandbox.map(|section| section.faults).unwrap_or_default();
    let options = SandboxOptions { faults, ..SandboxOptions::new(context.clock.clone(), context.random.clone()) };
    let sandbox = Sandbox::start(options).map_err(|error| Failure::Failed(error.to_string()))?;
    sandbox
        .set_callbacks(arguments.callbacks.as_deref())
        .map_err(|error| Failure::Usage(format!("--callbacks can't be used: {error}")))?;
    let sandbox = Arc::new(sandbox);
    let listener = TcpListener::bind(arguments.listen).await.map_err(|error| {
        Failure::Failed(format!("{} can't be listened on ({error}); give another with --listen", arguments.listen))
    })?;
    let address = listener.local_addr().map_err(|error| Failure::Failed(error.to_string()))?;
    output::line(&format!("control  http://{address}/control"))?;
    for (channel, url) in sandbox.urls() {
        output::line(&format!("{channel:<8} {url}"))?;
    }
    let shutdown = CancellationToken::new();
    let control = serve_control(listener, Arc::clone(&sandbox), shutdown.clone().cancelled_owned());
    tokio::pin!(control);
    let served = tokio::select! {
        served = &mut control => served,
        () = signals.stop() => {
            shutdown.cancel();
            control.await
        }
    };
    sandbox.stop().await;
    served.map_err(|error| Failure::Failed(format!("the control server failed: {error}")))?;
    Ok(Outcome::Fine)
}
