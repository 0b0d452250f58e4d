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

    /// The key to go on after, if a cursor was given, in a list of keys that end in texts, such as payments' numbers.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when [`cursor_of`] makes no such cursor for a list of that kind.
    pub fn key_after(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>, GatewayError> {
        self.place_after(prefix, are_texts)
    }

    /// The same in a list of keys that end in a number of 8 bytes.
    ///
    /// # Errors
    /// As [`Self::key_after`].
    pub fn number_after(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>, GatewayError> {
        self.place_after(prefix, |rest| rest.len() == size_of::<u64>())
    }

    /// The same in any list: what is behind `prefix` must be as `is_place` wants it.
    ///
    /// # Errors
    /// As [`Self::key_after`].
    pub fn place_after(
        &self,
        prefix: &[u8],
        is_place: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, GatewayError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let rest = hex::decode(cursor).ok().filter(|rest| is_place(rest)).ok_or_else(not_of_this_list)?;
        Ok(Some([prefix, &rest].concat()))
    }
}

/// Whether the end of a key is texts, each of which ends with a zero byte, see storage/keys.rs.
pub fn are_texts(key_end: &[u8]) -> bool {
    let texts = key_end.strip_suffix(&[0]).map(|texts| texts.split(|byte| *byte == 0));
    texts.is_some_and(|mut texts| texts.all(|text| !text.is_empty() && text.iter().all(u8::is_ascii_graphic)))
}

/// The cursor was not made for the list that it is sent to.
pub fn not_of_this_list() -> GatewayError {
    GatewayError::field("cursor", "is not a cursor of this list")
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
