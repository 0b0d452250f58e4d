//! Whatever happens in whatever order: the amounts agree, nothing ever falls, nothing is told twice. That the amounts agree
//! and that only documented steps are taken is asserted in every single change.

use std::time::Duration;

use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};

use super::super::*;
use super::bench::*;
use super::{NOW, refund};
use crate::domain::event::EventName;
use crate::domain::ids::RefundNo;
use crate::domain::outcome::{HoldAnswer, RefundAnswer, RefundState};
use crate::domain::refund::RefundStatus;

/// What a run has seen so far.
struct Run {
    pre_auth: PreAuth,
    now: Timestamp,
    told: Vec<EventName>,
    refunds: i64,
}

impl Run {
    /// One event of many, chosen by two numbers.
    fn happens(&mut self, event: u8, choice: u16) -> Option<Change> {
        let (before, policy, now) = (&self.pre_auth, policy(), self.now);
        let amount = i64::from(choice % 1100);
        match event % 16 {
            0..=6 => {
                let all = answers();
                let (_, answer) = &all[usize::from(choice) % all.len()];
                // Late ones, too.
                let operation = if event.is_multiple_of(2) { before.operation_number() } else { u32::from(choice % 5) };
                on_answer(before, operation, answer, &policy, now)
            }
            7 => begin_capture(before, Some(amount), key(), &policy, now).ok(),
            8 => begin_release(before, ReleaseWhy::Merchant { reason: None }, key(), &policy, now).ok(),
            9 => {
                let answer = HoldAnswer::bare(captured(amount));
                on_answer(before, before.operation_number(), &answer, &policy, now)
            }
            10 => on_recovery(before, &policy, now),
            11 => on_hint(before, &policy, now),
            12 => {
                self.refunds += 1;
                let mut refund = refund(RefundStatus::Pending, amount);
                refund.refund_no = RefundNo::new(format!("RF{}", self.refunds));
                begin_refund(before, refund, 9, &policy, now).ok()
            }
            13 => {
                let refund_no = before.refunds.get(usize::from(choice % 9))?.refund_no.clone();
                let states = [RefundState::Success, RefundState::Pending, RefundState::Failed(failure())];
                let answer = RefundAnswer::bare(states[usize::from(choice) % states.len()].clone());
                on_refund_answer(before, &refund_no, &answer, &policy, now)
            }
            14 => {
                let verdicts = [
                    ReviewVerdict::Held { expires_at: None },
                    ReviewVerdict::Captured { captured_minor: amount },
                    ReviewVerdict::Canceled,
                    ReviewVerdict::Failed,
                ];
                on_review(before, verdicts[usize::from(choice) % verdicts.len()], &policy, now).ok()
            }
            _ => {
                self.now = before.due_at.map_or(now, |at| at.max(now)).plus(Duration::from_secs(u64::from(choice)));
                due(before, self.now)
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn amounts_agree_and_nothing_falls(events in prop::collection::vec((0_u8..64, 0_u16..5_000), 1..60)) {
        let mut run = Run { pre_auth: fresh(), now: NOW, told: Vec::new(), refunds: 0 };
        for (event, choice) in events {
            let before = run.pre_auth.clone();
            let Some(change) = run.happens(event, choice) else { continue };
            let mut drawn = run.refunds;
            let change = refund_strays(&before, change, &policy(), run.now, |amount_minor| {
                drawn += 1;
                let mut refund = refund(RefundStatus::Pending, amount_minor);
                refund.refund_no = RefundNo::new(format!("RF{drawn}"));
                refund
            });
            run.refunds = drawn;
            let after = change.pre_auth;
            if before.status.is_final() {
                prop_assert_eq!(after.status, before.status);
            }
            prop_assert!(after.captured_minor >= before.captured_minor);
            prop_assert!(after.released_minor >= before.released_minor);
            prop_assert!(after.authorized_minor >= before.authorized_minor);
            prop_assert!(after.captured_minor + after.capture_pending_minor() + after.released_minor <= MONEY_MINOR);
            prop_assert!(after.refundable_minor() >= 0 && after.refunded_minor() <= after.captured_minor);
            prop_assert!(after.operations.len() <= OPERATIONS_MAX);
            prop_assert_eq!(after.status.is_final() && after.operation.is_some(), false);
            // At most one of what moves money begins, and only when nothing is open.
            let first = change.send.iter().filter(|dispatch| dispatch.is_first);
            let begins = first.filter(|dispatch| !matches!(dispatch.what, Sending::Refund(_))).count();
            prop_assert!(begins == 0 || (begins == 1 && before.operation.is_none()));
            // What has an end is looked at again, and what is over is not.
            let is_open = !after.status.is_final() && after.status != PreAuthStatus::NeedsReview;
            prop_assert!(!is_open || after.due_at.is_some(), "{:?}", after);
            for name in change.tell {
                let may_repeat = [EventName::PreAuthAuthorized, EventName::RefundSuccess, EventName::RefundFailed];
                prop_assert!(may_repeat.contains(&name) || !run.told.contains(&name), "{:?} told again", name);
                run.told.push(name);
            }
            prop_assert_eq!(after.event_count, run.told.len() as u64);
            run.pre_auth = after;
        }
    }
}
