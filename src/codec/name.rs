//! Topic and index names from templates: event text can never change the fixed prefix.

use super::template::{Malformed, Template};
use crate::event::Raw;

/// What the names of a target may look like.
#[derive(Debug)]
pub struct Rules {
    /// The word for it, such as `topic`.
    pub noun: &'static str,
    pub allowed: fn(char) -> bool,
    /// The longest name, in bytes.
    pub max_len: usize,
}

/// A checked template of a name.
#[derive(Clone, Debug)]
pub struct NameTemplate {
    template: Template,
    rules: &'static Rules,
}

impl NameTemplate {
    /// Refuses templates that begin with a field, since an event could then choose any name there is.
    pub fn parse(text: &str, rules: &'static Rules) -> Result<NameTemplate, Malformed> {
        let template = Template::parse(text)?;
        let wrong = |message: String| Malformed { range: 0..text.len(), message };
        let noun = rules.noun;
        if let Some(name) = template.constant() {
            check(name, rules).map_err(wrong)?;
        } else if text.starts_with("{{") {
            let message = format!("the {noun} must start with fixed text, so that no event can choose any {noun}");
            return Err(Malformed { range: 0..text.find("}}").map_or(text.len(), |end| end + 2), message });
        }
        Ok(NameTemplate { template, rules })
    }

    /// The name, if it is the same for all events.
    pub fn constant(&self) -> Option<&str> {
        self.template.constant()
    }

    /// The fixed text at its beginning.
    pub fn prefix(&self) -> &str {
        self.template.prefix()
    }

    /// How many bytes of an RFC 3339 time in UTC decide the name, if nothing else of the event does.
    pub fn time_bytes(&self) -> Option<usize> {
        self.template.time_bytes()
    }

    #[cfg(test)]
    pub fn render(&self, event: Raw<'_>) -> Result<String, String> {
        self.render_with(|path| event.path(path))
    }

    /// The name for one event whose values `get` finds by their path.
    pub fn render_with<'a>(&self, get: impl Fn(&[String]) -> Option<Raw<'a>>) -> Result<String, String> {
        let name = self.template.render(get).map_err(|missing| missing.to_string())?;
        check(&name, self.rules)?;
        Ok(name)
    }
}

fn check(name: &str, rules: &Rules) -> Result<(), String> {
    let Rules { noun, allowed, max_len } = rules;
    if let Some(odd) = name.chars().find(|c| !allowed(*c)) {
        return Err(format!("{name:?} is not a valid {noun}: it contains {odd:?}"));
    }
    match name.len() {
        0 => Err(format!("the {noun} is empty")),
        len if len > *max_len => Err(format!("the {noun} would be {len} bytes long; the maximum is {max_len}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static INDEX: Rules =
        Rules { noun: "index", allowed: |c| c.is_ascii_lowercase() || "-._".contains(c), max_len: 20 };

    fn render(template: &str, event: &str) -> Result<String, String> {
        NameTemplate::parse(template, &INDEX).expect(template).render(Raw::valid(event.as_bytes()))
    }

    #[test]
    fn an_event_fills_a_name_and_cannot_leave_it() {
        assert_eq!(render("logs-{{ tenant }}", r#"{"tenant":"a"}"#), Ok("logs-a".into()));
        let refused = render("logs-{{ tenant }}", r#"{"tenant":"x\n{\"delete\":1}"}"#).expect_err("a forged line");
        assert!(refused.contains(r"it contains '\n'"), "{refused}");
        assert!(render("logs-{{ tenant }}", "{}").expect_err("missing").contains("`tenant`"));
        assert!(render("logs-{{ tenant }}", r#"{"tenant":"aaaaaaaaaaaaaaaaaaaa"}"#).expect_err("long").contains("20"));
    }

    #[test]
    fn a_template_that_could_be_any_name_is_refused_where_it_stands() {
        let wrong = NameTemplate::parse("{{ tenant }}-logs", &INDEX).expect_err("no fixed text before");
        assert_eq!(wrong.range, 0..12);
        assert!(NameTemplate::parse("Logs", &INDEX).expect_err("a capital").message.contains("it contains 'L'"));
        assert_eq!(NameTemplate::parse("logs", &INDEX).expect("a name").constant(), Some("logs"));
    }
}
