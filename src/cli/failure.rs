//! How a command ends.

/// A command ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As wanted.
    Fine,
    /// It has said itself what was not.
    Failed,
}

/// Why a command ended early, in one sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// It did not work.
    #[error("{0}")]
    Failed(String),
    /// Arguments or configuration are wrong.
    #[error("{0}")]
    Usage(String),
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}
