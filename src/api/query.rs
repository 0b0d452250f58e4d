//! Reading the query of a request: known names only, each at most once.

use std::borrow::Cow;

use url::form_urlencoded;

use crate::api::error::ApiError;
use crate::gateway::error::{FieldError, GatewayError};
use crate::gateway::page::{LIMIT_MAX, PageRequest};

/// The names that every list takes.
pub(crate) const PAGE_NAMES: [&str; 2] = ["limit", "cursor"];

/// The query's values by name.
#[derive(Debug)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads a query that may have `names` and, if it `pages`, also those of a page.
    ///
    /// # Errors
    /// An invalid request that names every unknown or repeated name: a filter that is misspelt must not list
    /// everything.
    pub(crate) fn read(query: Option<&'a str>, names: &[&str], pages: Pages) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let mut values: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let is_known = names.contains(&&*name) || (pages == Pages::Yes && PAGE_NAMES.contains(&&*name));
            if !is_known {
                errors.push(FieldError::new(name, "is not a parameter of this request"));
            } else if values.iter().any(|(known, _)| *known == name) {
                errors.push(FieldError::new(name, "is there twice"));
            } else {
                values.push((name, value));
            }
        }
        if errors.is_empty() { Ok(Self(values)) } else { Err(GatewayError::InvalidRequest(errors).into()) }
    }

    /// A value, if it is there; an empty one counts as not there.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())?;
        (!value.is_empty()).then(|| String::from(value))
    }

    /// Whether a value is there that says nothing.
    pub(crate) fn is_empty(&self, name: &str) -> bool {
        self.0.iter().any(|(known, value)| known == name && value.is_empty())
    }

    /// Which page.
    ///
    /// # Errors
    /// An invalid request when `limit` is not a number; its range is checked by the list.
    pub(crate) fn page(&self) -> Result<PageRequest, ApiError> {
        let limit = match self.text("limit") {
            None => None,
            Some(text) => {
                let rows = text
                    .parse()
                    .map_err(|_| ApiError::field("limit", format!("must be a whole number from 1 to {LIMIT_MAX}")))?;
                Some(rows)
            }
        };
        Ok(PageRequest { limit, cursor: self.text("cursor") })
    }
}

/// Whether a query may ask for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// It is of a list.
    Yes,
    /// It is not.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_read_and_decoded() {
        let query = Query::read(Some("status=a%20b+c&limit=5&cursor=ff&channel="), &["status", "channel"], Pages::Yes);
        let query = query.unwrap();
        assert_eq!(query.text("status").as_deref(), Some("a b c"));
        assert_eq!(query.text("channel"), None);
        assert_eq!(["status", "channel", "merchant_id"].map(|name| query.is_empty(name)), [false, true, false]);
        assert_eq!(query.page().unwrap(), PageRequest { limit: Some(5), cursor: Some(String::from("ff")) });
        let none = Query::read(None, &[], Pages::Yes).unwrap();
        assert_eq!(none.page().unwrap(), PageRequest::default());
    }

    #[test]
    fn unknown_and_repeated_names_are_all_named() {
        let refused = Query::read(Some("statsu=x&status=a&status=b&limit=1"), &["status"], Pages::No).unwrap_err();
        let ApiError::Gateway(GatewayError::InvalidRequest(errors)) = refused else { panic!("{refused:?}") };
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["statsu", "status", "limit"]);
    }

    #[test]
    fn a_limit_is_a_number() {
        for bad in ["x", "-1", "1.5", "99999999999999999999"] {
            let text = format!("limit={bad}");
            let query = Query::read(Some(&text), &[], Pages::Yes).unwrap();
            assert!(query.page().is_err(), "{bad}");
        }
    }
}
