//! The only place that writes to standard output and standard error. A reader that has gone away (`| head`) is not an
//! error of ours.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};

use serde_json::Value;

use super::failure::Failure;
use super::style::{self, ALARM, RESET, STYLES};

/// Writes `text` and a line break to standard output.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    let shown = if style::on_stdout() { harmless_but_styled(text) } else { harmless(text) };
    written(write_line(&mut io::stdout().lock(), &shown))
}

/// Writes a file's content to standard output as it is.
pub(super) fn bytes(content: &[u8]) -> Result<(), Failure> {
    let mut target = io::stdout().lock();
    written(target.write_all(content).and_then(|()| target.flush()))
}

/// Writes `value` as JSON for scripts.
pub(super) fn json(value: &Value) -> Result<(), Failure> {
    line(&format!("{value:#}"))
}

/// Writes one message to standard error. There is nowhere to say that this did not work.
pub(super) fn error(message: &str) {
    let (alarm, reset) = if style::on_stderr() { (ALARM, RESET) } else { ("", "") };
    let _ = write_line(&mut io::stderr().lock(), &format!("{alarm}tollgate:{reset} {}", harmless(message)));
}

/// Writes an error to standard error as one line of JSON, for scripts that asked for JSON.
pub(super) fn json_error(error: &Value) {
    let _ = write_line(&mut io::stderr().lock(), &error.to_string());
}

/// Writes a hint to standard error, so that standard output holds nothing but what was asked for.
pub(super) fn note(message: &str) {
    let _ = write_line(&mut io::stderr().lock(), &harmless(message));
}

/// The text without what would drive a terminal or turn the order of letters round: much of what is shown was written by
/// merchants, and by receivers of their webhooks. Such characters are shown as in JSON.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |character: char| {
        let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        turns || (character.is_control() && !matches!(character, '\n' | '\t'))
    };
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.replace("\r\n", "\n").chars() {
        if is_harmful(character) {
            shown.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// The same, but for the styles of tables. Whoever gets these into a text can make it bold or red, and nothing else.
fn harmless_but_styled(text: &str) -> Cow<'_, str> {
    let Some(at) = text.find('\u{1b}') else { return harmless(text) };
    let (mut shown, mut rest) = (harmless(&text[..at]).into_owned(), &text[at..]);
    while !rest.is_empty() {
        let own = STYLES.iter().find(|own| rest.starts_with(**own)).copied().unwrap_or_default();
        shown.push_str(own);
        rest = &rest[own.len()..];
        // At least one character further, unless a style was taken.
        let from = if own.is_empty() { 1 } else { 0 };
        let end = rest.get(from..).and_then(|after| after.find('\u{1b}')).map_or(rest.len(), |found| found + from);
        shown.push_str(&harmless(&rest[..end]));
        rest = &rest[end..];
    }
    Cow::Owned(shown)
}

fn write_line(target: &mut impl Write, text: &str) -> io::Result<()> {
    target.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        target.write_all(b"\n")?;
    }
    target.flush()
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("the result can't be written ({error}); check where the output goes")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_once() {
        for text in ["a", "a\n"] {
            let mut bytes = Vec::new();
            write_line(&mut bytes, text).unwrap();
            assert_eq!(bytes, b"a\n");
        }
    }

    #[test]
    fn what_others_have_written_does_not_drive_the_terminal() {
        let told = "\u{1b}]0;title\u{7}\u{1b}[2Ja\tb\r\nc\rd\u{9b}2J\u{202e}é\0";
        assert_eq!(harmless(told), "\\u001b]0;title\\u0007\\u001b[2Ja\tb\nc\\u000dd\\u009b2J\\u202eé\\u0000");
        assert!(matches!(harmless("plain é\n\ttext"), Cow::Borrowed(_)));
    }

    #[test]
    fn only_the_styles_of_tables_reach_the_terminal() {
        let told = "a\u{1b}[1mb\u{1b}[0m\u{1b}[8mc\u{1b}\u{1b}[31md\u{1b}[35me\u{1b}";
        let shown = "a\u{1b}[1mb\u{1b}[0m\\u001b[8mc\\u001b\u{1b}[31md\\u001b[35me\\u001b";
        assert_eq!(harmless_but_styled(told), shown);
        assert!(matches!(harmless_but_styled("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_reader_that_went_away_is_not_an_error() {
        assert!(written(Err(io::Error::from(ErrorKind::BrokenPipe))).is_ok());
        assert!(written(Err(io::Error::from(ErrorKind::StorageFull))).is_err());
    }
}
