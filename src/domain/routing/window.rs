//! The last outcomes of something, good or bad, one bit each.

use serde::{Deserialize, Serialize};

/// Most outcomes that a window can hold.
pub const WINDOW_OUTCOMES_MAX: usize = WORDS * 64;

const WORDS: usize = 16;

/// The last outcomes as bits, newest at bit 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OutcomeWindow {
    words: [u64; WORDS],
    len: usize,
}

/// A window as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedWindow {
    /// How many outcomes there are.
    outcomes: usize,
    /// One bit each, newest first from the lowest bit of the first word; set for the good ones.
    good: Vec<u64>,
}

impl OutcomeWindow {
    /// What is to be written down.
    pub fn save(&self) -> SavedWindow {
        let words = self.len.div_ceil(64).min(WORDS);
        SavedWindow { outcomes: self.len, good: self.words[..words].to_vec() }
    }

    /// What was written down; what does not fit is left out.
    pub fn restore(saved: &SavedWindow) -> Self {
        let mut window = Self { words: [0; WORDS], len: saved.outcomes.min(saved.good.len().saturating_mul(64)) };
        for (word, saved) in window.words.iter_mut().zip(&saved.good) {
            *word = *saved;
        }
        window.keep(WINDOW_OUTCOMES_MAX);
        window
    }

    /// Adds one and keeps the newest `capacity`; a changed capacity loses no more than it must.
    pub fn push(&mut self, good: bool, capacity: usize) {
        let mut carry = u64::from(good);
        for word in &mut self.words {
            let out = *word >> 63;
            *word = (*word << 1) | carry;
            carry = out;
        }
        self.len += 1;
        self.keep(capacity.clamp(1, WINDOW_OUTCOMES_MAX));
    }

    pub fn keep(&mut self, newest: usize) {
        self.len = self.len.min(newest);
        for (index, word) in self.words.iter_mut().enumerate() {
            let bits = self.len.saturating_sub(index * 64).min(64);
            if bits < 64 {
                *word &= (1 << bits) - 1;
            }
        }
    }

    /// How many of them were good.
    pub fn good(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many of the outcomes from the one at `from` to the one before `to` were good, counted from the newest.
    pub fn good_between(&self, from: usize, to: usize) -> u64 {
        let of_word = |(index, word): (usize, &u64)| {
            let (start, end) = (from.saturating_sub(index * 64).min(64), to.saturating_sub(index * 64).min(64));
            if start >= end {
                return 0;
            }
            let below = |bits: usize| if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            u64::from((*word & below(end) & !below(start)).count_ones())
        };
        self.words.iter().enumerate().map(of_word).sum()
    }

    /// How many of the newest were good, one after another.
    pub fn good_in_a_row(&self) -> u32 {
        self.words[0].trailing_ones()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.len
    }
}
