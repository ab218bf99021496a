//! Parses a query; errors point to the column.

use std::ops::Range;

use super::ast::{Bound, Check, Expr, Op, Path, Pattern, Test};
use super::lex::{IN_NAME, IN_RANGE, IN_TEXT, IN_VALUE, Lexer};
use super::{MAX_DEPTH, MAX_LEN, MAX_TERMS, QueryError, foreign};

/// Reads a query; an empty one is true of every event.
pub fn parse(text: &str) -> Result<Expr, QueryError> {
    let mut parser = Parser { lexer: Lexer { text, at: 0 }, depth: 0, terms: 0, has_field: false, small: None };
    if text.len() > MAX_LEN {
        let end = text.ceil_char_boundary(MAX_LEN);
        return Err(parser.lexer.error(end..end, format!("the query is longer than {MAX_LEN} bytes"), None));
    }
    parser.lexer.skip_space();
    if parser.lexer.peek().is_none() {
        return Ok(Expr::All);
    }
    let expr = parser.either()?;
    match parser.lexer.peek() {
        None => match parser.small.take().filter(|_| parser.has_field) {
            None => Ok(expr),
            Some((range, keyword)) => {
                let word = keyword.to_lowercase();
                let message = format!("`{word}` would be searched as text");
                let hint = format!("write `{keyword}`, or `\"{word}\"` in quotes to search for the text");
                Err(parser.lexer.error(range, message, Some(&hint)))
            }
        },
        Some(_) => Err(parser.lexer.error(parser.lexer.here(), "unmatched `)`", Some("remove it, or add `(` before"))),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    depth: usize,
    terms: usize,
    /// Whether some test is one of a field.
    has_field: bool,
    /// The first word that is a keyword in small letters.
    small: Option<(Range<usize>, &'static str)>,
}

impl Parser<'_> {
    /// `a OR b`
    fn either(&mut self) -> Result<Expr, QueryError> {
        let mut parts = vec![self.all()?];
        while self.lexer.eat_keyword("OR") {
            self.lexer.skip_space();
            parts.push(self.all()?);
        }
        Ok(Expr::or(parts))
    }

    /// `a b`, `a AND b`
    fn all(&mut self) -> Result<Expr, QueryError> {
        let mut parts = vec![self.unary()?];
        loop {
            self.lexer.skip_space();
            if self.lexer.eat_keyword("AND") {
                self.lexer.skip_space();
            } else if self.lexer.peek().is_none_or(|c| c == ')') || self.lexer.is_keyword("OR") {
                return Ok(Expr::and(parts));
            }
            parts.push(self.unary()?);
        }
    }

    /// `-a`, `NOT a`, `(a)`, a test
    fn unary(&mut self) -> Result<Expr, QueryError> {
        let start = self.lexer.at;
        if self.lexer.eat("-") || self.lexer.eat_keyword("NOT") {
            self.lexer.skip_space();
            return self.deeper(start, |parser| Ok(Expr::Not(Box::new(parser.unary()?))));
        }
        if self.lexer.eat("(") {
            self.lexer.skip_space();
            let inner = self.deeper(start, Parser::either)?;
            return match self.lexer.eat(")") {
                true => Ok(inner),
                false => Err(self.lexer.error(start..start + 1, "unclosed `(`", Some("add `)`"))),
            };
        }
        for word in ["AND", "OR"] {
            if self.lexer.is_keyword(word) {
                let message = format!("`{word}` needs a term on both sides");
                let hint = format!("write `\"{word}\"` for the word itself");
                return Err(self.lexer.error(start..start + word.len(), message, Some(&hint)));
            }
        }
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(self.lexer.error(self.lexer.here(), format!("more than {MAX_TERMS} terms"), None));
        }
        self.test()
    }

    fn deeper(
        &mut self,
        start: usize,
        parse: impl FnOnce(&mut Self) -> Result<Expr, QueryError>,
    ) -> Result<Expr, QueryError> {
        if self.depth == MAX_DEPTH {
            return Err(self.lexer.error(start..start + 1, format!("nested deeper than {MAX_DEPTH} levels"), None));
        }
        self.depth += 1;
        let expr = parse(self);
        self.depth -= 1;
        expr
    }

    fn test(&mut self) -> Result<Expr, QueryError> {
        let start = self.lexer.at;
        match self.lexer.peek() {
            None => return Err(self.lexer.error(start..start, "missing term", None)),
            Some(')') => return Err(self.lexer.error(self.lexer.here(), "missing term before `)`", None)),
            Some(':') => {
                let hint = "write `field:value`, or quotes around a text with `:`";
                return Err(self.lexer.error(self.lexer.here(), "missing field name before `:`", Some(hint)));
            }
            Some('~') => {
                let check = self.regex()?;
                return Ok(Expr::Test(Test { field: None, check }));
            }
            _ => {}
        }
        if let Some(path) = self.field()? {
            self.has_field = true;
            self.refuse_signs_before(start, &path)?;
            return self.check(start, path);
        }
        self.lexer.at = start;
        let pattern = match self.lexer.peek() {
            Some('"') => Pattern::text(&self.lexer.quoted()?),
            _ => {
                let pattern = self.lexer.word(IN_TEXT)?;
                let range = start..self.lexer.at;
                let text = &self.lexer.text[range.clone()];
                if let Some((message, hint)) = foreign::word(text) {
                    return Err(self.lexer.error(range, message, Some(&hint)));
                }
                if let Some(keyword) = foreign::small_keyword(text) {
                    self.small.get_or_insert((range, keyword));
                }
                pattern
            }
        };
        Ok(match pattern.0.iter().all(String::is_empty) && pattern.0.len() > 1 {
            true => Expr::All,
            false => Expr::Test(Test { field: None, check: Check::Is(pattern) }),
        })
    }

    /// The path before a `:`, which is eaten too; nothing if what stands here is no field.
    fn field(&mut self) -> Result<Option<Path>, QueryError> {
        let bare_has = self.lexer.rest().starts_with("has:");
        let mut path = Path::new();
        loop {
            path.push(match self.lexer.peek() {
                Some('"') => self.lexer.quoted()?,
                _ => {
                    let pattern = self.lexer.word(IN_NAME)?;
                    // A text may begin with dots; an empty name is refused once there is a `:`.
                    let Some(name) = pattern.literal() else { return Ok(None) };
                    name.to_owned()
                }
            });
            if self.lexer.eat(":") {
                let has = bare_has && path.len() == 1;
                return Ok(Some(if has { Path::new() } else { path }));
            }
            if !self.lexer.eat(".") {
                return Ok(None);
            }
        }
    }

    /// `!status:error` and `.status:error` are other languages' words for `-status:error` and `status:error`.
    fn refuse_signs_before(&self, start: usize, path: &Path) -> Result<(), QueryError> {
        let written = &self.lexer.text[start..self.lexer.at];
        if written.starts_with('"') {
            return Ok(());
        }
        let first = path.first().map_or("", String::as_str);
        let name = path.join(".");
        let ours = match first.strip_prefix('!') {
            Some(rest) if !rest.is_empty() => format!("-{}:…", name.trim_start_matches('!')),
            _ if first.is_empty() && path.len() > 1 && !path[1].is_empty() => format!("{}:…", &name[1..]),
            _ => return Ok(()),
        };
        let message = format!("no field is called `{name}`");
        let rest: String = self.lexer.rest().chars().take_while(|c| !c.is_whitespace() && *c != ')').collect();
        let hint = format!("write `{}`", ours.replace('…', &rest));
        Err(self.lexer.error(start..self.lexer.at, message, Some(&hint)))
    }

    /// Refuses an end of a range that the field can never be compared with.
    fn check_bound(&self, range: Range<usize>, path: &Path, bound: &Bound) -> Result<(), QueryError> {
        match foreign::bound(path, bound) {
            Some(message) => Err(self.lexer.error(range, message, None)),
            None => Ok(()),
        }
    }

    /// What is asked of a field; an empty path is `has:`.
    fn check(&mut self, start: usize, path: Path) -> Result<Expr, QueryError> {
        if path.is_empty() {
            return self.has();
        }
        if path.iter().any(String::is_empty) {
            return Err(self.lexer.error(start..self.lexer.at, "a field's name is empty", None));
        }
        if self.lexer.peek() == Some('(') {
            return self.values(path);
        }
        let check = self.value(&path)?;
        Ok(Expr::Test(Test { field: Some(path), check }))
    }

    fn has(&mut self) -> Result<Expr, QueryError> {
        let start = self.lexer.at;
        let mut path = Path::new();
        loop {
            let name = match self.lexer.peek() {
                Some('"') => self.lexer.quoted()?,
                _ => self.lexer.word(IN_NAME)?.0.join("*"),
            };
            if name.is_empty() {
                let hint = Some("write `has:error_message`");
                return Err(self.lexer.error(start..self.lexer.at, "`has:` needs a field name", hint));
            }
            path.push(name);
            if !self.lexer.eat(".") {
                break;
            }
        }
        if self.lexer.peek() == Some(':') {
            return Err(self.lexer.error(self.lexer.here(), "`has:` takes a field name only", None));
        }
        Ok(Expr::Test(Test { field: Some(path), check: Check::Exists }))
    }

    /// `(a OR b)` behind a field
    fn values(&mut self, path: Path) -> Result<Expr, QueryError> {
        let open = self.lexer.at;
        self.lexer.eat("(");
        let mut tests = Vec::new();
        loop {
            self.lexer.skip_space();
            let check = self.value(&path)?;
            tests.push(Expr::Test(Test { field: Some(path.clone()), check }));
            self.terms += 1;
            self.lexer.skip_space();
            if self.lexer.eat(")") {
                break;
            }
            if self.lexer.peek().is_none() {
                return Err(self.lexer.error(open..open + 1, "unclosed `(`", Some("add `)`")));
            }
            if !self.lexer.eat_keyword("OR") {
                let hint = Some("write `field:(a OR b)`");
                return Err(self.lexer.error(self.lexer.here(), "values in parentheses are joined by `OR`", hint));
            }
        }
        if self.terms > MAX_TERMS {
            return Err(self.lexer.error(open..open + 1, format!("more than {MAX_TERMS} terms"), None));
        }
        Ok(Expr::or(tests))
    }

    fn value(&mut self, path: &Path) -> Result<Check, QueryError> {
        let start = self.lexer.at;
        match self.lexer.peek() {
            Some('~') => return self.regex(),
            Some('[') => return self.range(path),
            Some('"') => return Ok(Check::Is(Pattern::text(&self.lexer.quoted()?))),
            _ => {}
        }
        for (sign, op) in Op::ALL {
            if self.lexer.eat(sign) {
                let bound = self.bound(IN_VALUE)?;
                if bound.0.is_empty() {
                    let message = format!("a value is missing behind `{sign}`");
                    return Err(self.lexer.error(start..self.lexer.at, message, None));
                }
                self.check_bound(start..self.lexer.at, path, &bound)?;
                return Ok(Check::Compare(*op, bound));
            }
        }
        let pattern = self.lexer.word(IN_VALUE)?;
        if self.lexer.at == start {
            let name = path.join(".");
            let hint = format!("write `{name}:\"\"` for an empty text, `has:{name}` for any value");
            return Err(self.lexer.error(self.lexer.here(), format!("missing value after `{name}:`"), Some(&hint)));
        }
        Ok(pattern.literal().and_then(span).unwrap_or(Check::Is(pattern)))
    }

    /// `~"pattern"`
    fn regex(&mut self) -> Result<Check, QueryError> {
        let start = self.lexer.at;
        self.lexer.eat("~");
        let pattern = match self.lexer.peek() {
            Some('"') => self.lexer.quoted()?,
            _ => {
                let hint = Some("write `~\"pattern\"`");
                return Err(self.lexer.error(start..self.lexer.at, "missing pattern in quotes after `~`", hint));
            }
        };
        match super::predicate::compile(&pattern) {
            Ok(_) => Ok(Check::Matches(pattern)),
            Err(message) => Err(self.lexer.error(start + 1..self.lexer.at, message, None)),
        }
    }

    /// `[a TO b]`
    fn range(&mut self, path: &Path) -> Result<Check, QueryError> {
        let start = self.lexer.at;
        self.lexer.eat("[");
        self.lexer.skip_space();
        let from = self.end()?;
        self.lexer.skip_space();
        let to = match self.lexer.eat_keyword("TO") {
            true => {
                self.lexer.skip_space();
                self.end()?
            }
            false => None,
        };
        self.lexer.skip_space();
        match (from, to, self.lexer.eat("]")) {
            (Some(from), Some(to), true) => {
                for bound in from.iter().chain(&to) {
                    self.check_bound(start..self.lexer.at, path, bound)?;
                }
                Ok(Check::Between(from, to))
            }
            (_, _, closed) => {
                let end = if closed || self.lexer.peek().is_none() { self.lexer.at } else { self.lexer.here().end };
                let hint = Some("write `[a TO b]`, with `*` for an open end");
                Err(self.lexer.error(start..end, "a range needs two ends", hint))
            }
        }
    }

    /// One end of a range: `*` is open; nothing if it is missing.
    fn end(&mut self) -> Result<Option<Option<Bound>>, QueryError> {
        if self.lexer.rest().starts_with('*') {
            self.lexer.eat("*");
            return Ok(Some(None));
        }
        let quoted = self.lexer.peek() == Some('"');
        if self.lexer.is_keyword("TO") {
            return Ok(None);
        }
        let bound = self.bound(IN_RANGE)?;
        Ok((quoted || !bound.0.is_empty()).then_some(Some(bound)))
    }

    fn bound(&mut self, ends: &str) -> Result<Bound, QueryError> {
        match self.lexer.peek() {
            Some('"') => Ok(Bound(self.lexer.quoted()?)),
            _ => Ok(Bound(self.lexer.word(ends)?.0.join("*"))),
        }
    }
}

/// `a..b`, `a..` and `..b`, where both are numbers or times: any other text may have dots.
fn span(text: &str) -> Option<Check> {
    let (from, to) = text.split_once("..")?;
    let bound = |end: &str| Some(Bound(end.to_owned())).filter(|bound| !bound.0.is_empty());
    let (from, to) = (bound(from), bound(to));
    let is_measure = |bound: &Bound| bound.number().is_some() || bound.times().is_some();
    let is_span = (from.is_some() || to.is_some()) && from.iter().chain(&to).all(is_measure);
    is_span.then_some(Check::Between(from, to))
}
