//! The operator between a name and its value: `=`, `:`, `=>`, a comma, a call, a tag, or only space.

use super::chosen::past_adverbs;
use super::ends::cell_sign;
use super::prose::past_phrase;
use super::tested::{past_result, past_selector};
use super::{Class, Name, blanks, is_name_member};
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::marks;
use crate::codec::redaction::names::is_name;
use crate::codec::redaction::reader::Reader;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    /// `=`, `:=`, `<-`, `=>` and their like.
    Assign,
    Colon,
    /// `==`, `!=`
    Compare,
    /// The name is an argument, the value the next.
    Comma,
    /// The name is a function, the value its argument.
    Call,
    /// `<name>`
    Tag,
    /// Cells of a table in Markdown.
    Cell,
    /// Nothing but space.
    Space,
}

#[derive(Clone, Debug)]
pub struct Operator {
    pub sign: Sign,
    /// Where the value may begin.
    pub end: usize,
    /// Whether there is space before the sign.
    pub spaced: bool,
    /// Where the value begins if what stands behind the sign is a type.
    pub typed: Option<usize>,
    /// A call that sets what it names: `setPassword(`, `PASSWORD(`.
    pub sets: bool,
    /// A sentence says what the value is.
    pub mentions: bool,
}

impl Operator {
    fn new(sign: Sign, end: usize) -> Operator {
        Operator { sign, end, spaced: false, typed: None, sets: false, mentions: false }
    }
}

/// Signs that give a value, longest first.
const ASSIGN: &[&str] = &[
    ":::=", "::=", "||=", "&&=", "??=", "<<-", "<<<", "=>", ":=", ":-", "?=", ".=", "+=", "<-", "＝", "??", "||", "?:",
];
const COMPARE: &[&str] = &["===", "!==", "==", "!=", "=~", "<>"];
/// The longest user of a statement, its quotes and host included.
const MAX_USER: usize = 100;
/// The longest type that is looked past.
const MAX_TYPE: usize = 48;

/// What stands behind a name.
pub fn operator(reader: &Reader<'_>, name: &Name) -> Option<Operator> {
    let text = reader.text;
    reader.charge(MAX_TYPE);
    let mut at = name.end;
    if text[at..].begins_with(b"%5") && text[at..].len() > 3 && text[at + 2] | 0x20 == b'd' && text[at + 3] == b'=' {
        return Some(Operator::new(Sign::Assign, at + 4));
    }
    let filled = |end: usize| Operator { sets: true, ..Operator::new(Sign::Compare, end) };
    // An index, an optional member, an array of C, bold text in Markdown.
    loop {
        match text.get(at) {
            Some(b']') if name.quotes.is_none() && past_found(text, at).is_some() => {
                return past_found(text, at).map(filled);
            }
            Some(b']') if name.quotes.is_none() && !text[..name.range.start].closes_with(b"[") => break,
            Some(b']' | b'?' | b'!' | b'*') if text.get(at + 1) != Some(&b'=') || text[at] == b']' => at += 1,
            // `find("password").fill("x")`
            Some(b')') if name.quotes.is_some() && past_call(text, at + 1, FILLS).is_some() => {
                return past_call(text, at + 1, FILLS).map(filled);
            }
            // `password.fill("x")`
            Some(b'.') if name.quotes.is_none() && past_call(text, at, FILLS).is_some() => {
                return past_call(text, at, FILLS).map(filled);
            }
            Some(b'.') if name.quotes.is_none() && past_member(text, name, at).is_some() => {
                return past_member(text, name, at).map(|end| Operator::new(Sign::Assign, end));
            }
            Some(b'.' | b')') if name.quotes.is_none() => {
                let compared = past_call(text, at, EQUALS).map(|end| Operator::new(Sign::Compare, end));
                match compared.or_else(|| past_dots(text, at).map(|end| Operator::new(Sign::Assign, end))) {
                    Some(operator) => return Some(operator),
                    None => break,
                }
            }
            // `getPassword().equals("x")`
            Some(b'(') if name.quotes.is_none() && text.get(at + 1) == Some(&b')') => {
                match past_call(text, at + 2, EQUALS).or_else(|| past_result(text, at)) {
                    Some(end) => return Some(Operator::new(Sign::Compare, end)),
                    None => break,
                }
            }
            Some(b'"' | b'\'' | b'`') if name.quotes.is_some() && text[at - 1] == b']' => {
                match past_selector(text, name.range.start, at).or_else(|| past_found(text, at)) {
                    Some(end) => return Some(filled(end)),
                    None => break,
                }
            }
            // `page.fill("#password", "x")`
            Some(b',') if name.quotes.is_some() && text[..name.range.start].closes_with(b"#") => {
                match past_selector(text, name.range.start, at - 1) {
                    Some(end) => return Some(filled(end)),
                    None => break,
                }
            }
            Some(b'}') if name.quotes.is_none() => at += 1,
            Some(b')') if name.quotes.is_some() => at += 1,
            Some(b'[') if name.quotes.is_none() => {
                let digits = text[at + 1..].iter().take(6).take_while(|b| b.is_ascii_digit()).count();
                if text.get(at + 1 + digits) != Some(&b']') {
                    break;
                }
                at += digits + 2;
            }
            _ => break,
        }
    }
    // One more word between a name in another script and the colon, or `(…)`.
    if name.is_foreign {
        at = past_foreign_word(text, at);
    }
    let to = blanks(text, at);
    if let Some(end) = past_alias(text, name, to) {
        return Some(Operator::new(Sign::Assign, end));
    }
    if text[name.range.clone()].eq_ignore_ascii_case(b"identified") {
        return identified(text, name.end);
    }
    let make =
        |sign, len: usize| Operator { sign, end: to + len, spaced: to > at, typed: None, sets: false, mentions: false };
    let rest = &text[to..];
    let first = rest.first().copied().unwrap_or(b'\n');
    let starts = |signs: &[&str]| {
        let is = |sign: &&&str| sign.as_bytes()[0] == first && rest.starts_with(sign.as_bytes());
        signs.iter().find(is).map(|sign| sign.len())
    };
    if matches!((first, rest.get(1)), (b'=', Some(b'=' | b'~')) | (b'!', Some(b'=')) | (b'<', Some(b'>')))
        && let Some(len) = starts(COMPARE)
    {
        return Some(make(Sign::Compare, len));
    }
    if let Some(end) = past_set_user(text, name, to) {
        return Some(Operator::new(Sign::Assign, end));
    }
    if let Some(end) = past_phrase(reader, name, at).map(|end| past_adverbs(text, end)) {
        return Some(Operator { mentions: true, ..make(Sign::Space, end - to) });
    }
    if let Some(end) = past_verb(text, name, at, to).map(|end| past_adverbs(text, end)) {
        return Some(Operator { mentions: true, ..make(Sign::Space, end - to) });
    }
    if to > at
        && first == b'-'
        && let Some(option) = VALUE_OPTIONS.iter().find(|option| rest.starts_with(option.as_bytes()))
    {
        return Some(make(Sign::Assign, option.len()));
    }
    // `AUTH PLAIN x` of mail servers.
    if &text[name.range.clone()] == b"AUTH" && (rest.begins_with(b"PLAIN ") || rest.begins_with(b"LOGIN ")) {
        return Some(make(Sign::Space, 6));
    }
    // `password 7 x` of routers: how it is encrypted.
    if to > at && matches!(rest, [b'0' | b'5'..=b'9', b' ', next, ..] if next.is_ascii_graphic()) {
        return Some(make(Sign::Space, 2));
    }
    // `pre-shared-key ascii-text "x"`
    if to > at
        && matches!(first, b'a' | b'h' | b'c' | b's' | b'p')
        && let Some(kind) = WRITTEN.iter().find(|kind| rest.starts_with(kind.as_bytes()))
    {
        return Some(make(Sign::Assign, kind.len()));
    }
    if first == 0xE2 && ARROWS.iter().any(|arrow| rest.starts_with(arrow.as_bytes())) {
        return Some(make(Sign::Cell, 3));
    }
    if to > at && first == 0xE2 && cell_sign(rest) > 0 {
        return Some(make(Sign::Cell, 3));
    }
    let like = to > at
        && matches!(first | 0x20, b'l' | b'i')
        && rest.len() > 6
        && (rest[..5].eq_ignore_ascii_case(b"like ") || rest[..6].eq_ignore_ascii_case(b"ilike "));
    if like {
        return Some(make(Sign::Assign, 5));
    }
    // `"password" to "x"` in a map of Kotlin.
    if to > at && first == b't' && name.quotes.is_some() && rest.begins_with(b"to \"") {
        let (_, open) = reader.context(name.range.start).bracket.filter(|(bracket, _)| *bracket == b'(')?;
        return text[..open].closes_with(b"Of").then(|| make(Sign::Assign, 3));
    }
    if to > at && first == b'b' && rest.begins_with(b"by lazy {") {
        return Some(make(Sign::Assign, 8));
    }
    // `let(:password) { "x" }`
    if to == at && rest.begins_with(b") {") && text[..name.range.start].closes_with(b"(:") {
        return Some(make(Sign::Assign, 2));
    }
    // `${PASSWORD:?required}`
    if to == at && first == b':' && rest.begins_with(b":?") && text[..name.range.start].closes_with(b"${") {
        return None;
    }
    // `arn:aws:secretsmanager:…:secret:x` joins words without a name among them.
    let urn = name.range.start > 0
        && text[name.range.start - 1] == b':'
        && rest.first() == Some(&b':')
        && to == at
        && name.quotes.is_none();
    if urn && rest.get(1).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    // Most signs are one byte.
    let several = match first {
        b'=' => rest.get(1) == Some(&b'>'),
        b':' => matches!(rest.get(1), Some(b'=' | b'-')) || rest.begins_with(b"::=") || rest.begins_with(b":::="),
        _ => const { &ByteSet::of(b"|&?<.+\xEF") }.has(&first),
    };
    if several && let Some(len) = starts(ASSIGN) {
        return Some(make(Sign::Assign, len));
    }
    match rest.first()? {
        b'=' => Some(make(Sign::Assign, 1)),
        // `password::String = "x"` of Julia.
        b':' if rest.get(1) == Some(&b':') => {
            let typed = past_type(reader, to + 2).filter(|_| to == at && name.quotes.is_none())?;
            Some(Operator { spaced: true, ..Operator::new(Sign::Assign, typed) })
        }
        b':' => {
            Some(Operator { typed: past_type(reader, to + 1), ..make(Sign::Colon, 1 + closing_markup(&rest[1..])) })
        }
        0xEF if rest.starts_with("：".as_bytes()) => Some(make(Sign::Colon, 3)),
        b',' if name.quotes.is_some() || text[name.range.clone()].begins_with(b"-") => Some(make(Sign::Comma, 1)),
        // `dn: cn=password,ou=policies`: the word is itself what a name is given.
        b',' if text[..name.range.start].closes_with(b"=") => None,
        b',' if to == at && rest.get(1).is_some_and(u8::is_ascii_alphanumeric) => Some(make(Sign::Comma, 1)),
        b',' if matches!(text.get(blanks(text, to + 1)), Some(b'"' | b'\'')) => Some(make(Sign::Comma, 1)),
        // `Sec-WebSocket-Protocol: access_token, x`
        b',' if text[..name.range.start].closes_with(b"rotocol: ") => Some(make(Sign::Comma, 1)),
        // `std::string password{"x"};`
        b'{' if to == at && name.quotes.is_none() && rest.get(1) == Some(&b'"') => Some(make(Sign::Assign, 1)),
        b'-' if to > at && rest.begins_with(b"--> ") && !text[..name.range.start].closes_with(b"<!-- ") => {
            Some(make(Sign::Cell, 3))
        }
        b'-' if to > at && rest.begins_with(b"-> ") => Some(make(Sign::Cell, 2)),
        b'-' if to > at && rest.get(1) == Some(&b' ') => Some(make(Sign::Cell, 1)),
        b'(' if to == at && name.quotes.is_none() => Some(Operator { sets: sets(text, name), ..make(Sign::Call, 1) }),
        b'>' if name.quotes.is_none() => Some(make(Sign::Tag, 1)),
        // `$mnemonic}|$x`
        b'|' if text[..to].closes_with(b"}") => None,
        b'|' => Some(make(Sign::Cell, 1)),
        _ if to > at && !(at > name.end && name.quotes.is_none() && matches!(text[at - 1], b']' | b'}')) => {
            let typed = past_declaration(reader, to);
            Some(Operator { typed, ..make(Sign::Space, 0) })
        }
        _ => None,
    }
}

/// Where a verb ends that says what the name is, behind words of its own script: `is`, `ist`, `است`.
fn past_verb(text: &[u8], name: &Name, at: usize, to: usize) -> Option<usize> {
    let rest = &text[to..];
    if name.quotes.is_some() || !name.is_foreign && !rest.first().is_some_and(|first| VERB_HEADS.has(first)) {
        // `the password's still x`; without another word it may be the password's length.
        let own = to == at && name.quotes.is_none() && rest.begins_with(b"'s ");
        return own.then(|| past_adverbs(text, to + 2)).filter(|end| *end > to + 2);
    }
    let verb = VERBS_OF_BEING.iter().find(|verb| {
        if rest.first() != verb.as_bytes().first() {
            return false;
        }
        let behind = rest.get(verb.len());
        // Chinese and Japanese have no blank behind a verb.
        let joined = JOINED_VERBS.contains(verb) && behind.is_some_and(u8::is_ascii_graphic);
        rest.starts_with(verb.as_bytes()) && (joined || matches!(behind, Some(b' ' | b':' | b'=')))
    });
    let Some(verb) = verb else {
        // `رمز عبور من x است`, `گذرواژه کاربر bob برابر است با x`
        let foreign = to > at && name.is_foreign;
        let mut to = to;
        for _ in 0..if foreign { MAX_FOREIGN_WORDS } else { 0 } {
            let letters = |at: usize| text[at..].iter().take(24).take_while(|b| **b >= 0x80).count();
            let word = match letters(to) {
                0 => past_user(text, to),
                letters => letters,
            };
            to = if text.get(to + word) == Some(&b' ') { blanks(text, to + word) } else { to };
        }
        let rest = &text[to..];
        let value = !rest.begins_with(b"- ")
            && rest.first().is_some_and(|b| b.is_ascii_graphic() && !const { &ByteSet::of(b":=,;.([{<\"'`|") }.has(b));
        let quoted = || rest.starts_with("«".as_bytes()) || rest.starts_with("“".as_bytes());
        return (foreign && (value || quoted())).then_some(to);
    };
    if to == at && verb.is_ascii() {
        return None;
    }
    let end = to + verb.len();
    let sign = blanks(text, end);
    Some(if matches!(text.get(sign), Some(b':' | b'=')) { sign + 1 } else { end })
}

/// How long a word is that says whose password it is: other words of the sentence follow, and no verb.
fn past_user(text: &[u8], at: usize) -> usize {
    let word = text[at..].iter().take(24).take_while(|b| is_name(**b)).count();
    let next = &text[at + word..text.len().min(at + word + 40)];
    let follows = next.first() == Some(&b' ') && next.get(1).is_some_and(|b| *b >= 0x80);
    let says = |verb: &&str| next.get(1..).is_some_and(|next| next.starts_with(verb.as_bytes()));
    let ends = ENDING_VERBS.iter().any(says) || next.starts_with(" می".as_bytes());
    if follows && !ends { word } else { 0 }
}

/// `SELECT 'password' AS name, 'x' AS value`: where the literal begins behind the column that holds the name.
fn past_alias(text: &[u8], name: &Name, at: usize) -> Option<usize> {
    name.quotes.filter(|(_, quote, _)| *quote == b'\'')?;
    text.get(at..at + 3).filter(|word| word.eq_ignore_ascii_case(b"as "))?;
    let len = text[at + 3..].iter().take(32).take_while(|b| is_name(**b)).count();
    let comma = at + 3 + len;
    let value = blanks(text, comma + 1);
    let named = std::str::from_utf8(&text[at + 3..comma]).is_ok_and(is_name_member);
    (named && text.get(comma) == Some(&b',') && text.get(value) == Some(&b'\'')).then_some(value)
}

/// How long the markup is that closes around a label: `**`, `__`, `</b>`.
fn closing_markup(rest: &[u8]) -> usize {
    if rest.begins_with(b"**") || rest.begins_with(b"__") {
        return 2;
    }
    if rest.begins_with(b"* ") {
        return 1;
    }
    match rest {
        [b'<', b'/', name @ ..] => {
            let len = name.iter().take(8).take_while(|b| b.is_ascii_alphanumeric()).count();
            if name.get(len) == Some(&b'>') { len + 3 } else { 0 }
        }
        _ => 0,
    }
}

/// `SET PASSWORD FOR 'bob'@'h' = 'x'`: behind the sign.
fn past_set_user(text: &[u8], name: &Name, at: usize) -> Option<usize> {
    let is = |part: Option<&[u8]>, word: &[u8]| part.is_some_and(|part| part.eq_ignore_ascii_case(word));
    let start = name.range.start;
    if !is(text.get(at..at + 4), b"for ") || !is(text.get(start.wrapping_sub(4)..start), b"set ") {
        return None;
    }
    let user = &text[at + 4..text.len().min(at + 4 + MAX_USER)];
    let end = user.iter().position(|b| const { &ByteSet::of(b"=\n;") }.has(b))?;
    (user[end] == b'=').then_some(at + 4 + end + 1)
}

/// `IDENTIFIED BY 'x'`, `IDENTIFIED WITH plugin BY 'x'`, in a statement about a user.
fn identified(text: &[u8], at: usize) -> Option<Operator> {
    let rest = &text[at..text.len().min(at + 64)];
    let lower = rest.to_ascii_lowercase();
    let mut by = memchr::memmem::find(&lower, b" by ")? + 4;
    if lower[by..].begins_with(b"password ") {
        by += 9;
    }
    let statement = &text[at.saturating_sub(160)..at].to_ascii_lowercase();
    let capitals = text[at - 10..at].iter().all(u8::is_ascii_uppercase);
    let user = capitals
        || [&b"user"[..], b"role", b"grant", b"login", b"account"]
            .iter()
            .any(|word| memchr::memmem::find(statement, word).is_some());
    user.then_some(Operator {
        sign: Sign::Assign,
        end: at + by,
        spaced: true,
        typed: None,
        sets: false,
        mentions: false,
    })
}

/// The most words between a name in another script and its value.
const MAX_FOREIGN_WORDS: usize = 6;
/// Verbs that stand behind what they say.
pub(super) const ENDING_VERBS: &[&str] =
    &["است", "هست", "می‌باشد", "میباشد", "می باشد", "です", "だ", "입니다", "이에요", "예요"];
/// What leads from a name to its value in a chat.
const ARROWS: &[&str] = &["→", "⇒", "➜", "➡", "➔", "⟶"];
/// Verbs that say what something is.
const VERBS_OF_BEING: &[&str] = &[
    "is", "was", "are", "ist", "lautet", "est", "es", "é", "è", "jest", "это", "—", "–", "是", "为", "は", "está",
    "هي", "هو",
];
/// The first bytes of these verbs.
const VERB_HEADS: &ByteSet = &{
    let (mut heads, mut nth) = ([0; VERBS_OF_BEING.len()], 0);
    while nth < VERBS_OF_BEING.len() {
        heads[nth] = VERBS_OF_BEING[nth].as_bytes()[0];
        nth += 1;
    }
    ByteSet::of(&heads)
};
/// Those of them that stand right in front of what they say.
const JOINED_VERBS: &[&str] = &["是", "为", "は"];
/// Options that hold the value of what a command names before them.
const VALUE_OPTIONS: &[&str] =
    &["-b ", "--body ", "--value ", "-v ", "--secret-string ", "-value ", "--data-file=<(echo "];
/// How routers are told that a secret is written.
const WRITTEN: &[&str] =
    &["ascii-text ", "hexadecimal ", "cipher ", "simple ", "plain-text ", "plaintext ", "ascii ", "clear-text "];
/// Calls that compare what they are called on.
const EQUALS: &[&str] = &[
    ").toBe(",
    ").toEqual(",
    ").toStrictEqual(",
    ").to.equal(",
    ").isEqualTo(",
    ").to eq(",
    ".equals(",
    ".equalsIgnoreCase(",
    ".contentEquals(",
    ".startsWith(",
    ".startswith(",
    ".isEqualTo(",
    ").willReturn(",
    ".willReturn(",
    ").thenReturn(",
    ".thenReturn(",
    ").andReturn(",
    ").and_return(",
    ".mockReturnValue(",
    ".Should().Be(",
];

/// Where the argument of one of these calls begins, if one stands at `at`.
fn past_call(text: &[u8], at: usize, calls: &[&str]) -> Option<usize> {
    calls.iter().find(|call| text[at..].starts_with(call.as_bytes())).map(|call| at + call.len())
}

/// `[name=password]').type("x")`: behind what closes around a name in a selector, where a call fills in what was found.
#[inline(never)]
fn past_found(text: &[u8], at: usize) -> Option<usize> {
    let closes = |b: &&u8| const { &ByteSet::of(b"]\"'`\\") }.has(b);
    let call = at + text[at..].iter().take(6).take_while(closes).count();
    (text.get(call) == Some(&b')')).then(|| past_call(text, call + 1, FILLS)).flatten()
}

/// `password........x`, as some loggers set off what they print.
#[inline(never)]
fn past_dots(text: &[u8], at: usize) -> Option<usize> {
    let dots = text[at..].iter().take(MAX_TYPE).take_while(|b| **b == b'.').count();
    // A table of contents has a page or a link there.
    let value = &text[at + dots..];
    let page = value.begins_with(b"|") || value.iter().take_while(|b| !b.is_ascii_whitespace()).all(u8::is_ascii_digit);
    (dots > 3 && !page).then_some(at + dots)
}

/// Members of a field or setting that hold what it is given: `password.value = "x"`.
const MEMBERS: &[&str] = &[".value", ".default", ".Value", ".defaultValue"];

/// Where the sign ends behind such a member.
fn past_member(text: &[u8], name: &Name, at: usize) -> Option<usize> {
    let member = MEMBERS.iter().find(|member| text[at..].starts_with(member.as_bytes()))?;
    let sign = blanks(text, at + member.len());
    let gives = text.get(sign) == Some(&b'=') && !matches!(text.get(sign + 1), Some(b'=' | b'>'));
    (gives && matches!(name.class, Class::Password | Class::Short | Class::Key | Class::Secret)).then_some(sign + 1)
}

/// Calls that fill in what was found by its name.
#[rustfmt::skip]
const FILLS: &[&str] = &[
    ".send_keys(", ".sendKeys(", ".type(", ".fill(", ".set(", ".setValue(", ".typeText(", ".clear().type(", ".unwrap_or(",
    ".unwrap_or_else(|_| ", ".orElse(",
];

/// How calls begin that are about a secret and are not given it, or not first.
#[rustfmt::skip]
const VERBS: &[&str] = &[
    "get", "check", "verify", "is", "has", "find", "add", "store", "save", "validate", "test", "hash", "compare",
    "match", "fetch", "read", "lookup", "load", "ask", "prompt", "generate", "make", "parse", "assert", "expect",
    "require", "remove", "delete", "forget", "process", "insert", "handle",
];

/// Whether a call sets what it names: `setPassword(`, `.password(`, `withToken(`, `PASSWORD(`.
fn sets(text: &[u8], name: &Name) -> bool {
    let word = &text[name.range.clone()];
    let word = &word[word.iter().take_while(|b| **b == b'_').count()..];
    let starts = |prefix: &[u8]| word.len() > prefix.len() && word[..prefix.len()].eq_ignore_ascii_case(prefix);
    let method = name.range.start > 0 && matches!(text[name.range.start - 1], b'.' | b':' | b'>' | b'_');
    method && !VERBS.iter().any(|verb| starts(verb.as_bytes()))
        || starts(b"set")
        || starts(b"with")
        || word.iter().all(|b| b.is_ascii_uppercase() || *b == b'_')
}

/// Where the value stands behind a type, as in `password: str = "x"`.
fn past_type(reader: &Reader<'_>, at: usize) -> Option<usize> {
    let text = reader.text;
    let start = blanks(text, at);
    if let Some(whole) =
        [&b"[]const u8 = "[..], b"constant String := "].iter().find(|whole| text[start..].starts_with(whole))
    {
        return Some(start + whole.len());
    }
    let equals = reader.end_of(marks::TYPE, start, MAX_TYPE);
    if !matches!(text.get(equals), Some(b'=' | b'(')) {
        return None;
    }
    let of_type = &text[start..equals];
    // `&'static str`
    let lifetime = of_type.begins_with(b"&'");
    let two_words = |three: &[u8]| three[1] == b' ' && is_name(three[0]) && is_name(three[2]) && three[0] != b'r';
    // `Annotated[str, Field()]`
    if text.get(equals) == Some(&b'(') && of_type.begins_with(b"Annotated[") {
        let reach = &text[equals..text.len().min(equals + 2 * MAX_TYPE)];
        let reach = &reach[..memchr::memchr(b'\n', reach).unwrap_or(reach.len())];
        return memchr::memmem::find(reach, b"] = ").map(|at| equals + at + 4);
    }
    let begins = of_type.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'&');
    let typed = text.get(equals) == Some(&b'=') && !matches!(text.get(equals + 1), Some(b'=' | b'>'));
    let spaced = of_type.last() == Some(&b' ');
    (typed && begins && spaced && (lifetime || !of_type.windows(3).any(two_words))).then_some(equals + 1)
}

/// Where the value stands behind a type without a colon: `password string = "x"`, `As String =`, `varchar(20) =`,
/// `{ get; set; } =`.
fn past_declaration(reader: &Reader<'_>, at: usize) -> Option<usize> {
    let text = reader.text;
    if text[at..].begins_with(b"{ get; set; } =") {
        return Some(at + 15);
    }
    // The default of a field of Go, and a declaration of ABAP.
    if let Some(whole) =
        [&b"string `default:"[..], b"TYPE string VALUE "].iter().find(|whole| text[at..].starts_with(whole))
    {
        return Some(at + whole.len());
    }
    let equals = reader.end_of(marks::DECLARATION, at, MAX_TYPE / 2);
    let len = equals - at;
    let sign = match text.get(equals..equals + 2)? {
        b":=" => 2,
        [b'=', next] if *next != b'=' => 1,
        _ => return None,
    };
    (len > 1 && text[at].is_ascii_alphabetic() && text[..equals].closes_with(b" ")).then_some(equals + sign)
}

/// The most words between a name in another script and the colon: `пароль от почты:`.
const MAX_WORDS_OF_NAME: usize = 3;

fn past_foreign_word(text: &[u8], at: usize) -> usize {
    if JOINED_VERBS.iter().any(|verb| text[at..].starts_with(verb.as_bytes())) {
        return at;
    }
    let word = |b: &&u8| **b >= 0x80 && !text[at..].starts_with("：".as_bytes());
    let letters = text[at..].iter().take(24).take_while(word).count();
    // The full-width colon is no letter.
    let colon = text[at..at + letters].place_of("：".as_bytes().first_chunk::<3>().expect("it has three bytes"));
    let to = at + colon.unwrap_or(letters);
    let mut end = to;
    for _ in 0..MAX_WORDS_OF_NAME {
        let gap = blanks(text, end);
        let more = text.get(gap..).unwrap_or_default().iter().take(24).take_while(|b| **b >= 0x80).count();
        let sign = blanks(text, gap + more);
        match text.get(sign) {
            _ if more == 0 => break,
            Some(b':' | b'=') => return sign,
            _ => end = gap + more,
        }
    }
    to
}
