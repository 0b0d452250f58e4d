//! What is wrong with a rule table: rules that can never match, that an earlier one always precedes, that name what is
//! not there, or that send payments where they can't be taken. Only what is certain is said.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::ids::ChannelName;
use crate::domain::money::Currency;
use crate::domain::routing::country::CountrySet;
use crate::domain::routing::rules::conditions::Conditions;
use crate::domain::routing::rules::split::check_split;
use crate::domain::routing::rules::{Rule, RuleResult};
use crate::domain::routing::table::{AmountRange, ChannelFacts};

/// Most of one payment, in minor units.
const AMOUNT_MINOR_MAX: i64 = 999_999_999_999;

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
    /// The other rule that it is about.
    pub other_rule: Option<Arc<str>>,
}

/// What there is beside channels.
pub struct KnownNames<'a> {
    /// Whether there is a tier of this name.
    pub tier: &'a dyn Fn(&str) -> bool,
    /// Whether there is a merchant with this id; `None` when that can't be said.
    pub merchant: &'a dyn Fn(&str) -> Option<bool>,
}

/// Everything that is certainly wrong with a table, rule by rule. What is said of a rule that is switched off holds for
/// when it is switched on; it stands in nobody's way.
pub fn check_rules(channels: &[ChannelFacts], rules: &[Rule], known: &KnownNames<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, rule) in rules.iter().enumerate() {
        let mut of_rule = Findings { rule, found: &mut findings };
        let is_possible = of_rule.conditions() & of_rule.names(channels, known);
        of_rule.result(channels);
        if is_possible {
            of_rule.shadow(&rules[..place]);
        }
    }
    findings
}

struct Findings<'a> {
    rule: &'a Rule,
    found: &'a mut Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, severity: Severity, message: String, other_rule: Option<&Arc<str>>) {
        let (rule, other_rule) = (Arc::clone(&self.rule.id), other_rule.cloned());
        self.found.push(Finding { rule, severity, message, other_rule });
    }

    fn error(&mut self, message: impl Into<String>) {
        self.add(Severity::Error, message.into(), None);
    }

    fn warning(&mut self, message: impl Into<String>) {
        self.add(Severity::Warning, message.into(), None);
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
        for tier in when.tiers.iter().filter(|tier| !(known.tier)(tier)) {
            self.error(format!("names the tier {tier:?}, which is not there"));
        }
        is_possible &= when.tiers.is_empty() || when.tiers.iter().any(|tier| (known.tier)(tier));
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

    /// Whether an earlier rule takes everything that this one would.
    fn shadow(&mut self, earlier: &[Rule]) {
        let shadow = earlier.iter().find(|other| other.enabled && is_within(&self.rule.when, &other.when));
        if let Some(other) = shadow {
            let message = format!("is never reached: whatever matches it matches the rule {:?} before it", other.name);
            self.add(Severity::Warning, message, Some(&other.id));
        }
    }
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

/// Whether it is certain that whatever matches `inner` matches `outer`. A condition at a time: they are independent of
/// each other but for amounts, whose bounds stand with the currencies that they are for.
fn is_within(inner: &Conditions, outer: &Conditions) -> bool {
    currencies_within(&inner.currencies, &outer.currencies)
        && outer.amount_minor_min.is_none_or(|least| inner.amount_minor_min.unwrap_or(1) >= least)
        && outer.amount_minor_max.is_none_or(|most| inner.amount_minor_max.unwrap_or(AMOUNT_MINOR_MAX) <= most)
        && texts_within((&inner.methods, &inner.not_methods), (&outer.methods, &outer.not_methods))
        && texts_within((&inner.tiers, &[]), (&outer.tiers, &[]))
        && texts_within((&inner.merchants, &inner.not_merchants), (&outer.merchants, &outer.not_merchants))
        && countries_within((&inner.countries, &inner.not_countries), (&outer.countries, &outer.not_countries))
        && countries_within(
            (&inner.card_countries, &inner.not_card_countries),
            (&outer.card_countries, &outer.not_card_countries),
        )
        && metadata_within(inner, outer)
        && inner.hours.is_within(&outer.hours)
}

fn currencies_within(inner: &[Currency], outer: &[Currency]) -> bool {
    outer.is_empty() || (!inner.is_empty() && inner.iter().all(|currency| outer.contains(currency)))
}

/// Wanted and unwanted texts of the one and the other.
fn texts_within(inner: (&[String], &[String]), outer: (&[String], &[String])) -> bool {
    let ((wanted, unwanted), (outer_wanted, outer_unwanted)) = (inner, outer);
    if outer_wanted.is_empty() && outer_unwanted.is_empty() {
        return true;
    }
    if wanted.is_empty() {
        // Everything but a few is only within everything but some of these; what is not given matches neither.
        return outer_wanted.is_empty() && outer_unwanted.iter().all(|text| unwanted.contains(text));
    }
    let fits =
        |text: &String| (outer_wanted.is_empty() || outer_wanted.contains(text)) && !outer_unwanted.contains(text);
    wanted.iter().filter(|text| !unwanted.contains(text)).all(fits)
}

/// Wanted and unwanted countries of the one and the other.
fn countries_within(inner: (&CountrySet, &CountrySet), outer: (&CountrySet, &CountrySet)) -> bool {
    let asks = |(wanted, unwanted): (&CountrySet, &CountrySet)| !wanted.is_empty() || !unwanted.is_empty();
    if !asks(outer) {
        return true;
    }
    let outside = admitted_countries(outer.0, outer.1).complement();
    asks(inner) && admitted_countries(inner.0, inner.1).intersection(&outside).is_empty()
}

fn metadata_within(inner: &Conditions, outer: &Conditions) -> bool {
    let by_key: BTreeMap<&str, &Vec<String>> =
        inner.metadata.iter().map(|condition| (condition.key.as_str(), &condition.values)).collect();
    outer.metadata.iter().all(|condition| {
        by_key.get(condition.key.as_str()).is_some_and(|values| {
            condition.values.is_empty()
                || (!values.is_empty() && values.iter().all(|value| condition.values.contains(value)))
        })
    })
}
