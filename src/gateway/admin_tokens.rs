//! The operator's tokens: named, so that it can be said who did something; made at first start when none is given.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::random::Random;

/// Environment variable that gives the first token.
pub const TOKEN_VARIABLE: &str = "TOLLGATE_ADMIN_TOKEN";
/// File in the data directory that holds the token that was made at first start.
pub const TOKEN_FILE: &str = "admin.token";
/// Shortest token that is taken from the environment, in characters.
const TOKEN_CHARS_MIN: usize = 16;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// The given token is too easy to guess.
    #[error("{TOKEN_VARIABLE} must have at least {TOKEN_CHARS_MIN} characters")]
    TooShort,
    /// The file can't be read or made.
    #[error("the admin token file {path}: {message}")]
    File {
        /// Where it is.
        path: String,
        /// What went wrong.
        message: String,
    },
}

/// A token that opens the operator's API.
#[derive(Clone)]
pub struct AdminToken {
    /// Who uses it.
    pub name: String,
    /// The token.
    pub secret: String,
}

/// The token from the environment, else the one in the data directory, which is made when it is not there.
pub(crate) fn open(
    directory: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
    random: &Random,
) -> Result<Vec<AdminToken>, AdminTokenError> {
    if let Some(secret) = variable(TOKEN_VARIABLE) {
        if secret.chars().count() < TOKEN_CHARS_MIN {
            return Err(AdminTokenError::TooShort);
        }
        return Ok(vec![AdminToken { name: "environment".to_owned(), secret }]);
    }
    let path = directory.join(TOKEN_FILE);
    let failed =
        |error: std::io::Error| AdminTokenError::File { path: path.display().to_string(), message: error.to_string() };
    let secret = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(&path, random).map_err(failed)?,
        Err(error) => return Err(failed(error)),
    };
    Ok(vec![AdminToken { name: "admin".to_owned(), secret }])
}

fn make(path: &Path, random: &Random) -> std::io::Result<String> {
    let mut bytes = [0_u8; 24];
    random.fill(&mut bytes);
    let secret = format!("at_{}", hex::encode(bytes));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    Ok(secret)
}
