//! The envelope of an event: time, index, source, and indexed fields.

use std::io::Write as _;

use super::Config;
use crate::codec::name::{NameTemplate, Rules};
use crate::codec::template::{Malformed, Template, timestamp};
use crate::component::BatchEvent;
use crate::event::raw::name_is;
use crate::event::{Id, escape};

/// Splunk's own rules for the names of indices; `_` begins those of Splunk itself.
static INDEX: Rules = Rules {
    noun: "index",
    allowed: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-',
    max_len: 255,
};

/// The text around each event, as far as it is the same for all.
pub struct Envelope {
    /// `,"source":"…"` and the like.
    fixed: Vec<u8>,
    /// The names of members, and what fills them.
    templates: Vec<(&'static str, Template)>,
    index: Option<NameTemplate>,
    /// Whether the event's own host counts.
    own_host: bool,
    /// Indexed fields beside `weir_id`, their names ready for JSON.
    fields: Vec<(Vec<u8>, Template)>,
}

impl Envelope {
    /// All that is wrong, with the key where it is.
    pub fn new(config: &Config) -> Result<Envelope, Vec<(String, Malformed)>> {
        let mut wrong = Vec::new();
        let (mut fixed, mut templates, mut index, mut fields) = (Vec::new(), Vec::new(), None, Vec::new());
        for (key, text) in [("host", &config.host), ("source", &config.source), ("sourcetype", &config.sourcetype)] {
            match text.as_deref().map(Template::parse) {
                None => {}
                Some(Err(malformed)) => wrong.push((key.to_owned(), malformed)),
                Some(Ok(template)) => match template.constant() {
                    Some(text) => push_member(&mut fixed, key, text),
                    None => templates.push((key, template)),
                },
            }
        }
        match config.index.as_deref().map(|text| NameTemplate::parse(text, &INDEX)) {
            None => {}
            Some(Err(malformed)) => wrong.push(("index".to_owned(), malformed)),
            Some(Ok(template)) => match template.constant() {
                Some(text) => push_member(&mut fixed, "index", text),
                None => index = Some(template),
            },
        }
        for (name, text) in &config.fields {
            match Template::parse(text) {
                Err(malformed) => wrong.push((format!("fields.{name}"), malformed)),
                Ok(template) => {
                    let mut quoted = Vec::new();
                    escape::push_string(&mut quoted, name);
                    fields.push((quoted, template));
                }
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Envelope { fixed, templates, index, own_host: config.host.is_none(), fields })
    }

    /// The index that an event names, if it is for events to name it.
    pub fn index_of(&self, event: BatchEvent<'_>) -> Option<String> {
        let values = event.values();
        self.index.as_ref()?.render_with(|path| values.get(path)).ok()
    }

    /// Appends one event in its envelope; the error says what the event lacks.
    pub fn append(&self, event: BatchEvent<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let line = event.json();
        let (mut id, mut time, mut host) = (None, None, None);
        for (name, value) in line.members() {
            match name {
                _ if name_is(name, "id") => id = Some(value),
                _ if name_is(name, "timestamp") => time = Some(value),
                _ if self.own_host && name_is(name, "host") => host = Some(value),
                _ => {}
            }
        }
        let id = id.and_then(|value| value.as_str()).and_then(|text| Id::parse(&text));
        let id = id.unwrap_or_else(|| event.record.lines.derived_id(event.index));
        let time = time.and_then(timestamp).unwrap_or(event.record.received_at);
        write!(out, "{{\"time\":{}.{:06}", time.0.div_euclid(1_000_000), time.0.rem_euclid(1_000_000))
            .expect("writing to a vector does not fail");
        if let Some(host) = host.and_then(|host| host.as_str()).filter(|host| !host.is_empty()) {
            push_member(out, "host", &host);
        }
        out.extend_from_slice(&self.fixed);
        let values = event.values();
        let get = |path: &[String]| values.get(path);
        for (name, template) in &self.templates {
            push_member(out, name, &template.render(get).map_err(|missing| missing.to_string())?);
        }
        if let Some(index) = &self.index {
            push_member(out, "index", &index.render_with(get)?);
        }
        write!(out, ",\"fields\":{{\"weir_id\":\"{id}\"").expect("writing to a vector does not fail");
        for (name, template) in &self.fields {
            out.push(b',');
            out.extend_from_slice(name);
            out.push(b':');
            escape::push_string(out, &template.render(get).map_err(|missing| missing.to_string())?);
        }
        out.extend_from_slice(b"},\"event\":");
        out.extend_from_slice(event.line());
        out.extend_from_slice(b"}\n");
        Ok(())
    }
}

/// An empty value would overrule the token's own.
fn push_member(out: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        out.push(b',');
        escape::push_string(out, name);
        out.push(b':');
        escape::push_string(out, value);
    }
}

/// The same for lines of `mode: raw`, which all have it in common.
pub fn query(config: &Config) -> String {
    let mut query = String::new();
    let keys = [
        ("index", &config.index),
        ("source", &config.source),
        ("sourcetype", &config.sourcetype),
        ("host", &config.host),
    ];
    for (key, text) in keys {
        let Some(template) = text.as_deref().and_then(|text| Template::parse(text).ok()) else { continue };
        let Some(value) = template.constant().filter(|value| !value.is_empty()) else { continue };
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(key);
        query.push('=');
        for byte in value.bytes() {
            match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => query.push(byte.into()),
                _ => query.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    query
}
