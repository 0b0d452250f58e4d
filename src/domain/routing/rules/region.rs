//! Which payments conditions let through, as a region: one set for each thing that is asked about. Regions can be taken
//! away from each other, so that what several rules leave of another can be said for certain. Work is counted, because
//! tables are large now and then and what is left of a region may fall into very many parts.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use crate::domain::money::AMOUNT_MINOR_MAX;
use crate::domain::routing::country::CountrySet;
use crate::domain::routing::rules::conditions::Conditions;
use crate::domain::routing::rules::hours::{Hours, WEEK_MINUTES, same_zone};

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aspect {
    Currency,
    Amount,
    Tier,
    Country,
    CardCountry,
    Method,
    Merchant,
    /// The minute of the week in a time zone. Zones are taken for independent of each other, which allows for more than
    /// there is and so never says too much.
    Week(u32),
    /// What is noted under a name.
    Metadata(u32),
}

/// A set of what one thing can be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Values {
    /// Some texts by their numbers, in order, or all but some; and whether none at all is among them.
    Texts { all_but: bool, listed: Vec<u32>, none: bool },
    /// Countries, and whether an unknown one is among them.
    Countries { known: CountrySet, unknown: bool },
    /// From each first number until before the second, in order and apart.
    Spans(Vec<(i64, i64)>),
}

impl Values {
    fn is_empty(&self) -> bool {
        match self {
            Self::Texts { all_but, listed, none } => !all_but && listed.is_empty() && !none,
            Self::Countries { known, unknown } => known.is_empty() && !unknown,
            Self::Spans(spans) => spans.is_empty(),
        }
    }

    /// Steps that it takes to go through it.
    fn steps(&self) -> u64 {
        match self {
            Self::Texts { listed, .. } => 1 + listed.len() as u64,
            Self::Countries { .. } => 11,
            Self::Spans(spans) => 1 + spans.len() as u64,
        }
    }

    /// Everything that is not in it.
    fn complement(&self, everything: &Self) -> Self {
        match self {
            Self::Texts { all_but, listed, none } => {
                let rest = Self::Texts { all_but: !all_but, listed: listed.clone(), none: !none };
                rest.intersection(everything)
            }
            Self::Countries { known, unknown } => {
                Self::Countries { known: known.complement(), unknown: !unknown }.intersection(everything)
            }
            Self::Spans(spans) => {
                let mut rest = Vec::with_capacity(spans.len() + 1);
                let mut from = i64::MIN;
                for (first, end) in spans {
                    rest.push((from, *first));
                    from = *end;
                }
                rest.push((from, i64::MAX));
                Self::Spans(rest).intersection(everything)
            }
        }
    }

    fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (
                Self::Texts { all_but, listed, none },
                Self::Texts { all_but: other_but, listed: others, none: other_none },
            ) => {
                let none = *none && *other_none;
                let keep = |listed: &[u32], others: &[u32], when_found: bool| {
                    let found = |text: &u32| others.binary_search(text).is_ok();
                    listed.iter().copied().filter(|text| found(text) == when_found).collect::<Vec<_>>()
                };
                match (all_but, other_but) {
                    (false, false) => Self::Texts { all_but: false, listed: keep(listed, others, true), none },
                    (false, true) => Self::Texts { all_but: false, listed: keep(listed, others, false), none },
                    (true, false) => Self::Texts { all_but: false, listed: keep(others, listed, false), none },
                    (true, true) => {
                        let mut both = [listed.as_slice(), others].concat();
                        both.sort_unstable();
                        both.dedup();
                        Self::Texts { all_but: true, listed: both, none }
                    }
                }
            }
            (Self::Countries { known, unknown }, Self::Countries { known: other_known, unknown: other_unknown }) => {
                Self::Countries { known: known.intersection(other_known), unknown: *unknown && *other_unknown }
            }
            (Self::Spans(spans), Self::Spans(others)) => {
                let mut both = Vec::new();
                let (mut one, mut other) = (0, 0);
                while let (Some(left), Some(right)) = (spans.get(one), others.get(other)) {
                    let (first, end) = (left.0.max(right.0), left.1.min(right.1));
                    if first < end {
                        both.push((first, end));
                    }
                    if left.1 < right.1 { one += 1 } else { other += 1 }
                }
                Self::Spans(both)
            }
            // Of one aspect all sets are of one kind.
            _ => self.clone(),
        }
    }

    /// Whether all of it is in `other`.
    fn is_within(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        match (self, other) {
            (
                Self::Texts { all_but, listed, none },
                Self::Texts { all_but: other_but, listed: others, none: other_none },
            ) => {
                let found = |among: &[u32], text: &u32| among.binary_search(text).is_ok();
                let texts_are = match (all_but, other_but) {
                    (false, false) => listed.len() <= others.len() && listed.iter().all(|text| found(others, text)),
                    (false, true) => listed.iter().all(|text| !found(others, text)),
                    (true, false) => false,
                    (true, true) => others.len() <= listed.len() && others.iter().all(|text| found(listed, text)),
                };
                texts_are && (!none || *other_none)
            }
            (Self::Countries { known, unknown }, Self::Countries { known: others, unknown: other_unknown }) => {
                known.intersection(&others.complement()).is_empty() && (!unknown || *other_unknown)
            }
            _ => self.intersection(other) == *self,
        }
    }
}

/// Payments, by what they are. What is not named in it can be anything.
#[derive(Clone, Debug, Default)]
pub(super) struct Region(Vec<(Aspect, Values)>);

impl Region {
    fn get(&self, aspect: Aspect) -> Option<&Values> {
        let place = self.0.binary_search_by_key(&aspect, |(named, _)| *named).ok()?;
        self.0.get(place).map(|(_, values)| values)
    }

    fn set(&mut self, aspect: Aspect, values: Values) {
        match self.0.binary_search_by_key(&aspect, |(named, _)| *named) {
            Ok(place) => self.0[place].1 = values,
            Err(place) => self.0.insert(place, (aspect, values)),
        }
    }

    /// Whether no payment can be in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().any(|(_, values)| values.is_empty())
    }
}

/// Steps that may still be taken. What takes more is not said.
#[derive(Debug)]
pub(super) struct Effort {
    left: u64,
}

/// No step is left.
pub(super) struct Exhausted;

impl Effort {
    pub(super) const fn of(steps: u64) -> Self {
        Self { left: steps }
    }

    fn take(&mut self, steps: u64) -> Result<(), Exhausted> {
        self.left = self.left.checked_sub(steps).ok_or(Exhausted)?;
        Ok(())
    }

    /// A part of it, which is used up by what is made with it.
    pub(super) fn part(&mut self, steps_max: u64) -> Self {
        let steps = steps_max.min(self.left);
        self.left -= steps;
        Self { left: steps }
    }

    /// Gives back what is left of a part.
    pub(super) const fn give_back(&mut self, part: &Self) {
        self.left += part.left;
    }
}

/// Makes regions that can be compared with each other.
pub(super) struct Atlas<'a> {
    tiers: Vec<u32>,
    numbers: HashMap<&'a str, u32>,
    zones: Vec<Option<&'a TimeZone>>,
}

impl<'a> Atlas<'a> {
    /// Of a world with these tiers.
    pub(super) fn new(tiers: &[&'a str]) -> Self {
        let mut atlas = Self { tiers: Vec::new(), numbers: HashMap::new(), zones: Vec::new() };
        atlas.tiers = atlas.numbered(tiers.iter().copied());
        atlas
    }

    fn number(&mut self, text: &'a str) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(text).or_insert(next)
    }

    fn numbered(&mut self, texts: impl Iterator<Item = &'a str>) -> Vec<u32> {
        let mut numbers: Vec<u32> = texts.map(|text| self.number(text)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// What one thing can be at all.
    fn everything(&self, aspect: Aspect) -> Values {
        match aspect {
            // Every payment has these.
            Aspect::Currency | Aspect::Merchant => Values::Texts { all_but: true, listed: Vec::new(), none: false },
            Aspect::Tier => Values::Texts { all_but: false, listed: self.tiers.clone(), none: false },
            Aspect::Method | Aspect::Metadata(_) => Values::Texts { all_but: true, listed: Vec::new(), none: true },
            Aspect::Country | Aspect::CardCountry => {
                Values::Countries { known: CountrySet::default().complement(), unknown: true }
            }
            Aspect::Amount => Values::Spans(vec![(1, AMOUNT_MINOR_MAX + 1)]),
            Aspect::Week(_) => Values::Spans(vec![(0, WEEK_MINUTES)]),
        }
    }

    /// The payments that conditions let through.
    pub(super) fn region(&mut self, when: &'a Conditions) -> Region {
        let mut region = Region::default();
        let texts = |wanted: Vec<u32>, unwanted: &[u32]| {
            if wanted.is_empty() {
                return Values::Texts { all_but: true, listed: unwanted.to_vec(), none: false };
            }
            let left = wanted.into_iter().filter(|text| unwanted.binary_search(text).is_err());
            Values::Texts { all_but: false, listed: left.collect(), none: false }
        };
        if !when.currencies.is_empty() {
            let wanted = self.numbered(when.currencies.iter().map(|currency| currency.code()));
            region.set(Aspect::Currency, texts(wanted, &[]));
        }
        if when.amount_minor_min.is_some() || when.amount_minor_max.is_some() {
            let least = when.amount_minor_min.unwrap_or(1).max(1);
            let most = when.amount_minor_max.unwrap_or(AMOUNT_MINOR_MAX).min(AMOUNT_MINOR_MAX);
            region.set(Aspect::Amount, Values::Spans(if least <= most { vec![(least, most + 1)] } else { Vec::new() }));
        }
        for (aspect, wanted, unwanted) in [
            (Aspect::Method, &when.methods, &when.not_methods),
            (Aspect::Merchant, &when.merchants, &when.not_merchants),
        ] {
            if !wanted.is_empty() || !unwanted.is_empty() {
                let wanted = self.numbered(wanted.iter().map(String::as_str));
                let unwanted = self.numbered(unwanted.iter().map(String::as_str));
                region.set(aspect, texts(wanted, &unwanted));
            }
        }
        if !when.tiers.is_empty() {
            let wanted = self.numbered(when.tiers.iter().map(String::as_str));
            region.set(Aspect::Tier, texts(wanted, &[]).intersection(&self.everything(Aspect::Tier)));
        }
        for (aspect, wanted, unwanted) in [
            (Aspect::Country, &when.countries, &when.not_countries),
            (Aspect::CardCountry, &when.card_countries, &when.not_card_countries),
        ] {
            if !wanted.is_empty() || !unwanted.is_empty() {
                let rest = unwanted.complement();
                let known = if wanted.is_empty() { rest } else { rest.intersection(wanted) };
                region.set(aspect, Values::Countries { known, unknown: false });
            }
        }
        for condition in &when.metadata {
            let aspect = Aspect::Metadata(self.number(&condition.key));
            let wanted = self.numbered(condition.values.iter().map(String::as_str));
            let values = texts(wanted, &[]);
            let values = region.get(aspect).map_or_else(|| values.clone(), |others| others.intersection(&values));
            region.set(aspect, values);
        }
        self.add_hours(&mut region, &when.hours);
        region
    }

    fn add_hours(&mut self, region: &mut Region, hours: &'a Hours) {
        let spans = hours.week_spans();
        if spans == [(0, WEEK_MINUTES)] {
            return;
        }
        let zone = hours.zone.as_ref();
        let place = self.zones.iter().position(|known| same_zone(*known, zone)).unwrap_or_else(|| {
            self.zones.push(zone);
            self.zones.len() - 1
        });
        region.set(Aspect::Week(u32::try_from(place).unwrap_or(u32::MAX)), Values::Spans(spans));
    }

    /// Whether all of `inner` is in `outer`.
    pub(super) fn is_within(&self, inner: &Region, outer: &Region, effort: &mut Effort) -> Result<bool, Exhausted> {
        effort.take(1)?;
        for (aspect, values) in &outer.0 {
            let is_within = match inner.get(*aspect) {
                Some(given) => {
                    effort.take(given.steps().min(values.steps()))?;
                    given.is_within(values)
                }
                None => {
                    let everything = self.everything(*aspect);
                    effort.take(everything.steps())?;
                    everything.is_within(values)
                }
            };
            if !is_within {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is left of a region without another, in parts that are apart; `None` when they have nothing in common.
    fn without(&self, region: &Region, other: &Region, effort: &mut Effort) -> Result<Option<Vec<Region>>, Exhausted> {
        effort.take(1)?;
        let mut both = region.clone();
        let mut outside = Vec::with_capacity(other.0.len());
        for (aspect, values) in &other.0 {
            let everything = self.everything(*aspect);
            let present = region.get(*aspect).unwrap_or(&everything);
            effort.take(present.steps() + values.steps())?;
            let common = present.intersection(values);
            if common.is_empty() {
                return Ok(None);
            }
            outside.push((*aspect, present.intersection(&values.complement(&everything)), common));
        }
        let mut parts = Vec::with_capacity(outside.len());
        for (aspect, rest, common) in outside {
            if !rest.is_empty() {
                effort.take(both.0.iter().map(|(_, values)| values.steps()).sum::<u64>() + 1)?;
                let mut part = both.clone();
                part.set(aspect, rest);
                parts.push(part);
            }
            both.set(aspect, common);
        }
        Ok(Some(parts))
    }

    /// The places of those of `others` that together take all of a region; `None` when they do not. It looks for something
    /// that is left, one part after another, and ends with the first that is.
    pub(super) fn covering(
        &self,
        region: &Region,
        others: &[&Region],
        effort: &mut Effort,
    ) -> Result<Option<Vec<usize>>, Exhausted> {
        let mut is_used = vec![false; others.len()];
        let mut open = vec![(region.clone(), 0_usize)];
        while let Some((part, from)) = open.pop() {
            let mut cut = None;
            for (place, other) in others.iter().enumerate().skip(from) {
                if let Some(parts) = self.without(&part, other, effort)? {
                    cut = Some((place, parts));
                    break;
                }
            }
            let Some((place, parts)) = cut else { return Ok(None) };
            is_used[place] = true;
            open.extend(parts.into_iter().map(|part| (part, place + 1)));
        }
        Ok(Some((0..others.len()).filter(|place| is_used[*place]).collect()))
    }
}
