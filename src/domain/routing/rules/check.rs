//! What is wrong with a rule table: rules that can never match, that an earlier one always precedes, that name what is
//! not there, or that send payments where they can't be taken. Only what is certain is said.

use std::sync::Arc;

use crate::domain::ids::ChannelName;
use crate::domain::money::{AMOUNT_MINOR_MAX, Currency};
use crate::domain::routing::country::CountrySet;
use crate::domain::routing::rules::conditions::Conditions;
use crate::domain::routing::rules::region::{Atlas, Effort, Exhausted, Region};
use crate::domain::routing::rules::split::check_split;
use crate::domain::routing::rules::{Rule, RuleResult};
use crate::domain::routing::table::{AmountRange, ChannelFacts};

/// Steps of comparing rules with each other, in all and for what several rules take together of one. Some tens of
/// milliseconds: a table that takes more is answered all the same, and says so.
const STEPS_MAX: u64 = 20_000_000;
const STEPS_OF_RULE_MAX: u64 = 400_000;
/// Rules that a finding names; of more their number is said.
const NAMED_MAX: usize = 5;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The rule can't be meant like this: it is not saved.
    Error,
    /// The rule does less than it seems to.
    Warning,
}

impl Severity {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Something that is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's id.
    pub rule: Arc<str>,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub message: String,
    /// The other rules that it is about.
    pub other_rules: Vec<Arc<str>>,
}

/// What there is beside channels.
pub struct KnownNames<'a> {
    /// The tiers.
    pub tiers: &'a [&'a str],
    /// Whether there is a merchant with this id; `None` when that can't be said.
    pub merchant: &'a dyn Fn(&str) -> Option<bool>,
}

/// Everything that is certainly wrong with a table, rule by rule. What is said of a rule that is switched off holds for
/// when it is switched on; it stands in nobody's way.
pub fn check_rules(channels: &[ChannelFacts], rules: &[Rule], known: &KnownNames<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut atlas = Atlas::new(known.tiers);
    let regions: Vec<Region> = rules.iter().map(|rule| atlas.region(&rule.when)).collect();
    let mut effort = Effort::of(STEPS_MAX);
    let mut is_compared = true;
    for (place, rule) in rules.iter().enumerate() {
        let mut of_rule = Findings { rule, found: &mut findings };
        let is_possible = of_rule.conditions() & of_rule.names(channels, known);
        of_rule.result(channels);
        if is_possible && is_compared && !regions[place].is_empty() {
            is_compared = of_rule.shadow(rules, &regions, place, &atlas, &mut effort).is_ok();
        }
    }
    findings
}

struct Findings<'a> {
    rule: &'a Rule,
    found: &'a mut Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, severity: Severity, message: String, other_rules: Vec<Arc<str>>) {
        self.found.push(Finding { rule: Arc::clone(&self.rule.id), severity, message, other_rules });
    }

    fn error(&mut self, message: impl Into<String>) {
        self.add(Severity::Error, message.into(), Vec::new());
    }

    fn warning(&mut self, message: impl Into<String>) {
        self.add(Severity::Warning, message.into(), Vec::new());
    }

    /// Contradictions within the rule. Whether there is none.
    fn conditions(&mut self) -> bool {
        let when = &self.rule.when;
        let before = self.found.len();
        if let (Some(least), Some(most)) = (when.amount_minor_min, when.amount_minor_max)
            && least > most
        {
            self.error(format!("can never match: no amount is at least {least} and at most {most}"));
        }
        if when.amount_minor_max.is_some_and(|most| most < 1) {
            self.error("can never match: every payment is of at least 1 minor unit");
        }
        if when.amount_minor_min.is_some_and(|least| least > AMOUNT_MINOR_MAX) {
            self.error(format!("can never match: no payment is of more than {AMOUNT_MINOR_MAX} minor units"));
        }
        let has_bounds = when.amount_minor_min.is_some() || when.amount_minor_max.is_some();
        if has_bounds && when.currencies.is_empty() {
            self.error(
                "has bounds of amounts and no currencies: minor units of different currencies can't be compared; name \
                 the currencies that the bounds are for",
            );
        }
        let is_empty = |wanted: &CountrySet, unwanted: &CountrySet| admitted_countries(wanted, unwanted).is_empty();
        if is_empty(&when.countries, &when.not_countries) {
            self.error("can never match: every country that it names is excluded");
        }
        if is_empty(&when.card_countries, &when.not_card_countries) {
            self.error("can never match: every country of cards that it names is excluded");
        }
        if excludes_all(&when.methods, &when.not_methods) {
            self.error("can never match: every method that it names is excluded");
        }
        if excludes_all(&when.merchants, &when.not_merchants) {
            self.error("can never match: every merchant that it names is excluded");
        }
        self.found.len() == before
    }

    /// Names of what is not there. Whether something that is there can match.
    fn names(&mut self, channels: &[ChannelFacts], known: &KnownNames<'_>) -> bool {
        let when = &self.rule.when;
        let mut is_possible = true;
        let is_tier = |tier: &String| known.tiers.contains(&tier.as_str());
        for tier in when.tiers.iter().filter(|tier| !is_tier(tier)) {
            self.error(format!("names the tier {tier:?}, which is not there"));
        }
        is_possible &= when.tiers.is_empty() || when.tiers.iter().any(is_tier);
        let is_unknown = |merchant: &&String| (known.merchant)(merchant) == Some(false);
        for merchant in when.merchants.iter().chain(&when.not_merchants).filter(is_unknown) {
            self.error(format!("names the merchant {merchant:?}, which is not there"));
        }
        is_possible &= when.merchants.is_empty() || !when.merchants.iter().all(|merchant| is_unknown(&merchant));
        let is_served = |method: &String| {
            channels.iter().any(|channel| channel.methods.is_empty() || channel.methods.contains(method))
        };
        for method in when.methods.iter().chain(&when.not_methods).filter(|method| !is_served(method)) {
            self.error(format!("names the method {method:?}, which no channel serves"));
        }
        let takes = |currency: &Currency| {
            channels.iter().any(|channel| channel.currencies.is_empty() || channel.currencies.contains(currency))
        };
        for currency in when.currencies.iter().filter(|currency| !takes(currency)) {
            self.error(format!("names the currency {currency}, which no channel takes"));
        }
        is_possible
    }

    /// Whether payments that match can go where the rule says.
    fn result(&mut self, channels: &[ChannelFacts]) {
        let rule = self.rule;
        if let RuleResult::Split(shares) = &rule.then
            && let Err(error) = check_split(shares)
        {
            self.error(error.to_string());
        }
        let names: Vec<&ChannelName> = rule.then.channels().collect();
        if names.is_empty() {
            self.error("names no channel");
        }
        let mut obstacles = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let twice = names.iter().take(place).any(|other| other == name);
            if twice && matches!(rule.then, RuleResult::Ordered(_)) {
                self.warning(format!("names the channel {name} twice"));
            }
            match channels.iter().find(|facts| facts.name == **name) {
                None => self.error(format!("names the channel {name}, which is not there")),
                Some(facts) => obstacles.push((*name, obstacle(facts, &rule.when), facts)),
            }
        }
        let never = obstacles.iter().filter(|(_, obstacle, _)| obstacle.is_some()).count();
        if never > 0 && never == obstacles.len() {
            let each: Vec<String> = obstacles
                .iter()
                .filter_map(|(name, obstacle, _)| obstacle.as_ref().map(|obstacle| format!("{name} {obstacle}")))
                .collect();
            self.error(format!("names only channels that can never take what matches: {}", each.join(", ")));
            return;
        }
        for (name, obstacle, _) in &obstacles {
            if let Some(obstacle) = obstacle {
                self.warning(format!("names the channel {name}, which can never take what matches: it {obstacle}"));
            }
        }
        let is_off = |facts: &ChannelFacts| !facts.enabled || !facts.has_credentials;
        if !obstacles.is_empty() && obstacles.iter().all(|(_, obstacle, facts)| obstacle.is_some() || is_off(facts)) {
            self.warning("names only channels that are switched off or have no credentials");
        }
    }

    /// Whether an earlier rule, or several of them together, takes everything that this one would. `Err` when the table is
    /// too large to say more about it, which is said.
    fn shadow(
        &mut self,
        rules: &[Rule],
        regions: &[Region],
        place: usize,
        atlas: &Atlas<'_>,
        effort: &mut Effort,
    ) -> Result<(), Exhausted> {
        let region = &regions[place];
        let (mut earlier, mut earlier_regions) = (Vec::new(), Vec::new());
        for (other, of_other) in rules.iter().zip(regions).take(place).filter(|(other, _)| other.enabled) {
            let is_within = atlas.is_within(region, of_other, effort).inspect_err(|_| self.not_compared())?;
            if is_within {
                let message =
                    format!("is never reached: whatever matches it matches the rule {:?} before it", other.name);
                self.add(Severity::Warning, message, vec![Arc::clone(&other.id)]);
                return Ok(());
            }
            earlier.push(other);
            earlier_regions.push(of_other);
        }
        let mut part = effort.part(STEPS_OF_RULE_MAX);
        // What takes too many steps for one rule is not said of it.
        let covering = fewest_covering(atlas, region, &earlier_regions, &mut part).unwrap_or(None);
        effort.give_back(&part);
        if let Some(places) = covering {
            let others: Vec<&Rule> = places.into_iter().map(|place| earlier[place]).collect();
            let names: Vec<String> = others.iter().take(NAMED_MAX).map(|other| format!("{:?}", other.name)).collect();
            let more = others.len().saturating_sub(NAMED_MAX);
            let names = names.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() };
            let message = format!("is never reached: whatever matches it matches one of the rules {names} before it");
            self.add(Severity::Warning, message, others.iter().map(|other| Arc::clone(&other.id)).collect());
        }
        Ok(())
    }

    fn not_compared(&mut self) {
        self.warning(
            "and those after it are not compared with all rules before them: the table is too large for that; whether \
             one is never reached is not known",
        );
    }
}

/// The places of regions that together take all of `region`, without those that are not needed for it.
fn fewest_covering(
    atlas: &Atlas<'_>,
    region: &Region,
    others: &[&Region],
    effort: &mut Effort,
) -> Result<Option<Vec<usize>>, Exhausted> {
    let Some(mut places) = atlas.covering(region, others, effort)? else { return Ok(None) };
    let mut at = 0;
    while at < places.len() {
        let fewer: Vec<usize> = places.iter().copied().filter(|place| *place != places[at]).collect();
        let regions: Vec<&Region> = fewer.iter().map(|place| others[*place]).collect();
        // One too many is named rather than nothing said.
        match atlas.covering(region, &regions, effort) {
            Ok(Some(_)) => places = fewer,
            Ok(None) => at += 1,
            Err(Exhausted) => break,
        }
    }
    Ok(Some(places))
}

/// Why a channel can take nothing of what matches, if that is certain and follows from what it serves.
fn obstacle(facts: &ChannelFacts, when: &Conditions) -> Option<&'static str> {
    if !facts.takes_payments && !facts.takes_pre_auths {
        return Some("takes neither payments nor pre-authorizations");
    }
    if !when.currencies.is_empty() {
        let takes = |currency: &&Currency| facts.currencies.is_empty() || facts.currencies.contains(currency);
        let mut taken = when.currencies.iter().filter(takes).peekable();
        if taken.peek().is_none() {
            return Some("takes none of the currencies");
        }
        if !taken.any(|currency| amounts_meet(when, facts.amounts.get(currency))) {
            return Some("takes no such amounts");
        }
    }
    let method_fits = |method: &String| !when.not_methods.contains(method) && facts.methods.contains(method);
    if !when.methods.is_empty() && !facts.methods.is_empty() && !when.methods.iter().any(method_fits) {
        return Some("serves none of the methods");
    }
    let excluded = |method: &String| when.not_methods.contains(method);
    // A payment without a method does not match a rule that excludes some.
    if !when.not_methods.is_empty() && !facts.methods.is_empty() && facts.methods.iter().all(excluded) {
        return Some("serves only methods that are excluded");
    }
    let asks_country = !when.countries.is_empty() || !when.not_countries.is_empty();
    let admitted = admitted_countries(&when.countries, &when.not_countries);
    if asks_country && !facts.countries.is_empty() && admitted.intersection(&facts.countries).is_empty() {
        return Some("serves none of the countries");
    }
    None
}

fn amounts_meet(when: &Conditions, range: Option<&AmountRange>) -> bool {
    let range = range.copied().unwrap_or(AmountRange { min_minor: None, max_minor: None });
    let least = when.amount_minor_min.unwrap_or(1).max(range.min_minor.unwrap_or(1));
    let most = when.amount_minor_max.unwrap_or(AMOUNT_MINOR_MAX).min(range.max_minor.unwrap_or(AMOUNT_MINOR_MAX));
    least <= most
}

/// The countries that a condition lets through, where it asks at all.
fn admitted_countries(wanted: &CountrySet, unwanted: &CountrySet) -> CountrySet {
    let rest = unwanted.complement();
    if wanted.is_empty() { rest } else { rest.intersection(wanted) }
}

fn excludes_all(wanted: &[String], unwanted: &[String]) -> bool {
    !wanted.is_empty() && wanted.iter().all(|text| unwanted.contains(text))
}
