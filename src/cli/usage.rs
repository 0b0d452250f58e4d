//! The command line as clap knows it, with examples below each command's help, and the words for what is wrong with one.

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command, CommandFactory};

use super::CommandLine;
use super::examples::{EXAMPLES, Example};
use crate::gateway::store::FORMAT;

/// What stands above the examples, below whatever else a command has to say.
pub(super) const EXAMPLES_TITLE: &str = "Examples:\n";

/// The command line.
pub(super) fn command() -> Command {
    with_examples(CommandLine::command().long_version(LONG_VERSION.as_str()), &mut Vec::new())
}

/// What `--version` adds to `-V`: what somebody who looks into a problem wants to know.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\nbuilt for {}-{}, {}\nstore format {FORMAT}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS,
        if cfg!(debug_assertions) { "debug" } else { "release" },
    )
});

/// Parses the arguments, the program's name first.
///
/// # Errors
/// Clap's, also for help and version.
pub(super) fn parsed(arguments: &[OsString], colors: clap::ColorChoice) -> Result<ArgMatches, clap::Error> {
    let mut command = command().color(colors);
    let matches = command.try_get_matches_from_mut(arguments)?;
    let Some((name, _)) = matches.subcommand() else { return Ok(matches) };
    let Some(flag) = flag_before(arguments, name) else { return Ok(matches) };
    let mut error = clap::Error::new(ErrorKind::ArgumentConflict).with_cmd(&command);
    error.insert(ContextKind::InvalidArg, ContextValue::String(flag.to_owned()));
    error.insert(ContextKind::PriorArg, ContextValue::String(name.to_owned()));
    Err(error)
}

/// A flag of `serve` in front of another command, where it would say nothing: only the choice of colours may stand there.
fn flag_before<'a>(arguments: &'a [OsString], command: &str) -> Option<&'a str> {
    let texts = arguments.iter().skip(1).map(|argument| argument.to_str().unwrap_or_default());
    let before = texts.take_while(|text| *text != command);
    let flags = before.filter(|text| text.starts_with("--") && *text != "--color" && !text.starts_with("--color="));
    flags.map(|flag| flag.split('=').next().unwrap_or_default()).next()
}

/// Whether the command that was given was asked for JSON.
pub(super) fn wants_json(matches: &ArgMatches) -> bool {
    match matches.subcommand() {
        Some((_, inner)) => wants_json(inner),
        None => matches.try_get_one::<bool>("json").ok().flatten().copied().unwrap_or(false),
    }
}

/// Puts examples below the long help of each command that has some.
fn with_examples(command: Command, path: &mut Vec<String>) -> Command {
    let name = path.join(" ");
    let examples = EXAMPLES.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, examples)| *examples);
    let mut command = match examples {
        [] => command,
        examples => {
            let notes = command.get_after_help().map(|notes| format!("{notes}\n\n")).unwrap_or_default();
            command.after_long_help(format!("{notes}{EXAMPLES_TITLE}{}", examples_text(examples)))
        }
    };
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    for name in names {
        path.push(name.clone());
        command = command.mut_subcommand(&name, |inner| with_examples(inner, path));
        path.pop();
    }
    command
}

fn examples_text(examples: &[Example]) -> String {
    let text =
        |(why, line): &Example| if why.is_empty() { format!("  {line}") } else { format!("  # {why}\n  {line}") };
    examples.iter().map(text).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths of all commands, each with whether it is only a group of others.
    fn commands(command: &Command, path: &mut Vec<String>, found: &mut Vec<(String, bool)>) {
        found.push((path.join(" "), command.is_subcommand_required_set()));
        for inner in command.get_subcommands() {
            path.push(inner.get_name().to_owned());
            commands(inner, path, found);
            path.pop();
        }
    }

    /// The words of a line as a shell takes it: single quotes, and `NAME=value` in front of the command.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for character in line.chars() {
            match character {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                other => words.last_mut().unwrap().push(other),
            }
        }
        words.retain(|word| !word.is_empty());
        let first = words.iter().position(|word| !word.contains('=')).unwrap();
        let words = words.split_off(first);
        let end = words.iter().position(|word| ["|", ">", "&&", "|| true"].contains(&word.as_str()));
        words[..end.unwrap_or(words.len())].to_vec()
    }

    #[test]
    fn every_command_has_examples_that_can_be_run() {
        let mut found = Vec::new();
        commands(&CommandLine::command(), &mut Vec::new(), &mut found);
        for (path, is_group) in &found {
            let examples = EXAMPLES.iter().find(|(of, _)| of == path).map_or(&[][..], |(_, examples)| *examples);
            assert!(*is_group || !examples.is_empty(), "`tollgate {path}` has no example in cli/examples.rs");
            for (_, line) in examples {
                let given = words(line);
                assert_eq!(given[0], "tollgate", "{line}");
                let begins = given[1..].join(" ");
                assert!(begins.starts_with(path.as_str()), "{line} is not about `{path}`");
                let parsed = CommandLine::from_arguments(given.iter().map(OsString::from)).map(|_| ());
                assert_eq!(parsed, Ok(()), "{line}");
            }
        }
        for (path, _) in EXAMPLES {
            assert!(found.iter().any(|(known, _)| known == path), "there is no `tollgate {path}`");
        }
    }

    #[test]
    fn short_help_is_short_and_long_help_has_the_examples() {
        let mut command = command();
        command.build();
        let list = command.find_subcommand_mut("merchant").unwrap().find_subcommand_mut("list").unwrap();
        assert!(!list.render_help().to_string().contains("Examples:"));
        assert!(list.render_long_help().to_string().contains("Examples:\n  # "));
    }

    #[test]
    fn flags_of_serve_go_with_serve_only() {
        let parse = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            parsed(&arguments, clap::ColorChoice::Never)
        };
        let refused = parse("tollgate --listen 127.0.0.1:1 merchant list").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ArgumentConflict);
        assert!(refused.to_string().contains("--listen"), "{refused}");
        assert!(parse("tollgate --color never merchant list").is_ok());
        assert!(parse("tollgate merchant --color never list").is_ok());
        assert!(parse("tollgate merchant list --data-dir x").is_ok(), "it has one of its own");
        assert!(parse("tollgate --data-dir=x merchant list").unwrap_err().to_string().contains("'--data-dir'"));
        assert!(wants_json(&parse("tollgate merchant list --json").unwrap()));
        assert!(wants_json(&parse("tollgate merchant --json list").unwrap()));
        assert!(!wants_json(&parse("tollgate merchant list").unwrap()));
        assert!(!wants_json(&parse("tollgate check-config").unwrap()));
    }
}
