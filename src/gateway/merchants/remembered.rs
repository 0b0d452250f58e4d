//! Records in memory that somebody else may change in the store at any time.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// What was read from the store, by key; bounded. Whoever changes the store calls [`Remembered::forget`] after the
/// commit; from then on nobody is given what was there before.
pub(super) struct Remembered<K, V> {
    values: DashMap<K, V>,
    values_max: usize,
    /// Grows with everything that is forgotten. What was read before it grew may be old and is not kept.
    generation: AtomicU64,
}

impl<K: Clone + Eq + Hash, V: Clone> Remembered<K, V> {
    /// Remembers up to `values_max` values, at least one.
    pub(super) fn new(values_max: usize) -> Self {
        Self { values: DashMap::new(), values_max: values_max.max(1), generation: AtomicU64::new(0) }
    }

    /// The value that is remembered, or else what `read` finds in the store. That nothing is there is not remembered.
    ///
    /// # Errors
    /// What `read` fails with.
    pub(super) fn get_or_read<E>(&self, key: &K, read: impl FnOnce() -> Result<Option<V>, E>) -> Result<Option<V>, E> {
        if let Some(value) = self.values.get(key) {
            return Ok(Some(value.clone()));
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let Some(value) = read()? else { return Ok(None) };
        if self.values.len() >= self.values_max {
            self.values.clear();
        }
        // Under the entry's lock: whoever forgets meanwhile has either grown the generation, which shows here, or waits
        // for the lock and takes the value away again.
        let entry = self.values.entry(key.clone());
        if self.generation.load(Ordering::SeqCst) == generation
            && let Entry::Vacant(vacant) = entry
        {
            vacant.insert(value.clone());
        }
        Ok(Some(value))
    }

    /// Forgets a value that has just been changed or removed in the store.
    pub(super) fn forget(&self, key: &K) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.values.remove(key);
    }

    /// Forgets everything, because what values are made of has changed.
    pub(super) fn forget_all(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.values.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn read(value: u32) -> Result<Option<u32>, Infallible> {
        Ok(Some(value))
    }

    #[test]
    fn a_value_is_read_once_and_again_when_it_was_forgotten() {
        let remembered = Remembered::new(8);
        assert_eq!(remembered.get_or_read(&1, || read(10)), Ok(Some(10)));
        assert_eq!(remembered.get_or_read(&1, || read(11)), Ok(Some(10)));
        remembered.forget(&1);
        assert_eq!(remembered.get_or_read(&1, || read(12)), Ok(Some(12)));
        remembered.forget_all();
        assert_eq!(remembered.get_or_read(&1, || read(13)), Ok(Some(13)));
    }

    #[test]
    fn what_changes_while_it_is_read_is_not_kept() {
        let remembered = Remembered::new(8);
        let overtaken = remembered.get_or_read(&1, || {
            remembered.forget(&1);
            read(10)
        });
        assert_eq!(overtaken, Ok(Some(10)));
        assert_eq!(remembered.get_or_read(&1, || read(11)), Ok(Some(11)), "the old value was kept");
    }

    #[test]
    fn nothing_is_not_remembered_and_memory_is_bounded() {
        let remembered = Remembered::new(2);
        assert_eq!(remembered.get_or_read(&1, || Ok::<_, Infallible>(None)), Ok(None));
        for key in 0..9 {
            assert_eq!(remembered.get_or_read(&key, || read(key)), Ok(Some(key)));
            assert!(remembered.values.len() <= 2);
        }
    }
}
