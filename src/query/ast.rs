//! The syntax tree of a query, and its canonical text.

use std::fmt;

use crate::units::Timestamp;

/// Member names, one below the other.
pub type Path = Vec<String>;

#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    /// Every event.
    All,
    /// At least two, none of them an `And`.
    And(Vec<Expr>),
    /// At least two, none of them an `Or`.
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Test(Test),
}

#[derive(Clone, PartialEq, Debug)]
pub struct Test {
    /// Where to look; all strings of the event without.
    pub field: Option<Path>,
    pub check: Check,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Check {
    /// The value is this; of a long text or without a field: it contains this.
    Is(Pattern),
    Compare(Op, Bound),
    /// Both ends included; none is open.
    Between(Option<Bound>, Option<Bound>),
    Exists,
    Matches(String),
}

/// Texts with anything between them: `a*b` is `["a", "b"]`, `*a` is `["", "a"]`, `a` is `["a"]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(pub Vec<String>);

impl Pattern {
    pub fn text(text: &str) -> Pattern {
        Pattern(vec![text.to_owned()])
    }

    /// The text, if nothing in it stands for anything else.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [text] => Some(text),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Op {
    pub const ALL: &[(&str, Op)] =
        &[("<=", Op::LessOrEqual), (">=", Op::GreaterOrEqual), ("<", Op::Less), (">", Op::Greater)];

    pub fn sign(self) -> &'static str {
        Op::ALL.iter().find(|(_, op)| *op == self).map_or("", |(sign, _)| sign)
    }
}

/// The end of a range, as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bound(pub String);

impl Bound {
    pub fn number(&self) -> Option<f64> {
        number(&self.0)
    }

    /// The first and last microsecond of the time or day.
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        times(&self.0)
    }
}

/// A number as JSON would write it, more or less; no `nan`, no `inf`.
pub fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

/// The first and last microsecond that a time or day stands for.
pub fn times(text: &str) -> Option<(Timestamp, Timestamp)> {
    const DAY: i64 = 86_400_000_000;
    if let Some(time) = Timestamp::parse(text) {
        return Some((time, time));
    }
    if text.len() == 10 {
        let start = Timestamp::parse(&format!("{text}T00:00:00Z"))?;
        return Some((start, Timestamp(start.0 + DAY - 1)));
    }
    if text.len() == 16 {
        let start = Timestamp::parse(&format!("{text}:00Z"))?;
        return Some((start, Timestamp(start.0 + 60_000_000 - 1)));
    }
    Timestamp::parse(&format!("{text}Z")).map(|time| (time, time))
}

impl Expr {
    /// All of these; parts that are `And` themselves are merged.
    pub fn and(parts: Vec<Expr>) -> Expr {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Expr::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.swap_remove(0) } else { Expr::And(flat) }
    }

    /// Any of these; parts that are `Or` themselves are merged.
    pub fn or(parts: Vec<Expr>) -> Expr {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Expr::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.swap_remove(0) } else { Expr::Or(flat) }
    }

    /// Every test, from left to right.
    pub fn tests(&self) -> Vec<&Test> {
        match self {
            Expr::All => Vec::new(),
            Expr::And(parts) | Expr::Or(parts) => parts.iter().flat_map(Expr::tests).collect(),
            Expr::Not(inner) => inner.tests(),
            Expr::Test(test) => vec![test],
        }
    }
}

// --- writing ---

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Expr], by: &str, grouped: fn(&Expr) -> bool| {
            for (nth, part) in parts.iter().enumerate() {
                let by = if nth == 0 { "" } else { by };
                if grouped(part) { write!(f, "{by}({part})")? } else { write!(f, "{by}{part}")? }
            }
            Ok(())
        };
        match self {
            Expr::All => f.write_str("*"),
            Expr::And(parts) => joined(f, parts, " ", |part| matches!(part, Expr::Or(_))),
            Expr::Or(parts) => joined(f, parts, " OR ", |_| false),
            Expr::Not(inner) => match **inner {
                Expr::Test(_) | Expr::All => write!(f, "-{inner}"),
                _ => write!(f, "-({inner})"),
            },
            Expr::Test(test) => write!(f, "{test}"),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.check == Check::Exists {
            f.write_str("has:")?;
        }
        for (nth, name) in self.field.iter().flatten().enumerate() {
            // A name of the language's own is a field only in quotes.
            let own = nth == 0 && matches!(name.as_str(), "has" | "AND" | "OR" | "NOT");
            let plain =
                !own && !name.is_empty() && name.bytes().all(|b| is_plain(b) && b != b'.') && !name.starts_with('-');
            f.write_str(if nth == 0 { "" } else { "." })?;
            if plain { f.write_str(name)? } else { quoted(f, name)? }
        }
        if self.field.is_some() && self.check != Check::Exists {
            f.write_str(":")?;
        }
        match &self.check {
            Check::Is(pattern) => write!(f, "{pattern}"),
            Check::Compare(op, bound) => write!(f, "{}{bound}", op.sign()),
            Check::Between(from, to) => {
                let end = |bound: &Option<Bound>| bound.as_ref().map_or("*".to_owned(), Bound::to_string);
                write!(f, "[{} TO {}]", end(from), end(to))
            }
            Check::Exists => Ok(()),
            Check::Matches(regex) => {
                f.write_str("~")?;
                quoted(f, regex)
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.literal() {
            let keyword = matches!(text, "AND" | "OR" | "NOT" | "TO");
            // Two points in a row would be a range.
            let is_other = keyword || text.starts_with('-') || text.contains("..");
            let plain = !text.is_empty() && text.bytes().all(is_plain) && !is_other;
            return if plain { f.write_str(text) } else { quoted(f, text) };
        }
        for (nth, part) in self.0.iter().enumerate() {
            f.write_str(if nth == 0 { "" } else { "*" })?;
            for (at, c) in part.chars().enumerate() {
                let leading_dash = c == '-' && nth == 0 && at == 0;
                let plain =
                    !leading_dash && (!c.is_ascii() && !c.is_whitespace() || is_plain(c as u32 as u8) && c.is_ascii());
                if plain { write!(f, "{c}")? } else { write!(f, "\\{c}")? }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !self.0.is_empty() && self.0.bytes().all(|b| is_plain(b) || b == b':') && self.0 != "TO";
        if plain { f.write_str(&self.0) } else { quoted(f, &self.0) }
    }
}

/// Bytes that mean themselves wherever they stand, but for a hyphen at the beginning.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.@/+%$#".contains(&byte)
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
