//! What is known about kinds of payments on one channel: by method, by method and currency, and by method, currency and
//! the payer's country. Each is estimated on top of the one that is less special, and the first on top of the channel, so
//! that thin data moves an estimate little. Bounded: what was learned least recently goes first.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::money::Currency;
use crate::domain::routing::approvals::{ApprovalSettings, Approvals, Evidence, SavedApprovals, WindowEstimate};
use crate::domain::routing::country::Country;
use crate::domain::time::Monotonic;

/// Parts of a table. Learning copies the parts that change and shares the others with the table that is read meanwhile.
const SHARDS: usize = 32;
/// Levels below the channel.
const LEVELS: usize = 3;
/// A channel that is further behind the best than this is far behind.
const FAR_BEHIND_PPM: u32 = 100_000;
/// Outcomes until a channel is no newcomer any more.
pub const NEWCOMER_OUTCOMES: u32 = 50;

/// A kind of payments, as numbers: nothing has to be looked up to compare two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    keys: [u64; LEVELS],
    /// How many of the keys count: two where the payer's country is not known.
    depth: usize,
}

impl Segment {
    /// The kind of a payment.
    pub fn new(method: Option<&str>, currency: Currency, country: Option<Country>) -> Self {
        // 37 bits of the method's name, 15 of the currency's code, 10 of the country's, 2 of the level.
        let method = fingerprint(method.unwrap_or_default()) >> 27 << 27;
        let currency = currency.code().bytes().fold(0, |bits, letter| bits << 5 | u64::from(letter & 31)) << 12;
        let last = country.map_or(0, |country| country.index() as u64) << 2;
        Self {
            keys: [method | 1, method | currency | 2, method | currency | last | 3],
            depth: if country.is_some() { LEVELS } else { LEVELS - 1 },
        }
    }

    fn keys(&self) -> &[u64] {
        &self.keys[..self.depth]
    }
}

/// FNV-1a with its bits mixed, so that the upper ones depend on all.
fn fingerprint(text: &str) -> u64 {
    let hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    mixed(hash)
}

/// All bits of `value` in all bits of the result (the end of splitmix64).
pub(super) const fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// An estimate with the level that it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEstimate {
    /// The estimate.
    pub estimate: WindowEstimate,
    /// 0 the channel, 1 with the method, 2 with the currency, 3 with the payer's country.
    pub level: u8,
    /// How much of the share of payments for looks a payment of this kind is worth, in parts per million.
    pub worth_a_look_ppm: u32,
}

/// What is known of a channel as a whole, for kinds of payments on it to stand on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WholeChannel {
    /// What is assumed of it without its own outcomes, in parts per million.
    pub assumed_ppm: u32,
    /// Its own outcomes.
    pub evidence: Evidence,
    /// See [`SegmentEstimate::worth_a_look_ppm`].
    pub worth_a_look_ppm: u32,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    approvals: Approvals,
    /// Counts what was learned on the channel; the least was learned least recently.
    turn: u64,
}

/// Keys in order, and beside them what is known.
#[derive(Clone, Debug, Default)]
struct Shard {
    keys: Vec<u64>,
    known: Vec<Known>,
}

/// What one channel has taught about kinds of payments, as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLearned {
    outcomes_to_go: u32,
    /// Least recently learned first.
    segments: Vec<(u64, SavedApprovals)>,
}

/// What one channel has taught beyond its own figures. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    shards: [Arc<Shard>; SHARDS],
    segments: usize,
    turn: u64,
    /// Outcomes until it is no newcomer; 0 for one that is none.
    outcomes_to_go: u32,
}

impl Learned {
    /// What is known about a channel that was added while others were known already.
    pub fn newcomer() -> Self {
        Self { outcomes_to_go: NEWCOMER_OUTCOMES, ..Self::default() }
    }

    /// What is to be written down.
    pub fn save(&self, now: Monotonic) -> SavedLearned {
        let mut known: Vec<(u64, &Known)> = Vec::with_capacity(self.segments);
        for shard in &self.shards {
            known.extend(shard.keys.iter().copied().zip(&shard.known));
        }
        known.sort_by_key(|(_, known)| known.turn);
        let segments = known.into_iter().map(|(key, known)| (key, known.approvals.save(now))).collect();
        SavedLearned { outcomes_to_go: self.outcomes_to_go, segments }
    }

    /// What was written down `passed` ago.
    pub fn restore(saved: &SavedLearned, passed: Duration, settings: &ApprovalSettings, now: Monotonic) -> Self {
        let mut learned = Self { outcomes_to_go: saved.outcomes_to_go.min(NEWCOMER_OUTCOMES), ..Self::default() };
        for (key, approvals) in &saved.segments {
            let approvals = Approvals::restore(approvals, passed, settings, now);
            let shard = Arc::make_mut(&mut learned.shards[shard_of(*key)]);
            let Err(place) = shard.keys.binary_search(key) else { continue };
            learned.turn += 1;
            shard.keys.insert(place, *key);
            shard.known.insert(place, Known { approvals, turn: learned.turn });
            learned.segments += 1;
        }
        learned
    }

    /// Whether too little is known about the channel to let it take many payments.
    pub const fn is_newcomer(&self) -> bool {
        self.outcomes_to_go > 0
    }

    /// How many kinds of payments are known.
    pub const fn segments(&self) -> usize {
        self.segments
    }

    /// What is known after another outcome; at most `segments_max` kinds of payments.
    #[must_use]
    pub fn after(
        &self,
        segment: &Segment,
        approved: bool,
        settings: &ApprovalSettings,
        segments_max: usize,
        now: Monotonic,
    ) -> Self {
        let mut next = self.clone();
        next.outcomes_to_go = next.outcomes_to_go.saturating_sub(1);
        for key in segment.keys() {
            next.turn += 1;
            let turn = next.turn;
            let shard = Arc::make_mut(&mut next.shards[shard_of(*key)]);
            match shard.keys.binary_search(key) {
                Ok(place) => {
                    let known = &mut shard.known[place];
                    *known = Known { approvals: known.approvals.after(approved, settings, now), turn };
                }
                Err(place) => {
                    shard.keys.insert(place, *key);
                    let approvals = Approvals::default().after(approved, settings, now);
                    shard.known.insert(place, Known { approvals, turn });
                    next.segments += 1;
                }
            }
        }
        while next.segments > segments_max.max(LEVELS) {
            next.forget_one();
        }
        next
    }

    /// Takes away what was learned least recently.
    fn forget_one(&mut self) {
        let oldest = |(shard, part): (usize, &Arc<Shard>)| {
            let known = part.known.iter().enumerate().min_by_key(|(_, known)| known.turn);
            known.map(|(place, known)| (known.turn, shard, place))
        };
        let Some((_, shard, place)) = self.shards.iter().enumerate().filter_map(oldest).min() else {
            self.segments = 0;
            return;
        };
        let part = Arc::make_mut(&mut self.shards[shard]);
        part.keys.remove(place);
        part.known.remove(place);
        self.segments -= 1;
    }

    /// What is known about kinds of payments is forgotten; a newcomer stays one.
    #[must_use]
    pub fn forgotten(&self) -> Self {
        Self { outcomes_to_go: self.outcomes_to_go, ..Self::default() }
    }

    /// The same with windows of another size.
    #[must_use]
    pub fn resized(&self, settings: &ApprovalSettings) -> Self {
        let mut next = self.clone();
        for shard in next.shards.iter_mut().filter(|shard| !shard.keys.is_empty()) {
            for known in &mut Arc::make_mut(shard).known {
                known.approvals = known.approvals.resized(settings);
            }
        }
        next
    }

    /// What to expect of a payment of this kind, on top of what is expected of the channel. An outcome counts on one level
    /// only: what is expected without a level's outcomes follows from those of the level above that are not among them.
    pub(super) fn estimate(
        &self,
        segment: &Segment,
        channel: &WholeChannel,
        settings: &ApprovalSettings,
        now: Monotonic,
    ) -> SegmentEstimate {
        let (mut assumed_ppm, mut above) = (channel.assumed_ppm, channel.evidence);
        let estimate = above.estimate_upon(assumed_ppm, settings);
        let mut deepest = SegmentEstimate { estimate, level: 0, worth_a_look_ppm: channel.worth_a_look_ppm };
        if self.segments == 0 {
            return deepest;
        }
        for (key, level) in segment.keys().iter().zip(1..) {
            let shard = &self.shards[shard_of(*key)];
            let Ok(place) = shard.keys.binary_search(key) else { continue };
            let approvals = &shard.known[place].approvals;
            let own = approvals.evidence(settings, now);
            if own.is_empty() {
                continue;
            }
            assumed_ppm = above.without(&own).estimate_upon(assumed_ppm, settings).success_ppm;
            let worth_a_look_ppm = if is_far_behind(channel.assumed_ppm, deepest.estimate.success_ppm) {
                // What is wrong is wrong with more than this kind of payments, and any of them is a look at it.
                deepest.worth_a_look_ppm
            } else {
                approvals.worth_a_look_ppm(now)
            };
            let estimate = own.estimate_upon(assumed_ppm, settings);
            (deepest, above) = (SegmentEstimate { estimate, level, worth_a_look_ppm }, own);
        }
        deepest
    }
}

/// Whether a success rate is so far behind another that a look at the channel is worth a payment only now and then.
pub(super) const fn is_far_behind(best_ppm: u32, success_ppm: u32) -> bool {
    best_ppm.saturating_sub(success_ppm) > FAR_BEHIND_PPM
}

const fn shard_of(key: u64) -> usize {
    (mixed(key) >> 59) as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Monotonic = Monotonic::from_micros(1_000_000);
    const SETTINGS: ApprovalSettings = ApprovalSettings {
        window_outcomes: 200,
        prior_outcomes: 20,
        prior_success_ppm: 900_000,
        forget_half_after: Duration::from_secs(300),
    };
    const NOTHING: WindowEstimate = WindowEstimate { success_ppm: 900_000, samples: 0, effective: 0 };
    const CHANNEL: WholeChannel = WholeChannel {
        assumed_ppm: 900_000,
        evidence: Evidence { good: 0, samples: 0, effective: 0 },
        worth_a_look_ppm: 0,
    };

    fn segment(method: &str, currency: &str, country: &str) -> Segment {
        Segment::new(Some(method), currency.parse().unwrap(), country.parse().ok())
    }

    fn after(learned: &Learned, segment: &Segment, approved: bool, times: usize) -> Learned {
        (0..times).fold(learned.clone(), |learned, _| learned.after(segment, approved, &SETTINGS, 1_024, NOW))
    }

    fn estimate(learned: &Learned, segment: &Segment) -> SegmentEstimate {
        learned.estimate(segment, &CHANNEL, &SETTINGS, NOW)
    }

    fn learned_ppm(learned: &Learned, segment: &Segment) -> u32 {
        estimate(learned, segment).estimate.success_ppm
    }

    #[test]
    fn kinds_of_payments_differ_by_all_that_names_them() {
        let kinds = [
            Segment::new(None, "USD".parse().unwrap(), None),
            segment("card", "USD", "US"),
            segment("card", "USD", "DE"),
            segment("card", "EUR", "US"),
            segment("wallet", "USD", "US"),
        ];
        let keys: std::collections::BTreeSet<u64> = kinds.iter().flat_map(Segment::keys).copied().collect();
        assert_eq!(keys.len(), 2 + 3 + 1 + 2 + 3, "a shared level is one key");
    }

    #[test]
    fn each_level_is_estimated_on_top_of_the_one_before_and_no_outcome_counts_twice() {
        let failing = after(&Learned::default(), &segment("card", "USD", "DE"), false, 20);
        let known = estimate(&failing, &segment("card", "USD", "DE"));
        // The same outcomes on three levels are half of what the estimate stands on, once.
        assert_eq!((known.estimate.success_ppm, known.level, known.estimate.samples), (450_000, 3, 20));
        let other_country = estimate(&failing, &segment("card", "USD", "US"));
        assert_eq!((other_country.estimate.success_ppm, other_country.level), (450_000, 2));
        let other_currency = estimate(&failing, &segment("card", "EUR", "DE"));
        assert_eq!((other_currency.estimate.success_ppm, other_currency.level), (450_000, 1));
        let other_method = estimate(&failing, &segment("wallet", "USD", "DE"));
        assert_eq!((other_method.estimate, other_method.level), (NOTHING, 0));
        let unknown_country = Segment::new(Some("card"), "USD".parse().unwrap(), None);
        assert_eq!(estimate(&failing, &unknown_country).level, 2);
        // Those of other countries are what a country's own stand on, and those of the country itself are not.
        let (german, american) = (segment("card", "USD", "DE"), segment("card", "USD", "US"));
        let both =
            (0..20).fold(Learned::default(), |both, _| after(&after(&both, &german, false, 1), &american, true, 3));
        // (20 × 0 + 20 × (60 × 1 + 20 × 0.9) / 80) / 40, and (60 × 1 + 20 × (20 × 0 + 20 × 0.9) / 40) / 80, but that newer
        // outcomes count more.
        let of = |segment| learned_ppm(&both, segment);
        assert!((480_000..=487_500).contains(&of(&german)), "{}", of(&german));
        assert!((862_500..=870_000).contains(&of(&american)), "{}", of(&american));
    }

    #[test]
    fn thin_data_moves_an_estimate_little_and_time_takes_it_back() {
        let thin = after(&Learned::default(), &segment("card", "USD", "DE"), false, 1);
        let known = estimate(&thin, &segment("card", "USD", "DE"));
        assert!(known.estimate.success_ppm > 850_000 && known.level == 3, "{known:?}");
        let later = NOW.plus(Duration::from_secs(300));
        let faded = thin.estimate(&segment("card", "USD", "DE"), &CHANNEL, &SETTINGS, later);
        assert_eq!((faded.estimate, faded.level), (NOTHING, 0));
    }

    #[test]
    fn what_was_learned_least_recently_goes_first_and_the_table_stays_bounded() {
        let countries: Vec<String> =
            ('A'..='Z').flat_map(|first| ('A'..='Z').map(move |second| format!("{first}{second}"))).collect();
        let kept_fresh = segment("card", "USD", "US");
        let mut learned = Learned::default();
        for country in countries.iter().filter(|country| *country != "US") {
            learned = learned.after(&segment("card", "USD", country), true, &SETTINGS, 64, NOW);
            learned = learned.after(&kept_fresh, true, &SETTINGS, 64, NOW);
            assert!(learned.segments() <= 64);
        }
        assert_eq!(learned.segments(), 64);
        let counted: usize = learned.shards.iter().map(|shard| shard.keys.len()).sum();
        assert_eq!(counted, 64);
        assert_eq!(estimate(&learned, &kept_fresh).level, 3);
        assert_eq!(estimate(&learned, &segment("card", "USD", "ZZ")).level, 3, "the newest");
        assert_eq!(estimate(&learned, &segment("card", "USD", "AA")).level, 2, "the oldest is gone");
    }

    #[test]
    fn a_table_that_is_read_does_not_change() {
        let before = after(&Learned::default(), &segment("card", "USD", "DE"), true, 5);
        let seen = estimate(&before, &segment("card", "USD", "DE"));
        let next = after(&before, &segment("card", "USD", "DE"), false, 5);
        assert_eq!(estimate(&before, &segment("card", "USD", "DE")), seen);
        assert_ne!(estimate(&next, &segment("card", "USD", "DE")), seen);
    }

    #[test]
    fn a_newcomer_is_one_until_enough_is_known() {
        let mut learned = Learned::newcomer();
        let card = segment("card", "USD", "DE");
        learned = after(&learned, &card, true, 49);
        assert!(learned.is_newcomer() && learned.forgotten().is_newcomer());
        assert!(!after(&learned, &card, false, 1).is_newcomer());
        assert!(!Learned::default().is_newcomer());
    }
}
