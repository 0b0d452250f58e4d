//! Nonces that were used, remembered for as long as a signature with them could be accepted again.

use std::collections::{BTreeMap, HashMap, HashSet};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// No key takes more than this part of the memory, so that one merchant can't take it from all others ...
const KEY_SHARE: usize = 8;
/// ... but never less than this many nonces.
const KEY_NONCES_MIN: usize = 1_000;

/// Why a nonce is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonceRejection {
    /// It was used before.
    Used,
    /// No more can be remembered of this key, or at all, so whether it was used later could not be known.
    Full,
}

/// Used nonces as 8-byte keyed hashes, forgotten by the second that was signed with them.
pub(crate) struct Nonces {
    nonces_max: usize,
    key_nonces_max: usize,
    /// Keeps hashes of chosen nonces from being made to collide.
    seed: u64,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    hashes: HashSet<u64>,
    /// Hashes by the second that was signed and the hash of the key.
    by_second: BTreeMap<i64, HashMap<u64, Vec<u64>>>,
    /// How many hashes each key has, by the key's hash.
    by_key: HashMap<u64, usize>,
}

impl Used {
    fn forget_before(&mut self, oldest_s: i64) {
        while let Some(entry) = self.by_second.first_entry() {
            if *entry.key() >= oldest_s {
                break;
            }
            for (key, hashes) in entry.remove() {
                for hash in &hashes {
                    self.hashes.remove(hash);
                }
                self.give_back(key, hashes.len());
            }
        }
    }

    fn give_back(&mut self, key: u64, count: usize) {
        if let Some(left) = self.by_key.get_mut(&key) {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.by_key.remove(&key);
            }
        }
    }
}

impl Nonces {
    /// Remembers up to `nonces_max` nonces.
    pub(crate) fn new(nonces_max: usize, seed: u64) -> Self {
        let key_nonces_max = (nonces_max / KEY_SHARE).max(KEY_NONCES_MIN);
        Self { nonces_max, key_nonces_max, seed, used: Mutex::new(Used::default()) }
    }

    /// Takes the nonce of `key_id`, signed at `signed_s`, unless it was taken before. What was signed before `oldest_s`
    /// is forgotten: such signatures are refused by their time.
    pub(crate) fn use_once(
        &self,
        key_id: &str,
        nonce: &str,
        signed_s: i64,
        oldest_s: i64,
    ) -> Result<(), NonceRejection> {
        let text = [key_id.as_bytes(), b"\n", nonce.as_bytes()].concat();
        let hash = xxh3_64_with_seed(&text, self.seed);
        let key = xxh3_64_with_seed(key_id.as_bytes(), self.seed);
        let mut used = self.used.lock();
        used.forget_before(oldest_s);
        if used.hashes.contains(&hash) {
            return Err(NonceRejection::Used);
        }
        let of_key = used.by_key.get(&key).copied().unwrap_or(0);
        if used.hashes.len() >= self.nonces_max || of_key >= self.key_nonces_max {
            return Err(NonceRejection::Full);
        }
        used.hashes.insert(hash);
        used.by_second.entry(signed_s).or_default().entry(key).or_default().push(hash);
        used.by_key.insert(key, of_key + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_once_per_key_whatever_the_time() {
        let nonces = Nonces::new(10, 7);
        assert_eq!(nonces.use_once("ak_1", "n", 100, 0), Ok(()));
        assert_eq!(nonces.use_once("ak_1", "n", 100, 0), Err(NonceRejection::Used));
        assert_eq!(nonces.use_once("ak_1", "n", 101, 0), Err(NonceRejection::Used));
        assert_eq!(nonces.use_once("ak_2", "n", 100, 0), Ok(()));
        assert_eq!(nonces.use_once("ak_1", "m", 100, 0), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_freed_by_time() {
        let nonces = Nonces::new(2, 7);
        assert_eq!(nonces.use_once("ak", "a", 100, 0), Ok(()));
        assert_eq!(nonces.use_once("ak", "b", 101, 0), Ok(()));
        assert_eq!(nonces.use_once("ak", "c", 101, 0), Err(NonceRejection::Full));
        assert_eq!(nonces.use_once("ak", "b", 101, 0), Err(NonceRejection::Used));
        assert_eq!(nonces.use_once("ak", "c", 101, 101), Ok(()));
    }

    #[test]
    fn one_key_can_not_take_the_memory_of_all() {
        let nonces = Nonces::new(16_000, 7);
        let taken = |key: &str, number: usize| nonces.use_once(key, &number.to_string(), 100, 0);
        assert!((0..2_000).all(|number| taken("ak_1", number).is_ok()));
        assert_eq!(taken("ak_1", 2_000), Err(NonceRejection::Full));
        assert_eq!(taken("ak_1", 1_999), Err(NonceRejection::Used), "still known as used");
        assert_eq!(taken("ak_2", 0), Ok(()));
        assert_eq!(nonces.use_once("ak_1", "2000", 101, 101), Ok(()), "its share comes back with time");
        let used = nonces.used.lock();
        assert_eq!((used.hashes.len(), used.by_key.len(), used.by_second.len()), (1, 1, 1));
    }
}
