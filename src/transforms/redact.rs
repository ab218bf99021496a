//! `redact`: removes secrets and personal data from every event before any of it is stored.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::codec::redaction::{self, Engine, Finding, Group, OwnRule, Report, Settings};
use crate::component::{Check, Failure, Outputs, Transform};
use crate::diagnostic;
use crate::event::Batch;
use crate::secret::Secret;

/// How much of a secret `keep_last` shows.
const KEPT_CHARS: usize = 4;
/// What the hash key of a configuration is turned into a key for.
const KEY_PURPOSE: &str = "weir 2025 redaction hash";

/// Replaces secrets in every text of an event, including member names. It examines decoded text, so escapes cannot hide
/// a secret. The event's member `redactions` lists the rules that matched and how often. A value on which a rule
/// exceeds its work limit is replaced whole and counted as `unfinished`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Built-in groups by name (`secrets`, `credentials`, `personal`, `financial`, `keys`, or `builtin` for these
    /// five) and patterns of your own. Where no group is named, these five apply. The groups `phone`, `national_id`
    /// and `ip_address` apply only where they are named, and every text is searched for them.
    pub rules: Vec<Rule>,
    /// Fields to redact, such as `code` or `metadata.stdout`; all if absent.
    pub fields: Option<Vec<String>>,
    /// What replaces a secret.
    pub action: Action,
    /// Key for `action: hash`. The same secret has the same hash under the same key; without the key, guesses cannot be
    /// checked against a hash.
    pub key: Option<Secret<String>>,
}

/// What replaces a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The name of the rule: `[email]`.
    #[default]
    Mask,
    /// Nothing.
    Remove,
    /// The name of the rule and a keyed hash: `[email:1a2b3c4d]`.
    Hash,
    /// The name of the rule and the last four characters, if the secret is long enough.
    KeepLast,
}

/// A built-in group or a pattern of one's own.
#[derive(Debug)]
pub enum Rule {
    Group(String),
    Own(Own),
}

/// A pattern of one's own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Own {
    /// Name that replaces a match and under which it is counted.
    pub name: String,
    /// A regular expression in the syntax of Rust's `regex`, which runs in linear time.
    pub pattern: String,
    /// What replaces a match of this rule, if not the transform's `action`.
    pub action: Option<Action>,
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rule, D::Error> {
        deserializer.deserialize_any(RuleVisitor)
    }
}

struct RuleVisitor;

impl<'de> Visitor<'de> for RuleVisitor {
    type Value = Rule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a built-in group, or a mapping with `name` and `pattern`")
    }

    fn visit_str<E>(self, name: &str) -> Result<Rule, E> {
        Ok(Rule::Group(name.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
        Own::deserialize(MapAccessDeserializer::new(map)).map(Rule::Own)
    }
}

impl JsonSchema for Rule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RedactionRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let groups: Vec<&str> = words().collect();
        json_schema!({ "anyOf": [{ "enum": groups }, generator.subschema_for::<Own>()] })
    }
}

/// The word for all built-in groups that are not optional.
const BUILTIN: &str = "builtin";

/// The words that name built-in groups.
fn words() -> impl Iterator<Item = &'static str> {
    std::iter::once(BUILTIN).chain(Group::named().map(|(name, _)| name))
}

pub struct Redact {
    engine: Engine,
}

impl Transform for Redact {
    const TYPE: &'static str = "redact";
    type Config = Config;

    fn build(config: Config, check: &mut Check) -> Option<Redact> {
        let before = check.problems.len();
        let mut settings = Settings { groups: groups(&config.rules, check), ..Settings::default() };
        settings.action = action(config.action, &config, check, "action");
        settings.fields = config.fields.as_ref().map(|fields| paths(fields, check));
        // Where each of the engine's own rules stands in `rules`.
        let mut places = Vec::new();
        for (nth, rule) in config.rules.iter().enumerate() {
            let Rule::Own(own) = rule else { continue };
            if !redaction::is_rule_name(&own.name) {
                let most = redaction::MAX_RULE_NAME;
                let message = format!(
                    "`{}` is not a valid rule name: up to {most} characters of a-z, 0-9, `_`, `-` and `.`",
                    own.name
                );
                check.problem(format!("rules[{nth}].name"), message);
                continue;
            }
            let action = action(own.action.unwrap_or(config.action), &config, check, &format!("rules[{nth}].action"));
            settings.own.push(OwnRule { name: own.name.clone(), pattern: own.pattern.clone(), action });
            places.push(nth);
        }
        // The engine stops at the first bad pattern, and the operator wants to hear of all.
        for (rule, nth) in settings.own.iter().zip(&places) {
            let alone = Settings { groups: Vec::new(), own: vec![rule.clone()], ..Settings::default() };
            if let Err(bad) = Engine::new(&alone) {
                let range = bad.offset..rule.pattern.len().max(bad.offset);
                check.problem_within(format!("rules[{nth}].pattern"), range, bad.message);
            }
        }
        if check.problems.len() > before {
            return None;
        }
        match Engine::new(&settings) {
            Ok(engine) => Some(Redact { engine }),
            Err(bad) => {
                let nth = settings.own.iter().rposition(|rule| rule.name == bad.name).map_or(0, |own| places[own]);
                check.problem(format!("rules[{nth}].name"), format!("`{}`: {}", bad.name, bad.message));
                None
            }
        }
    }

    /// The engine splits what needs a look, and nothing else.
    fn needs_fields(&self) -> bool {
        false
    }

    fn redact_text(&self, text: &[u8]) -> Option<Vec<u8>> {
        Some(self.engine.redact_text(text).0)
    }

    fn explain(&self, line: &[u8]) -> Vec<Finding> {
        self.engine.explain(line)
    }

    fn apply(&self, mut batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
        let mut report = Report::default();
        self.engine.redact_batch(&mut batch, &mut report);
        out.redactions.extend(report.iter().map(|(rule, count)| (rule.to_owned(), count)));
        out.emit(batch);
        Ok(())
    }
}

/// The groups that `rules` names; all if it names none.
fn groups(rules: &[Rule], check: &mut Check) -> Vec<Group> {
    let mut named = Vec::new();
    let mut any = false;
    for (nth, rule) in rules.iter().enumerate() {
        let Rule::Group(name) = rule else { continue };
        any = true;
        match Group::named().find(|(known, _)| known == name) {
            Some((_, group)) => named.push(group),
            None if name == BUILTIN => named.extend(Group::ALL.iter().map(|(_, group)| *group)),
            None => {
                let message = format!("`{name}` is not a built-in group");
                let hint = match diagnostic::nearest(name, words()) {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => format!("the groups are {}", words().collect::<Vec<_>>().join(", ")),
                };
                check.problem_with_hint(format!("rules[{nth}]"), message, hint);
            }
        }
    }
    if any { named } else { Settings::default().groups }
}

/// What the engine does, as far as the configuration has a key for it.
fn action(action: Action, config: &Config, check: &mut Check, at: &str) -> redaction::Action {
    match (action, &config.key) {
        (Action::Mask, _) => redaction::Action::Mask,
        (Action::Remove, _) => redaction::Action::Remove,
        (Action::KeepLast, _) => redaction::Action::KeepLast(KEPT_CHARS),
        (Action::Hash, Some(key)) if !key.expose().is_empty() => {
            redaction::Action::Hash(blake3::derive_key(KEY_PURPOSE, key.expose().as_bytes()))
        }
        (Action::Hash, _) => {
            check.problem_with_hint(at, "`hash` needs a key", "add `key: ${file:/run/secrets/redaction}`");
            redaction::Action::Mask
        }
    }
}

fn paths(fields: &[String], check: &mut Check) -> Vec<Vec<String>> {
    if fields.is_empty() {
        check.problem("fields", "`fields` is empty; omit it to redact all fields");
    }
    let mut paths = Vec::new();
    for (nth, field) in fields.iter().enumerate() {
        let path: Vec<String> = field.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            check.problem(
                format!("fields[{nth}]"),
                format!("`{field}` is not a field: expected names separated by dots"),
            );
        }
        paths.push(path);
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::testing::{apply, batch, build, problems, provenance};

    fn redacted(config: &str, line: &str) -> String {
        apply(&build::<Redact>(config), batch(&[line], provenance(None, None))).remove(0)
    }

    const KEY: &str = "AKIAQWERTYUIOPASDFGH";

    #[test]
    fn without_configuration_all_built_in_rules_apply() {
        let line = redacted("{}", &format!(r#"{{"code":"k = \"{KEY}\"","to":"grace@example.org"}}"#));
        assert!(!line.contains(KEY) && !line.contains("grace"), "{line}");
        assert!(line.contains(r#""redactions":[{"rule":""#), "{line}");
        let clean = r#"{ "code" : "x = 1" }"#;
        assert_eq!(redacted("{}", clean), clean);
    }

    #[test]
    fn named_groups_are_all_that_applies_and_own_patterns_come_on_top() {
        let line = format!(r#"{{"code":"{KEY} grace@example.org B-123456"}}"#);
        let own = r"{name: badge, pattern: 'B-\d{6}'}";
        let given = redacted(&format!("rules: [personal, {own}]"), &line);
        assert!(given.contains(KEY) && !given.contains("grace") && given.contains("[badge]"), "{given}");
        let given = redacted(&format!("rules: [{own}]"), &line);
        assert!(!given.contains(KEY) && !given.contains("grace") && given.contains("[badge]"), "{given}");
    }

    #[test]
    fn only_the_fields_named_are_looked_at() {
        let line = redacted("fields: [code]", r#"{"code":"a@example.org","description":"b@example.org"}"#);
        assert!(!line.contains("a@example.org") && line.contains("b@example.org"), "{line}");
    }

    #[test]
    fn a_hash_is_keyed() {
        let hashed = |key: &str| redacted(&format!("{{action: hash, key: {key}}}"), r#"{"code":"a@example.org"}"#);
        assert_eq!(hashed("one"), hashed("one"));
        assert_ne!(hashed("one"), hashed("two"));
        assert!(!hashed("one").contains("a@example.org"));
    }

    #[test]
    fn raw_text_is_redacted_by_the_same_rules() {
        let redact: Redact = build("{}");
        let text = redact.redact_text(b"{broken a@example.org").expect("it redacts text");
        assert!(!text.windows(13).any(|part| part == b"a@example.org"));
    }

    #[test]
    fn what_was_found_is_told_for_the_metrics() {
        let mut out = Outputs::default();
        let lines = [r#"{"code":"a@example.org b@example.org"}"#, r#"{"code":"c@example.org"}"#];
        build::<Redact>("{}").apply(batch(&lines, provenance(None, None)), &mut out).expect("it does not fail");
        assert_eq!(out.redactions, [("email".to_string(), 3)]);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_its_place() {
        let config = r"{rules: [personnal, {name: a, pattern: '('}, {name: b, pattern: x, action: hash}, {name: c, pattern: '['}], fields: [a.]}";
        let given = problems::<Redact>(config);
        assert_eq!(given[0], "rules[0]: `personnal` is not a built-in group");
        assert_eq!(given[1], "fields[0]: `a.` is not a field: expected names separated by dots");
        assert_eq!(given[2], "rules[2].action: `hash` needs a key");
        assert!(given[3].starts_with("rules[1].pattern: "), "{given:?}");
        assert!(given[4].starts_with("rules[3].pattern: "), "{given:?}");
        assert_eq!(given.len(), 5, "{given:?}");
        assert_eq!(
            problems::<Redact>("rules: [{name: My Rule, pattern: x}]"),
            ["rules[0].name: `My Rule` is not a valid rule name: up to 64 characters of a-z, 0-9, `_`, `-` and `.`"]
        );
        let twice = r"rules: [{name: a, pattern: x}, secrets, {name: a, pattern: y}]";
        assert_eq!(problems::<Redact>(twice), ["rules[2].name: `a`: the name is taken"]);
    }
}
