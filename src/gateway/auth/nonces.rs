//! Nonces that were used, remembered for as long as a signature with them could be accepted again.

use std::collections::{BTreeMap, HashSet};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Why a nonce is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonceRejection {
    /// It was used before.
    Used,
    /// No more can be remembered, so whether it was used later could not be known.
    Full,
}

/// Used nonces as 8-byte keyed hashes, forgotten by the second that was signed with them.
pub(crate) struct Nonces {
    nonces_max: usize,
    /// Keeps hashes of chosen nonces from being made to collide.
    seed: u64,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    hashes: HashSet<u64>,
    by_second: BTreeMap<i64, Vec<u64>>,
}

impl Used {
    fn forget_before(&mut self, oldest_s: i64) {
        while let Some(entry) = self.by_second.first_entry() {
            if *entry.key() >= oldest_s {
                break;
            }
            for hash in entry.remove() {
                self.hashes.remove(&hash);
            }
        }
    }
}

impl Nonces {
    pub(crate) fn new(nonces_max: usize, seed: u64) -> Self {
        Self { nonces_max, seed, used: Mutex::new(Used::default()) }
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
        let mut used = self.used.lock();
        used.forget_before(oldest_s);
        if used.hashes.contains(&hash) {
            return Err(NonceRejection::Used);
        }
        if used.hashes.len() >= self.nonces_max {
            return Err(NonceRejection::Full);
        }
        used.hashes.insert(hash);
        used.by_second.entry(signed_s).or_default().push(hash);
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
}
