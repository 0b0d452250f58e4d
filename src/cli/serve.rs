//! `tollgate serve`: the gateway until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::mpsc;
use tracing::subscriber::NoSubscriber;

use super::config_file::ConfigFile;
use super::context::{ConfigArguments, Context, listen_address, override_of};
use super::failure::{Failure, Outcome};
use super::healthcheck::Probe;
use super::logs;
use super::open_files;
use super::running::RunningGateway;
use super::service_manager::ServiceManager;
use super::signals::{Asked, Signals};
use super::watch::{Change, Seen, Watch};
use crate::config::Config;
use crate::domain::audit::Operator;
use crate::gateway::Gateway;
use crate::gateway::reload::{ConfigSource, ReloadError, Reloaded};
use crate::telemetry::{self, LogControl};

/// The key of what is logged.
const LOG_KEY: &str = "telemetry.log";
/// How far behind the clock may be when the operator says that it is right: as far as the configuration can say.
const CLOCK_BACK_ANY_S: u64 = 100 * 366 * 86_400;

/// Flags of `serve`.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Address of the merchants' listener, in place of [server] listen
    #[arg(long, value_name = "ADDR", value_parser = listen_address)]
    listen: Option<SocketAddr>,
    /// Address of the operator's listener, in place of [server] admin_listen
    #[arg(long, value_name = "ADDR", value_parser = listen_address)]
    admin_listen: Option<SocketAddr>,
    /// Start although the clock is behind the last change in the store: that one was written with a wrong clock
    #[arg(long)]
    accept_clock: bool,
}

impl Arguments {
    /// The configuration with `file_text` for what is in the file, if there is one.
    fn load(&self, context: &Context, file_text: Option<String>) -> Result<Config, Failure> {
        let flags =
            [("--listen", "server.listen", self.listen), ("--admin-listen", "server.admin_listen", self.admin_listen)];
        let given = flags.into_iter().filter_map(|(flag, path, address)| Some((flag, path, address?)));
        let given = given.map(|(flag, path, address)| override_of(flag, path, address.to_string()));
        let any_clock = || override_of("--accept-clock", "storage.clock_back_max_s", CLOCK_BACK_ANY_S.to_string());
        let overrides = given.chain(self.accept_clock.then(any_clock)).collect();
        self.config.load_with(context, overrides, file_text)
    }
}

/// Runs the gateway until SIGTERM or SIGINT, then stops it in good order.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    // Before it is read, so that no change is missed.
    let file = Arc::new(ConfigFile::named(&arguments.config, context));
    let seen = file.watchable().map(|path| (Seen::now(path), path.to_owned()));
    let file_text = file.text()?;
    let mut config = arguments.load(context, file_text.clone())?;
    let logs = telemetry::init(&config.telemetry).map_err(|error| Failure::Usage(error.to_string()))?;
    open_files::prepare(&mut config);
    file.note_read(&config, file_text.as_deref());
    file.note_in_force(&config);
    if file.is_stream() {
        tracing::info!("the configuration came by a pipe, and can't be read again while the gateway runs");
    }
    logs::written(&logs, serve(arguments, context, config, file, seen, logs.clone()).await)
}

/// Serves with logs that are set up, as `config` says, which was read from `file` among others.
async fn serve(
    arguments: Arguments,
    context: &Context,
    config: Config,
    file: Arc<ConfigFile>,
    seen: Option<(Seen, PathBuf)>,
    logs: LogControl,
) -> Result<Outcome, Failure> {
    let mut signals = Signals::listen()?;
    let settle = Duration::from_millis(config.reload.settle_ms);
    let watched = seen.filter(|_| config.reload.watch);
    let running = RunningGateway::start(config.clone(), context).await?;
    running.gateway.set_log_control(logs.clone());
    running.gateway.set_config_source(Layers { arguments, context: context.clone(), file: Arc::clone(&file), logs });
    let console = running.admin_base();
    tracing::info!(
        listen = %running.address,
        admin_listen = %running.admin_address,
        console = %format_args!("{}/console", console.trim_end_matches('/')),
        mode = config.mode.as_str(),
        data_dir = %config.storage.dir.display(),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    let manager = ServiceManager::of(context);
    let status = format!("serving merchants at {}, operators at {}", running.address, running.admin_address);
    manager.ready(&status);
    let watching = manager.watch(Probe::of(&running.admin_base())?);
    // One that waits is enough: it reads what is there when its turn comes.
    let (ask, asked_for) = mpsc::channel(1);
    let reloads = Reloads { gateway: running.gateway.clone(), file, asked_for, manager, status };
    // Beside this task, which has to hear of a stop however long a file is waited for.
    let reloading = tokio::spawn(reloads.run(watched, settle));
    let failure = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break None,
                Asked::Reload => {
                    let _ = ask.try_send(());
                }
            },
            reason = running.gateway.failed() => break Some(reason),
        }
    };
    reloading.abort();
    if let Some(watching) = watching {
        watching.abort();
    }
    if let Some(reason) = failure {
        manager.failed(&reason.to_string());
        // The store takes nothing more, so there is nothing to drain; what was acknowledged is safe.
        return Err(Failure::Failed(format!("{reason}; start it again, it recovers what was acknowledged")));
    }
    manager.stopping();
    tracing::info!("stopping");
    running.stop().await?;
    tracing::info!("stopped");
    Ok(Outcome::Fine)
}

/// Reads the configuration again when that is asked for, or when its file has changed.
struct Reloads {
    gateway: Gateway,
    file: Arc<ConfigFile>,
    asked_for: mpsc::Receiver<()>,
    manager: ServiceManager,
    /// What the service manager shows of a gateway that serves.
    status: String,
}

impl Reloads {
    /// Until it is aborted; `watched` is the file that is watched, as it was seen last.
    async fn run(mut self, watched: Option<(Seen, PathBuf)>, settle: Duration) {
        let mut watch = match watched {
            Some((seen, path)) => Some(Watch::start(&path, seen, settle).await),
            None => None,
        };
        loop {
            tokio::select! {
                Some(()) = self.asked_for.recv() => {
                    self.manager.reloading();
                    if let Some(watch) = &mut watch {
                        watch.note_seen().await;
                    }
                    reload(&self.gateway, "signal", None).await;
                    self.manager.ready(&self.status);
                }
                change = changed(&mut watch) => reload(&self.gateway, "file", self.file.whole(change)).await,
            }
        }
    }
}

/// The layers that this process was started with.
struct Layers {
    arguments: Arguments,
    context: Context,
    file: Arc<ConfigFile>,
    logs: LogControl,
}

impl Layers {
    fn load(&self, file_text: Option<String>) -> Result<Config, String> {
        let loaded = self.arguments.load(&self.context, file_text.clone());
        let mut config = loaded.map_err(|failure| failure.to_string())?;
        // As at the start, where it was said: what does not fit the machine is no change.
        tracing::subscriber::with_default(NoSubscriber::new(), || open_files::prepare(&mut config));
        self.file.note_read(&config, file_text.as_deref());
        Ok(config)
    }
}

impl ConfigSource for Layers {
    fn read(&self) -> Result<Config, String> {
        self.load(self.file.text_again()?)
    }

    fn read_with(&self, text: &str) -> Result<Config, String> {
        self.load(Some(text.to_owned()))
    }

    fn has_changed(&self, config: &Config, Reloaded { applied, needs_restart, refused, .. }: &Reloaded) {
        self.file.note_in_force(config);
        if applied.is_empty() && needs_restart.is_empty() {
            tracing::info!("the configuration has not changed");
        }
        if !applied.is_empty() {
            tracing::info!(keys = applied.join(", "), "the configuration has changed and is in force");
        }
        if !needs_restart.is_empty() {
            tracing::warn!(keys = needs_restart.join(", "), "start the gateway again to put these changes in force");
        }
        for file in refused {
            tracing::error!(problem = file.problem, "a file can't be used; what was read of it before stays in use");
        }
        // Last, so that what is said above is logged as it was until now.
        if applied.iter().any(|key| key == LOG_KEY)
            && let Err(error) = self.logs.configure(&config.telemetry.log)
        {
            tracing::error!(problem = %error, "what is logged has not changed");
        }
    }
}

/// Ready when the watched file has changed; never without one.
async fn changed(watch: &mut Option<Watch>) -> Change {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Reads the configuration again, with `text` for what is in the file if it was read already, puts in force what can change
/// while the gateway runs, and says in the log what was and what was not.
async fn reload(gateway: &Gateway, reason: &str, text: Option<Result<String, String>>) {
    let by = Operator::process(reason);
    let reloaded = match text {
        Some(text) => gateway.reload_from_text(text, &by).await,
        None => gateway.reload_from_source(&by).await,
    };
    match reloaded {
        Ok(_) => {}
        Err(ReloadError::Source(problem)) => {
            tracing::error!(problem, "the configuration can't be used; nothing has changed");
        }
        Err(error) => {
            tracing::error!(problem = %error, "the configuration can't be put in force; nothing has changed");
        }
    }
}
