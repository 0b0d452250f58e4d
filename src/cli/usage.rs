//! The command line as clap knows it, with examples below each command's help, and the words for what is wrong with one.

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::{Arg, ArgMatches, Command, CommandFactory};

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
    let arguments = command_first(&command, arguments);
    command.try_get_matches_from_mut(arguments)
}

/// The same arguments with the command in front of the flags that were given before it: `tollgate --config FILE serve` is
/// `tollgate serve --config FILE`. Whether the command has such a flag is told by who parses it.
fn command_first(command: &Command, arguments: &[OsString]) -> Vec<OsString> {
    let mut place = 1;
    while let Some(text) = arguments.get(place).map(|argument| argument.to_string_lossy()) {
        match text.strip_prefix('-') {
            // These are about all of the program.
            Some("h" | "V" | "-help" | "-version" | "-") => break,
            Some(flag) => {
                let name = flag.trim_start_matches('-');
                let takes_next = !flag.contains('=') && takes_value(command, name);
                place += if takes_next { 2 } else { 1 };
            }
            None if place > 1 && command.find_subcommand(&*text).is_some() => {
                let mut moved = arguments.to_vec();
                moved[1..=place].rotate_right(1);
                return moved;
            }
            None => break,
        }
    }
    arguments.to_vec()
}

/// Whether a flag of this name, of any command, stands before its value.
fn takes_value(command: &Command, name: &str) -> bool {
    let is_named = |argument: &&Arg| {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        argument.get_long() == Some(name) || aliases.contains(&name)
    };
    match command.get_arguments().find(is_named) {
        Some(argument) => argument.get_action().takes_values(),
        None => command.get_subcommands().any(|inner| takes_value(inner, name)),
    }
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
    use clap::error::ErrorKind;

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
    fn flags_may_stand_before_the_command_that_has_them() {
        let parse = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            parsed(&arguments, clap::ColorChoice::Never)
        };
        let at = |matches: &ArgMatches, name: &str| {
            let mut inner = matches;
            while let Some((_, deeper)) = inner.subcommand() {
                inner = deeper;
            }
            inner.get_raw(name).map(|mut values| values.next().unwrap().to_str().unwrap().to_owned())
        };
        for line in [
            "tollgate --config serve serve --listen 127.0.0.1:1",
            "tollgate --config=serve --color never serve --listen 127.0.0.1:1",
            "tollgate --listen 127.0.0.1:1 serve --config serve",
            "tollgate --accept-clock --listen 127.0.0.1:1 --config serve serve",
        ] {
            let matches = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(matches.subcommand_name(), Some("serve"), "{line}");
            assert_eq!(at(&matches, "config").as_deref(), Some("serve"), "{line}");
            assert_eq!(at(&matches, "listen").as_deref(), Some("127.0.0.1:1"), "{line}");
        }
        let listed = parse("tollgate --admin-url http://a:1 --json merchant list").unwrap();
        assert_eq!(at(&listed, "admin_url").as_deref(), Some("http://a:1"));
        assert!(wants_json(&listed));
        let by_alias = parse("tollgate --token merchant merchant list").unwrap();
        assert_eq!(at(&by_alias, "admin_token").as_deref(), Some("merchant"));
        assert!(parse("tollgate --data-dir=x merchant list").is_ok());
        assert!(parse("tollgate --config a serve --config b").is_err(), "which of them?");
        let refused = parse("tollgate --listen 127.0.0.1:1 merchant list").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::UnknownArgument);
        assert!(refused.to_string().contains("--listen"), "{refused}");
        assert_eq!(parse("tollgate --version serve").unwrap_err().kind(), ErrorKind::DisplayVersion);
    }

    #[test]
    fn scripts_are_known_by_their_flag() {
        let parse = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            parsed(&arguments, clap::ColorChoice::Never)
        };
        assert!(wants_json(&parse("tollgate merchant list --json").unwrap()));
        assert!(wants_json(&parse("tollgate merchant --json list").unwrap()));
        assert!(!wants_json(&parse("tollgate merchant list").unwrap()));
        assert!(!wants_json(&parse("tollgate check-config").unwrap()));
    }
}
