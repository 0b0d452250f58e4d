//! What a harmless, authenticated call of a provider shows about how a channel is set up.

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Whose account the credentials are, as the provider names it, where it says so.
    pub account: Option<String>,
    /// Whether they move real money, where the provider says so.
    pub livemode: Option<bool>,
    /// What else is worth knowing, a sentence each. Never carries a secret.
    pub findings: Vec<String>,
}

/// Why nothing was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckFailure {
    /// The channel can't be checked.
    #[error("this channel can't be checked")]
    NotSupported,
    /// The provider refused the call, with what it said.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// The provider gave no answer.
    #[error("the provider could not be asked: {0}")]
    Unreachable(String),
}
