//! Configuration of the rules, and its checks.

use schemars::JsonSchema;
use serde::Deserialize;

use super::patterns::{self, Patterns};
use crate::codec::template::Template;
use crate::component::Check;
use crate::query::Query;
use crate::toolkit::EventKey;
use crate::units::{Duration, OneOrMany};

/// The most rules of one component.
const MAX_RULES: usize = 64;
/// The most events that a rule can wait for: each is kept with its time and id.
const MAX_COUNT: u32 = 1000;

/// Emits an event with `event_type: alert` when a rule matches; its `metadata` has the rule, the numbers and the ids of
/// the events. A second event with `metadata.resolved: true` follows when the condition is over. Only alerts are passed
/// on: to process the events themselves, read them from the inputs of this transform.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The rules.
    pub rules: Vec<RuleConfig>,
}

/// One rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleConfig {
    /// Name of the rule, in its alerts and its state.
    pub name: String,
    /// Kind of rule.
    pub kind: Kind,
    /// Query of the events that the rule considers; for `own_past` see also `failed`.
    #[serde(rename = "where")]
    pub query: String,
    /// Field or fields to count by, such as `user_id`; if absent, all events are counted together.
    #[schemars(with = "OneOrMany")]
    pub by: OneOrMany,
    /// Number of events that raise an alert (`threshold`, `forbidden`, `own_past`), at most 1000.
    pub count: u32,
    /// Time window (`threshold`, `forbidden`, `own_past`), or time without an event (`absence`); by when events are received,
    /// since whoever sends them chooses their `timestamp`.
    pub window: Duration,
    /// Severity of the alert.
    pub severity: Severity,
    /// Description of the alert, a template over its fields, such as `{{ metadata.count }} failures of {{ user_id }}`.
    pub message: Option<String>,
    /// Number field that an event counts as, instead of 1, such as `metadata.count` (`threshold`).
    pub weight: Option<String>,
    /// Field whose new values raise an alert (`first_seen`); `import` stands for the modules that `code` imports.
    /// Default: the values of `by`.
    pub field: Option<String>,
    /// Forbidden patterns in `code` (`forbidden`): `credentials`, `network`, `shell`, or regular expressions.
    pub patterns: Vec<String>,
    /// Query of the events that are failures (`own_past`).
    pub failed: String,
    /// How many times the user's own past failure rate raises an alert (`own_past`).
    pub factor: f64,
    /// How long the rule only learns before it alerts (`first_seen`, `unusual_hour`, `own_past`), for each `by`.
    pub learn: Duration,
    /// Time zone of the hours, such as `Asia/Tehran` (`unusual_hour`).
    pub timezone: String,
}

/// Kind of rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// So many events within a window: bursts, failed logins.
    #[default]
    Threshold,
    /// Code with a text that is not allowed.
    Forbidden,
    /// A value that was never there before: a user, a host, an import.
    FirstSeen,
    /// An event at an hour at which there were hardly any before.
    UnusualHour,
    /// More failures than in the past of the same user.
    OwnPast,
    /// No event for a time.
    Absence,
}

/// How grave an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    #[default]
    Warning,
    Critical,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Threshold => "threshold",
            Kind::Forbidden => "forbidden",
            Kind::FirstSeen => "first_seen",
            Kind::UnusualHour => "unusual_hour",
            Kind::OwnPast => "own_past",
            Kind::Absence => "absence",
        }
    }
}

impl Default for RuleConfig {
    fn default() -> RuleConfig {
        RuleConfig {
            name: String::new(),
            kind: Kind::default(),
            query: "*".into(),
            by: OneOrMany(Vec::new()),
            count: 1,
            window: Duration::from_secs(600),
            severity: Severity::default(),
            message: None,
            weight: None,
            field: None,
            patterns: Vec::new(),
            failed: "status:error".into(),
            factor: 3.0,
            learn: Duration::from_secs(24 * 3600),
            timezone: "UTC".into(),
        }
    }
}

/// A checked rule.
pub struct Rule {
    pub name: String,
    pub kind: Kind,
    pub query: Query,
    pub by: Option<EventKey>,
    pub count: u64,
    pub window: std::time::Duration,
    pub severity: Severity,
    pub message: Option<Template>,
    pub weight: Option<Vec<String>>,
    pub field: Option<Vec<String>>,
    pub patterns: Patterns,
    pub failed: Query,
    pub factor: f64,
    pub learn: std::time::Duration,
    pub zone: jiff::tz::TimeZone,
}

/// All rules, or all problems.
pub fn read(config: Config, check: &mut Check) -> Option<Vec<Rule>> {
    let before = check.problems.len();
    if config.rules.is_empty() || config.rules.len() > MAX_RULES {
        check.problem("rules", format!("expected 1 to {MAX_RULES} rules"));
    }
    let mut rules: Vec<Rule> = Vec::new();
    for (nth, rule) in config.rules.into_iter().enumerate() {
        let path = |key: &str| format!("rules[{nth}].{key}");
        if rule.name.is_empty() || rule.name.len() > 64 {
            check.problem(path("name"), "a rule has a name of 1 to 64 bytes");
        }
        if rules.iter().any(|other| other.name == rule.name) {
            check.problem(path("name"), format!("duplicate rule name `{}`", rule.name));
        }
        if !(1..=MAX_COUNT).contains(&rule.count) {
            check.problem(path("count"), format!("expected 1 to {MAX_COUNT}"));
        }
        if std::time::Duration::from(rule.window).is_zero() {
            check.problem(path("window"), "expected more than 0");
        }
        if rule.factor.is_nan() || rule.factor < 1.0 {
            check.problem(path("factor"), "expected 1 or more");
        }
        let needs = match rule.kind {
            Kind::Forbidden if rule.patterns.is_empty() => Some(("patterns", "`patterns` is required")),
            Kind::FirstSeen if rule.field.is_none() && rule.by.0.is_empty() => {
                Some(("field", "`field` or `by` is required"))
            }
            Kind::OwnPast | Kind::UnusualHour if rule.by.0.is_empty() => Some(("by", "`by` is required")),
            _ => None,
        };
        if let Some((key, message)) = needs {
            check.problem(path(key), message);
        }
        if let Some(built) = one(rule, &path, check) {
            rules.push(built);
        }
    }
    (check.problems.len() == before).then_some(rules)
}

fn one(rule: RuleConfig, path: &impl Fn(&str) -> String, check: &mut Check) -> Option<Rule> {
    let query = check.query(path("where"), &rule.query);
    let failed = check.query(path("failed"), &rule.failed);
    let by = match rule.by.0.is_empty() {
        true => Some(None),
        false => EventKey::read(&rule.by, &path("by"), check).map(Some),
    };
    let message = match rule.message.as_deref().map(Template::parse).transpose() {
        Ok(message) => Some(message),
        Err(wrong) => {
            check.problem_within(path("message"), wrong.range, wrong.message);
            None
        }
    };
    let patterns = match patterns::read(&rule.patterns) {
        Ok(patterns) => Some(patterns),
        Err((nth, message)) => {
            check.problem(format!("{}[{nth}]", path("patterns")), message);
            None
        }
    };
    let zone = crate::units::zone(&rule.timezone);
    if zone.is_none() {
        check.problem(path("timezone"), format!("unknown time zone `{}`", rule.timezone));
    }
    let field = |text: String| text.split('.').map(str::to_owned).collect::<Vec<String>>();
    Some(Rule {
        name: rule.name,
        kind: rule.kind,
        query: query?,
        by: by?,
        count: u64::from(rule.count),
        window: rule.window.into(),
        severity: rule.severity,
        message: message?,
        weight: rule.weight.map(field),
        field: rule.field.map(field),
        patterns: patterns?,
        failed: failed?,
        factor: rule.factor,
        learn: rule.learn.into(),
        zone: zone?,
    })
}
