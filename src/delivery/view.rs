//! What one kind of client sees: which events, how much of each, and as which frames.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use crate::event::Raw;
use crate::event::escape::push_string;
use crate::event::raw::name_is;
use crate::journal::Record;
use crate::query::Query;

/// A filter and a degree of trust. Equal views share their frames.
#[derive(Clone, Debug)]
pub struct View {
    pub query: Option<Arc<Query>>,
    pub sight: Visibility,
}

/// Who sees what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// A user's own events, whole.
    Own(String),
    /// All events; code of others as a preview of so many characters.
    All { own: String, preview: usize },
    /// All events as previews, without error traces; the filter sees no more than that.
    Previews { preview: usize },
}

impl PartialEq for View {
    fn eq(&self, other: &View) -> bool {
        self.text() == other.text() && self.sight == other.sight
    }
}

impl Eq for View {}

impl Hash for View {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
        self.sight.hash(state);
    }
}

impl View {
    fn text(&self) -> Option<&str> {
        self.query.as_ref().map(|query| query.text())
    }

    /// The frames of all events from `from` on that this view shows, and how many there are.
    pub fn render(&self, records: &[Arc<Record>], from: u64) -> (Bytes, u64) {
        let (mut out, mut events) = (Vec::new(), 0);
        for record in records {
            let skip = from.saturating_sub(record.first_seq).min(record.lines.len() as u64) as usize;
            for index in skip..record.lines.len() {
                if let Some(line) = self.show(record.lines.line(index)) {
                    push_frame(&mut out, record.first_seq + index as u64, &line);
                    events += 1;
                }
            }
        }
        (Bytes::from(out), events)
    }

    /// The event as this view shows it, if it does.
    fn show<'l>(&self, line: &'l [u8]) -> Option<std::borrow::Cow<'l, [u8]>> {
        let matches = |line: &[u8]| self.query.as_ref().is_none_or(|query| query.matches_line(Raw::valid(line)));
        match &self.sight {
            Visibility::Own(user) => (is_of(line, user) && matches(line)).then_some(line.into()),
            Visibility::All { own, preview } => matches(line)
                .then(|| if is_of(line, own) { line.into() } else { shorten(line, *preview, false).into() }),
            Visibility::Previews { preview } => {
                let shown = shorten(line, *preview, true);
                matches(&shown).then(|| shown.into())
            }
        }
    }
}

fn is_of(line: &[u8], user: &str) -> bool {
    Raw::valid(line).get("user_id").and_then(|id| id.as_str()).is_some_and(|id| id == user)
}

/// The event with its code cut to so many characters. The line is not scanned again: what transforms added may have
/// brought it beyond the limits of the door.
fn shorten(line: &[u8], preview: usize, hide_traces: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let place = |part: &[u8]| part.as_ptr() as usize - line.as_ptr() as usize;
    // Everything before `copied` is done; the last member that stays ends at `kept`.
    let (mut copied, mut kept) = (0, 1);
    for (name, value) in Raw::valid(line).members() {
        let end = place(value.as_bytes()) + value.as_bytes().len();
        if hide_traces && name_is(name, "error_trace") {
            out.extend_from_slice(&line[copied.min(kept)..kept]);
            let rest = &line[end..];
            let comma = rest.iter().position(|byte| !byte.is_ascii_whitespace()).filter(|at| rest[*at] == b',');
            copied = end + if kept == 1 { comma.map_or(0, |at| at + 1) } else { 0 };
            kept = if kept == 1 { 1 } else { copied };
            continue;
        }
        let code = value.as_str().filter(|_| name_is(name, "code"));
        if let Some((cut, _)) = code.as_ref().and_then(|code| code.char_indices().nth(preview)) {
            out.extend_from_slice(&line[copied..place(value.as_bytes())]);
            push_string(&mut out, &code.as_ref().expect("it was cut")[..cut]);
            copied = end;
        }
        kept = end;
    }
    out.extend_from_slice(&line[copied..]);
    out
}

/// One server-sent event; `seq` ends the object.
fn push_frame(out: &mut Vec<u8>, seq: u64, line: &[u8]) {
    let body = line.strip_suffix(b"}").unwrap_or(line);
    let comma = if body == b"{" { "" } else { "," };
    out.extend_from_slice(format!("id: {seq}\nevent: log\ndata: ").as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(format!("{comma}\"seq\":{seq}}}\n\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Lines;
    use crate::journal::StreamId;
    use crate::units::Timestamp;

    fn record(lines: &[&str]) -> Arc<Record> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let ends = lines.iter().scan(0, |at, line| {
            *at += line.len() as u32 + 1;
            Some(*at)
        });
        let lines = Lines { ends: ends.collect(), bytes: Bytes::from(text.clone()), runs: Vec::new() };
        Arc::new(Record { stream: StreamId(0), first_seq: 7, stream_first: 0, received_at: Timestamp(0), lines })
    }

    fn shown(sight: Visibility, query: Option<&str>, lines: &[&str]) -> String {
        let query = query.map(|text| Arc::new(Query::parse(text).expect("a query")));
        let (frames, _) = View { query, sight }.render(&[record(lines)], 0);
        String::from_utf8(frames.to_vec()).expect("frames are text")
    }

    const ALI: &str = r#"{"user_id":"ali","code":"print(1234567890)","error_trace":"deep"}"#;
    const SARA: &str = r#"{"user_id":"sara","code":"secret_thing()"}"#;

    #[test]
    fn a_user_sees_own_events_whole_and_no_others() {
        let text = shown(Visibility::Own("ali".into()), None, &[ALI, SARA]);
        assert_eq!(
            text,
            "id: 7\nevent: log\ndata: {\"user_id\":\"ali\",\"code\":\"print(1234567890)\",\"error_trace\":\"deep\",\"seq\":7}\n\n"
        );
    }

    #[test]
    fn an_administrator_sees_code_of_others_as_a_preview() {
        let text = shown(Visibility::All { own: "sara".into(), preview: 5 }, None, &[ALI, SARA]);
        assert!(text.contains(r#""code":"print","error_trace":"deep""#), "{text}");
        assert!(text.contains(r#""code":"secret_thing()""#), "{text}");
    }

    #[test]
    fn a_viewer_cannot_search_what_is_not_shown() {
        let sight = Visibility::Previews { preview: 5 };
        assert_eq!(shown(sight.clone(), Some("1234567890"), &[ALI]), "");
        assert_eq!(shown(sight.clone(), Some("deep"), &[ALI]), "");
        assert!(shown(sight, Some("user_id:ali"), &[ALI]).contains(r#"{"user_id":"ali","code":"print","seq":7}"#));
    }

    #[test]
    fn what_is_hidden_or_cut_leaves_the_rest_as_it_was() {
        for (line, shown) in [
            (r#"{ "error_trace": 1 }"#, r#"{ }"#),
            (r#"{"error_trace":1,"a" : 2}"#, r#"{"a" : 2}"#),
            (
                r#"{ "error_trace":1 , "error_trace":2, "a":3 ,"error_trace":4,"error_\u0074race":5, "b":6}"#,
                r#"{ "a":3, "b":6}"#,
            ),
            (
                r#"{"a":[1, {"code":"12345678"}],"code":"سلام دنیا","error_trace":"x"}"#,
                r#"{"a":[1, {"code":"12345678"}],"code":"سلام "}"#,
            ),
            (r#"{"code":"1\n\"456789","code":7,"code":"12345"}"#, r#"{"code":"1\n\"45","code":7,"code":"12345"}"#),
            ("{}", "{}"),
        ] {
            let told = shorten(line.as_bytes(), 5, true);
            assert_eq!(String::from_utf8(told).expect("text"), shown, "{line}");
        }
    }

    #[test]
    fn an_event_that_transforms_made_larger_than_the_door_lets_in_is_shown() {
        let members: String =
            (0..10_100).map(|n| format!("\"k{n}\":{}{},", "[".repeat(n % 70), "]".repeat(n % 70))).collect();
        let line = format!("{{{}\"code\":\"123456\"}}", members.replace(":,", ":0,"));
        assert_eq!(shorten(line.as_bytes(), 5, true), line.replace("123456", "12345").into_bytes());
    }

    #[test]
    fn an_empty_event_gets_its_seq_too() {
        assert!(
            shown(Visibility::All { own: String::new(), preview: 5 }, None, &["{}"]).contains("data: {\"seq\":7}\n\n")
        );
    }
}
