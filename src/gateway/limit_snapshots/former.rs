//! Figures that were replaced by others. What a crash may have let through was bounded by the figures of its time, so those
//! are written down before others take their place, and kept as long as somebody may still be charged for that time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::ids::MerchantId;
use crate::domain::limit::LimitFigures;
use crate::domain::time::Timestamp;

/// Changes that are told apart; the oldest of more count as one that is everybody's.
const CHANGES_MAX: usize = 256;
/// Longer than a change takes from being written down here to being in force everywhere.
const CHANGING_MAX: Duration = Duration::from_secs(60);
/// Stands for figures that were all below the present ones: they say no more than that there was a change.
const LOWEST: LimitFigures = LimitFigures { per_second: 1, per_minute: 1, per_hour: 1, burst: 1, concurrent: 1 };

/// Figures by tier.
pub(super) type TierFigures = BTreeMap<String, LimitFigures>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    /// Whose; `None` for everybody's.
    merchant_id: Option<MerchantId>,
    figures: LimitFigures,
    /// They may have been in force up to here.
    until: Timestamp,
}

/// Replaced figures, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct FormerFigures(Vec<Change>);

impl FormerFigures {
    /// Notes that `figures` of one merchant, or of everybody, are about to be replaced.
    pub(super) fn note(&mut self, merchant_id: Option<&MerchantId>, figures: LimitFigures, now: Timestamp) {
        self.0.push(Change { merchant_id: merchant_id.cloned(), figures, until: now.plus(CHANGING_MAX) });
        if self.0.len() <= CHANGES_MAX {
            return;
        }
        let oldest = self.0.remove(0);
        if let Some(next) = self.0.first_mut() {
            next.figures = next.figures.highest(&oldest.figures);
            next.until = next.until.max(oldest.until);
            next.merchant_id = None;
        }
    }

    /// Notes that other tiers take the place of `before`.
    pub(super) fn note_tiers(&mut self, before: &TierFigures, after: &TierFigures, now: Timestamp) {
        let replaced = before.iter().filter_map(|(name, figures)| match after.get(name) {
            Some(same) if same == figures => None,
            Some(raised) if figures.highest(raised) == *raised => Some(LOWEST),
            _ => Some(*figures),
        });
        if let Some(highest) = replaced.reduce(|one, other| one.highest(&other)) {
            self.note(None, highest, now);
        }
    }

    /// Forgets what was not in force any more at `oldest`.
    pub(super) fn forget_before(&mut self, oldest: Timestamp) {
        self.0.retain(|change| change.until >= oldest);
    }

    /// The highest of the figures that a merchant may have had at some time since `since` and has no more.
    pub(super) fn of(&self, merchant_id: &MerchantId, since: Timestamp) -> Option<LimitFigures> {
        let is_of = |change: &&Change| change.merchant_id.as_ref().is_none_or(|whose| whose == merchant_id);
        let changes = self.0.iter().filter(|change| change.until >= since).filter(is_of);
        changes.map(|change| change.figures).reduce(|one, other| one.highest(&other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_s(1_737_715_200);
    const SMALL: LimitFigures = LimitFigures { per_second: 2, per_minute: 20, per_hour: 100, burst: 4, concurrent: 9 };

    fn burst(burst: u32) -> LimitFigures {
        LimitFigures { burst, ..SMALL }
    }

    #[test]
    fn of_many_changes_the_oldest_are_everybodys() {
        let (mut former, other) = (FormerFigures::default(), MerchantId::new("m_other"));
        for change in 0..2 * CHANGES_MAX {
            let merchant_id = MerchantId::new(format!("m_{change}"));
            former.note(Some(&merchant_id), burst(1_000 - u32::try_from(change).unwrap()), START);
            let is_full = change >= CHANGES_MAX;
            assert_eq!(former.of(&other, START).map(|figures| figures.burst), is_full.then_some(1_000));
        }
        assert_eq!(former.0.len(), CHANGES_MAX);
        former.forget_before(START.plus(CHANGING_MAX));
        assert_eq!(former.0.len(), CHANGES_MAX, "they may just have been in force");
        former.forget_before(START.plus(CHANGING_MAX * 2));
        assert_eq!(former, FormerFigures::default());
    }

    #[test]
    fn of_changed_tiers_those_count_that_allowed_more() {
        let tiers = |small: LimitFigures, large: LimitFigures| {
            TierFigures::from([("small".to_owned(), small), ("large".to_owned(), large)])
        };
        let noted = |before: &TierFigures, after: &TierFigures| {
            let mut former = FormerFigures::default();
            former.note_tiers(before, after, START);
            former.of(&MerchantId::new("m_1"), START)
        };
        let before = tiers(burst(4), burst(400));
        assert_eq!(noted(&before, &before), None);
        assert_eq!(noted(&before, &tiers(burst(3), burst(400))), Some(burst(4)));
        assert_eq!(noted(&before, &tiers(burst(4), burst(500))), Some(LOWEST));
        let mixed = LimitFigures { per_hour: 99, ..burst(500) };
        assert_eq!(noted(&before, &tiers(burst(4), mixed)), Some(burst(400)));
        assert_eq!(noted(&before, &TierFigures::from([("small".to_owned(), burst(4))])), Some(burst(400)));
        assert_eq!(noted(&TierFigures::new(), &before), None);
    }
}
