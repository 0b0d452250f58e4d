//! What is asked for on the command line.

use std::path::PathBuf;
use std::str::FromStr;

/// Bounded so that a run always ends.
const COUNT_MAX: u64 = 1_000_000;
const TURNS_MAX: usize = 1_000;
const SECONDS_MAX: f64 = 3_600.0;
const CONNECTIONS_MAX: usize = 1_000;

/// See the module.
pub struct Options {
    /// Pre-auths of which the own share is measured.
    pub count: u64,
    /// Seconds of a turn.
    pub seconds: f64,
    /// Turns of each rate.
    pub turns: usize,
    /// Connections at once.
    pub connections: usize,
    /// Where data directories are made: on the disk that is meant.
    pub dir: PathBuf,
}

impl Options {
    /// Reads flags with a value each; what cargo adds is passed over.
    pub fn read(arguments: &[String]) -> Self {
        let mut options = Self { count: 2_000, seconds: 2.0, turns: 3, connections: 64, dir: std::env::temp_dir() };
        let mut words = arguments.iter().map(String::as_str).filter(|word| *word != "--bench");
        while let Some(flag) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{flag} needs a value"));
            match flag {
                "--count" => options.count = number(flag, value, 1, COUNT_MAX),
                "--seconds" => options.seconds = number(flag, value, 0.1, SECONDS_MAX),
                "--turns" => options.turns = number(flag, value, 1, TURNS_MAX),
                "--connections" => options.connections = number(flag, value, 1, CONNECTIONS_MAX),
                "--dir" => options.dir = PathBuf::from(value),
                _ => panic!("{flag} is unknown"),
            }
        }
        options
    }
}

fn number<T: FromStr + PartialOrd>(flag: &str, text: &str, least: T, most: T) -> T {
    let number = text.parse().ok().filter(|number| *number >= least && *number <= most);
    number.unwrap_or_else(|| panic!("{flag} {text} is out of range"))
}
