//! What commands take from their surroundings. It comes as a value, so that tests bring their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use crate::clock::Clock;
use crate::config::{Config, ConfigError, FILE_BYTES_MAX, LoadOptions, Override, read_text_within};
use crate::random::Random;

/// The surroundings of a command.
#[derive(Clone)]
pub(super) struct Context {
    /// Environment variables.
    pub(super) environment: Vec<(String, String)>,
    /// The clock.
    pub(super) clock: Clock,
    /// Where nonces come from.
    pub(super) random: Random,
}

impl Context {
    /// The machine's own clock and random numbers, and `environment`.
    pub(super) fn new(environment: Vec<(String, String)>) -> Self {
        Self { environment, clock: Clock::system(), random: Random::from_os() }
    }

    /// An environment variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let (_, value) = self.environment.iter().find(|(known, _)| known == name)?;
        (!value.is_empty()).then_some(value)
    }
}

/// Flags that say where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ConfigArguments {
    /// Configuration file above the built-in defaults; TOLLGATE_CONFIG when not given
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Data directory, in place of [storage] dir
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

impl ConfigArguments {
    /// The file that is read above the built-in defaults, if there is one.
    pub(super) fn file(&self, context: &Context) -> Option<PathBuf> {
        self.config.clone().or_else(|| context.variable("TOLLGATE_CONFIG").map(PathBuf::from))
    }

    /// The configuration from all layers, with `overrides` on top.
    pub(super) fn load(&self, context: &Context, overrides: Vec<Override>) -> Result<Config, Failure> {
        self.load_with(context, overrides, None)
    }

    /// The same with `file_text`, if it is given, in place of what is in the file.
    pub(super) fn load_with(
        &self,
        context: &Context,
        mut overrides: Vec<Override>,
        file_text: Option<String>,
    ) -> Result<Config, Failure> {
        if let Some(dir) = &self.data_dir {
            overrides.push(override_of("--data-dir", "storage.dir", dir.to_string_lossy().into_owned()));
        }
        let environment = context.environment.clone();
        let file = self.file(context);
        Ok(Config::load(LoadOptions { file, file_text, environment, overrides, ..LoadOptions::default() })?)
    }
}

/// What a configuration file says.
///
/// # Errors
/// [`Failure::Usage`] when it can't be read.
pub(super) fn text_of_config(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| ConfigError::File { path: file.to_owned(), message: error.to_string() };
    Ok(std::fs::File::open(file).and_then(|file| read_text_within(file, FILE_BYTES_MAX)).map_err(failed)?)
}

/// Reads an address to listen on.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| String::from("must be an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080"))
}

/// The value that a flag gives to a key.
pub(super) fn override_of(flag: &str, path: &str, value: String) -> Override {
    Override { source: String::from(flag), path: String::from(path), value: toml::Value::String(value) }
}
