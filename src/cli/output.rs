//! The only place that writes to standard output and standard error. A reader that has gone away (`| head`) is not an
//! error of ours.

use std::io::{self, ErrorKind, Write};

use super::failure::Failure;

/// Writes `text` and a line break to standard output.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    written(write_line(&mut io::stdout().lock(), text))
}

/// Writes `value` as JSON for scripts.
pub(super) fn json(value: &serde_json::Value) -> Result<(), Failure> {
    line(&format!("{value:#}"))
}

/// Writes one message to standard error. There is nowhere to say that this did not work.
pub(super) fn error(message: &str) {
    let _ = write_line(&mut io::stderr().lock(), &format!("tollgate: {message}"));
}

/// Writes a hint to standard error, so that standard output holds nothing but what was asked for.
pub(super) fn note(message: &str) {
    let _ = write_line(&mut io::stderr().lock(), message);
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
    fn a_reader_that_went_away_is_not_an_error() {
        assert!(written(Err(io::Error::from(ErrorKind::BrokenPipe))).is_ok());
        assert!(written(Err(io::Error::from(ErrorKind::StorageFull))).is_err());
    }
}
