//! The URL of a request: event fields may fill its path and query, but never leave them.

use std::fmt::Write as _;

use hyper::Uri;

use crate::codec::template::{Malformed, Template};
use crate::event::Raw;

/// A checked address.
#[derive(Clone, Debug)]
pub struct Place {
    /// Scheme, host and port.
    origin: String,
    /// Path and query.
    rest: Template,
    /// The address, if it is the same for all events.
    constant: Option<Uri>,
    /// Segments of the path that are empty by the operator's own will.
    empty_segments: usize,
}

impl Place {
    /// Scheme, host and port must be fixed text, or an event could choose who hears of it.
    pub fn parse(text: &str) -> Result<Place, Malformed> {
        let wrong = |range, message: &str| Malformed { range, message: message.to_owned() };
        let Some(scheme) = ["http://", "https://"].into_iter().find(|scheme| text.starts_with(scheme)) else {
            return Err(wrong(0..text.len(), "expected a URL that starts with `http://` or `https://`"));
        };
        let end = text[scheme.len()..].find(['/', '?', '#']).map_or(text.len(), |at| scheme.len() + at);
        let (origin, rest) = text.split_at(end);
        if origin.contains("{{") || origin.contains('%') {
            return Err(wrong(0..end, "scheme, host and port must be fixed text, so that no event can choose them"));
        }
        if origin.contains('@') {
            return Err(wrong(0..end, "user and password belong in `auth`"));
        }
        if let Some(at) = rest.find('#') {
            return Err(wrong(end + at..text.len(), "a URL fragment (`#`) is never sent"));
        }
        let (slash, begin) = if rest.starts_with('/') { ("", end) } else { ("/", end - 1) };
        let template = Template::parse(&format!("{slash}{rest}"))
            .map_err(|wrong| Malformed { range: wrong.range.start + begin..wrong.range.end + begin, ..wrong })?;
        let mut place = Place { origin: origin.to_owned(), rest: template, constant: None, empty_segments: 0 };
        // Any value will do to see whether an address can come of it.
        let sample = place.render(|_| Some(Raw::valid(b"1700000000")));
        place.empty_segments = empty_segments(&sample.map_err(|message| Malformed { range: 0..text.len(), message })?);
        if let Some(rest) = place.rest.constant() {
            place.constant = format!("{}{rest}", place.origin).parse().ok();
        }
        Ok(place)
    }

    pub fn constant(&self) -> Option<&Uri> {
        self.constant.as_ref()
    }

    /// The text of path and query that is the same for all events.
    pub fn fixed_texts(&self) -> impl Iterator<Item = &str> {
        self.rest.fixed_texts()
    }

    /// An address to knock at without an event.
    pub fn url(&self) -> Uri {
        let root = || format!("{}/", self.origin).parse().expect("the origin was part of an address before");
        self.constant.clone().unwrap_or_else(root)
    }

    /// The address for one event, whose values `get` finds by their path.
    pub fn uri<'a>(&self, get: impl Fn(&[String]) -> Option<Raw<'a>>) -> Result<Uri, String> {
        let text = self.render(get)?;
        if empty_segments(&text) > self.empty_segments {
            return Err("confinement_failed: a segment of the uri's path would be empty".to_owned());
        }
        text.parse().map_err(|_| "the result is not a URI".to_owned())
    }

    fn render<'a>(&self, get: impl Fn(&[String]) -> Option<Raw<'a>>) -> Result<String, String> {
        let rest = self.rest.render_with(get, push_escaped).map_err(|missing| missing.to_string())?;
        if path_of(&rest).split('/').any(is_step) {
            return Err("confinement_failed: a segment of the uri's path would be `.` or `..`".to_owned());
        }
        let text = format!("{}{rest}", self.origin);
        text.parse::<Uri>().map_err(|error| format!("`uri` is not a URI: {error}"))?;
        Ok(text)
    }
}

fn path_of(rest: &str) -> &str {
    rest.split('?').next().unwrap_or(rest)
}

fn empty_segments(uri: &str) -> usize {
    path_of(uri).split('/').filter(|segment| segment.is_empty()).count()
}

/// Servers take `.` and `..` for steps, written plainly or not.
fn is_step(segment: &str) -> bool {
    segment.len() <= 6 && matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | "..")
}

/// Everything but letters, digits and `-._~` is percent-encoded, so that a value cannot leave its place.
fn push_escaped(out: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(template: &str, event: &str) -> Result<String, String> {
        let place = Place::parse(template).map_err(|wrong| format!("{:?} {}", wrong.range, wrong.message))?;
        place.uri(|path| Raw::valid(event.as_bytes()).path(path)).map(|uri| uri.to_string())
    }

    #[test]
    fn an_event_fills_a_segment_or_a_value_and_cannot_leave_it() {
        let template = "https://api.example:8443/t/{{ tenant }}/in?day=%F&user={{ user_id | none }}";
        let event = r#"{"timestamp":"2025-03-01T10:00:00Z","tenant":"a/b?c#d é","user_id":"x&admin=1"}"#;
        assert_eq!(
            uri(template, event).as_deref(),
            Ok("https://api.example:8443/t/a%2Fb%3Fc%23d%20%C3%A9/in?day=2025-03-01&user=x%26admin%3D1")
        );
        for tenant in [".", "..", ""] {
            let event = format!(r#"{{"timestamp":"2025-03-01T10:00:00Z","tenant":"{tenant}"}}"#);
            assert!(uri(template, &event).expect_err(tenant).starts_with("confinement_failed: "), "{tenant}");
        }
        assert_eq!(uri("http://a/{{ x }}{{ y }}/z", r#"{"x":".","y":"."}"#).map_err(|e| e.len() > 20), Err(true));
        assert!(uri("http://a/{{ x }}", "{}").expect_err("missing").contains("`x`"));
    }

    #[test]
    fn who_hears_of_an_event_is_fixed() {
        for (template, said) in [
            ("ftp://a/", "0..8 expected a URL"),
            ("http://{{ host }}/", "0..17 scheme, host and port must be fixed"),
            ("http://a.{{ host }}.b/", "0..21 scheme"),
            ("http://ali:geheim@a/", "0..19 user and password"),
            ("http://a/b#c", "10..12 a URL fragment"),
            ("http://a/{{ x", "9..13 unclosed `{{`"),
            ("http://a b/", "0..11 `uri` is not a URI"),
            ("http://a?x={{", "11..13 unclosed `{{`"),
        ] {
            let wrong = uri(template, "{}").expect_err(template);
            assert!(wrong.starts_with(said), "{template}: {wrong}");
        }
        let place = Place::parse("http://a:1?x=1").expect("an address");
        assert_eq!(place.constant().map(ToString::to_string).as_deref(), Some("http://a:1/?x=1"));
    }
}
