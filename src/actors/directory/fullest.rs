//! The merchants in memory that are nearest to a limit.

use std::collections::BinaryHeap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::actors::directory::MerchantDirectory;
use crate::actors::merchant::{MerchantMessage, Slot, SlotGuard};
use crate::domain::ids::MerchantId;
use crate::domain::limit::LimitView;

/// Merchants that are asked for one answer at most.
const ASKED_MAX: usize = 1_024;

/// A merchant and its limits as they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullMerchant {
    /// Who.
    pub merchant_id: MerchantId,
    /// Its limits.
    pub view: LimitView,
}

impl MerchantDirectory {
    /// Up to `max` merchants in memory by how much of the limit that they use most is used, the fullest first; only those
    /// with `least` thousandths or more. Consumes nothing.
    ///
    /// Each merchant's last decision says how much can be used at most; merchants are asked in that order until nobody
    /// who was not asked can be fuller. After 1,024 of them the rest is left out.
    pub async fn fullest(&self, max: usize, least: u32) -> Vec<FullMerchant> {
        let mut candidates: Vec<(u32, Arc<Slot>)> = self
            .inner
            .slots
            .iter()
            .map(|entry| (entry.value().most_used(), Arc::clone(entry.value())))
            .filter(|(most_used, _)| *most_used >= least)
            .collect();
        candidates.sort_by_key(|(most_used, _)| std::cmp::Reverse(*most_used));
        // What the fullest so far use, the least of them first.
        let mut fullest = BinaryHeap::new();
        let mut found = Vec::new();
        for (at_most, slot) in candidates.into_iter().take(ASKED_MAX) {
            let is_settled = fullest.len() >= max;
            if is_settled && fullest.peek().is_none_or(|std::cmp::Reverse(least_of_them)| *least_of_them >= at_most) {
                break;
            }
            let Some(view) = view_of(&slot).await else { continue };
            let used = view.most_used().1;
            if used < least {
                continue;
            }
            fullest.push(std::cmp::Reverse(used));
            if fullest.len() > max {
                fullest.pop();
            }
            found.push(FullMerchant { merchant_id: slot.merchant_id().clone(), view });
        }
        let by_use = |one: &FullMerchant| (std::cmp::Reverse(one.view.most_used().1), one.merchant_id.clone());
        found.sort_by_cached_key(by_use);
        found.truncate(max);
        found
    }
}

/// The limits of a merchant in memory; `None` when it is being put away or started again.
async fn view_of(slot: &Arc<Slot>) -> Option<LimitView> {
    let guard = SlotGuard::hold(slot)?;
    let (reply, answer) = oneshot::channel();
    slot.send(MerchantMessage::View { figures: None, reply, _guard: guard }).ok()?;
    answer.await.ok().map(|usage| usage.view)
}
