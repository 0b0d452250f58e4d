//! `tollgate man`: the manual, as pages for `man` or as Markdown, made from what `--help` says.

use std::path::{Path, PathBuf};

use clap::{Arg, Args, Command};
use clap_mangen::Man;

use super::admin::HEADING;
use super::failure::{Failure, Outcome};
use super::output;
use super::usage::{self, EXAMPLES_TITLE};

/// Flags of `man`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Write a page for each command into this directory, such as /usr/local/share/man/man1, in place of printing the first
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the whole manual as Markdown
    #[arg(long, conflicts_with = "dir")]
    markdown: bool,
}

/// Prints or writes the manual.
pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let mut command = usage::command().disable_help_subcommand(true);
    command.build();
    if arguments.markdown {
        output::bytes(markdown(&command).as_bytes())?;
        return Ok(Outcome::Fine);
    }
    match &arguments.dir {
        None => output::bytes(&page(&command)?)?,
        Some(dir) => {
            let count = write_pages(&command, dir)?;
            output::line(&format!("{count} pages are in {}", dir.display()))?;
        }
    }
    Ok(Outcome::Fine)
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let manual = Man::new(command.clone().display_name(title(command))).manual("Tollgate").date("");
    manual.render(&mut page).map_err(|error| Failure::Failed(format!("the manual can't be made: {error}")))?;
    Ok(page)
}

/// Such as `tollgate-merchant-list`.
fn title(command: &Command) -> String {
    command.get_bin_name().unwrap_or_else(|| command.get_name()).replace(' ', "-")
}

fn write_pages(command: &Command, dir: &Path) -> Result<usize, Failure> {
    std::fs::create_dir_all(dir).map_err(|error| not_written(dir, &error))?;
    let mut count = 0;
    for command in all(command) {
        let file = dir.join(format!("{}.1", title(command)));
        std::fs::write(&file, page(command)?).map_err(|error| not_written(&file, &error))?;
        count += 1;
    }
    Ok(count)
}

fn not_written(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("{} can't be written ({error}); give a directory of yours with --dir", path.display()))
}

/// A command and all below it, in the order of the help.
fn all(command: &Command) -> Vec<&Command> {
    let mut found = vec![command];
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        found.extend(all(inner));
    }
    found
}

/// What stands at the top of docs/cli.md.
const HEAD: &str = "\
# The command line

<!-- Made by `tollgate man --markdown > docs/cli.md`; a test compares the two. -->

Every command that works through the admin API finds the gateway by itself: its address is `--admin-url`, else `TOLLGATE_ADMIN_URL`,
else what the configuration says; its token is `--admin-token`, else `--admin-token-file`, else `TOLLGATE_ADMIN_TOKEN`, else
`TOLLGATE_ADMIN_TOKEN_FILE`, else `admin.token` in the data directory. The configuration is `--config`, else `TOLLGATE_CONFIG`,
else, for these commands, `/etc/tollgate/config.toml` if it is there. On the gateway's own machine none of these is needed.

- **Exit codes**: 0 fine, 1 failed (or `status`, `verify`, `check` found something wrong), 2 wrong usage or configuration.
- **Results** go to standard output, errors, notes and progress to standard error. A reader that goes away (`| head`) is no error.
- **`--json`** prints what the API answers. Lists are `{\"items\": […], \"next_cursor\": …}`. Errors are then one line of JSON on standard
  error: `{\"error\": {\"message\", \"exit_code\", \"answer\"}}`, `answer` being the gateway's if it refused.
- **Flags** may stand before the command, too: `tollgate --config FILE serve`, `tollgate --json status`.
- **Lists** show 20 rows unless `--limit` or `--all` says otherwise; `--cursor` goes on where an earlier call has ended.
- **Colours** are for terminals; `NO_COLOR` and `CLICOLOR_FORCE` count, `--color` counts more.
- **Completion**: `tollgate completions bash > /etc/bash_completion.d/tollgate` (also zsh, fish, elvish, powershell).
  **Manual**: `tollgate man --dir /usr/local/share/man/man1`, then `man tollgate-payment-list`.
";

/// The whole manual.
fn markdown(command: &Command) -> String {
    let mut text = String::from(HEAD);
    let shared = all(command).into_iter().find(|command| command.get_arguments().any(is_shared));
    let flags = shared.into_iter().flat_map(Command::get_arguments).filter(|arg| is_shared(arg)).map(described);
    text.push_str(&format!(
        "\n## Flags of all that works through the admin API\n\n{}\n",
        flags.collect::<Vec<_>>().join("\n")
    ));
    for command in all(command) {
        text.push_str(&section(command));
    }
    text
}

/// Whether a flag is one of those that all commands have which work through the admin API.
fn is_shared(arg: &Arg) -> bool {
    arg.get_help_heading() == Some(HEADING)
}

fn section(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let mut text = format!("\n## {name}\n\n{}\n\n```text\n{usage}\n```\n", sentence(&about));
    let own = |arg: &&Arg| !arg.is_hide_set() && arg.get_id() != "help" && !is_shared(arg);
    let is_top = !name.contains(' ');
    let described: Vec<String> =
        command.get_arguments().filter(own).filter(|arg| is_top || !arg.is_global_set()).map(described).collect();
    if !described.is_empty() {
        text.push_str(&format!("\n{}\n", described.join("\n")));
    }
    let after = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    if let Some((notes, examples)) = after.split_once(EXAMPLES_TITLE) {
        if !notes.is_empty() {
            text.push_str(&format!("\n{}\n", notes.trim_end()));
        }
        let lines: Vec<String> = examples.lines().map(|line| line.trim_start().to_owned()).collect();
        text.push_str(&format!("\n```sh\n{}\n```\n", lines.join("\n")));
    }
    text
}

/// A line of a list about a flag or a value.
fn described(arg: &Arg) -> String {
    let value =
        arg.get_value_names().map(|names| names.iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" "));
    let value = value.filter(|_| arg.get_action().takes_values()).unwrap_or_default();
    let name = match (arg.get_long(), arg.get_short()) {
        (Some(long), Some(short)) => format!("-{short}, --{long} {value}"),
        (Some(long), None) => format!("--{long} {value}"),
        (None, Some(short)) => format!("-{short} {value}"),
        (None, None) => value,
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let takes_values = arg.get_action().takes_values() && !arg.is_hide_default_value_set();
    let default = if defaults.is_empty() || !takes_values {
        String::new()
    } else {
        format!(" (default `{}`)", defaults.join(","))
    };
    let possible: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let possible =
        if possible.is_empty() || !takes_values { String::new() } else { format!(" ({})", possible.join(", ")) };
    format!("- `{}`: {help}{possible}{default}", name.trim_end())
}

/// With a full stop, whatever it ends in.
fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.is_empty() || text.ends_with('.') { String::from(text) } else { format!("{text}.") }
}
