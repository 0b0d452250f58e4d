//! The rule table as the operator changes it. The API's own rules stand before the configuration file's, which are shown
//! and can be changed in the file only.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::config::{Config, RuleConfig, rule_problems};
use crate::domain::audit::{Change, Operator};
use crate::domain::ids::sortable_id;
use crate::domain::routing::{Finding, Severity};
use crate::gateway::error::{FieldError, Forbidden, GatewayError};
use crate::gateway::routing::control::{InForce, Routing, UNCHECKED};
use crate::gateway::routing::overrides::Overrides;
use crate::gateway::wish::{named, wish};

/// Most rules of the API; the file may have more beside them.
const OWN_RULES_MAX: usize = 500;

/// A rule as the operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RuleView {
    /// The rule; its id is always there.
    #[serde(flatten)]
    pub rule: RuleConfig,
    /// `api`, or `file` for one of the configuration file, which can be changed there only.
    pub source: String,
    /// Its place in the table, from 1; the first that matches counts.
    pub position: usize,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FindingView {
    /// The rule's id.
    pub rule: String,
    /// `error`: it would not be saved; `warning`: it does less than it seems to.
    pub severity: String,
    /// What is wrong.
    pub message: String,
    /// The ids of the other rules that it is about.
    pub other_rules: Vec<String>,
}

impl FindingView {
    fn error(rule: &str, message: String, other_rules: Vec<String>) -> Self {
        Self { rule: rule.to_owned(), severity: Severity::Error.as_str().to_owned(), message, other_rules }
    }

    pub(super) fn of(finding: &Finding) -> Self {
        Self {
            rule: finding.rule.to_string(),
            severity: finding.severity.as_str().to_owned(),
            message: finding.message.clone(),
            other_rules: finding.other_rules.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What an operator would not expect of the rules in force as a whole.
pub(super) fn note_of(config: &Config) -> Option<String> {
    let routing = &config.routing;
    let is_asked = !routing.smart || routing.rules_first || config.rules.iter().all(|rule| !rule.enabled);
    (!is_asked).then(|| {
        String::from(
            "no rule is asked: the strategies stand before the rules and name a channel whenever one can take the payment; \
             set rules_first = true (tollgate routing set --rules-first true) to ask the rules first",
        )
    })
}

/// A rule that was saved, and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SavedRuleView {
    /// The rule.
    #[serde(flatten)]
    pub rule: RuleView,
    /// The version that has it.
    pub version: u64,
    /// Warnings about it, and about others because of it.
    pub findings: Vec<FindingView>,
    /// What there is to know about the rules as a whole, such as that nothing asks them; null when there is nothing.
    pub note: Option<String>,
}

/// Body of `POST /admin/v1/rules/check`: a rule or a table as it would be saved; without either, the rules in force.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRules {
    /// A rule that would be added, or saved in place of the one with its id; with `before` or `position`, as when it is
    /// saved.
    #[serde(default)]
    #[schema(value_type = Option<RuleConfig>)]
    pub rule: Option<Map<String, Value>>,
    /// All of the API's rules, in place of those that there are.
    #[serde(default)]
    pub rules: Option<Vec<RuleConfig>>,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CheckedRulesView {
    /// How many rules were looked at.
    pub rules: usize,
    /// Findings that keep a rule from being saved.
    pub errors: usize,
    /// The others.
    pub warnings: usize,
    /// All of them, in the order of the rules.
    pub findings: Vec<FindingView>,
    /// What there is to know about the rules as a whole, such as that nothing asks them; null when there is nothing.
    pub note: Option<String>,
}

/// Where a rule is put.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// Before the rule with this id.
    #[serde(default)]
    before: Option<String>,
    /// At this place of the table, from 1.
    #[serde(default)]
    position: Option<usize>,
}

impl Place {
    /// Takes the place out of a rule's fields.
    fn taken_from(fields: &mut Map<String, Value>) -> Result<Self, GatewayError> {
        let taken = ["before", "position"].into_iter().filter_map(|key| fields.remove_entry(key)).collect();
        read(&taken)
    }

    /// Puts a rule there; at the end of the API's rules where nothing is said.
    fn put(&self, rules: &mut Vec<RuleConfig>, rule: RuleConfig) -> Result<(), GatewayError> {
        let place = match (&self.before, self.position) {
            (Some(_), Some(_)) => return Err(GatewayError::field("before", "can't stand beside `position`")),
            (Some(before), None) => {
                let place = rules.iter().position(|other| other.id() == before);
                place.ok_or_else(|| GatewayError::field("before", "names none of the rules made through the API"))?
            }
            (None, Some(position)) if (1..=rules.len() + 1).contains(&position) => position - 1,
            (None, Some(_)) => {
                let message = format!("must be from 1 to {}: the API's rules stand first", rules.len() + 1);
                return Err(GatewayError::field("position", message));
            }
            (None, None) => rules.len(),
        };
        rules.insert(place, rule);
        Ok(())
    }

    fn is_given(&self) -> bool {
        *self != Self::default()
    }
}

/// Reads a `T` out of fields, and says which is wrong.
fn read<T: DeserializeOwned>(fields: &Map<String, Value>) -> Result<T, GatewayError> {
    serde_path_to_error::deserialize(Value::Object(fields.clone())).map_err(|error| {
        let (path, text) = (error.path().to_string(), error.inner().to_string());
        let inner = |name: &str| if path == "." || path == name { name.to_owned() } else { format!("{path}.{name}") };
        if let Some(name) = named(&text, "unknown field `") {
            let field = if path.ends_with(name) { path.clone() } else { inner(name) };
            return GatewayError::field(field, "is not a field of this request");
        }
        if let Some(name) = named(&text, "missing field `") {
            return GatewayError::field(inner(name), "is missing");
        }
        GatewayError::field(path, wish(&text))
    })
}

/// The API's rules with what is to be checked among them.
struct Proposed {
    rules: Vec<RuleConfig>,
    /// The id that a rule without one has while it is looked at; it gets one of its own when it is saved.
    stand_in: Option<String>,
}

/// The API's rules as they would be with what is to be checked.
fn proposed(in_force: &InForce, command: CheckRules) -> Result<Proposed, GatewayError> {
    let mut rules = in_force.overrides.rules.clone();
    let mut stand_in = None;
    match (command.rule, command.rules) {
        (Some(_), Some(_)) => return Err(GatewayError::field("rule", "can't stand beside `rules`")),
        (None, None) => {}
        // One without an id goes by its name, as in the file.
        (None, Some(table)) => rules = table,
        (Some(mut fields), None) => {
            let place = Place::taken_from(&mut fields).map_err(|error| within(error, "rule."))?;
            let mut rule: RuleConfig = read(&fields).map_err(|error| within(error, "rule."))?;
            let replaced = rule.id.as_ref().and_then(|id| rules.iter().position(|other| other.id() == id));
            // One that is to be added gets an id of its own then.
            let is_taken = |id: &str| rules.iter().chain(&in_force.file.rules).any(|other| other.id() == id);
            let made_id = || if is_taken(&rule.name) { format!("{} (new)", rule.name) } else { rule.name.clone() };
            if rule.id.is_none() {
                stand_in = Some(made_id());
                rule.id.clone_from(&stand_in);
            }
            if let Some(at) = replaced {
                rules.remove(at);
            }
            match replaced {
                Some(at) if !place.is_given() => rules.insert(at, rule),
                _ => place.put(&mut rules, rule).map_err(|error| within(error, "rule."))?,
            }
        }
    }
    Ok(Proposed { rules, stand_in })
}

/// An error about fields of something that stands within the request.
fn within(error: GatewayError, prefix: &str) -> GatewayError {
    match error {
        GatewayError::InvalidRequest(mut fields) => {
            fields.iter_mut().for_each(|field| field.field.insert_str(0, prefix));
            GatewayError::InvalidRequest(fields)
        }
        other => other,
    }
}

impl Routing {
    /// The rules in their order: the API's, then the file's.
    pub async fn rules(&self) -> Vec<RuleView> {
        rule_views(&*self.hold().await)
    }

    /// Payments and pre-auths that rules have sent somewhere since the process began, by the rules' ids; what is not there has
    /// sent none.
    pub fn rule_hits(&self) -> BTreeMap<Arc<str>, u64> {
        self.0.router.rule_hits()
    }

    /// One rule.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub async fn rule(&self, id: &str) -> Result<RuleView, GatewayError> {
        view_of(&*self.hold().await, id)
    }

    /// Adds a rule: its fields, with `before` (another rule's id) or `position`; at the end of the API's rules without.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a rule that can't be meant like this.
    pub async fn create_rule(&self, fields: Map<String, Value>, by: &Operator) -> Result<SavedRuleView, GatewayError> {
        let draw = self.0.core.random.draw_u64();
        let made_id = sortable_id("ru_", self.0.core.clock.now(), draw);
        self.save(by, "rule.create", made_id, move |_, overrides, made_id| {
            let mut fields = fields;
            let place = Place::taken_from(&mut fields)?;
            let mut rule: RuleConfig = read(&fields)?;
            let id = rule.id.get_or_insert_with(|| made_id.to_owned()).clone();
            if overrides.rules.len() >= OWN_RULES_MAX {
                return Err(GatewayError::field("rules", format!("must be at most {OWN_RULES_MAX}")));
            }
            place.put(&mut overrides.rules, rule)?;
            Ok(id)
        })
        .await
    }

    /// Changes the fields of a rule that are given; `null` takes one away. `before` or `position` moves it.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::Forbidden`] for a rule of the file, [`GatewayError::InvalidRequest`].
    pub async fn update_rule(
        &self,
        id: &str,
        fields: Map<String, Value>,
        by: &Operator,
    ) -> Result<SavedRuleView, GatewayError> {
        self.save(by, "rule.update", id.to_owned(), move |before, overrides, id| {
            let mut fields = fields;
            let place = Place::taken_from(&mut fields)?;
            let at = own_place(before, overrides, id)?;
            let present = overrides.rules.remove(at);
            let mut merged = serde_json::to_value(&present)
                .ok()
                .and_then(|json| json.as_object().cloned())
                .ok_or_else(|| GatewayError::Internal(String::from("a rule is no object")))?;
            // A list is as a whole what it is from now on, and so is what is asked of metadata.
            for (key, value) in &fields {
                if value.is_null() {
                    merged.remove(key);
                } else {
                    merged.insert(key.clone(), value.clone());
                }
            }
            let rule: RuleConfig = read(&merged)?;
            if rule.id() != id {
                return Err(GatewayError::field("id", "can't be changed; make another rule"));
            }
            if place.is_given() {
                place.put(&mut overrides.rules, rule)?;
            } else {
                overrides.rules.insert(at, rule);
            }
            Ok(id.to_owned())
        })
        .await
    }

    /// Takes a rule away.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::Forbidden`] for a rule of the file.
    pub async fn delete_rule(&self, id: &str, by: &Operator) -> Result<(), GatewayError> {
        let (routing, by, id) = (self.clone(), by.clone(), id.to_owned());
        let work = async move {
            let edit = |before: &InForce, overrides: &mut Overrides| {
                let at = own_place(before, overrides, &id)?;
                let gone = json_of(&overrides.rules.remove(at));
                Ok((Change::new("rule.delete", id.as_str()).difference(&gone, &Value::Null), ()))
            };
            routing.0.change(&by, edit, UNCHECKED).await.map(|_| ())
        };
        self.0.core.carry(work).await
    }

    /// Looks what is wrong with a rule or a table, without saving it.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for both at once, and for fields that are none of a rule.
    pub async fn check_rules(&self, command: CheckRules) -> Result<CheckedRulesView, GatewayError> {
        let in_force = self.hold().await.clone();
        let Proposed { rules: own, stand_in } = proposed(&in_force, command)?;
        if own.len() > OWN_RULES_MAX {
            return Err(GatewayError::field("rules", format!("must be at most {OWN_RULES_MAX}")));
        }
        let all = || own.iter().chain(&in_force.file.rules);
        let mut config = in_force.config.clone();
        config.rules.clear();
        let mut findings = Vec::new();
        for (place, rule) in all().enumerate() {
            let mut problems = rule_problems(&in_force.config, rule);
            // Nobody has given this one, and nobody is going to save it.
            if stand_in.is_some() && rule.id == stand_in {
                problems.retain(|problem| problem.path != "id");
            }
            let told = problems.iter().map(|problem| format!("{} {}", problem.path, problem.message));
            findings.extend(told.map(|message| FindingView::error(rule.id(), message, Vec::new())));
            // The file's rules are told apart when it is read.
            let others = own.iter().take(place).chain(&in_force.file.rules).filter(|_| place < own.len());
            let is_taken = |other: &&RuleConfig| other.id() == rule.id() || other.name == rule.name;
            let others: Vec<String> = others.filter(is_taken).map(|other| other.id().to_owned()).collect();
            if !others.is_empty() {
                let message = String::from("has the name or id of another rule; give it its own");
                findings.push(FindingView::error(rule.id(), message, others));
            }
            // What can't be understood is told; the others are looked at together.
            if problems.is_empty() {
                config.rules.push(rule.clone());
            }
        }
        findings.extend(self.0.check(&config).await?.iter().map(FindingView::of));
        let place_of = |finding: &FindingView| all().position(|rule| rule.id() == finding.rule);
        findings.sort_by_cached_key(place_of);
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error.as_str()).count();
        let (rules, warnings) = (all().count(), findings.len() - errors);
        Ok(CheckedRulesView { rules, errors, warnings, findings, note: note_of(&config) })
    }

    /// Saves one rule as `edit` makes it, which answers its id.
    async fn save(
        &self,
        by: &Operator,
        action: &'static str,
        id: String,
        edit: impl FnOnce(&InForce, &mut Overrides, &str) -> Result<String, GatewayError> + Send + 'static,
    ) -> Result<SavedRuleView, GatewayError> {
        let (routing, by) = (self.clone(), by.clone());
        let work = async move {
            let edit = |before: &InForce, overrides: &mut Overrides| {
                let id = edit(before, overrides, &id)?;
                let rules = overrides.rules.iter();
                let rule = rules.clone().find(|rule| rule.id() == id).cloned().unwrap_or_default();
                let is_taken = |other: &&RuleConfig| other.id() == id || other.name == rule.name;
                if rules.chain(&before.file.rules).filter(is_taken).count() > 1 {
                    return Err(GatewayError::field("name", "or `id` is that of another rule; give it its own"));
                }
                let mut wrong = rule_problems(&before.config, &rule).into_iter().peekable();
                if wrong.peek().is_some() {
                    let fields = wrong.map(|problem| FieldError::new(problem.path, problem.message));
                    return Err(GatewayError::InvalidRequest(fields.collect()));
                }
                let was = before.overrides.rules.iter().find(|other| other.id() == id);
                let change = Change::new(action, id.as_str());
                let change = change.difference(&was.map_or(Value::Null, json_of), &json_of(&rule));
                Ok((change, id))
            };
            let refuse = |id: &String, before: &[Finding], after: &[Finding]| {
                let new = |finding: &&Finding| {
                    let is_known =
                        before.iter().any(|known| known.rule == finding.rule && known.message == finding.message);
                    *finding.rule == *id.as_str() && finding.severity == Severity::Error && !is_known
                };
                let fields: Vec<FieldError> =
                    after.iter().filter(new).map(|finding| FieldError::new("rule", finding.message.as_str())).collect();
                if fields.is_empty() { Ok(()) } else { Err(GatewayError::InvalidRequest(fields)) }
            };
            let (in_force, id) = routing.0.change(&by, edit, Some(refuse)).await?;
            let findings = routing.0.check(&in_force.config).await?;
            let about = |finding: &&Finding| {
                *finding.rule == *id.as_str() || finding.other_rules.iter().any(|other| **other == *id.as_str())
            };
            Ok(SavedRuleView {
                rule: view_of(&in_force, &id)?,
                version: in_force.version,
                findings: findings.iter().filter(about).map(FindingView::of).collect(),
                note: note_of(&in_force.config),
            })
        };
        self.0.core.carry(work).await
    }
}

fn json_of(rule: &RuleConfig) -> Value {
    serde_json::to_value(rule).unwrap_or(Value::Null)
}

/// The place of one of the API's rules.
fn own_place(in_force: &InForce, overrides: &Overrides, id: &str) -> Result<usize, GatewayError> {
    if let Some(place) = overrides.rules.iter().position(|rule| rule.id() == id) {
        return Ok(place);
    }
    if in_force.file.rules.iter().any(|rule| rule.id() == id) {
        return Err(GatewayError::Forbidden(Forbidden::RuleOfFile));
    }
    Err(GatewayError::NotFound("rule"))
}

fn rule_views(in_force: &InForce) -> Vec<RuleView> {
    let own = in_force.own_rules();
    let view = |(place, rule): (usize, &RuleConfig)| RuleView {
        rule: RuleConfig { id: Some(rule.id().to_owned()), ..rule.clone() },
        source: String::from(if place < own { "api" } else { "file" }),
        position: place + 1,
    };
    in_force.config.rules.iter().enumerate().map(view).collect()
}

fn view_of(in_force: &InForce, id: &str) -> Result<RuleView, GatewayError> {
    rule_views(in_force).into_iter().find(|view| view.rule.id() == id).ok_or(GatewayError::NotFound("rule"))
}
