//! What waits for the committer: bounded in batches, and in bytes together with what the overlay holds.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use crate::storage::request::Request;
use crate::storage::{StoreError, Urgency};

/// Bounds of what may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    /// Batches that may wait.
    pub batches_max: usize,
    /// Bytes that may be in memory and not in the index, waiting or committed.
    pub memory_bytes_max: u64,
}

/// Batches in the order of their arrival.
#[derive(Debug)]
pub struct CommitQueue {
    bounds: QueueBounds,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<Request>,
    /// Bytes of what waits.
    waiting_bytes: u64,
    /// Bytes of what the committer has taken and is working on.
    taken_bytes: u64,
    is_taker_waiting: bool,
    closed: Option<StoreError>,
}

impl CommitQueue {
    /// An empty queue.
    pub fn new(bounds: QueueBounds) -> Self {
        Self { bounds, state: Mutex::new(State::default()), arrived: Condvar::new() }
    }

    /// Adds a batch, or answers it at once. `overlay_bytes` are what the overlay holds now.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] without room, and why the queue was closed.
    pub fn push(&self, request: Request, overlay_bytes: u64) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.closed {
            return Err(reason.clone());
        }
        self.check_room(&state, request.urgency, overlay_bytes + request.memory_bytes)?;
        state.waiting_bytes += request.memory_bytes;
        state.requests.push_back(request);
        if state.is_taker_waiting {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Whether a batch that begins something new would be taken.
    pub fn has_room(&self, overlay_bytes: u64) -> bool {
        let state = self.state.lock();
        state.closed.is_none() && self.check_room(&state, Urgency::New, overlay_bytes).is_ok()
    }

    /// Batches that wait, and the bytes of these and of what is being written.
    pub fn waiting(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.requests.len() as u64, state.waiting_bytes + state.taken_bytes)
    }

    fn check_room(&self, state: &State, urgency: Urgency, more_bytes: u64) -> Result<(), StoreError> {
        // A quarter is kept for what has begun.
        let (batches_max, bytes_max) = match urgency {
            Urgency::New => (self.bounds.batches_max / 4 * 3, self.bounds.memory_bytes_max / 4 * 3),
            Urgency::Finish => (self.bounds.batches_max, self.bounds.memory_bytes_max),
        };
        if state.requests.len() >= batches_max.max(1) {
            return Err(StoreError::Overloaded("too many changes wait for the disk"));
        }
        if state.waiting_bytes + state.taken_bytes + more_bytes > bytes_max {
            return Err(StoreError::Overloaded("too many changes wait for the index"));
        }
        Ok(())
    }

    /// Waits for batches and takes those that arrived first, until they have `frame_bytes_max` together. Returns false
    /// when the queue is closed and empty.
    pub fn take_group(&self, group: &mut Vec<Request>, frame_bytes_max: usize) -> bool {
        let mut state = self.state.lock();
        state.taken_bytes = 0;
        while state.requests.is_empty() {
            if state.closed.is_some() {
                return false;
            }
            state.is_taker_waiting = true;
            self.arrived.wait(&mut state);
            state.is_taker_waiting = false;
        }
        let mut frame_bytes = 0;
        while frame_bytes < frame_bytes_max {
            let Some(request) = state.requests.pop_front() else { break };
            frame_bytes += request.frame_bytes;
            state.taken_bytes += request.memory_bytes;
            group.push(request);
        }
        state.waiting_bytes -= state.taken_bytes;
        true
    }

    /// Takes no more batches and answers them with `reason`; those that wait are still committed.
    pub fn close(&self, reason: StoreError) {
        self.state.lock().closed.get_or_insert(reason);
        self.arrived.notify_all();
    }

    /// Takes no more batches and answers those that wait, too, with `reason`: none of them was written.
    pub fn abort(&self, reason: &StoreError) {
        let waiting = {
            let mut state = self.state.lock();
            state.closed.get_or_insert_with(|| reason.clone());
            state.waiting_bytes = 0;
            std::mem::take(&mut state.requests)
        };
        self.arrived.notify_all();
        for request in waiting {
            // The receiver may be gone: nobody waits for the answer then.
            let _ = request.reply.send(Err(reason.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Batch;

    fn request(urgency: Urgency) -> Request {
        let mut batch = Batch { urgency, ..Batch::default() };
        batch.put(b"key".to_vec(), vec![0; 100]);
        Request::new(batch, 10_000, tokio::sync::oneshot::channel().0).unwrap()
    }

    #[test]
    fn new_work_is_refused_at_three_quarters_and_the_rest_when_full() {
        let queue = CommitQueue::new(QueueBounds { batches_max: 8, memory_bytes_max: 1 << 20 });
        for _ in 0..6 {
            queue.push(request(Urgency::New), 0).unwrap();
        }
        assert!(!queue.has_room(0));
        assert_eq!(queue.waiting(), (6, 6 * request(Urgency::New).memory_bytes));
        assert!(matches!(queue.push(request(Urgency::New), 0), Err(StoreError::Overloaded(_))));
        queue.push(request(Urgency::Finish), 0).unwrap();
        queue.push(request(Urgency::Finish), 0).unwrap();
        assert!(matches!(queue.push(request(Urgency::Finish), 0), Err(StoreError::Overloaded(_))));
    }

    #[test]
    fn bytes_count_wherever_they_are() {
        let each = request(Urgency::New).memory_bytes;
        let queue = CommitQueue::new(QueueBounds { batches_max: 100, memory_bytes_max: each * 8 });
        for _ in 0..3 {
            queue.push(request(Urgency::New), each * 3).unwrap();
        }
        assert!(queue.push(request(Urgency::New), each * 3).is_err());
        let mut group = Vec::new();
        assert!(queue.take_group(&mut group, usize::MAX));
        assert!(queue.push(request(Urgency::New), each * 3).is_err(), "what is being written still counts");
        queue.push(request(Urgency::Finish), each * 3).unwrap();
        assert!(queue.take_group(&mut group, usize::MAX));
        queue.push(request(Urgency::New), each * 3).unwrap();
    }

    #[test]
    fn a_group_is_bounded_and_in_order() {
        let queue = CommitQueue::new(QueueBounds { batches_max: 100, memory_bytes_max: 1 << 20 });
        for _ in 0..5 {
            queue.push(request(Urgency::Finish), 0).unwrap();
        }
        let mut group = Vec::new();
        let two = request(Urgency::New).frame_bytes + 1;
        assert!(queue.take_group(&mut group, two));
        assert_eq!(group.len(), 2);
        queue.close(StoreError::Poisoned("closed".to_owned()));
        assert!(queue.push(request(Urgency::Finish), 0).is_err());
        assert!(queue.take_group(&mut group, usize::MAX));
        assert_eq!(group.len(), 5);
        assert!(!queue.take_group(&mut group, usize::MAX));
    }
}
