//! Layers put on top of each other, with the memory of who set what, so that an error can say where to look.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use super::error::{ConfigError, Problem};
use super::reader::{self, Fault};
use super::{Config, validate};

/// Unknown keys reported at once.
const UNKNOWN_MAX: usize = 50;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The file that is built in.
    Embedded,
    /// A file, by its path.
    File(String),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => formatter.write_str("the built-in defaults"),
            Self::File(path) => formatter.write_str(path),
            Self::Variable(name) => write!(formatter, "variable {name}"),
            Self::Flag(name) => write!(formatter, "flag {name}"),
        }
    }
}

/// All layers so far as one table, and who set each key and each table last.
#[derive(Debug, Default)]
pub(super) struct Layers {
    merged: Table,
    set_by: BTreeMap<Vec<String>, Source>,
}

impl Layers {
    /// Puts `table` on top: tables are merged key by key, everything else is replaced.
    pub(super) fn merge(&mut self, source: &Source, table: Table) {
        merge_into(&mut self.merged, &mut self.set_by, source, &mut Vec::new(), table);
    }

    /// Sets one key. Names that are there already in another case are taken as they are there, since environment
    /// variables are written in capitals and currencies are keys too.
    pub(super) fn set(&mut self, source: &Source, path: &[String], value: Value) {
        let mut names = Vec::with_capacity(path.len());
        let mut place = Some(&self.merged);
        for segment in path {
            let same = |key: &&String| key.eq_ignore_ascii_case(segment);
            let exact = place.filter(|table| table.contains_key(segment)).map(|_| segment);
            let name = exact.or_else(|| place.and_then(|table| table.keys().find(same))).unwrap_or(segment).clone();
            place = place.and_then(|table| table.get(&name)).and_then(Value::as_table);
            names.push(name);
        }
        let nested = names.into_iter().rev().fold(value, |inner, name| {
            let mut table = Table::new();
            table.insert(name, inner);
            Value::Table(table)
        });
        if let Value::Table(table) = nested {
            self.merge(source, table);
        }
    }

    /// In live mode the embedded layer's emulators do not count: an operator who sets `mode = "live"` names the channels
    /// that there are, and should not have to undo defaults. What a higher layer says about emulators stays, and is
    /// refused by validation.
    pub(super) fn drop_embedded_sandbox_in_live_mode(&mut self) {
        if self.merged.get("mode").and_then(Value::as_str) != Some("live") {
            return;
        }
        if self.is_embedded(&["sandbox"]) {
            self.merged.remove("sandbox");
        }
        let channels = self.merged.get("channels").and_then(Value::as_table);
        let names: Vec<String> = channels.map(|table| table.keys().cloned().collect()).unwrap_or_default();
        for name in names {
            let is_unnamed = self.is_embedded(&["channels", &name]);
            let is_emulated_by_default = self.is_embedded(&["channels", &name, "sandbox"]);
            let Some(channels) = self.merged.get_mut("channels").and_then(Value::as_table_mut) else { return };
            if is_unnamed {
                channels.remove(&name);
            } else if is_emulated_by_default && let Some(Value::Table(channel)) = channels.get_mut(&name) {
                channel.remove("sandbox");
            }
        }
    }

    fn is_embedded(&self, path: &[&str]) -> bool {
        let path: Vec<String> = path.iter().map(|segment| String::from(*segment)).collect();
        self.set_by.get(&path) == Some(&Source::Embedded)
    }

    /// Reads the typed sections and checks them; the channels in `custom` are brought along by who asks.
    pub(super) fn read_checked(mut self, custom: &[&str]) -> Result<Config, ConfigError> {
        let config = self.read().map_err(ConfigError::Problems)?;
        let mut problems = validate::problems(&config, custom);
        if problems.is_empty() {
            return Ok(config);
        }
        for problem in &mut problems {
            problem.source = self.source_of(&reader::path_of(&problem.path));
        }
        Err(ConfigError::Problems(problems))
    }

    /// Reads the typed sections without checking what types can't express.
    #[cfg(test)]
    pub(super) fn read_unchecked(mut self) -> Result<Config, Vec<Problem>> {
        self.read()
    }

    /// All unknown keys, and the first value of a wrong type, at once: an unknown key is noted, taken away, and reading
    /// begins again.
    fn read(&mut self) -> Result<Config, Vec<Problem>> {
        let mut problems = Vec::new();
        for _ in 0..=UNKNOWN_MAX {
            let fault = match reader::read::<Config>(self.merged.clone()) {
                Ok(config) if problems.is_empty() => return Ok(config),
                Ok(_) => return Err(problems),
                Err(fault) => fault,
            };
            let mut problem = Problem::new(reader::display_path(fault.path()), fault.message());
            problem.source = self.source_of(fault.path());
            problems.push(problem);
            let removed = matches!(&fault, Fault::Unknown { .. }) && remove(&mut self.merged, fault.path());
            if !removed {
                return Err(problems);
            }
        }
        Err(problems)
    }

    /// Who set the key at `path`, or else the table around it.
    fn source_of(&self, path: &[String]) -> Option<String> {
        (1..=path.len()).rev().find_map(|length| self.set_by.get(&path[..length])).map(ToString::to_string)
    }
}

fn merge_into(
    target: &mut Table,
    set_by: &mut BTreeMap<Vec<String>, Source>,
    source: &Source,
    path: &mut Vec<String>,
    table: Table,
) {
    for (key, value) in table {
        path.push(key.clone());
        set_by.insert(path.clone(), source.clone());
        match (target.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge_into(below, set_by, source, path, above),
            (_, Value::Table(above)) => {
                let mut fresh = Table::new();
                merge_into(&mut fresh, set_by, source, path, above);
                target.insert(key, Value::Table(fresh));
            }
            (_, other) => {
                target.insert(key, other);
            }
        }
        path.pop();
    }
}

/// Takes the key at `path` away, through tables and lists.
fn remove(table: &mut Table, path: &[String]) -> bool {
    match path {
        [] => false,
        [key] => table.remove(key).is_some(),
        [key, rest @ ..] => match table.get_mut(key) {
            Some(Value::Table(inner)) => remove(inner, rest),
            Some(Value::Array(items)) => remove_in_list(items, rest),
            _ => false,
        },
    }
}

fn remove_in_list(items: &mut [Value], path: &[String]) -> bool {
    let [index, rest @ ..] = path else { return false };
    let item = reader::index_of(index).and_then(|index| items.get_mut(index));
    item.and_then(Value::as_table_mut).is_some_and(|table| remove(table, rest))
}
