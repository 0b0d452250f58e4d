//! Colours, for people who look at a terminal: `NO_COLOR`, `CLICOLOR_FORCE` and `TERM=dumb` count, `--color` counts more.

use std::ffi::OsString;
use std::io;

use anstream::AutoStream;
use clap::ValueEnum;

/// When what is printed has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// On a terminal, unless `NO_COLOR` is set; also elsewhere with `CLICOLOR_FORCE`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl When {
    /// What the arguments say before they are parsed, so that help and errors about arguments keep to it, too. The last
    /// one counts.
    pub(super) fn of(arguments: &[OsString]) -> Self {
        let texts: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
        let given = |position: usize, text: &str| match text.strip_prefix("--color") {
            Some("") => texts.get(position + 1).copied().map(String::from),
            Some(rest) => rest.strip_prefix('=').map(String::from),
            None => None,
        };
        let named = texts.iter().enumerate().filter_map(|(position, text)| given(position, text));
        named.rev().find_map(|name| Self::from_str(&name, false).ok()).unwrap_or_default()
    }

    /// For clap.
    pub(super) const fn for_clap(self) -> clap::ColorChoice {
        match self {
            Self::Auto => clap::ColorChoice::Auto,
            Self::Always => clap::ColorChoice::Always,
            Self::Never => clap::ColorChoice::Never,
        }
    }

    /// Holds from now on for all that is printed.
    pub(super) fn choose(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

/// Whether standard output has colours.
pub(super) fn on_stdout() -> bool {
    AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// Whether standard error has colours.
pub(super) fn on_stderr() -> bool {
    AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

/// Ends every style.
pub(super) const RESET: &str = "\u{1b}[0m";
/// Titles.
pub(super) const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
/// What is wrong.
pub(super) const ALARM: &str = "\u{1b}[1;31m";
/// All of them.
pub(super) const STYLES: [&str; 6] = [RESET, BOLD, RED, GREEN, YELLOW, ALARM];

/// How good news a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As wished.
    Good,
    /// Not yet, or to be watched.
    Open,
    /// Something is wrong or was refused.
    Bad,
    /// Neither.
    Plain,
}

impl Tone {
    /// How it looks; nothing for [`Tone::Plain`].
    pub(super) const fn style(self) -> &'static str {
        match self {
            Self::Good => GREEN,
            Self::Open => YELLOW,
            Self::Bad => RED,
            Self::Plain => "",
        }
    }

    /// Of a state as the gateway names it; what is behind its first word only adds to it.
    pub(super) fn of(state: &str) -> Self {
        match state.split_whitespace().next().unwrap_or_default() {
            "success" | "active" | "enabled" | "closed" | "healthy" | "captured" | "done" | "ready" | "yes"
            | "fine" => Self::Good,
            "pending"
            | "retrying"
            | "processing"
            | "running"
            | "paused"
            | "half_open"
            | "failing"
            | "maintained"
            | "requires_action"
            | "requires_capture"
            | "requires_payment_method" => Self::Open,
            "failed" | "open" | "disabled" | "suspended" | "refused" | "needs_review" | "not" | "no" | "stopping" => {
                Self::Bad
            }
            _ => Self::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_choice_counts_wherever_it_stands() {
        let of = |line: &str| When::of(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of("tollgate merchant list"), When::Auto);
        assert_eq!(of("tollgate --color never merchant list"), When::Never);
        assert_eq!(of("tollgate merchant list --color=always"), When::Always);
        assert_eq!(of("tollgate --color never status --color always"), When::Always);
        assert_eq!(of("tollgate --color sometimes"), When::Auto);
        assert_eq!(of("tollgate --colors never"), When::Auto);
    }

    #[test]
    fn states_have_a_tone_by_their_first_word() {
        assert_eq!(Tone::of("closed"), Tone::Good);
        assert_eq!(Tone::of("open until 2026-01-01T00:00:00Z"), Tone::Bad);
        assert_eq!(Tone::of("requires_capture"), Tone::Open);
        for plain in ["", "-", "stripe"] {
            assert_eq!(Tone::of(plain), Tone::Plain);
        }
    }
}
