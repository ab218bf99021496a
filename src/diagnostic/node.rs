//! The tree of a YAML text in which every key and value keeps its position.

use std::ops::Range;

use super::core_schema::{self, Plain};
use super::source::Span;

/// A value with its place.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    pub kind: Kind,
    pub span: Span,
    /// Keys of this mapping that belong to somebody else: passed over, but known when a misspelt key is explained.
    pub aside: &'static [&'static str],
}

#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A scalar: text that gets its type from whoever reads it.
#[derive(Clone, PartialEq, Debug)]
pub struct Scalar {
    /// The text after YAML's own escapes, and after interpolation.
    pub text: String,
    /// Written in quotes or as a block: text even where it looks like a number.
    pub quoted: bool,
    /// The text as it was before interpolation, if that changed it. Messages show this one.
    pub written: Option<String>,
    /// Where each line of the text begins in its file; empty where escapes, folding or interpolation came between.
    pub lines: Vec<u32>,
}

impl Scalar {
    /// The message without what came out of the environment, whole or in part: it may be a secret, so the words name
    /// the variable.
    pub fn conceal(&self, message: &str) -> String {
        let Some(written) = &self.written else { return message.to_string() };
        let whole = if self.text.len() > 2 { message.replace(&self.text, written) } else { message.to_string() };
        let is_filled_in = |quoted: &str| !quoted.is_empty() && self.text.contains(quoted) && !written.contains(quoted);
        let pieces = whole.split('`').enumerate();
        let concealed = pieces.map(|(n, piece)| if n % 2 == 1 && is_filled_in(piece) { written } else { piece });
        concealed.collect::<Vec<_>>().join("`")
    }
}

/// One key of a mapping and its value. The key is always a scalar.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub key: Node,
    pub value: Node,
}

impl Entry {
    pub fn name(&self) -> &str {
        self.key.text().unwrap_or("")
    }
}

impl Node {
    pub fn new(kind: Kind, span: Span) -> Node {
        Node { kind, span, aside: &[] }
    }

    /// What stands where a key has no value.
    pub fn null(span: Span) -> Node {
        Node::plain("", span)
    }

    /// An unquoted scalar.
    pub fn plain(text: impl Into<String>, span: Span) -> Node {
        let scalar = Scalar { text: text.into(), quoted: false, written: None, lines: Vec::new() };
        Node::new(Kind::Scalar(scalar), span)
    }

    pub fn text(&self) -> Option<&str> {
        self.scalar().map(|scalar| scalar.text.as_str())
    }

    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The entries of a mapping; a key without a value counts as an empty one.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Mapping(entries) => Some(entries),
            Kind::Scalar(_) if self.is_null() => Some(&[]),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.name() == key)
    }

    /// The value at a path such as `rules[2].pattern`, with the span of its key; as much of the way as there is.
    pub fn find(&self, path: &str, at: Span) -> (&Node, Span) {
        let path = path.strip_prefix('.').unwrap_or(path);
        if let Some((index, rest)) = path.strip_prefix('[').and_then(|path| path.split_once(']')) {
            let Kind::Sequence(items) = &self.kind else { return (self, at) };
            let item = index.parse().ok().and_then(|index: usize| items.get(index));
            return item.map_or((self, at), |item| item.find(rest, item.span));
        }
        let is_step = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        let entries = self.entries().unwrap_or(&[]).iter().filter(|_| !path.is_empty());
        let steps = entries.filter_map(|entry| Some((entry, path.strip_prefix(entry.name())?)));
        match steps.filter(|(_, rest)| is_step(rest)).min_by_key(|(_, rest)| rest.len()) {
            Some((entry, rest)) => entry.value.find(rest, entry.key.span),
            None => (self, at),
        }
    }

    /// The place of a byte range of a scalar's text; the whole value where escapes or interpolation came between.
    pub fn within(&self, range: Range<usize>) -> Span {
        self.scalar().map_or(self.span, |scalar| within(&scalar.text, &scalar.lines, self.span, range))
    }

    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| !scalar.quoted && core_schema::plain(&scalar.text) == Plain::Null)
    }

    /// The node in the words of a message: `a mapping`, "string `lots`", "the value of `${PORT}`".
    pub fn describe(&self) -> String {
        let scalar = match &self.kind {
            Kind::Mapping(_) => return "a mapping".into(),
            Kind::Sequence(_) => return "a list".into(),
            Kind::Scalar(scalar) => scalar,
        };
        if let Some(written) = &scalar.written {
            return format!("the value of `{}`", clip(written));
        }
        let text = clip(&scalar.text);
        if scalar.quoted {
            return format!("string `{text}`");
        }
        match core_schema::plain(&scalar.text) {
            Plain::Null => "nothing".into(),
            Plain::Bool(_) => format!("`{text}`"),
            Plain::Int(_) | Plain::Float(_) => format!("number `{text}`"),
            Plain::Text => format!("string `{text}`"),
        }
    }

    /// The same content as YAML in one line.
    pub fn flow_yaml(&self, out: &mut String) {
        let quoted = |text: &str| serde_json::to_string(text).expect("text is JSON");
        match &self.kind {
            Kind::Scalar(scalar) if scalar.quoted || core_schema::plain(&scalar.text) == Plain::Text => {
                out.push_str(&quoted(&scalar.text));
            }
            Kind::Scalar(scalar) if scalar.text.is_empty() => out.push('~'),
            Kind::Scalar(scalar) => out.push_str(&scalar.text),
            Kind::Sequence(items) => {
                out.push('[');
                for (nth, item) in items.iter().enumerate() {
                    out.push_str(if nth > 0 { ", " } else { "" });
                    item.flow_yaml(out);
                }
                out.push(']');
            }
            Kind::Mapping(entries) => {
                out.push('{');
                for (nth, entry) in entries.iter().enumerate() {
                    out.push_str(if nth > 0 { ", " } else { "" });
                    out.push_str(&format!("{}: ", quoted(entry.name())));
                    entry.value.flow_yaml(out);
                }
                out.push('}');
            }
        }
    }

    /// The same content, wherever it stands and however it was written. This is what a reload compares. Where `is_ordered`,
    /// mappings whose keys stand in another order differ.
    pub fn canonical(&self, is_ordered: bool, out: &mut String) {
        match &self.kind {
            Kind::Scalar(scalar) if scalar.quoted => out.push_str(&format!("{:?}", scalar.text)),
            Kind::Scalar(scalar) => match core_schema::plain(&scalar.text) {
                Plain::Null => out.push('~'),
                Plain::Text => out.push_str(&format!("{:?}", scalar.text)),
                _ => out.push_str(&scalar.text),
            },
            Kind::Sequence(items) => {
                out.push('[');
                for item in items {
                    item.canonical(is_ordered, out);
                    out.push(',');
                }
                out.push(']');
            }
            Kind::Mapping(entries) => {
                let mut entries: Vec<&Entry> = entries.iter().collect();
                if !is_ordered {
                    entries.sort_by_key(|entry| entry.name());
                }
                out.push('{');
                for entry in entries {
                    out.push_str(&format!("{:?}:", entry.name()));
                    entry.value.canonical(is_ordered, out);
                    out.push(',');
                }
                out.push('}');
            }
        }
    }
}

/// The place of a part of a text whose lines begin at the given offsets; the whole span where that is not known.
pub(super) fn within(text: &str, lines: &[u32], span: Span, range: Range<usize>) -> Span {
    let place = |offset: usize| {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.bytes().filter(|&byte| byte == b'\n').count();
        let in_line = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
        Some((lines.get(line)? + in_line as u32).min(span.end))
    };
    match (place(range.start), place(range.end)) {
        (Some(start), Some(end)) => Span { start, end: end.max(start), ..span },
        _ => span,
    }
}

/// A text short enough to stand inside a message.
pub(super) fn clip(text: &str) -> String {
    const SHOWN: usize = 60;
    let line = text.lines().next().unwrap_or("");
    if line.chars().count() <= SHOWN && line.len() == text.trim_end().len() {
        return line.to_string();
    }
    line.chars().take(SHOWN).chain(['…']).collect()
}
