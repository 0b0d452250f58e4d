//! Lists that page: how much, from where, and where to go on.

use serde::Serialize;

use crate::gateway::error::GatewayError;

pub use crate::gateway::numbered_list::looked_back_to;

/// Rows of a page when the client does not say.
pub const LIMIT_DEFAULT: usize = 20;
/// Most rows of a page.
pub const LIMIT_MAX: usize = 100;

/// Which page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Most rows, 1 to [`LIMIT_MAX`]; `None` for [`LIMIT_DEFAULT`].
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageRequest {
    /// The number of rows asked for.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when it is out of range.
    pub fn rows(&self) -> Result<usize, GatewayError> {
        match self.limit {
            None => Ok(LIMIT_DEFAULT),
            Some(rows) if (1..=LIMIT_MAX).contains(&rows) => Ok(rows),
            Some(_) => Err(GatewayError::field("limit", format!("must be from 1 to {LIMIT_MAX}"))),
        }
    }

    /// The key to go on after, if a cursor was given.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the cursor was not made by [`cursor_of`] for this list.
    pub fn key_after(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>, GatewayError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let key = hex::decode(cursor).ok().map(|rest| [prefix, &rest].concat());
        key.map(Some).ok_or_else(|| GatewayError::field("cursor", "is not a cursor of this list"))
    }
}

/// The cursor that goes on after `key` in the list of keys with `prefix`.
pub fn cursor_of(prefix: &[u8], key: &[u8]) -> String {
    hex::encode(key.get(prefix.len()..).unwrap_or_default())
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Ask for this next; `None` when there is no more.
    pub next_cursor: Option<String>,
}
