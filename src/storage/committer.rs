//! The committer: one group of batches at a time, evaluated in the order of their arrival, written as one frame, made
//! durable, and only then seen and answered. It has no thread of its own and can be stepped; the engine has a thread
//! that steps it.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Clock;
use crate::storage::frame::FrameBuilder;
use crate::storage::journal::{AppendError, Journal};
use crate::storage::overlay::Change;
use crate::storage::request::{Reply, Request, stream_head_key, stream_row_key};
use crate::storage::status::Status;
use crate::storage::view::{KnownRevision, View};
use crate::storage::{ABSENT, Committed, Precondition, StoreError};

/// Preconditions on absent keys that are remembered for their puts; a batch with more of them only coalesces less.
const ABSENT_NOTED_MAX: usize = 64;

/// See the module.
pub struct Committer {
    journal: Journal,
    view: Arc<View>,
    status: Arc<Status>,
    frame_bytes_max: usize,
    clock: Clock,
    frame: FrameBuilder,
    /// Changes of the frame being built.
    changes: Vec<Change>,
    /// Where the newest change of a key is in `changes`, by the key's hash.
    newest: HashMap<u64, usize>,
    /// Answers that wait for the frame.
    answers: Vec<(Reply, Result<Committed, StoreError>)>,
}

impl Committer {
    /// A committer that puts at most `frame_bytes_max` into one frame, or one batch if that alone has more. `clock` says
    /// when each frame is written.
    pub fn new(journal: Journal, view: Arc<View>, status: Arc<Status>, frame_bytes_max: usize, clock: Clock) -> Self {
        let frame_bytes_max = frame_bytes_max.min(journal.frame_bytes_max());
        Self {
            journal,
            view,
            status,
            frame_bytes_max,
            clock,
            frame: FrameBuilder::new(),
            changes: Vec::new(),
            newest: HashMap::new(),
            answers: Vec::new(),
        }
    }

    /// Most bytes that one frame gets.
    pub fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// Commits or refuses all batches of a group and answers them. The group is empty afterwards.
    pub fn step(&mut self, group: &mut Vec<Request>) {
        for request in group.drain(..) {
            if !self.frame.is_empty() && self.frame.stored_bytes() + request.frame_bytes > self.frame_bytes_max {
                self.flush();
            }
            if let Err(error) = self.status.check() {
                self.answers.push((request.reply, Err(error)));
                continue;
            }
            let Request { preconditions, changes, appends, reply, .. } = request;
            let answer = self.evaluate(&preconditions, changes, appends);
            self.answers.push((reply, answer));
        }
        self.flush();
    }

    /// Writes the mark of a clean stop.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] when the store has failed, also now.
    pub fn seal(&mut self) -> Result<(), StoreError> {
        self.status.check()?;
        self.journal.seal(self.clock.now()).map_err(|error| match error {
            AppendError::Short(shortage) => StoreError::Overloaded(shortage.message()),
            AppendError::Failed(reason) => {
                self.status.poison(&reason);
                StoreError::Poisoned(reason)
            }
        })
    }

    fn evaluate(
        &mut self,
        preconditions: &[Precondition],
        mut changes: Vec<Change>,
        appends: Vec<(Vec<u8>, Arc<[u8]>)>,
    ) -> Result<Committed, StoreError> {
        let mut absent = Vec::new();
        for (index, precondition) in preconditions.iter().enumerate() {
            let known = self.revision(&precondition.key)?;
            if known.revision != precondition.revision {
                return Err(StoreError::Precondition { index });
            }
            if known.absent_everywhere && absent.len() < ABSENT_NOTED_MAX {
                absent.push(&precondition.key);
            }
        }
        let sequence = self.journal.end().last_sequence + u64::from(self.frame.count()) + 1;
        for change in &mut changes {
            change.revision = sequence;
            change.absent_below = change.value.is_some() && absent.contains(&&change.key);
        }
        let numbers = self.number(appends, sequence, &mut changes)?;
        self.frame.add_batch(&changes);
        for change in changes {
            self.newest.insert(xxh3_64(&change.key), self.changes.len());
            self.changes.push(change);
        }
        Ok(Committed { sequence, numbers })
    }

    /// Turns appends into puts of their rows and their streams' heads, and returns their numbers.
    fn number(
        &self,
        appends: Vec<(Vec<u8>, Arc<[u8]>)>,
        sequence: u64,
        changes: &mut Vec<Change>,
    ) -> Result<Vec<u64>, StoreError> {
        let mut numbers = Vec::with_capacity(appends.len());
        for (stream, value) in appends {
            let head_key = stream_head_key(&stream);
            let in_batch = changes.iter_mut().rev().find(|change| change.key == head_key);
            let number = match &in_batch {
                Some(head) => stream_number(&head_key, head.value.as_deref())? + 1,
                None => self.last_number(&head_key)? + 1,
            };
            let head_value: Arc<[u8]> = Arc::from(number.to_be_bytes());
            match in_batch {
                Some(head) => head.value = Some(head_value),
                None => {
                    changes.push(Change {
                        key: head_key,
                        value: Some(head_value),
                        revision: sequence,
                        absent_below: false,
                    });
                }
            }
            let key = stream_row_key(&stream, number);
            changes.push(Change { key, value: Some(value), revision: sequence, absent_below: false });
            numbers.push(number);
        }
        Ok(numbers)
    }

    fn last_number(&self, head_key: &[u8]) -> Result<u64, StoreError> {
        match self.in_frame(head_key) {
            Some(change) => stream_number(head_key, change.value.as_deref()),
            None => stream_number(head_key, self.view.get(head_key)?.as_ref().map(|versioned| &*versioned.value)),
        }
    }

    fn revision(&self, key: &[u8]) -> Result<KnownRevision, StoreError> {
        match self.in_frame(key) {
            Some(change) => {
                let revision = if change.value.is_some() { change.revision } else { ABSENT };
                Ok(KnownRevision { revision, absent_everywhere: false })
            }
            None => self.view.revision(key),
        }
    }

    /// The newest change of a key in the frame being built.
    fn in_frame(&self, key: &[u8]) -> Option<&Change> {
        let newest = self.changes.get(*self.newest.get(&xxh3_64(key))?)?;
        if newest.key == key {
            return Some(newest);
        }
        // Two keys with the same hash: rare enough to look at everything.
        self.changes.iter().rev().find(|change| change.key == key)
    }

    /// Writes the frame and makes it durable.
    fn write(&mut self) -> Result<(), AppendError> {
        let (batches, began) = (self.frame.count(), self.clock.monotonic());
        self.journal.append(&mut self.frame, self.clock.now())?;
        self.status.note_frame(batches, self.clock.monotonic().since(began));
        Ok(())
    }

    /// Makes the frame durable, shows what it changed, and answers everybody who waits for it. An answer that nothing
    /// was changed waits, too, because it may be about what another batch of the frame has changed.
    fn flush(&mut self) {
        let written = if self.frame.is_empty() { Ok(()) } else { self.write() };
        let refusal = match written {
            Ok(()) => {
                if !self.changes.is_empty() || !self.frame.is_empty() {
                    let last_sequence = self.journal.end().last_sequence;
                    self.view.overlay().add(self.changes.drain(..), last_sequence);
                    self.status.advance(&self.journal);
                }
                None
            }
            Err(AppendError::Short(shortage)) => Some(StoreError::Overloaded(shortage.message())),
            Err(AppendError::Failed(reason)) => {
                self.status.poison(&reason);
                Some(StoreError::Indeterminate(reason))
            }
        };
        self.frame.clear();
        self.changes.clear();
        self.newest.clear();
        for (reply, answer) in self.answers.drain(..) {
            let answer = match (&refusal, answer) {
                (Some(refusal), Ok(_) | Err(StoreError::Precondition { .. })) => Err(refusal.clone()),
                (_, answer) => answer,
            };
            // The receiver may be gone: nobody waits for the answer then.
            let _ = reply.send(answer);
        }
    }
}

fn stream_number(head_key: &[u8], value: Option<&[u8]>) -> Result<u64, StoreError> {
    let Some(value) = value else { return Ok(0) };
    let number = value.try_into().map(u64::from_be_bytes);
    number.map_err(|_| StoreError::Corrupt(format!("the head of stream {} is not a number", hex::encode(head_key))))
}
