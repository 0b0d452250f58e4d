//! What the configuration file of a gateway that runs says, and whether it says all of it.
//!
//! A key that is not in the file has its default. So a file of which only the beginning is there is as valid as the whole, and
//! would switch channels on and take limits away. What somebody asks for by name is taken as it is; what is only noticed is
//! taken when it still has the last key of what is in force, or is a file that was renamed into the other one's place.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use toml::de::{DeTable, DeValue};

use super::context::{ConfigArguments, Context};
use super::failure::Failure;
use super::watch::Change;
use crate::config::{Config, ConfigError, FILE_BYTES_MAX, open_regular, read_text_within};

/// A configuration file.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: Option<PathBuf>,
    /// Whether it is a pipe or the like, which is empty when it is read again.
    is_stream: bool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What the file said that is in force.
    in_force: toml::Table,
    last_key: Vec<String>,
    /// What it said when it was read last, with the configuration that this made.
    read: Option<(Config, String)>,
}

impl ConfigFile {
    /// The file that the flags and the environment name, if they name one.
    pub(super) fn named(arguments: &ConfigArguments, context: &Context) -> Self {
        let path = arguments.file(context);
        let is_file = |path: &PathBuf| std::fs::metadata(path).map_or(true, |metadata| metadata.is_file());
        let is_stream = !path.as_ref().is_none_or(is_file);
        Self { path, is_stream, known: Mutex::default() }
    }

    /// Where it is, if it can be read again.
    pub(super) fn watchable(&self) -> Option<&Path> {
        self.path.as_deref().filter(|_| !self.is_stream)
    }

    /// Whether it can be read once only.
    pub(super) fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// What is in it, when the gateway starts.
    ///
    /// # Errors
    /// [`Failure::Usage`] when it can't be read.
    pub(super) fn text(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.path else { return Ok(None) };
        // A pipe is read as far as it goes: once, while nobody is served yet.
        let open: fn(&Path) -> io::Result<File> = if self.is_stream { |path| File::open(path) } else { open_regular };
        let failed = |error: io::Error| ConfigError::File { path: path.clone(), message: error.to_string() };
        Ok(Some(open(path).and_then(|file| read_text_within(file, FILE_BYTES_MAX)).map_err(failed)?))
    }

    /// The same for one that has been read before. What has become a pipe or the like is not read.
    ///
    /// # Errors
    /// Why it can't be read, in words.
    pub(super) fn text_again(&self) -> Result<Option<String>, String> {
        if self.is_stream {
            return Err(String::from(
                "the configuration came by a pipe, which can't be read again; start the gateway again to change it",
            ));
        }
        self.text().map_err(|failure| failure.to_string())
    }

    /// Notes what a text made.
    pub(super) fn note_read(&self, config: &Config, text: Option<&str>) {
        self.known.lock().read = text.map(|text| (config.clone(), String::from(text)));
    }

    /// Notes that a configuration is in force.
    pub(super) fn note_in_force(&self, config: &Config) {
        let mut known = self.known.lock();
        let Some((_, text)) = known.read.take_if(|(read, _)| read == config) else { return };
        if let Ok(table) = text.parse() {
            (known.in_force, known.last_key) = (table, last_key_of(&text));
        }
    }

    /// The text of a file that was found changed, if it is to be put in force; `None` when there is none.
    ///
    /// # Errors
    /// Why it is not, in words.
    pub(super) fn whole(&self, change: Change) -> Option<Result<String, String>> {
        let Ok(text) = String::from_utf8(change.content?) else {
            return Some(Err(String::from("the configuration file is not UTF-8")));
        };
        Some(match self.missing(&text, change.is_replaced) {
            Some(key) => Err(format!(
                "the configuration file has no {key} any more, with which the one in force ends: it may be cut off, or not \
                 be written to its end; if it is as it should be, `tollgate reload` or SIGHUP puts it in force"
            )),
            None => Ok(text),
        })
    }

    /// The last key of what is in force, if it is missing in a text that may be cut off.
    fn missing(&self, text: &str, is_replaced: bool) -> Option<String> {
        let known = self.known.lock();
        // What is wrong with a text that can't be read is told by who reads it.
        let now: toml::Table = text.parse().ok()?;
        let is_whole = is_replaced && !now.is_empty();
        let is_missing = !is_whole && !has(&now, &known.in_force, &known.last_key);
        is_missing.then(|| known.last_key.join("."))
    }
}

/// Whether `now` has what is at `path` in `before`.
fn has(now: &toml::Table, before: &toml::Table, path: &[String]) -> bool {
    let Some((name, rest)) = path.split_first() else { return true };
    match (now.get(name), before.get(name)) {
        (Some(toml::Value::Table(now)), Some(toml::Value::Table(before))) => has(now, before, rest),
        // Such as rules: the last one, or one more than there were.
        (Some(toml::Value::Array(now)), Some(toml::Value::Array(before))) if !rest.is_empty() => {
            match (now.last(), before.last()) {
                (Some(last), Some(last_before)) if last == last_before => true,
                (Some(toml::Value::Table(last)), Some(toml::Value::Table(last_before))) => {
                    now.len() > before.len() || (now.len() == before.len() && has(last, last_before, rest))
                }
                _ => false,
            }
        }
        (now, _) => now.is_some(),
    }
}

/// The path of the key that stands last in a text.
fn last_key_of(text: &str) -> Vec<String> {
    let parsed = DeTable::parse(text).ok();
    let (_, mut path) = parsed.and_then(|table| last_in(table.get_ref())).unwrap_or_default();
    path.reverse();
    path
}

/// Where the last key of a table stands, and its path from the inside out.
fn last_in(table: &DeTable<'_>) -> Option<(usize, Vec<String>)> {
    let ends = table.iter().map(|(key, value)| {
        let inside = match value.get_ref() {
            DeValue::Table(table) => last_in(table),
            DeValue::Array(values) => match values.iter().last().map(|last| last.get_ref()) {
                Some(DeValue::Table(table)) => last_in(table),
                _ => None,
            },
            _ => None,
        };
        let (place, mut path) = inside.unwrap_or_else(|| (key.span().start, Vec::new()));
        path.push(key.get_ref().to_string());
        (place, path)
    });
    ends.max_by_key(|(place, _)| *place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[channels.stripe]\nweight = 1\n[channels.alipay]\nenabled = false\nmethods = [\n  \"qr\",\n]\n";
    const RULES: &str = "mode = \"live\"\n[[rules]]\nname = \"a\"\n[[rules]]\nname = \"b\"\nchannel = \"stripe\"\n";

    fn in_force(text: &str) -> ConfigFile {
        let file = ConfigFile { path: None, is_stream: false, known: Mutex::default() };
        let config = Config::embedded().unwrap();
        file.note_read(&config, Some(text));
        file.note_in_force(&config);
        file
    }

    fn takes(file: &ConfigFile, text: &str, is_replaced: bool) -> bool {
        file.whole(Change { content: Some(text.into()), is_replaced }).unwrap().is_ok()
    }

    #[test]
    fn what_is_cut_off_at_any_line_is_not_taken() {
        for text in [TEXT, RULES] {
            let file = in_force(text);
            for (end, _) in text.match_indices('\n').filter(|(end, _)| end + 1 < text.len()) {
                let cut = &text[..=end];
                // Such as in the middle of a list: that is told by who reads it.
                assert!(cut.parse::<toml::Table>().is_err() || !takes(&file, cut, false), "{cut}");
            }
            assert!(!takes(&file, "", false) && !takes(&file, "# nothing\n", true));
            assert!(takes(&file, text, false));
            assert!(takes(&file, "mode = \"sandbox\"\n", true), "another file in its place");
        }
    }

    #[test]
    fn what_people_change_is_taken() {
        let file = in_force(TEXT);
        assert!(takes(&file, "[channels.alipay]\nmethods = []\n", false));
        let file = in_force(RULES);
        assert!(takes(&file, "[[rules]]\nname = \"b\"\nchannel = \"stripe\"\n", false), "one before the last is gone");
        assert!(takes(&file, &format!("{RULES}[[rules]]\nname = \"c\"\n"), false));
        assert!(takes(&file, &RULES.replace("stripe", "alipay"), false));
        assert!(takes(&in_force(""), "", false));
    }

    #[test]
    fn only_what_is_in_force_is_compared_with() {
        let file = in_force(TEXT);
        let mut other = Config::embedded().unwrap();
        other.payments.refunds_max += 1;
        file.note_read(&Config::embedded().unwrap(), Some(RULES));
        file.note_in_force(&other);
        assert!(takes(&file, TEXT, false) && !takes(&file, RULES, false));
        assert!(file.whole(Change { content: None, is_replaced: true }).is_none());
        assert!(file.whole(Change { content: Some(vec![0xff]), is_replaced: true }).unwrap().is_err());
    }
}
