//! What one kind of live client sees: which events, how much of each, in which frames.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use super::shown::Shown;
use crate::event::Raw;
use crate::journal::Record;
use crate::query::Query;
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// A filter and a degree of trust. Equal views share their frames.
#[derive(Clone, Debug)]
pub struct View {
    pub query: Option<Arc<Query>>,
    pub visibility: Visibility,
    pub format: Format,
}

/// How an event becomes a frame. Formats of one name are one.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub name: &'static str,
    pub push: fn(&mut Vec<u8>, &LiveEvent<'_>),
}

/// An event on its way to live clients.
pub struct LiveEvent<'a> {
    pub seq: u64,
    pub received_at: Timestamp,
    /// As much of it as may be seen.
    pub line: &'a [u8],
    pub id: LiveId<'a>,
}

/// What gives the id of an event, for which few formats ask.
pub enum LiveId<'a> {
    /// Where the event came from.
    Derived(&'a Record, usize),
    Known(&'a str),
}

impl fmt::Display for LiveId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LiveId::Derived(record, index) => record.lines.derived_id(*index).fmt(f),
            LiveId::Known(id) => f.write_str(id),
        }
    }
}

impl PartialEq for View {
    fn eq(&self, other: &View) -> bool {
        self.text() == other.text() && self.visibility == other.visibility && self.format.name == other.format.name
    }
}

impl Eq for View {}

impl Hash for View {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
        self.visibility.hash(state);
        self.format.name.hash(state);
    }
}

impl View {
    fn text(&self) -> Option<&str> {
        self.query.as_ref().map(|query| query.text())
    }

    /// The frames of all events from `from` on that are shown, and that this view shows, and how many there are.
    pub fn render(&self, shown: &Shown, records: &[Arc<Record>], from: u64) -> (Bytes, u64) {
        let (frames, events, _) = self.render_some(shown, records, from, usize::MAX);
        (frames, events)
    }

    /// The same up to `bytes`, but at least one event; and where to continue, if that is before the end.
    pub fn render_some(
        &self,
        shown: &Shown,
        records: &[Arc<Record>],
        from: u64,
        most: usize,
    ) -> (Bytes, u64, Option<u64>) {
        let (mut out, mut events) = (Vec::new(), 0);
        for record in records {
            let skip = from.saturating_sub(record.first_seq).min(record.lines.len() as u64) as usize;
            for index in skip..record.lines.len() {
                let line = record.lines.line(index);
                if shown.shows(record.stream, line)
                    && let Some(line) = self.show(line)
                {
                    let seq = record.first_seq + index as u64;
                    if out.len() >= most {
                        return (Bytes::from(out), events, Some(seq));
                    }
                    let event = LiveEvent {
                        seq,
                        received_at: record.received_at,
                        line: &line,
                        id: LiveId::Derived(record, index),
                    };
                    (self.format.push)(&mut out, &event);
                    events += 1;
                }
            }
        }
        (Bytes::from(out), events, None)
    }

    /// The event as this view shows it, if it does.
    fn show<'l>(&self, line: &'l [u8]) -> Option<Cow<'l, [u8]>> {
        let searchable = self.visibility.searchable(line)?;
        let matches = self.query.as_ref().is_none_or(|query| query.matches_line(Raw::valid(&searchable)));
        if matches { self.visibility.show(line) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Lines;
    use crate::journal::StreamId;
    use crate::units::Timestamp;

    const PLAIN: Format = Format { name: "plain", push: push_plain };

    fn push_plain(out: &mut Vec<u8>, event: &LiveEvent<'_>) {
        out.extend_from_slice(format!("{}: ", event.seq).as_bytes());
        out.extend_from_slice(event.line);
        out.push(b'\n');
    }

    fn record(lines: &[&str]) -> Arc<Record> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let ends = lines.iter().scan(0, |at, line| {
            *at += line.len() as u32 + 1;
            Some(*at)
        });
        let lines = Lines { ends: ends.collect(), bytes: Bytes::from(text.clone()), origins: Default::default() };
        Arc::new(Record { stream: StreamId(0), first_seq: 7, stream_first: 0, received_at: Timestamp(0), lines })
    }

    fn shown(visibility: Visibility, query: Option<&str>, lines: &[&str]) -> String {
        let query = query.map(|text| Arc::new(Query::parse(text).expect("a query")));
        let (frames, _) = View { query, visibility, format: PLAIN }.render(&Shown::default(), &[record(lines)], 0);
        String::from_utf8(frames.to_vec()).expect("frames are text")
    }

    const ALI: &str = r#"{"user_id":"ali","code":"print(1234567890)","error_trace":"deep"}"#;
    const SARA: &str = r#"{"user_id":"sara","code":"secret_thing()"}"#;

    #[test]
    fn a_user_sees_own_events_whole_and_no_others() {
        let text = shown(Visibility::Own("ali".into()), None, &[ALI, SARA]);
        assert_eq!(text, "7: {\"user_id\":\"ali\",\"code\":\"print(1234567890)\",\"error_trace\":\"deep\"}\n");
    }

    #[test]
    fn an_administrator_sees_code_of_others_as_a_preview() {
        let text = shown(Visibility::All { own: "sara".into(), preview: 5 }, None, &[ALI, SARA]);
        assert!(text.contains(r#""code":"print","error_trace":"deep""#), "{text}");
        assert!(text.contains(r#""code":"secret_thing()""#), "{text}");
    }

    #[test]
    fn a_viewer_cannot_search_what_is_not_shown() {
        let visibility = Visibility::Previews { preview: 5 };
        assert_eq!(shown(visibility.clone(), Some("1234567890"), &[ALI]), "");
        assert_eq!(shown(visibility.clone(), Some("deep"), &[ALI]), "");
        assert!(shown(visibility, Some("user_id:ali"), &[ALI]).contains(r#"{"user_id":"ali","code":"print"}"#));
    }

    #[test]
    fn an_empty_event_is_shown_with_its_seq_too() {
        assert_eq!(shown(Visibility::All { own: String::new(), preview: 5 }, None, &["{}"]), "7: {}\n");
    }
}
