//! `tollgate openapi`: the document that is also served at `/openapi.json`.

use super::failure::{Failure, Outcome};
use super::output;
use crate::api::{DocumentPart, openapi_document, openapi_document_of};

/// What to print.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only what one listener answers; everything when not given.
    #[arg(long, value_name = "PART", value_parser = DocumentPart::ALL.map(DocumentPart::as_str))]
    part: Option<String>,
}

/// Prints the OpenAPI document.
pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let part = arguments.part.as_deref().and_then(DocumentPart::named);
    output::line(&part.map_or_else(openapi_document, openapi_document_of))?;
    Ok(Outcome::Fine)
}
