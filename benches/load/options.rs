//! What is asked for on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use crate::request::Kind;

/// The gateway that this bench was built with.
const OWN_BINARY: &str = env!("CARGO_BIN_EXE_tollgate");

/// Bounded so that a run always ends.
const SECONDS_MAX: f64 = 3600.0;
const CONNECTIONS_MAX: usize = 4096;
const TURNS_MAX: usize = 1000;
const RATE_MAX: f64 = 1e6;

/// See the module.
pub struct Options {
    /// Seconds of one turn.
    pub seconds: f64,
    /// Connections kept open.
    pub connections: usize,
    /// Turns of each measurement.
    pub turns: usize,
    /// Threads that send.
    pub client_threads: usize,
    /// Where the data directory is made: on the disk that is meant.
    pub dir: PathBuf,
    /// `telemetry.log` of the gateway.
    pub log: String,
    /// The gateway's program.
    pub server: String,
    /// Another build of the gateway to measure beside this one.
    pub also: Option<String>,
    /// What is measured in closed loops.
    pub kinds: Vec<Kind>,
    /// Whether the paced measurement is left out.
    pub closed_only: bool,
    /// Whether what one merchant does to another is measured instead.
    pub flood: bool,
    /// Requests a second of the quiet merchant.
    pub quiet_rate: f64,
    /// Requests a second of the flood; 0 for as many as are answered.
    pub flood_rate: f64,
}

impl Options {
    /// Reads flags with a value each; what cargo adds is passed over.
    pub fn read(arguments: &[String]) -> Self {
        let mut options = Self {
            seconds: 3.0,
            connections: 64,
            turns: 3,
            client_threads: 2,
            dir: std::env::temp_dir(),
            log: "warn".to_owned(),
            server: OWN_BINARY.to_owned(),
            also: None,
            kinds: vec![Kind::Payment, Kind::Limits],
            closed_only: false,
            flood: false,
            quiet_rate: 500.0,
            flood_rate: 0.0,
        };
        let mut rest = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(flag) = rest.next() {
            let mut value = || rest.next().unwrap_or_else(|| panic!("{flag} needs a value")).as_str();
            match flag.as_str() {
                "--seconds" => options.seconds = number(flag, value()),
                "--connections" => options.connections = number(flag, value()),
                "--turns" => options.turns = number(flag, value()),
                "--client-threads" => options.client_threads = number(flag, value()),
                "--dir" => options.dir = PathBuf::from(value()),
                "--log" => options.log = value().to_owned(),
                "--server" => options.server = value().to_owned(),
                "--also" => options.also = Some(value().to_owned()),
                "--quiet-rate" => options.quiet_rate = number(flag, value()),
                "--flood-rate" => options.flood_rate = number(flag, value()),
                "--only" => {
                    let what = value();
                    options.flood = what == "flood";
                    options.closed_only = true;
                    options.kinds = if options.flood { Vec::new() } else { vec![Kind::named(what)] };
                }
                _ => panic!(
                    "unknown flag {flag}; there are --seconds, --connections, --turns, --client-threads, --dir, --log, \
                     --server, --also, --quiet-rate, --flood-rate and --only payment|limits|flood"
                ),
            }
        }
        options.seconds = options.seconds.clamp(0.1, SECONDS_MAX);
        options.connections = options.connections.clamp(1, CONNECTIONS_MAX);
        options.turns = options.turns.clamp(1, TURNS_MAX);
        options.quiet_rate = options.quiet_rate.clamp(1.0, RATE_MAX);
        options.flood_rate = options.flood_rate.clamp(0.0, RATE_MAX);
        options.client_threads = options.client_threads.clamp(1, options.connections);
        options
    }
}

fn number<T: FromStr>(flag: &str, text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{flag} needs a number, not {text:?}"))
}
