//! `tollgate openapi`: the document that is also served at `/openapi.json`.

use super::failure::{Failure, Outcome};
use super::output;

/// Prints the OpenAPI document.
pub(super) fn run() -> Result<Outcome, Failure> {
    output::line(&crate::api::openapi_document())?;
    Ok(Outcome::Fine)
}
