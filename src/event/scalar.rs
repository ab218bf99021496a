//! The scanner's safe twin: byte by byte, with baseline instructions only.

use super::escape::hex4;
use super::scan::{MAX_DEPTH, MAX_KEYS, Member, Reason, Unfit};

#[derive(Default)]
pub struct Walk {
    /// Whether each open container is an object.
    open: Vec<bool>,
    /// Where the value of the last member `id` of the outermost object begins.
    pub id: Option<u32>,
}

impl Walk {
    /// Whether the members of the outermost object are next.
    fn at_top(&self) -> bool {
        self.open.len() == 1 && self.open[0]
    }

    /// Validates the value that `text` begins with and tells where it ends.
    pub fn run(&mut self, text: &[u8], mut members: Option<&mut Vec<Member>>) -> Result<usize, Unfit> {
        self.open.clear();
        self.id = None;
        let mut keys = 0;
        let mut at = space(text, 0);
        if at == text.len() {
            return fail(at, Reason::Empty);
        }
        let mut key: Option<(u32, u32)> = None;
        loop {
            // A value is due at `at`.
            let start = at;
            if self.at_top() && key.is_some_and(|(key, len)| len == 2 && text[key as usize + 1..].starts_with(b"id")) {
                self.id = Some(start as u32);
            }
            match text.get(at) {
                Some(b'{' | b'[') => {
                    if self.open.len() == MAX_DEPTH {
                        return fail(at, Reason::TooDeep);
                    }
                    let object = text[at] == b'{';
                    if let (true, Some(members), Some((at, len))) = (self.at_top(), members.as_deref_mut(), key.take())
                    {
                        members.push(Member { key: at, key_len: len, value: start as u32, value_len: 0 });
                    }
                    self.open.push(object);
                    at = space(text, at + 1);
                    if text.get(at) == Some(&if object { b'}' } else { b']' }) {
                        // Closed below like any other.
                    } else if object {
                        (at, key) = member_name(text, at, &mut keys)?;
                        continue;
                    } else {
                        continue;
                    }
                }
                Some(b'"') => at = string(text, at)?,
                Some(b't') => at = literal(text, at, b"true")?,
                Some(b'f') => at = literal(text, at, b"false")?,
                Some(b'n') => at = literal(text, at, b"null")?,
                Some(b'-' | b'0'..=b'9') => at = number(text, at)?,
                Some(_) => return fail(at, Reason::ExpectedValue),
                None if self.open.is_empty() => return fail(at, Reason::ExpectedValue),
                None => return fail(at, Reason::Unclosed),
            }
            if let (true, Some(members), Some((key, len))) = (self.at_top(), members.as_deref_mut(), key.take()) {
                members.push(Member { key, key_len: len, value: start as u32, value_len: (at - start) as u32 });
            }
            // A value has ended at `at`, or an empty container is about to.
            loop {
                if self.open.is_empty() {
                    return Ok(at);
                }
                at = space(text, at);
                let object = self.open[self.open.len() - 1];
                match text.get(at) {
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    Some(b',') => {
                        at = space(text, at + 1);
                        if object {
                            (at, key) = member_name(text, at, &mut keys)?;
                        }
                        break;
                    }
                    Some(_) => return fail(at, Reason::ExpectedCommaOrEnd),
                    None => return fail(at, Reason::Unclosed),
                }
                at += 1;
                self.open.pop();
                if let (true, Some(members)) = (self.at_top(), members.as_deref_mut())
                    && let Some(last) = members.last_mut()
                {
                    last.value_len = at as u32 - last.value;
                }
            }
        }
    }
}

fn fail<T>(offset: usize, reason: Reason) -> Result<T, Unfit> {
    Err(Unfit { offset, reason })
}

fn space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Where the member's value is due, and where its name stands.
fn member_name(text: &[u8], at: usize, keys: &mut usize) -> Result<(usize, Option<(u32, u32)>), Unfit> {
    *keys += 1;
    if *keys > MAX_KEYS {
        return fail(at, Reason::TooManyKeys);
    }
    match text.get(at) {
        Some(b'"') => {}
        Some(_) => return fail(at, Reason::ExpectedName),
        None => return fail(at, Reason::Unclosed),
    }
    let end = string(text, at)?;
    let colon = space(text, end);
    match text.get(colon) {
        Some(b':') => Ok((space(text, colon + 1), Some((at as u32, (end - at - 2) as u32)))),
        Some(_) => fail(colon, Reason::ExpectedColon),
        None => fail(colon, Reason::Unclosed),
    }
}

fn string(text: &[u8], start: usize) -> Result<usize, Unfit> {
    let mut at = start + 1;
    loop {
        match text.get(at) {
            None => return fail(start, Reason::UnclosedString),
            Some(b'"') => break,
            Some(0..=0x1F) => return fail(at, Reason::ControlCharacter),
            Some(b'\\') => at = escape(text, at)?,
            Some(_) => at += 1,
        }
    }
    match std::str::from_utf8(&text[start + 1..at]) {
        Ok(_) => Ok(at + 1),
        Err(error) => fail(start + 1 + error.valid_up_to(), Reason::Utf8),
    }
}

fn escape(text: &[u8], at: usize) -> Result<usize, Unfit> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            if !is_hex4(text, at + 2) {
                return fail(at, Reason::Escape);
            }
            match hex4(text, at + 2) {
                0xD800..=0xDBFF => {
                    let low = text.get(at + 6..at + 8) == Some(b"\\u")
                        && is_hex4(text, at + 8)
                        && (0xDC00..=0xDFFF).contains(&hex4(text, at + 8));
                    if low { Ok(at + 12) } else { fail(at, Reason::LoneSurrogate) }
                }
                0xDC00..=0xDFFF => fail(at, Reason::LoneSurrogate),
                _ => Ok(at + 6),
            }
        }
        Some(_) => fail(at, Reason::Escape),
        None => fail(at, Reason::UnclosedString),
    }
}

fn is_hex4(text: &[u8], at: usize) -> bool {
    text.get(at..at + 4).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

fn literal(text: &[u8], at: usize, word: &[u8]) -> Result<usize, Unfit> {
    if text[at..].starts_with(word) { Ok(at + word.len()) } else { fail(at, Reason::ExpectedValue) }
}

pub(super) fn number(text: &[u8], start: usize) -> Result<usize, Unfit> {
    let mut at = start + usize::from(text[start] == b'-');
    match text.get(at) {
        Some(b'0') => at += 1,
        Some(b'1'..=b'9') => at = digits(text, at),
        _ => return fail(start, Reason::Number),
    }
    if text.get(at) == Some(&b'.') {
        at = some_digits(text, at + 1, start)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(text.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        at = some_digits(text, at, start)?;
    }
    Ok(at)
}

fn some_digits(text: &[u8], at: usize, start: usize) -> Result<usize, Unfit> {
    let end = digits(text, at);
    if end == at { fail(start, Reason::Number) } else { Ok(end) }
}

fn digits(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b'0'..=b'9')) {
        at += 1;
    }
    at
}
