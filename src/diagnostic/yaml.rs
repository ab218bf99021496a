//! Parses YAML text into a tree of nodes, within bounds, with every problem at its position.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use super::node::{Entry, Kind, Node, Scalar, clip};
use super::problem::{Problem, Problems};
use super::source::Span;

/// A larger file is no configuration.
pub const MAX_BYTES: usize = 4 << 20;
/// Mappings and lists inside each other.
pub const MAX_DEPTH: usize = 64;
/// Keys and values after aliases were followed.
pub const MAX_NODES: usize = 200_000;

/// Reads one document. A key that stands twice is reported and its second value left out of the tree.
pub fn parse(file: u32, text: &str, problems: &mut Problems) -> Option<Node> {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, more than the {MAX_BYTES} a configuration may have", text.len());
        problems.push(Problem::error("", Span::new(file, 0..0), message));
        return None;
    }
    let mut builder = Builder { file, text, problems, open: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None };
    match builder.run() {
        Ok(()) => Some(builder.root.unwrap_or_else(|| Node::null(Span::new(file, 0..0)))),
        Err(problem) => {
            problems.push(*problem);
            None
        }
    }
}

type Outcome = Result<(), Box<Problem>>;

struct Builder<'t, 'p> {
    file: u32,
    text: &'t str,
    problems: &'p mut Problems,
    open: Vec<Open>,
    /// Complete anchored nodes and how many nodes each is.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
}

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    /// The key that waits for its value.
    key: Option<Node>,
    anchor: usize,
    nodes_before: usize,
}

impl Builder<'_, '_> {
    fn run(&mut self) -> Outcome {
        let text = self.text;
        for step in Parser::new_from_str(text) {
            let (event, span) = match step {
                Ok(step) => step,
                Err(error) => return Err(Box::new(self.syntax(&error))),
            };
            let span = Span::new(self.file, span.byte_range().unwrap_or(0..0));
            self.take(event, span)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Outcome {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(fail(span, "a second document starts here; only one is allowed"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain;
                let quoted = self.check_tag(tag.as_deref(), span)? || quoted;
                let lines = line_starts(self.text, span, &text, style);
                let scalar = Scalar { text: text.into_owned(), quoted, written: None, lines };
                self.count(1, span)?;
                let node = Node::new(Kind::Scalar(scalar), span);
                self.remember(anchor, &node, 1);
                self.place(node)
            }
            Event::SequenceStart(_, anchor, tag) => self.begin(Kind::Sequence(Vec::new()), anchor, tag, span),
            Event::MappingStart(_, anchor, tag) => self.begin(Kind::Mapping(Vec::new()), anchor, tag, span),
            Event::SequenceEnd | Event::MappingEnd => self.finish(span),
            Event::Alias(anchor) => {
                let Some((node, nodes)) = self.anchors.get(&anchor).cloned() else {
                    return Err(fail(span, "a recursive alias"));
                };
                self.count(nodes, span)?;
                self.place(node)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, kind: Kind, anchor: usize, tag: Option<Cow<'_, Tag>>, span: Span) -> Outcome {
        self.check_tag(tag.as_deref(), span)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(fail(span, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        if self.waits_for_key() {
            return Err(fail(span, "a key must be a plain word, not a list or a mapping")
                .map_hint(template_hint(self.line(span))));
        }
        let nodes_before = self.nodes;
        self.count(1, span)?;
        self.open.push(Open { node: Node::new(kind, span), key: None, anchor, nodes_before });
        Ok(())
    }

    fn finish(&mut self, span: Span) -> Outcome {
        let Some(mut closed) = self.open.pop() else { return Ok(()) };
        closed.node.span.end = span.end.max(closed.node.span.end);
        trim_end(self.text, &mut closed.node.span);
        self.remember(closed.anchor, &closed.node, self.nodes - closed.nodes_before);
        self.place(closed.node)
    }

    fn waits_for_key(&self) -> bool {
        self.open.last().is_some_and(|open| open.key.is_none() && matches!(open.node.kind, Kind::Mapping(_)))
    }

    /// Puts a complete node where it belongs.
    fn place(&mut self, node: Node) -> Outcome {
        let waits_for_key = self.waits_for_key();
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.kind {
            Kind::Sequence(items) => items.push(node),
            Kind::Mapping(_) if waits_for_key => match node.text() {
                Some("<<") if !node.scalar().is_some_and(|scalar| scalar.quoted) => {
                    return Err(fail(node.span, "merge keys (`<<`) are not part of YAML 1.2; write the keys out"));
                }
                Some(_) => open.key = Some(node),
                None => return Err(fail(node.span, "a key must be a plain word, not a list or a mapping")),
            },
            Kind::Mapping(entries) => {
                let Some(key) = open.key.take() else { return Ok(()) };
                let name = key.text().unwrap_or("");
                match entries.iter().find(|entry| entry.name() == name) {
                    Some(first) => self.problems.push(
                        Problem::error("", key.span, format!("duplicate key `{}`", clip(name)))
                            .also(first.key.span, "first here"),
                    ),
                    None => entries.push(Entry { key, value: node }),
                }
            }
            Kind::Scalar(_) => {}
        }
        Ok(())
    }

    fn remember(&mut self, anchor: usize, node: &Node, nodes: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), nodes));
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Outcome {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(fail(span, format!("more than {MAX_NODES} values, aliases followed")));
        }
        Ok(())
    }

    /// Whether the tag makes the scalar text. Other tags than the core ones mean nothing here.
    fn check_tag(&self, tag: Option<&Tag>, span: Span) -> Result<bool, Box<Problem>> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.is_yaml_core_schema() => Ok(tag.is_yaml_core_schema_tag("str")),
            Some(tag) => Err(fail(span, format!("unknown tag `{}`", clip(&tag.original())))
                .map_hint(Some("quote values that start with `!`"))),
        }
    }

    fn syntax(&self, error: &granit_parser::ScanError) -> Problem {
        let at = error.marker().byte_offset().unwrap_or(0).min(self.text.len());
        let mut span = Span::new(self.file, at..at);
        if self.text[self.text.floor_char_boundary(at)..].chars().next().is_some_and(|c| c != '\n') {
            span.end += 1;
        }
        let line = self.line(span);
        let message = format!("not YAML: {}", error.info());
        // In flow style the braces of a variable are those of a mapping.
        let in_flow = |before: &str| before.contains(['{', '[']);
        let variable =
            line.find("${").filter(|found| !line[..*found].ends_with(['"', '\'']) && in_flow(&line[..*found]));
        let hint = if variable.is_some() {
            Some("within `{ }` and `[ ]` put quotes around it: `\"${NAME}\"`")
        } else if line.trim_start_matches(' ').starts_with('\t') {
            Some("indent with spaces; YAML allows no tabs there")
        } else {
            let around = &self.text.as_bytes()[at.saturating_sub(1)..(at + 1).min(self.text.len())];
            template_hint(if around.contains(&b'*') { "*" } else { line })
        };
        *Box::new(Problem::error("", span, message)).map_hint(hint)
    }

    fn line(&self, span: Span) -> &str {
        let (start, _) = super::source::line_of(self.text, span.start as usize);
        self.text[start..].lines().next().unwrap_or("")
    }
}

trait MapHint {
    fn map_hint(self, hint: Option<&str>) -> Self;
}

impl MapHint for Box<Problem> {
    fn map_hint(mut self, hint: Option<&str>) -> Box<Problem> {
        self.hint = hint.map(str::to_string);
        self
    }
}

fn fail(span: Span, message: impl Into<String>) -> Box<Problem> {
    Box::new(Problem::error("", span, message))
}

/// The likely slip on a line that is not YAML: a value that needs quotes.
fn template_hint(line: &str) -> Option<&'static str> {
    let value = line.split_once(": ").map_or(line, |(_, value)| value).trim_start_matches(['-', ' ']);
    match value.chars().next()? {
        '{' if value.starts_with("{{") => Some("quote values that start with `{{`"),
        '*' => Some("quote values that start with `*`"),
        '@' | '`' | '%' | '&' | '!' => Some("quote values that start with this character"),
        '{' | '[' | '"' | '\'' => None,
        _ if value.contains(": ") => Some("put quotes around a value that contains `: `"),
        _ => None,
    }
}

/// A block collection ends where its last line does, not at the next key.
fn trim_end(text: &str, span: &mut Span) {
    if let Some(inner) = text.get(span.range()) {
        span.end = span.start + inner.trim_end().len() as u32;
    }
}

/// Where each line of a scalar's text begins in the file, if the text stands there as it is.
fn line_starts(source: &str, span: Span, text: &str, style: ScalarStyle) -> Vec<u32> {
    let Some(raw) = source.get(span.range()) else { return Vec::new() };
    match style {
        ScalarStyle::Plain if raw == text => vec![span.start],
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted if raw.get(1..raw.len().max(2) - 1) == Some(text) => {
            vec![span.start + 1]
        }
        ScalarStyle::Literal => literal_lines(raw, text, span.start).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn literal_lines(raw: &str, text: &str, start: u32) -> Option<Vec<u32>> {
    let mut starts = Vec::new();
    let mut offset = 0;
    let mut lines = raw.split('\n');
    for wanted in text.split('\n') {
        let Some(line) = lines.next() else {
            starts.push(start + raw.len() as u32);
            continue;
        };
        let found = line.trim_end_matches('\r');
        if !found.trim_start_matches(' ').is_empty() && !found.ends_with(wanted) {
            return None;
        }
        starts.push(start + (offset + found.len().saturating_sub(wanted.len())) as u32);
        offset += line.len() + 1;
    }
    Some(starts)
}
