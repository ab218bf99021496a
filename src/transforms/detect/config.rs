//! The rules as they are configured, and checked.

use schemars::JsonSchema;
use serde::Deserialize;

use super::patterns::{self, Patterns};
use crate::codec::template::Template;
use crate::component::{Check, EventKey};
use crate::query::Query;
use crate::units::{Duration, OneOrMany};

/// The most rules of one component.
const MAX_RULES: usize = 64;
/// The most events that a rule can wait for: each is kept with its time and id.
const MAX_COUNT: u32 = 1000;

/// Gives an event of `event_type: alert` when a rule holds: which rule, which numbers and which events stand in its
/// `metadata`, and `metadata.resolved` is true in the event that says that it is over. The events that are looked at
/// end here; read them from where this reads them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is looked for.
    pub rules: Vec<RuleConfig>,
}

/// One rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name, in the alerts and in what it remembers.
    pub name: String,
    /// What kind of rule it is.
    pub kind: Kind,
    /// Query of the events that it looks at; of `own_past`, of the failures among them see `failed`.
    #[serde(rename = "where")]
    pub query: String,
    /// The field, or fields, by which it counts, such as `user_id`; without any, over all events.
    #[schemars(with = "OneOrMany")]
    pub by: OneOrMany,
    /// How many events make an alert (`threshold`, `forbidden`, `own_past`), at most 1000.
    pub count: u32,
    /// Within what time (`threshold`, `forbidden`, `own_past`), or after how long without an event (`absence`).
    pub window: Duration,
    /// How grave it is.
    pub severity: Severity,
    /// The description of the alert, as a template over the alert, such as `{{ metadata.count }} failures of
    /// {{ user_id }}`.
    pub message: Option<String>,
    /// A number in the event that says how often it counts, such as `metadata.count` (`threshold`).
    pub weight: Option<String>,
    /// Whose values are new (`first_seen`); `import` are the modules that `code` imports. Without it, the values of `by`.
    pub field: Option<String>,
    /// Texts in `code` that are not allowed (`forbidden`): `credentials`, `network`, `shell`, or regular expressions.
    pub patterns: Vec<String>,
    /// Which of the events are failures (`own_past`).
    pub failed: String,
    /// How many times as often as in its own past something fails (`own_past`).
    pub factor: f64,
    /// How long a rule only learns (`first_seen`, `unusual_hour`, `own_past`), for each `by`.
    pub learn: Duration,
    /// The time zone of hours, such as `Asia/Tehran` (`unusual_hour`).
    pub timezone: String,
}

/// What kind of rule it is.
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
        check.problem("rules", format!("there are 1 to {MAX_RULES} rules"));
    }
    let mut rules: Vec<Rule> = Vec::new();
    for (nth, rule) in config.rules.into_iter().enumerate() {
        let path = |key: &str| format!("rules[{nth}].{key}");
        if rule.name.is_empty() || rule.name.len() > 64 {
            check.problem(path("name"), "a rule has a name of 1 to 64 bytes");
        }
        if rules.iter().any(|other| other.name == rule.name) {
            check.problem(path("name"), format!("two rules are called `{}`", rule.name));
        }
        if !(1..=MAX_COUNT).contains(&rule.count) {
            check.problem(path("count"), format!("expected 1 to {MAX_COUNT}"));
        }
        if std::time::Duration::from(rule.window).is_zero() {
            check.problem(path("window"), "nothing happens within no time");
        }
        if rule.factor.is_nan() || rule.factor < 1.0 {
            check.problem(path("factor"), "expected 1 or more");
        }
        let needs = match rule.kind {
            Kind::Forbidden if rule.patterns.is_empty() => Some(("patterns", "name what is forbidden")),
            Kind::FirstSeen if rule.field.is_none() && rule.by.0.is_empty() => {
                Some(("field", "name whose values are new"))
            }
            Kind::OwnPast | Kind::UnusualHour if rule.by.0.is_empty() => Some(("by", "name whose past it is")),
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
        check.problem(path("timezone"), format!("there is no time zone `{}`", rule.timezone));
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
