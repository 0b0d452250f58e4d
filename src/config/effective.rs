//! The configuration as it is in effect, for people, with nothing secret in it.

use url::Url;

use super::validate::is_variable_name;
use super::{Config, ConfigError};

/// Stands where something secret was.
const HIDDEN: &str = "(hidden)";

/// The configuration as TOML. User names and passwords in URLs are hidden, and so is anything under `credentials` that
/// is not plainly the name of a variable or a file.
///
/// # Errors
/// [`ConfigError::Problems`] when a value can't be written as TOML (a number above 2^63 - 1).
pub fn effective_toml(config: &Config) -> Result<String, ConfigError> {
    toml::to_string(&without_secrets(config)).map_err(|error| ConfigError::not_shown(&error))
}

/// The same as JSON.
///
/// # Errors
/// [`ConfigError::Problems`] when a value can't be written as JSON.
pub fn effective_json(config: &Config) -> Result<serde_json::Value, ConfigError> {
    serde_json::to_value(without_secrets(config)).map_err(|error| ConfigError::not_shown(&error))
}

fn without_secrets(config: &Config) -> Config {
    let mut shown = config.clone();
    for channel in shown.channels.values_mut() {
        hide_userinfo(&mut channel.base_url);
        for (name, value) in &mut channel.credentials {
            let is_reference = (name.ends_with("_env") && is_variable_name(value)) || name.ends_with("_file");
            if !is_reference {
                *value = String::from(HIDDEN);
            }
        }
    }
    hide_userinfo(&mut shown.callbacks.public_url);
    hide_userinfo(&mut shown.telemetry.otlp_endpoint);
    if let Some(sandbox) = &mut shown.sandbox {
        hide_userinfo(&mut sandbox.url);
    }
    shown
}

fn hide_userinfo(address: &mut Option<String>) {
    let Some(text) = address else { return };
    let hidden = match Url::parse(text) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            let changed = url.set_username("hidden").and_then(|()| url.set_password(None));
            changed.map_or_else(|()| String::from(HIDDEN), |()| String::from(url))
        }
        Ok(_) => return,
        Err(_) => String::from(HIDDEN),
    };
    *text = hidden;
}
