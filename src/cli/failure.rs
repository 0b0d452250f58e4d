//! How a command ends.

use serde_json::{Map, Value, json};

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
    /// The gateway did not do it.
    #[error("{message}")]
    Refused {
        /// What a person is told.
        message: String,
        /// The gateway's answer, for scripts.
        answer: Value,
    },
    /// Arguments or configuration are wrong.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// For scripts: the sentence, the exit code, and of a refusal by the gateway what it answered.
    pub(super) fn json(&self, exit_code: u8) -> Value {
        let mut error = Map::from_iter([
            (String::from("message"), json!(self.to_string())),
            (String::from("exit_code"), json!(exit_code)),
        ]);
        if let Self::Refused { answer, .. } = self {
            error.insert(String::from("answer"), answer.clone());
        }
        json!({ "error": error })
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_get_what_the_gateway_answered() {
        let usage = Failure::Usage(String::from("give it a name"));
        assert_eq!(usage.json(2), json!({ "error": { "message": "give it a name", "exit_code": 2 } }));
        let refused = Failure::Refused { message: String::from("no"), answer: json!({ "code": "NOT_FOUND" }) };
        assert_eq!(refused.json(1)["error"]["answer"]["code"], "NOT_FOUND");
    }
}
