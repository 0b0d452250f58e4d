//! What can be wrong with a configuration, said so that it can be put right.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key's path, such as `server.listen` or `rules[0].channels`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Where the key was last set, where that is known: a file, `variable NAME` or `flag --name`.
    pub source: Option<String>,
}

impl Problem {
    /// What is wrong with the key at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), source: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(formatter, "{} (from {source}) {}", self.path, self.message),
            None => write!(formatter, "{} {}", self.path, self.message),
        }
    }
}

/// The configuration can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A file can't be read, or is not TOML.
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        message: String,
    },
    /// Keys are unknown, of the wrong type, or against a rule. At least one.
    Problems(Vec<Problem>),
}

impl ConfigError {
    pub(super) fn not_shown(error: &dyn fmt::Display) -> Self {
        Self::Problems(vec![Problem::new("(top level)", format!("can't be shown: {error}"))])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, message } => {
                write!(formatter, "the configuration file {} can't be used: {}", path.display(), message.trim_end())
            }
            Self::Problems(problems) => match problems.as_slice() {
                [only] => write!(formatter, "the configuration is not valid: {only}"),
                several => {
                    write!(formatter, "the configuration has {} problems:", several.len())?;
                    several.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))
                }
            },
        }
    }
}

impl std::error::Error for ConfigError {}

/// Why a text is not TOML, and where. Without the line itself, which TOML's own words repeat: a secret may be in it.
pub(crate) fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return format!("TOML parse error: {}", error.message());
    };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("TOML parse error at line {line}, column {column}: {}", error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_toml_is_said_without_the_line() {
        let problem = |text: &str| toml_problem(text, &text.parse::<toml::Table>().unwrap_err());
        for line in [
            "secret_key = \"s3cret",
            "secret_key = s3cret",
            "\"s3cret\" = 1 2",
            "a = 1\nb = \"\\q s3cret\"",
            "s3cret",
            "a = '''s3cret",
            "a = [\"s3cret\" \"s3cret\"]",
        ] {
            let said = problem(&format!("mode = \"live\"\n{line}"));
            assert!(!said.contains("s3cret") && said.contains("at line "), "{said}");
        }
        let said = problem("mode = \"live\"\n\né = 1\nsecret_key = \"s3cret");
        assert!(said.contains("line 3, column ") || said.contains("line 4, column "), "{said}");
    }
}
