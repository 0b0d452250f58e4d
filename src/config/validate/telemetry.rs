//! Logs and traces: what is logged, and where spans go.

use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::{Host, Url};

use super::{Findings, is_variable_name};
use crate::config::Config;

/// Longest filter of logs, in bytes.
const LOG_FILTER_MAX_BYTES: usize = 1024;
/// What this crate logs begins with it.
const OWN: &str = "tollgate";
/// Where a collector takes traces, below its address.
const TRACES_PATH: &str = "v1/traces";

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let telemetry = &config.telemetry;
    if let Err(why) = parse_log_filter(&telemetry.log) {
        findings.add("telemetry.log", why);
    }
    let name = telemetry.service_name.as_str();
    findings.require(
        (1..=100).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()),
        "telemetry.service_name",
        "must be 1 to 100 characters without spaces",
    );
    findings.range("telemetry.trace_sample_ratio", telemetry.trace_sample_ratio, 0.0..=1.0);
    findings.range("telemetry.trace_queue_max", telemetry.trace_queue_max, 1..=1_000_000);
    findings.range("telemetry.otlp_timeout_ms", telemetry.otlp_timeout_ms, 1..=60_000);
    findings.range("telemetry.otlp_interval_ms", telemetry.otlp_interval_ms, 1..=60_000);
    check_headers(config, findings);
    if let Some(endpoint) = &telemetry.otlp_endpoint {
        match traces_url(endpoint) {
            Err(why) => findings.add("telemetry.otlp_endpoint", why),
            Ok(url) if has_headers(config) && url.scheme() == "http" && !is_loopback(&url) => findings.add(
                "telemetry.otlp_endpoint",
                "must be https:// where headers are sent that prove who you are; over http:// only to this machine",
            ),
            Ok(_) => {}
        }
    }
}

fn has_headers(config: &Config) -> bool {
    config.telemetry.otlp_headers_env.is_some() || config.telemetry.otlp_headers_file.is_some()
}

fn check_headers(config: &Config, findings: &mut Findings) {
    let telemetry = &config.telemetry;
    findings.require(
        telemetry.otlp_headers_env.is_none() || telemetry.otlp_headers_file.is_none(),
        "telemetry.otlp_headers_file",
        "can't be given beside telemetry.otlp_headers_env; choose one",
    );
    findings.require(
        telemetry.otlp_headers_env.as_deref().is_none_or(is_variable_name),
        "telemetry.otlp_headers_env",
        "must be the name of an environment variable, not what is in it",
    );
    findings.require(
        telemetry.otlp_headers_file.as_deref() != Some(Path::new("")),
        "telemetry.otlp_headers_file",
        "must name a file",
    );
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// What of logs is written, as `[telemetry] log` says it.
///
/// # Errors
/// What is wrong with it, to follow the key's name.
pub fn parse_log_filter(text: &str) -> Result<EnvFilter, String> {
    const LIKE: &str = "a filter such as \"info\" or \"info,tollgate::delivery=debug\"";
    if text.is_empty() || text.len() > LOG_FILTER_MAX_BYTES {
        return Err(format!("must be {LIKE}, of 1 to {LOG_FILTER_MAX_BYTES} characters"));
    }
    // `tracing` takes a word for a part of the program, of which alone everything would be logged then.
    let is_odd = |part: &&str| {
        // `tracing` reads nothing at all as a level, too.
        let is_plain = !part.contains(['=', '[', ']']);
        part.is_empty() || is_plain && !part.starts_with(OWN) && part.parse::<LevelFilter>().is_err()
    };
    if let Some(odd) = text.split(',').map(str::trim).find(is_odd) {
        return Err(format!("is not {LIKE}: \"{odd}\" is no level (off, error, warn, info, debug, trace)"));
    }
    // Blanks after commas are how people write lists.
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    EnvFilter::builder().parse(parts.join(",")).map_err(|error| format!("is not {LIKE}: {error}"))
}

/// The address for traces below a collector's address, unless it is that already.
///
/// # Errors
/// What is wrong with it, to follow the key's name.
pub fn traces_url(endpoint: &str) -> Result<Url, String> {
    let wrong = |why: &str| format!("must be a URL such as \"http://127.0.0.1:4318\": {why}");
    let mut url = Url::parse(endpoint).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong("it needs http:// or https:// and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("credentials go into telemetry.otlp_headers_file or _env"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it can have no query"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(TRACES_PATH) {
        url.set_path(&format!("{path}/{TRACES_PATH}"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_completed_once() {
        for (given, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example.com/tenant", "https://otel.example.com/tenant/v1/traces"),
            ("https://otel.example.com/v1/traces", "https://otel.example.com/v1/traces"),
        ] {
            assert_eq!(traces_url(given).unwrap().as_str(), expected);
        }
        for wrong in ["", "127.0.0.1:4318", "ftp://x", "http://user:secret@x", "http://x/?token=secret"] {
            let problem = traces_url(wrong).unwrap_err();
            assert!(problem.starts_with("must be a URL") && !problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn a_filter_names_levels_and_parts_of_the_program() {
        for fine in ["info", "off", "INFO", "warn,tollgate::delivery=debug", "tollgate", "info, hyper=warn", "[a]=info"]
        {
            assert!(parse_log_filter(fine).is_ok(), "{fine}");
        }
        for wrong in ["", "verbose", "info,debugg", "info,=x=", "tollgate=loud", "info,", &"x".repeat(1025)] {
            assert!(parse_log_filter(wrong).is_err(), "{wrong}");
        }
        assert!(parse_log_filter("info,debugg").unwrap_err().contains("\"debugg\" is no level"));
    }

    fn paths_after(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::embedded().unwrap();
        change(&mut config);
        let mut findings = Findings::default();
        check(&config, &mut findings);
        findings.problems.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn what_proves_who_we_are_does_not_travel_in_the_open() {
        let with = |endpoint: &str| {
            let endpoint = endpoint.to_owned();
            paths_after(move |config| {
                config.telemetry.otlp_endpoint = Some(endpoint);
                config.telemetry.otlp_headers_env = Some(String::from("OTLP_HEADERS"));
            })
        };
        assert_eq!(with("http://otel.example.com:4318"), ["telemetry.otlp_endpoint"]);
        for fine in ["https://otel.example.com", "http://127.0.0.1:4318", "http://[::1]:4318", "http://localhost:4318"]
        {
            assert!(with(fine).is_empty(), "{fine}");
        }
        let open = |config: &mut Config| config.telemetry.otlp_endpoint = Some(String::from("http://collector:4318"));
        assert!(paths_after(open).is_empty(), "spans hold no secrets");
    }

    #[test]
    fn every_key_has_its_bounds() {
        let both = |config: &mut Config| {
            config.telemetry.otlp_headers_env = Some(String::from("Authorization=x"));
            config.telemetry.otlp_headers_file = Some("".into());
        };
        let expected = ["telemetry.otlp_headers_file", "telemetry.otlp_headers_env", "telemetry.otlp_headers_file"];
        assert_eq!(paths_after(both), expected);
        assert_eq!(paths_after(|config| config.telemetry.trace_sample_ratio = 1.1), ["telemetry.trace_sample_ratio"]);
        let nan = |config: &mut Config| config.telemetry.trace_sample_ratio = f64::NAN;
        assert_eq!(paths_after(nan), ["telemetry.trace_sample_ratio"]);
        assert_eq!(paths_after(|config| config.telemetry.trace_queue_max = 0), ["telemetry.trace_queue_max"]);
        assert_eq!(paths_after(|config| config.telemetry.otlp_timeout_ms = 0), ["telemetry.otlp_timeout_ms"]);
        assert_eq!(paths_after(|config| config.telemetry.otlp_interval_ms = 0), ["telemetry.otlp_interval_ms"]);
        assert_eq!(paths_after(|config| config.telemetry.service_name.clear()), ["telemetry.service_name"]);
    }
}
