//! Builds messages from events: grouped, shortened, and escaped for their target.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Outgoing;
use crate::component::{BatchEvent, WriteBatch};
use crate::event::Raw;
use crate::visibility::Visibility;

/// Events of one message; of more, there are more messages.
const MAX_EVENTS: usize = 50;
/// Events that a message for people lists; of more it says how many.
const LISTED: usize = 10;
/// Characters of one text in a message for people.
const MAX_TEXT: usize = 300;
/// Characters of code.
const PREVIEW: usize = 100;
/// Fields that say whom or what a listed event is about.
const ABOUT: [&str; 6] = ["user_id", "host", "ip_address", "session_id", "notebook", "entity_id"];

/// What one message says.
#[derive(Debug)]
pub struct Message {
    pub title: String,
    pub severity: &'static str,
    pub is_resolved: bool,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Event {
    /// The event as JSON, its code a preview.
    line: Box<RawValue>,
    id: String,
    text: String,
}

/// Puts the events of a batch into messages: those of one group, and of one state, together.
pub fn group(batch: &WriteBatch, group_by: &[String]) -> Vec<Outgoing> {
    let mut groups: BTreeMap<(String, bool), Vec<(usize, BatchEvent<'_>)>> = BTreeMap::new();
    for (nth, event) in batch.events().enumerate() {
        let values = event.values();
        let name = values.get(group_by).or_else(|| values.get(&["event_type".to_owned()]));
        let name = name.map_or_else(|| "events".to_owned(), |name| name.display().into_owned());
        let is_resolved = event.json().path(&["metadata", "resolved"]).and_then(|value| value.as_bool()) == Some(true);
        groups.entry((name, is_resolved)).or_default().push((nth, event));
    }
    let mut messages = Vec::new();
    for ((name, is_resolved), events) in groups {
        for some in events.chunks(MAX_EVENTS) {
            let severity = some.iter().map(|(_, event)| severity(event.json())).max().unwrap_or_default();
            let shown = some.iter().map(|(_, event)| Event::of(*event)).collect();
            let severity = ["info", "warning", "critical"][severity];
            let message = Message { title: cut(&clean(&name), MAX_TEXT), severity, is_resolved, events: shown };
            messages.push(Outgoing { message, events: some.iter().map(|(nth, _)| *nth).collect() });
        }
    }
    messages
}

/// 0 for what is good to know, 2 for what cannot wait.
fn severity(event: Raw<'_>) -> usize {
    let text = |path: &[&str]| event.path(path).and_then(|value| value.as_str()).map(Cow::into_owned);
    match text(&["metadata", "severity"]).as_deref() {
        Some("critical") => return 2,
        Some("warning") => return 1,
        Some("info") => return 0,
        _ => {}
    }
    match text(&["status"]).as_deref() {
        Some("error" | "aborted" | "lost") => 2,
        Some("warning") => 1,
        _ => 0,
    }
}

impl Event {
    fn of(event: BatchEvent<'_>) -> Event {
        let shown = Visibility::Previews { preview: PREVIEW }.show(event.line()).unwrap_or_default();
        let view = Raw::valid(&shown);
        let text = |name: &str| view.get(name).filter(|value| !value.is_null()).map(|value| clean(&value.display()));
        let mut line = text("timestamp").unwrap_or_else(|| event.record.received_at.to_string());
        line.push(' ');
        let said = ["description", "error_message", "code", "event_type"].iter().find_map(|name| text(name));
        line.push_str(&cut(&said.unwrap_or_default(), MAX_TEXT));
        let about: Vec<String> =
            ABOUT.iter().filter_map(|name| Some(format!("{name}={}", cut(&text(name)?, 60)))).collect();
        if !about.is_empty() {
            line.push_str(&format!(" ({})", about.join(", ")));
        }
        let whole = std::str::from_utf8(&shown).ok().and_then(|text| RawValue::from_string(text.to_owned()).ok());
        Event { line: whole.unwrap_or_default(), id: event.id().to_string(), text: line }
    }
}

impl Message {
    /// `[CRITICAL] failed_logins: 3 alerts`.
    pub fn headline(&self) -> String {
        let count = match self.events.len() {
            1 => "1 alert".to_owned(),
            more => format!("{more} alerts"),
        };
        match self.is_resolved {
            true => format!("[RESOLVED] {}", self.title),
            false => format!("[{}] {}: {count}", self.severity.to_uppercase(), self.title),
        }
    }

    /// The lines for people, each of one event.
    fn lines(&self, suppressed: u64) -> Vec<String> {
        let mut lines: Vec<String> = self.events.iter().take(LISTED).map(|event| event.text.clone()).collect();
        if self.events.len() > LISTED {
            lines.push(format!("and {} more", self.events.len() - LISTED));
        }
        if suppressed > 0 {
            lines.push(format!("{suppressed} earlier alerts were suppressed by the rate limit"));
        }
        lines
    }

    /// Plain text, for mail.
    pub fn text(&self, suppressed: u64) -> String {
        let mut text = self.headline();
        text.push_str("\r\n");
        for line in self.lines(suppressed) {
            text.push_str(&format!("\r\n- {line}"));
        }
        text.push_str("\r\n");
        text
    }

    /// The body of a Slack-style hook: plain text that is escaped, without markup, mentions and unfolded links.
    pub fn slack(&self, suppressed: u64) -> Vec<u8> {
        let lines: Vec<String> = self.lines(suppressed).iter().map(|line| format!("• {}", harmless(line))).collect();
        let text = format!("{}\n{}", harmless(&self.headline()), lines.join("\n"));
        let body = json!({ "text": text, "mrkdwn": false, "unfurl_links": false, "unfurl_media": false });
        body.to_string().into_bytes()
    }

    /// The body of a webhook.
    pub fn webhook(&self, suppressed: u64) -> Vec<u8> {
        let mut body = Map::new();
        body.insert("title".into(), self.headline().into());
        body.insert("group".into(), self.title.clone().into());
        body.insert("severity".into(), self.severity.into());
        body.insert("resolved".into(), self.is_resolved.into());
        body.insert("count".into(), self.events.len().into());
        body.insert("suppressed".into(), suppressed.into());
        body.insert("ids".into(), self.events.iter().map(|event| Value::from(event.id.clone())).collect());
        let mut out = serde_json::to_vec(&body).expect("a map becomes JSON");
        // The events come in their own bytes.
        out.pop();
        out.extend_from_slice(b",\"alerts\":[");
        for (nth, event) in self.events.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            out.extend_from_slice(event.line.get().as_bytes());
        }
        out.extend_from_slice(b"]}");
        out
    }
}

/// One line without control characters, and without those that turn the direction of what follows.
fn clean(text: &str) -> String {
    let is_turn = |c: char| matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
    let mut out = String::with_capacity(text.len().min(4 * MAX_TEXT));
    // More than is shown need not be looked at.
    for c in text.chars().take(4 * MAX_TEXT) {
        match c {
            c if is_turn(c) => {}
            c if c.is_control() || c.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    out.trim().to_owned()
}

fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Text that a chat shows as it is: no markup, and nobody is called by it.
fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // Not every chat needs the brackets to take a name for a mention; the space that nobody sees prevents it.
            '@' => out.push_str("@\u{200B}"),
            c => out.push(c),
        }
    }
    out
}
