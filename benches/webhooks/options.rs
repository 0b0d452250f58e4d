//! What is asked for on the command line.

use std::path::PathBuf;
use std::str::FromStr;

/// Bounded so that a run always ends.
const COUNT_MAX: u64 = 10_000_000;
const TURNS_MAX: usize = 1_000;
const SECONDS_MAX: f64 = 3_600.0;
/// Each has an address of its own in 127.0.0.0/16.
const HOSTS_MAX: usize = 10_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Deliveries a second to one endpoint.
    One,
    /// Deliveries a second to many endpoints.
    Many,
    /// From commit to arrival.
    Latency,
    /// The same beside endpoints that hang.
    Hung,
    /// Memory and restart with very many that wait.
    Backlog,
}

impl Part {
    pub const ALL: [Self; 5] = [Self::One, Self::Many, Self::Latency, Self::Hung, Self::Backlog];

    const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "many",
            Self::Latency => "latency",
            Self::Hung => "hung",
            Self::Backlog => "backlog",
        }
    }
}

/// See the module.
pub struct Options {
    /// What is measured.
    pub parts: Vec<Part>,
    /// Deliveries of one turn.
    pub count: u64,
    /// Turns of each measurement.
    pub turns: usize,
    /// Seconds in which events are made at a fixed rate.
    pub seconds: f64,
    /// Endpoints, when there are many.
    pub endpoints: usize,
    /// Endpoints that hang.
    pub hung: usize,
    /// Webhooks that wait.
    pub backlog: u64,
    /// Endpoints for which they wait.
    pub spread: usize,
    /// Where data directories are made: on the disk that is meant.
    pub dir: PathBuf,
}

impl Options {
    /// Reads flags with a value each; what cargo adds is passed over.
    pub fn read(arguments: &[String]) -> Self {
        let mut options = Self {
            parts: Part::ALL.to_vec(),
            count: 20_000,
            turns: 3,
            seconds: 5.0,
            endpoints: 1_000,
            hung: 200,
            backlog: 200_000,
            spread: 1,
            dir: std::env::temp_dir(),
        };
        let mut words = arguments.iter().map(String::as_str).filter(|word| *word != "--bench");
        while let Some(flag) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{flag} needs a value"));
            match flag {
                "--only" => options.parts = vec![part(value)],
                "--count" => options.count = number(flag, value, 1, COUNT_MAX),
                "--turns" => options.turns = number(flag, value, 1, TURNS_MAX),
                "--seconds" => options.seconds = number(flag, value, 0.1, SECONDS_MAX),
                "--endpoints" => options.endpoints = number(flag, value, 1, HOSTS_MAX),
                "--hung" => options.hung = number(flag, value, 1, HOSTS_MAX),
                "--backlog" => options.backlog = number(flag, value, 1_000, COUNT_MAX),
                "--spread" => options.spread = number(flag, value, 1, HOSTS_MAX),
                "--dir" => options.dir = PathBuf::from(value),
                _ => panic!("{flag} is unknown"),
            }
        }
        options
    }
}

fn part(name: &str) -> Part {
    let names = || Part::ALL.map(Part::name).join(", ");
    Part::ALL.into_iter().find(|part| part.name() == name).unwrap_or_else(|| panic!("--only takes {}", names()))
}

fn number<T: FromStr + PartialOrd>(flag: &str, text: &str, least: T, most: T) -> T {
    let number = text.parse().ok().filter(|number| *number >= least && *number <= most);
    number.unwrap_or_else(|| panic!("{flag} {text} is out of range"))
}
