//! `truncate`: shortens long texts, and records their length and SHA-256.

use aws_lc_rs::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{Check, Failure, Outputs, Transform};
use crate::event::cut::Most;
use crate::event::names::TRUNCATED;
use crate::event::object::Rewrite;
use crate::event::{Batch, NameId, Raw, escape};

/// The default length of code.
const DEFAULT_CHARS: usize = 10_000;

/// Truncates long texts at a character boundary. The event's member `truncated` has, for each truncated field, the
/// length in bytes and the SHA-256 of the whole text as it reached this transform (so put `redact` before it). A text
/// that was truncated before keeps its first entry.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Fields to truncate, such as `code` or `metadata.stdout`. Values that are not text are unchanged.
    pub fields: Vec<String>,
    /// Maximum length in characters, including the marker. Default: 10,000, unless `max_bytes` is set.
    pub max_chars: Option<usize>,
    /// Maximum length in bytes (UTF-8), including the marker; instead of `max_chars`.
    pub max_bytes: Option<usize>,
    /// Text that marks the end of a truncated text, such as `…`.
    pub marker: String,
}

impl Default for Config {
    fn default() -> Config {
        Config { fields: vec!["code".into()], max_chars: None, max_bytes: None, marker: String::new() }
    }
}

pub struct Truncate {
    fields: Vec<Field>,
    most: Most,
    /// The bound without the marker.
    before_marker: Most,
    /// The marker, escaped for a JSON string.
    marker: Vec<u8>,
}

struct Field {
    name: String,
    path: Vec<String>,
}

impl Transform for Truncate {
    const TYPE: &'static str = "truncate";
    type Config = Config;

    fn build(config: Config, check: &mut Check) -> Option<Truncate> {
        let (most, used, key) = match (config.max_chars, config.max_bytes) {
            (Some(_), Some(_)) => {
                check.problem_with_hint(
                    "max_bytes",
                    "`max_chars` and `max_bytes` cannot be combined",
                    "remove one of them",
                );
                return None;
            }
            (None, Some(most)) => (Most::Bytes(most), config.marker.len(), "max_bytes"),
            (chars, None) => (Most::Chars(chars.unwrap_or(DEFAULT_CHARS)), config.marker.chars().count(), "max_chars"),
        };
        let before_marker = match most {
            Most::Chars(most) => most.checked_sub(used).map(Most::Chars),
            Most::Bytes(most) => most.checked_sub(used).map(Most::Bytes),
        };
        if before_marker.is_none() {
            check.problem("marker", format!("the marker is longer than `{key}`"));
        }
        let mut fields = Vec::new();
        for (nth, name) in config.fields.into_iter().enumerate() {
            let path: Vec<String> = name.split('.').map(str::to_owned).collect();
            if path.iter().any(String::is_empty) {
                check.problem(
                    format!("fields[{nth}]"),
                    format!("`{name}` is not a field: expected names separated by dots"),
                );
            } else if fields.iter().any(|field: &Field| field.name == name) {
                check.problem(format!("fields[{nth}]"), format!("duplicate field `{name}`"));
            }
            fields.push(Field { name, path });
        }
        let mut marker = Vec::new();
        escape::push_inside(&mut marker, &config.marker);
        (check.problems.is_empty()).then_some(Truncate { fields, most, before_marker: before_marker?, marker })
    }

    fn apply(&self, mut batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
        for field in &self.fields {
            let Some(top) = batch.find_name(&field.path[0]) else { continue };
            for event in 0..batch.len() {
                if let Some(value) = batch.get(event, top)
                    && value.as_bytes().len() > 2
                    && !self.most.surely_holds(&value.as_bytes()[1..value.as_bytes().len() - 1])
                {
                    self.cut(&mut batch, event, top, field);
                }
            }
        }
        out.emit(batch);
        Ok(())
    }
}

impl Truncate {
    /// Cuts the text at a path if it is too long, and enters it in `truncated`.
    fn cut(&self, batch: &mut Batch, event: usize, top: NameId, field: &Field) {
        let Some(outer) = batch.get(event, top) else { return };
        let Some(text) = outer.path(&field.path[1..]) else { return };
        let Some(inside) = text.inside().filter(|inside| !self.most.surely_holds(inside)) else { return };
        let whole = self.most.longest(inside);
        if whole == inside.len() {
            return;
        }
        let kept = if self.marker.is_empty() { whole } else { self.before_marker.longest(inside) };
        let entry = entry(text);
        let start = inside.as_ptr() as usize - outer.as_bytes().as_ptr() as usize;
        let mut shortened = Vec::with_capacity(outer.as_bytes().len() - inside.len() + kept + self.marker.len());
        shortened.extend_from_slice(&outer.as_bytes()[..start + kept]);
        shortened.extend_from_slice(&self.marker);
        shortened.extend_from_slice(&outer.as_bytes()[start + inside.len()..]);
        batch.set_json(event, top, &shortened);
        let mut truncated = Rewrite::default();
        truncated.begin(batch.get(event, TRUNCATED), "truncated");
        if truncated.add(&field.name, Raw::valid(&entry)) {
            batch.set_json(event, TRUNCATED, truncated.finish());
        }
    }
}

/// What stays of a text: its length in bytes and its SHA-256.
fn entry(text: Raw) -> Vec<u8> {
    let text = text.display();
    let mut entry = format!("{{\"bytes\":{},\"sha256\":\"", text.len()).into_bytes();
    for byte in digest(&SHA256, text.as_bytes()).as_ref() {
        entry.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    entry.extend_from_slice(b"\"}");
    entry
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transforms::testing::{apply, batch, build, problems, provenance};

    fn truncated(config: &str, line: &str) -> String {
        apply(&build::<Truncate>(config), batch(&[line], provenance(None, None))).remove(0)
    }

    /// `printf %s abcdefgh | sha256sum`
    const ABCDEFGH: &str = "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab";

    #[test]
    fn a_long_text_is_cut_and_its_length_and_hash_are_kept() {
        assert_eq!(
            truncated("max_chars: 3", r#"{"code":"abcdefgh","a": 1}"#),
            format!(r#"{{"code":"abc","a": 1,"truncated":{{"code":{{"bytes":8,"sha256":"{ABCDEFGH}"}}}}}}"#)
        );
    }

    #[test]
    fn by_default_code_keeps_ten_thousand_characters() {
        let fits = format!("{{ \"code\" : \"{}\" }}", "é\\n".repeat(5_000));
        assert_eq!(truncated("{}", &fits), fits);
        let line = format!("{{\"code\":\"{}\",\"error_trace\":\"{}\"}}", "é\\n".repeat(5_001), "x".repeat(20_000));
        let cut = truncated("{}", &line);
        let value: serde_json::Value = serde_json::from_str(&cut).expect("valid");
        assert_eq!(value["code"].as_str(), Some("é\n".repeat(5_000).as_str()));
        assert_eq!(value["truncated"]["code"]["bytes"], 15_003);
        assert_eq!(value["error_trace"].as_str().map(str::len), Some(20_000));
    }

    #[test]
    fn the_hash_is_of_the_decoded_text() {
        let line = truncated("max_chars: 3", r#"{"code":"\u0061bcd\u0065fgh"}"#);
        assert!(line.starts_with(r#"{"code":"\u0061bc","#), "{line}");
        assert!(line.contains(ABCDEFGH), "{line}");
    }

    #[test]
    fn the_marker_counts_and_is_written_as_json() {
        let line = truncated("{max_chars: 6, marker: \"[\\\"…\\\"]\"}", r#"{"code":"abcdefgh"}"#);
        assert!(line.starts_with(r#"{"code":"a[\"…\"]","#), "{line}");
        let line = truncated("{max_bytes: 5, marker: …}", r#"{"code":"aébcdefgh"}"#);
        assert!(line.starts_with(r#"{"code":"a…","#), "{line}");
    }

    #[test]
    fn nested_texts_are_cut_where_they_stand() {
        let line = truncated(
            "{fields: [metadata.out.text, code], max_chars: 3}",
            r#"{"metadata": {"a":1, "out": {"text":"abcdefgh", "b":[2]} },"code":"xy"}"#,
        );
        assert_eq!(
            line,
            format!(
                r#"{{"metadata":{{"a":1, "out": {{"text":"abc", "b":[2]}} }},"code":"xy","truncated":{{"metadata.out.text":{{"bytes":8,"sha256":"{ABCDEFGH}"}}}}}}"#
            )
        );
    }

    #[test]
    fn what_is_no_text_or_not_there_stays() {
        for line in [r#"{"code":[1,2,3,4,5,6]}"#, r#"{"code":1234567}"#, r#"{"code":null}"#, r#"{"code":""}"#, "{}"] {
            assert_eq!(truncated("{fields: [code, code.a], max_chars: 2}", line), line);
        }
    }

    #[test]
    fn the_first_entry_of_a_field_stays_and_others_join_it() {
        let line = truncated(
            "{fields: [code, description], max_chars: 3}",
            r#"{"truncated":{"code":1},"code":"abcdefgh","description":"abcdefgh"}"#,
        );
        assert!(line.starts_with(r#"{"truncated":{"code":1,"description":{"bytes":8,"#), "{line}");
        assert!(line.contains(r#""code":"abc""#), "{line}");
        let odd = truncated("max_chars: 3", r#"{"truncated":true,"code":"abcdefgh"}"#);
        assert!(odd.starts_with(r#"{"truncated":{"truncated":true,"code":{"bytes":8,"#), "{odd}");
    }

    #[test]
    fn a_wrong_configuration_is_told_where_it_is_wrong() {
        assert_eq!(
            problems::<Truncate>("{max_chars: 1, max_bytes: 2}"),
            ["max_bytes: `max_chars` and `max_bytes` cannot be combined"]
        );
        assert_eq!(
            problems::<Truncate>("{fields: [code, a..b, code], max_chars: 2, marker: '...'}"),
            [
                "marker: the marker is longer than `max_chars`",
                "fields[1]: `a..b` is not a field: expected names separated by dots",
                "fields[2]: duplicate field `code`",
            ]
        );
    }

    proptest! {
        #[test]
        fn a_second_time_changes_nothing(text in "(\\PC|[\\x00-\\x7f]){0,60}", most in 3usize..50, bytes in any::<bool>(), marker in "\\PC?") {
            let key = if bytes { "max_bytes" } else { "max_chars" };
            let config = format!("{{{key}: {most}, marker: {}}}", serde_json::to_string(&marker).expect("text"));
            let line = format!("{{\"code\":{}}}", serde_json::to_string(&text).expect("text"));
            prop_assume!(!bytes || marker.len() <= most);
            let once = truncated(&config, &line);
            let value: serde_json::Value = serde_json::from_str(&once).expect("valid");
            let code = value["code"].as_str().expect("text");
            let len = if bytes { code.len() } else { code.chars().count() };
            prop_assert!(len <= most);
            prop_assert_eq!(truncated(&config, &once), once);
        }
    }
}
