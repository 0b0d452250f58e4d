//! Answers that were given before they could be stored, because the store had no room. They stay in memory until they
//! are stored, so that a repetition of the request gets them as well. They do not outlive the process.

use std::sync::Arc;

use dashmap::DashMap;
use tokio_util::sync::CancellationToken;

use crate::gateway::answer::StoredAnswer;

/// An answer and whose it is.
#[derive(Clone, Debug)]
struct Told {
    body_hash: String,
    answer: StoredAnswer,
}

/// The answers that were given and are not stored yet, by the key of their row. Each belongs to a task that tries to
/// store it, and there are no more of them than such tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToldAnswers(Arc<DashMap<Vec<u8>, Told>>);

impl ToldAnswers {
    /// Has the answer ready for repetitions until what is returned is dropped; once `stopping` is cancelled, for as long as
    /// the process lives, because work then ends before its answer is stored.
    pub(super) fn tell(
        &self,
        key: &[u8],
        body_hash: &str,
        answer: &StoredAnswer,
        stopping: &CancellationToken,
    ) -> Telling {
        self.0.insert(key.to_vec(), Told { body_hash: body_hash.to_owned(), answer: answer.clone() });
        Telling { told: self.clone(), key: key.to_vec(), stopping: stopping.clone() }
    }

    /// Whether everything is stored.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The answer under a key, with the hash of the body of the request that got it.
    pub(super) fn get(&self, key: &[u8]) -> Option<(String, StoredAnswer)> {
        self.0.get(key).map(|told| (told.body_hash.clone(), told.answer.clone()))
    }
}

/// Keeps an answer ready for repetitions, until it is dropped.
#[derive(Debug)]
pub(crate) struct Telling {
    told: ToldAnswers,
    key: Vec<u8>,
    stopping: CancellationToken,
}

impl Drop for Telling {
    fn drop(&mut self) {
        if !self.stopping.is_cancelled() {
            self.told.0.remove(&self.key);
        }
    }
}
