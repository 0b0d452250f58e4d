//! Decisions in words, for people: one sentence on why, one on each step, and by how much the winner led.

use crate::domain::language::Language;
use crate::domain::money::Money;
use crate::domain::routing::choose::Rung;
use crate::domain::routing::eligibility::DroppedBy;
use crate::domain::routing::record::{ChannelVerdict, DecisionRecord, Step};
use crate::domain::routing::set::ChannelSet;
use crate::domain::routing::strategies::{COST_PARTS, Strategy, dead_band_ppm, expected_cost};

/// By how much the winner led when it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Margin {
    /// In parts per million of success rate, over the best of those left out.
    Success {
        /// Place of the one that came next.
        over: usize,
        /// The lead.
        ppm: u32,
    },
    /// In minor units of expected cost, rounded down, over the cheapest of those left out.
    Cost {
        /// Place of the one that came next.
        over: usize,
        /// What is saved.
        minor: i64,
    },
}

impl DecisionRecord {
    /// Why, in one English sentence.
    pub fn reason(&self) -> String {
        self.reason_in(Language::English)
    }

    /// Why, in one sentence.
    pub fn reason_in(&self, language: Language) -> String {
        let (Some(rung), Some(chosen)) = (self.rung, self.chosen_channel()) else {
            return self.reason_for_none(language);
        };
        let name = &chosen.channel;
        let is_chinese = language == Language::Chinese;
        if self.adopted {
            return if is_chinese {
                format!("存储恢复之后, 按 {name} 的记录重新建立了这笔支付。")
            } else {
                format!("The payment was made again from what {name} has on record, after the store was restored.")
            };
        }
        if self.all_down {
            return if is_chinese {
                format!("所有可以处理的渠道都在故障中, 暂停使用; 由最先恢复尝试的 {name} 处理。")
            } else {
                format!(
                    "All channels that could take it are failing and being left alone; {name} takes it, which is the first \
                     to be tried again."
                )
            };
        }
        let strategy = match (rung, self.strategy) {
            (Rung::Requested, _) if is_chinese => return format!("指定了 {name}, 并且它可以处理。"),
            (Rung::Requested, _) => return format!("{name} was asked for and can take it."),
            (Rung::Rules, _) => return self.chosen_by_rule(chosen, is_chinese),
            (Rung::Default, _) if is_chinese => return format!("{name} 是默认渠道。"),
            (Rung::Default, _) => return format!("{name} is the default channel."),
            (Rung::Smart, None) if is_chinese => return format!("只有 {name} 可以处理。"),
            (Rung::Smart, None) => return format!("{name} is the only channel that can take it."),
            (Rung::Smart, Some(strategy)) => strategy,
        };
        if is_chinese { self.chosen_by_in_chinese(strategy, chosen) } else { self.chosen_by(strategy, chosen) }
    }

    fn chosen_by_rule(&self, chosen: &ChannelVerdict, is_chinese: bool) -> String {
        let name = &chosen.channel;
        let rule = self.rule.as_ref().map_or("", |rule| &rule.name);
        let is_first = self.rule.as_ref().is_some_and(|rule| rule.places.first() == self.chosen.as_ref());
        let share = self.rule.as_ref().and_then(|rule| rule.point).map(|point| (point / 100, point % 100));
        match share {
            None if is_chinese => format!("规则 \"{rule}\" 指定了 {name}。"),
            None => format!("The rule \"{rule}\" names {name}."),
            Some((whole, hundredths)) if is_first && is_chinese => {
                format!("规则 \"{rule}\" 按比例分配; 这笔支付位于 {whole}.{hundredths:02}%, 分给 {name}。")
            }
            Some((whole, hundredths)) if is_first => {
                format!("The rule \"{rule}\" splits; this payment is at {whole}.{hundredths:02} % and goes to {name}.")
            }
            Some(_) if is_chinese => format!("规则 \"{rule}\" 按比例分配; 由 {name} 代替抽中的渠道。"),
            Some(_) => format!("The rule \"{rule}\" splits; {name} stands in for the channel that was drawn."),
        }
    }

    fn chosen_by(&self, strategy: Strategy, chosen: &ChannelVerdict) -> String {
        let name = &chosen.channel;
        match strategy {
            Strategy::Geographic if self.country_from_address => {
                format!("{name} is local to the payer's country, as known from the payer's address.")
            }
            Strategy::Geographic => format!("{name} is local to the payer's country."),
            Strategy::SuccessRate if chosen.samples == 0 => format!(
                "{name} has clearly the best success rate: {} % is assumed of it, since nothing is known yet.",
                in_percent(chosen.success_ppm)
            ),
            Strategy::SuccessRate => format!(
                "{name} has clearly the best success rate, {} % from {} outcomes.",
                in_percent(chosen.success_ppm),
                chosen.samples
            ),
            Strategy::Cost => match self.cost_beside_lower_fee() {
                None => format!("{name} is the cheapest of those left, at a fee of {}.", self.fee_of(chosen)),
                Some(cost) => format!(
                    "{name} is expected to cost the least of those left, {cost} with what failed payments cost; its fee is {}.",
                    self.fee_of(chosen)
                ),
            },
            Strategy::LoadBalance if self.turn.is_some() => {
                format!("It was {name}'s turn by weight among channels that are as good.")
            }
            Strategy::LoadBalance => format!("{name} was drawn by weight and load among channels that are as good."),
            Strategy::Newcomers => {
                format!("{name} is the only one of which enough is known; newcomers get a share of payments only.")
            }
            Strategy::Explore => {
                format!("{name} ranks somewhat lower by success and got this one so that it stays known how it does.")
            }
            Strategy::Custom(_) => format!("The strategy {} chose {name}.", self.name_of(strategy)),
        }
    }

    fn chosen_by_in_chinese(&self, strategy: Strategy, chosen: &ChannelVerdict) -> String {
        let name = &chosen.channel;
        match strategy {
            Strategy::Geographic if self.country_from_address => {
                format!("{name} 是付款人所在国家 (由付款人的地址得知) 的本地渠道。")
            }
            Strategy::Geographic => format!("{name} 是付款人所在国家的本地渠道。"),
            Strategy::SuccessRate if chosen.samples == 0 => {
                format!("{name} 的成功率明显最高: 尚无结果, 假定为 {}%。", in_percent(chosen.success_ppm))
            }
            Strategy::SuccessRate => format!(
                "{name} 的成功率明显最高, 为 {}%, 依据 {} 个结果。",
                in_percent(chosen.success_ppm),
                chosen.samples
            ),
            Strategy::Cost => match self.cost_beside_lower_fee() {
                None => format!("在剩余渠道中 {name} 最便宜, 手续费为 {}。", self.fee_of(chosen)),
                Some(cost) => format!(
                    "在剩余渠道中 {name} 的预期成本最低, 计入失败支付的损失为 {cost}; 手续费为 {}。",
                    self.fee_of(chosen)
                ),
            },
            Strategy::LoadBalance if self.turn.is_some() => format!("在同样好的渠道中, 按权重轮到 {name}。"),
            Strategy::LoadBalance => format!("在同样好的渠道中, 按权重和负载抽中了 {name}。"),
            Strategy::Newcomers => format!("只有 {name} 已积累足够的结果; 新渠道只得到一部分支付。"),
            Strategy::Explore => format!("{name} 的成功率排名稍低, 得到这笔支付是为了持续了解它的表现。"),
            Strategy::Custom(_) => format!("策略 {} 选择了 {name}。", self.name_of(strategy)),
        }
    }

    /// The winner's expected cost where it was not won by the fee: another candidate would have taken no more.
    fn cost_beside_lower_fee(&self) -> Option<Money> {
        let place = self.chosen?;
        let own = self.channels.get(place)?.fee_minor?;
        let step = self.steps.iter().rfind(|step| step.strategy == Strategy::Cost)?;
        let fees = step.before.without(step.after).iter().filter_map(|other| self.channels.get(other)?.fee_minor);
        let is_lower = fees.min().is_some_and(|least| least <= own);
        is_lower.then(|| self.expected_cost_minor(place)).flatten().map(|cost| Money::new(cost, self.currency))
    }

    fn fee_of(&self, channel: &ChannelVerdict) -> Money {
        Money::new(channel.fee_minor.unwrap_or(0), self.currency)
    }

    fn reason_for_none(&self, language: Language) -> String {
        let is_chinese = language == Language::Chinese;
        let dropped = |verdict: &ChannelVerdict| format!("{} {}", verdict.channel, self.why_not(verdict, language));
        if let Some(requested) = &self.requested {
            let asked_for = self.channels.iter().find(|verdict| verdict.channel == *requested);
            return if is_chinese {
                let why = asked_for.map_or_else(|| format!("没有渠道 {requested}"), dropped);
                format!("指定的渠道无法处理: {why}。")
            } else {
                let why = asked_for.map_or_else(|| format!("there is no channel {requested}"), dropped);
                format!("The channel that was asked for can't take it: {why}.")
            };
        }
        let reasons: Vec<String> = self.channels.iter().map(dropped).collect();
        let reasons = reasons.join(", ");
        if is_chinese {
            format!("没有渠道可以处理: {reasons}。")
        } else {
            format!("No channel can take it: {reasons}.")
        }
    }

    /// Why a channel did not get the payment that nobody got, in words that follow its name.
    pub fn why_not(&self, verdict: &ChannelVerdict, language: Language) -> &'static str {
        match verdict.dropped_by {
            Some(filter) => filter.in_words_of(language),
            None if self.requested.is_some() => {
                language.choose("could take it, but another channel was asked for", "可以处理, 但请求指定了其他渠道")
            }
            None => language.choose(
                "could take it, but no rule and no default names it",
                "可以处理, 但没有被任何规则或默认设置指定",
            ),
        }
    }

    /// What a step did, in one sentence.
    pub fn step_in_words(&self, step: &Step, language: Language) -> String {
        let is_chinese = language == Language::Chinese;
        let name = self.name_of(step.strategy);
        let (kept, given) = (self.names(step.after), step.before.len());
        let panicked = match step.strategy {
            Strategy::Custom(index) => self.custom.get(usize::from(index)).is_some_and(|verdict| verdict.panicked),
            _ => false,
        };
        match (panicked, step.before == step.after) {
            (true, _) if is_chinese => format!("{name} 出错, 本次决策中已跳过。"),
            (true, _) => format!("{name} failed and was passed over."),
            (_, true) if is_chinese => format!("{name} 没有偏好, 保留全部 {given} 个渠道。"),
            (_, true) => format!("{name} had no preference and left all {given}."),
            _ if is_chinese => format!("{name} 从 {given} 个渠道中保留了 {kept}。"),
            _ => format!("{name} kept {kept} of {given}."),
        }
    }

    fn names(&self, set: ChannelSet) -> String {
        let names: Vec<&str> =
            set.iter().filter_map(|place| Some(self.channels.get(place)?.channel.as_str())).collect();
        names.join(", ")
    }

    /// What a payment is expected to cost on a channel, in minor units, rounded to the nearest: its fee, and what a
    /// payment that fails costs, by how likely that is. Compared with the best of all that could take it.
    pub fn expected_cost_minor(&self, place: usize) -> Option<i64> {
        let eligible = |(_, verdict): &(usize, &ChannelVerdict)| verdict.dropped_by.is_none();
        let all: ChannelSet = self.channels.iter().enumerate().filter(eligible).map(|(place, _)| place).collect();
        let among = self.steps.iter().find(|step| step.strategy == Strategy::Cost).map_or(all, |step| step.before);
        let parts = self.cost_among(among, place)?;
        i64::try_from((parts + COST_PARTS / 2).div_euclid(COST_PARTS)).ok()
    }

    fn cost_among(&self, set: ChannelSet, place: usize) -> Option<i128> {
        let verdict = self.channels.get(place)?;
        let among = set.iter().filter_map(|place| self.channels.get(place));
        let best = among.reduce(|best, one| if one.success_ppm > best.success_ppm { one } else { best });
        expected_cost(best.unwrap_or(verdict), verdict, &self.inputs())
    }

    /// The lead in parts per million that the best of a set needs over the channel at a place.
    pub fn dead_band_ppm(&self, set: ChannelSet, place: usize) -> Option<u64> {
        let among = set.iter().filter_map(|place| self.channels.get(place));
        let best = among.reduce(|best, one| if one.success_ppm > best.success_ppm { one } else { best })?;
        Some(dead_band_ppm(best, self.channels.get(place)?, self.prior_outcomes))
    }

    /// By how much the winner led, where the strategy that decided goes by a number.
    pub fn margin(&self) -> Option<Margin> {
        let (chosen, decided_by) = (self.chosen?, self.strategy?);
        let step = self.steps.iter().rfind(|step| step.strategy == decided_by)?;
        let others = || step.before.without(step.after).iter();
        match decided_by {
            Strategy::SuccessRate => {
                let over = others().max_by_key(|place| self.channels[*place].success_ppm)?;
                let ppm = self.channels[chosen].success_ppm.saturating_sub(self.channels[over].success_ppm);
                Some(Margin::Success { over, ppm })
            }
            Strategy::Cost => {
                let cost = |place: usize| Some((self.cost_among(step.before, place)?, place));
                let ((own, _), (next, over)) = (cost(chosen)?, others().filter_map(cost).min()?);
                Some(Margin::Cost { over, minor: i64::try_from((next - own) / COST_PARTS).ok()? })
            }
            _ => None,
        }
    }
}

/// With one decimal, cut.
fn in_percent(ppm: u32) -> String {
    format!("{}.{}", ppm / 10_000, ppm / 1_000 % 10)
}

impl DroppedBy {
    /// Why, in words that follow the channel's name.
    pub const fn in_words_of(self, language: Language) -> &'static str {
        match language {
            Language::English => self.in_words(),
            Language::Chinese => self.in_chinese(),
        }
    }

    const fn in_chinese(self) -> &'static str {
        match self {
            Self::Disabled => "已停用",
            Self::Credentials => "没有凭证",
            Self::Merchant => "不对该商户开放",
            Self::Payments => "不接受支付",
            Self::PreAuth => "不支持预授权",
            Self::Currency => "不支持该币种",
            Self::Country => "不服务付款人所在国家",
            Self::Method => "不支持该支付方式",
            Self::AmountMin => "不接受这么小的金额",
            Self::AmountMax => "不接受这么大的金额",
            Self::Token => "不认识该支付令牌",
            Self::Tried => "已经尝试过",
            Self::Maintenance => "正在维护",
            Self::BreakerOpen => "正在发生故障, 暂不使用",
            Self::ProbeTaken => "故障之后正由另一笔支付试探",
            Self::InFlightMax => "进行中的支付已达上限",
            Self::PerSecond => "每秒支付数已达上限",
            Self::PerDay => "当天支付数已达上限",
            Self::AmountPerDay => "当天金额将超过上限",
        }
    }
}
