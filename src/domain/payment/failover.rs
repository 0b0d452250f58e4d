//! Whether another channel may be asked after one that did not take the money, and why not.
//!
//! Only a certain "not charged" counts, and only where the refusal lies with the channel or the network behind it: the
//! payer's bank, the payer, and whoever did not say who refused would answer the same through any channel. What the card's
//! network advises goes before all that.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::language::Language;
use crate::domain::outcome::{DeclineScope, Failure, RetryAdvice};
use crate::domain::payment::Payment;
use crate::domain::time::Timestamp;

/// Channels asked after the first, at the very most.
pub const FAILOVERS_MAX: u32 = 2;

/// What came after an attempt that took no money: another channel, or why none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failover {
    /// Another channel was asked.
    Asked,
    /// What happened was not known when another one could have been asked.
    OutcomeUnknown,
    /// The channel took the payment on; whether it goes through was open.
    OutcomeOpen,
    /// The card's bank or network advises against another try.
    AdvisedAgainst,
    /// The payer's bank refused.
    RefusedByBank,
    /// The payer, or what the merchant sent, was the reason.
    RefusedByCustomer,
    /// Nobody said who refused.
    RefusedByUnknown,
    /// The merchant asked for this channel.
    ChannelRequested,
    /// As many channels were asked as may be.
    Exhausted,
    /// The client had waited too long.
    OutOfTime,
    /// No other channel could take it.
    NoChannelLeft,
    /// That another one is asked could not be stored first.
    NotStored,
}

impl Failover {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Asked,
        Self::OutcomeUnknown,
        Self::OutcomeOpen,
        Self::AdvisedAgainst,
        Self::RefusedByBank,
        Self::RefusedByCustomer,
        Self::RefusedByUnknown,
        Self::ChannelRequested,
        Self::Exhausted,
        Self::OutOfTime,
        Self::NoChannelLeft,
        Self::NotStored,
    ];

    /// Whether another channel was allowed to be asked, be it that there was none.
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Asked | Self::NoChannelLeft | Self::NotStored)
    }

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::OutcomeOpen => "outcome_open",
            Self::AdvisedAgainst => "advised_against",
            Self::RefusedByBank => "refused_by_bank",
            Self::RefusedByCustomer => "refused_by_customer",
            Self::RefusedByUnknown => "refused_by_unknown",
            Self::ChannelRequested => "channel_requested",
            Self::Exhausted => "exhausted",
            Self::OutOfTime => "out_of_time",
            Self::NoChannelLeft => "no_channel_left",
            Self::NotStored => "not_stored",
        }
    }

    /// One sentence.
    pub const fn sentence(self, language: Language) -> &'static str {
        let (english, chinese) = match self {
            Self::Asked => (
                "Nothing was charged and the refusal lay with the channel: another one was asked.",
                "没有扣款, 且拒绝的原因在渠道一方: 已改用另一渠道。",
            ),
            Self::OutcomeUnknown => (
                "Whether it was charged was not known: no other channel may be asked.",
                "是否已扣款尚不清楚: 不能改用其他渠道。",
            ),
            Self::OutcomeOpen => {
                ("The channel took it on: no other channel may be asked.", "渠道已受理: 不能改用其他渠道。")
            }
            Self::AdvisedAgainst => {
                ("The card's bank or network advises against another try now.", "发卡行或卡组织建议现在不要重试。")
            }
            Self::RefusedByBank => {
                ("The payer's bank refused, as it would through any channel.", "付款人的银行拒绝, 任何渠道都会如此。")
            }
            Self::RefusedByCustomer => (
                "The reason lay with the payer or the request, as it would on any channel.",
                "原因在付款人或请求本身, 任何渠道都会如此。",
            ),
            Self::RefusedByUnknown => ("The channel did not say who refused.", "渠道没有说明由谁拒绝。"),
            Self::ChannelRequested => ("The merchant asked for this channel.", "商户指定了这个渠道。"),
            Self::Exhausted => ("As many channels were asked as may be.", "已达到可尝试渠道数的上限。"),
            Self::OutOfTime => ("The client had waited too long for another try.", "客户端等待已过久, 不再重试。"),
            Self::NoChannelLeft => {
                ("Another channel was allowed, but none could take it.", "允许改用其他渠道, 但没有可用的渠道。")
            }
            Self::NotStored => (
                "Another channel was allowed, but the store did not take its intent.",
                "允许改用其他渠道, 但无法事先记录。",
            ),
        };
        language.choose(english, chinese)
    }
}

/// How far failing over goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailoverBounds {
    /// Channels asked after the first at most; never more than [`FAILOVERS_MAX`].
    pub failover_max: u32,
    /// Not later than this after the payment was made.
    pub within: Duration,
}

/// Whether a failure, of something that certainly was not charged, leaves room for another channel; if not, why.
///
/// # Errors
/// The reason why not.
pub const fn failure_allows(failure: &Failure) -> Result<(), Failover> {
    match failure.advice {
        Some(RetryAdvice::Never | RetryAdvice::NotNow | RetryAdvice::Corrected) => {
            return Err(Failover::AdvisedAgainst);
        }
        Some(RetryAdvice::Later) | None => {}
    }
    match failure.decline_scope {
        DeclineScope::Processor | DeclineScope::Network => Ok(()),
        DeclineScope::Bank => Err(Failover::RefusedByBank),
        DeclineScope::Customer => Err(Failover::RefusedByCustomer),
        DeclineScope::Unknown => Err(Failover::RefusedByUnknown),
    }
}

/// Whether another channel may be asked for a payment whose current attempt ended with this failure and certainly
/// charged nothing.
///
/// # Errors
/// The reason why not.
pub fn may_ask_another(
    payment: &Payment,
    failure: &Failure,
    bounds: FailoverBounds,
    now: Timestamp,
) -> Result<(), Failover> {
    failure_allows(failure)?;
    if payment.terms.requested_channel.is_some() {
        return Err(Failover::ChannelRequested);
    }
    let failovers_max = usize::try_from(bounds.failover_max.min(FAILOVERS_MAX)).unwrap_or(0);
    if payment.attempts.len() > failovers_max {
        return Err(Failover::Exhausted);
    }
    if now.since(payment.created_at) >= bounds.within {
        return Err(Failover::OutOfTime);
    }
    Ok(())
}
