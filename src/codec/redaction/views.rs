//! Decoded text with a map from each byte back to its place in the source.

use super::literals::Literals as _;
use crate::event::escape::hex4;

/// How a text may hide what it says; several can be true at once.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Disguises {
    /// `\u0041`: JSON written into a string.
    pub json: bool,
    /// `%41`
    pub percent: bool,
    /// `&#65;` and `&#x41;`
    pub entity: bool,
    /// Characters of no width, full-width and mathematical letters, terminal colours.
    pub shape: bool,
}

impl Disguises {
    /// Without those that stand within one string of JSON, where they are seen through: escapes may belong to several.
    pub fn of_json(self) -> Disguises {
        Disguises { percent: false, entity: false, ..self }
    }

    /// Those that hide again, in the same way, what was decoded once.
    pub fn again(self, next: Disguises) -> Disguises {
        let same = Disguises { percent: self.percent, entity: self.entity, ..Disguises::default() };
        let others = Disguises { percent: false, entity: false, ..next };
        let is_same =
            others == Disguises::default() && (same.percent || !next.percent) && (same.entity || !next.entity);
        if is_same { next } else { Disguises::default() }
    }
}

pub struct View {
    pub bytes: Vec<u8>,
    /// Where each byte came from; one more entry says where the text ends.
    from: Vec<u32>,
}

impl View {
    /// The part of the original text behind a part of the view.
    pub fn origin(&self, start: usize, end: usize) -> (usize, usize) {
        (self.from[start] as usize, self.from[end] as usize)
    }

    /// How long the original text is.
    pub fn source_len(&self) -> usize {
        self.from.last().map_or(0, |end| *end as usize)
    }

    /// What the view says once it is decoded in turn.
    pub fn decoded(&self, disguises: Disguises) -> View {
        let View { bytes, from } = View::of(&self.bytes, disguises);
        View { bytes, from: from.into_iter().map(|at| self.from[at as usize]).collect() }
    }

    /// Where a place of the original text stands in the view.
    pub fn place(&self, at: usize) -> usize {
        self.from.partition_point(|from| (*from as usize) < at).min(self.bytes.len())
    }

    /// The same JSON without the escapes that JSON can do without, such as `\u0041` and `\/`; nothing if it has none.
    pub fn of_json(text: &[u8]) -> Option<View> {
        let mut at = 0;
        loop {
            at += memchr::memchr(b'\\', &text[at..])?;
            if needless(&text[at..]).is_some() {
                break;
            }
            at += 2;
        }
        let (mut bytes, mut from) = (text[..at].to_vec(), (0..at as u32).collect::<Vec<u32>>());
        while at < text.len() {
            let plain = memchr::memchr(b'\\', &text[at..]).unwrap_or(text.len() - at);
            bytes.extend_from_slice(&text[at..at + plain]);
            from.extend(at as u32..(at + plain) as u32);
            at += plain;
            if at == text.len() {
                break;
            }
            let used = match needless(&text[at..]) {
                Some((char, used)) => {
                    bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                    used
                }
                // Of two backslashes the second begins nothing.
                None if text[at..].begins_with(b"\\") => {
                    let two = &text[at..text.len().min(at + 2)];
                    bytes.push(two[0]);
                    from.push(at as u32);
                    at += 1;
                    bytes.extend_from_slice(&two[1..]);
                    two.len() - 1
                }
                None => {
                    bytes.push(text[at]);
                    1
                }
            };
            from.resize(bytes.len(), at as u32);
            at += used;
        }
        from.push(text.len() as u32);
        Some(View { bytes, from })
    }

    /// What `text` says to someone who sees through these disguises, all at once: each may stand within another.
    pub fn of(text: &[u8], disguises: Disguises) -> View {
        let all: [(bool, Decoder); 4] = [
            (disguises.json, json),
            (disguises.percent, percent),
            (disguises.entity, entity),
            (disguises.shape, shape),
        ];
        let decoders: Vec<Decoder> = all.iter().filter(|(wanted, _)| *wanted).map(|(_, decoder)| *decoder).collect();
        let (mut bytes, mut from, mut at) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len() + 1), 0);
        while at < text.len() {
            let plain = if disguises.shape { 0 } else { plain_len(&text[at..], disguises) };
            bytes.extend_from_slice(&text[at..at + plain]);
            from.extend(at as u32..(at + plain) as u32);
            at += plain;
            let Some(byte) = text.get(at) else { break };
            let decoded = decoders.iter().find_map(|decode| decode(&text[at..]));
            let (decoded, used) = decoded.unwrap_or((Decoded::Byte(*byte), 1));
            match decoded {
                Decoded::Nothing => {}
                Decoded::Byte(byte) => bytes.push(byte),
                Decoded::Char(char) => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
            from.resize(bytes.len(), at as u32);
            at += used;
        }
        from.push(text.len() as u32);
        View { bytes, from }
    }
}

/// How many bytes at the head of a text hide nothing, whichever of these ways is taken; no shapes are among them.
fn plain_len(text: &[u8], disguises: Disguises) -> usize {
    let next = |wanted: bool, byte: u8| if wanted { byte } else { b'\\' };
    // Who sees through one of them only pays for one more byte to stop at.
    let (percent, entity) = (next(disguises.percent, b'%'), next(disguises.entity, b'&'));
    memchr::memchr3(b'\\', percent, entity, text).unwrap_or(text.len())
}

/// What an escape at the head of a text says, and how long it is, if JSON could have it as it is.
fn needless(rest: &[u8]) -> Option<(char, usize)> {
    match rest {
        [b'\\', b'/', ..] => Some(('/', 2)),
        [b'\\', b'u', ..] => {
            let (code, len) = match hex4(rest, 2) {
                high @ 0xD800..=0xDBFF if rest.get(6..).is_some_and(|rest| rest.begins_with(b"\\u")) => {
                    match hex4(rest, 8) {
                        low @ 0xDC00..=0xDFFF => (0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), 12),
                        _ => return None,
                    }
                }
                code => (code, 6),
            };
            char::from_u32(code).filter(|char| !matches!(char, '\0'..='\x1F' | '"' | '\\')).map(|char| (char, len))
        }
        _ => None,
    }
}

/// Gives what the head of a text stands for, and how many bytes of it do.
type Decoder = fn(&[u8]) -> Option<(Decoded, usize)>;

enum Decoded {
    Nothing,
    Byte(u8),
    Char(char),
}

fn json(rest: &[u8]) -> Option<(Decoded, usize)> {
    let [b'\\', escaped, ..] = rest else { return None };
    let byte = match escaped {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'"' | b'\\' | b'/' => *escaped,
        b'u' => {
            let digits = rest.get(2..6)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            return Some((Decoded::Char(char::from_u32(hex4(rest, 2)).unwrap_or(char::REPLACEMENT_CHARACTER)), 6));
        }
        _ => return None,
    };
    Some((Decoded::Byte(byte), 2))
}

fn percent(rest: &[u8]) -> Option<(Decoded, usize)> {
    let [b'%', high, low, ..] = rest else { return None };
    Some((Decoded::Byte(hex_pair(*high, *low)?), 3))
}

pub fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

fn entity(rest: &[u8]) -> Option<(Decoded, usize)> {
    let number = rest.strip_prefix(b"&#")?;
    let (digits, base, before) = match number.first()? {
        b'x' | b'X' => (&number[1..], 16, 3),
        _ => (number, 10, 2),
    };
    let len = digits.iter().take(7).take_while(|b| (**b as char).is_digit(base)).count();
    let code = u32::from_str_radix(std::str::from_utf8(&digits[..len]).ok()?, base).ok()?;
    let used = before + len + usize::from(digits.get(len) == Some(&b';'));
    Some((Decoded::Char(char::from_u32(code)?), used))
}

/// Drops what has no width and terminal colours; full-width and mathematical letters and the digits of Arabic and
/// Persian become plain ones.
fn shape(rest: &[u8]) -> Option<(Decoded, usize)> {
    if rest[0] == 0x1B && rest.get(1) == Some(&b'[') {
        let parameters = rest[2..].iter().take(32).take_while(|b| (0x20..0x40).contains(*b)).count();
        return Some((Decoded::Nothing, (2 + parameters + 1).min(rest.len())));
    }
    let code = match rest {
        [a @ (0xC2 | 0xD9 | 0xDB), b, ..] => u32::from(a & 0x1F) << 6 | u32::from(b & 0x3F),
        [a @ (0xE2 | 0xEF), b, c, ..] => u32::from(a & 0xF) << 12 | u32::from(b & 0x3F) << 6 | u32::from(c & 0x3F),
        [0xF0, 0x9D, c, d, ..] => 0x1D000 | u32::from(c & 0x3F) << 6 | u32::from(d & 0x3F),
        _ => return None,
    };
    let len = match rest[0] {
        0xC2 | 0xD9 | 0xDB => 2,
        0xF0 => 4,
        _ => 3,
    };
    match code {
        0xAD | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x2064 | 0xFEFF => Some((Decoded::Nothing, len)),
        0xFF01..=0xFF5E => Some((Decoded::Byte((code - 0xFF01) as u8 + b'!'), len)),
        0x1D400..=0x1D6A3 => {
            let letter = (code - 0x1D400) % 52;
            Some((Decoded::Byte(if letter < 26 { b'A' + letter as u8 } else { b'a' + letter as u8 - 26 }), len))
        }
        0x660..=0x669 => Some((Decoded::Byte((code - 0x660) as u8 + b'0'), len)),
        0x6F0..=0x6F9 => Some((Decoded::Byte((code - 0x6F0) as u8 + b'0'), len)),
        0x1D7CE..=0x1D7FF => Some((Decoded::Byte(b'0' + ((code - 0x1D7CE) % 10) as u8), len)),
        _ => None,
    }
}

// --- base64 and hexadecimal ---

/// Bytes at the head of a run that must be text for the rest to be decoded.
const HEAD: usize = 12;

/// What a run of base64 or hexadecimal digits says.
pub struct DecodedRun {
    pub bytes: Vec<u8>,
    /// How long the run is, its padding included.
    pub len: usize,
    is_hex: bool,
}

impl DecodedRun {
    /// The part of the run behind a part of what it says, in whole groups of digits.
    pub fn origin(&self, start: usize, end: usize) -> (usize, usize) {
        let (bytes, digits) = if self.is_hex { (1, 2) } else { (3, 4) };
        let to = if end == self.bytes.len() { self.len } else { end.div_ceil(bytes) * digits };
        (start / bytes * digits, to.min(self.len))
    }
}

/// The run of base64 or hexadecimal digits that begins at `at`, decoded, if it says something.
pub fn decode_run(text: &[u8], at: usize) -> Option<DecodedRun> {
    let run = &text[at..];
    let len = run.iter().take_while(|b| SIX_BITS[usize::from(**b)] < 64).count();
    let run = &run[..len];
    if !speaks(run) {
        return None;
    }
    let padding = text[at + len..].iter().take(2).take_while(|b| **b == b'=').count();
    let is_hex = is_hex(run) && is_hex_of_text(&run[..2 * HEAD]);
    let bytes = if is_hex { from_hex(run) } else { from_base64(run) };
    Some(DecodedRun { bytes, len: len + padding, is_hex })
}

/// Whether the head of the run decodes to text.
fn speaks(run: &[u8]) -> bool {
    if run.len() < 2 * HEAD || begins_uuid(run) {
        return false;
    }
    let of_text = |four: &[u8]| {
        let bits = four.iter().fold(0u32, |bits, b| bits << 6 | u32::from(SIX_BITS[usize::from(*b)]));
        is_text(&bits.to_be_bytes()[1..])
    };
    let head = &run[..2 * HEAD];
    head[..HEAD / 3 * 4].chunks_exact(4).all(of_text) || is_hex(head) && is_hex_of_text(head)
}

/// Whether hyphens stand where a UUID has them: the commonest of all runs.
fn begins_uuid(text: &[u8]) -> bool {
    text.len() >= 36
        && [8, 13, 18, 23].iter().all(|at| text[*at] == b'-')
        && text.get(36).is_none_or(|next| SIX_BITS[usize::from(*next)] == 64)
}

/// Whether a run of raw text is worth decoding.
pub fn may_speak(run: &[u8]) -> bool {
    !begins_uuid(run) && speaks(run)
}

fn is_hex(run: &[u8]) -> bool {
    run.len().is_multiple_of(2) && run.iter().all(u8::is_ascii_hexdigit)
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| matches!(b, 0x20..0x7F | b'\n' | b'\r' | b'\t'))
}

fn is_hex_of_text(run: &[u8]) -> bool {
    run.chunks_exact(2).all(|pair| hex_pair(pair[0], pair[1]).is_some_and(|byte| is_text(&[byte])))
}

fn from_hex(run: &[u8]) -> Vec<u8> {
    run.chunks_exact(2).filter_map(|pair| hex_pair(pair[0], pair[1])).collect()
}

fn from_base64(run: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(run.len() / 4 * 3 + 3);
    for chunk in run.chunks(4) {
        let bits = chunk.iter().fold(0u32, |bits, b| bits << 6 | u32::from(SIX_BITS[usize::from(*b)]));
        let bits = bits << (6 * (4 - chunk.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..chunk.len().max(1)]);
    }
    out
}

/// The value of a digit of base64, in either alphabet; 64 for any other byte.
const SIX_BITS: [u8; 256] = {
    let mut table = [64; 256];
    let mut value = 0;
    while value < 26 {
        table[b'A' as usize + value] = value as u8;
        table[b'a' as usize + value] = value as u8 + 26;
        value += 1;
    }
    let mut digit = 0;
    while digit < 10 {
        table[b'0' as usize + digit] = digit as u8 + 52;
        digit += 1;
    }
    (table[b'+' as usize], table[b'-' as usize]) = (62, 62);
    (table[b'/' as usize], table[b'_' as usize]) = (63, 63);
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn view(text: &str, disguises: Disguises) -> (String, (usize, usize)) {
        let view = View::of(text.as_bytes(), disguises);
        let at = memchr::memmem::find(&view.bytes, b"AKIA").expect("found in the view");
        (String::from_utf8(view.bytes.clone()).expect("text"), view.origin(at, at + 4))
    }

    #[test]
    fn every_disguise_is_seen_through_and_leads_back() {
        let json = Disguises { json: true, ..Default::default() };
        let percent = Disguises { percent: true, ..Default::default() };
        let entity = Disguises { entity: true, ..Default::default() };
        let shape = Disguises { shape: true, ..Default::default() };
        assert_eq!(view("x\\u0041KIA y", json), ("xAKIA y".into(), (1, 10)));
        assert_eq!(view("x%41KI%41 y", percent), ("xAKIA y".into(), (1, 9)));
        assert_eq!(view("x&#65;KI&#x41; y", entity), ("xAKIA y".into(), (1, 14)));
        assert_eq!(view("xAK\u{200b}\u{1b}[0;1mIＡ y", shape).0, "xAKIA y");
        assert_eq!(view("𝐀𝐊𝐈𝐀", shape), ("AKIA".into(), (0, 16)));
    }

    #[test]
    fn json_is_read_without_the_escapes_it_needs_not() {
        let text = r#"{"\u0070w":"a\/b\u00e9\"\\\u0041\n\u000a\u0022\u005cu0041 \ud83d\ude00 \ud83d"}"#;
        let plain = View::of_json(text.as_bytes()).expect("some are needless");
        let expected = r#"{"pw":"a/bé\"\\A\n\u000a\u0022\u005cu0041 😀 \ud83d"}"#;
        assert_eq!(String::from_utf8(plain.bytes.clone()).expect("UTF-8"), expected);
        let place = |part: &str| expected.find(part).expect("a part of it");
        assert_eq!(plain.origin(place("p"), place("w")), (2, 8));
        let emoji = text.find(r"\ud83d").expect("there");
        assert_eq!(plain.origin(place("😀"), place("😀") + 4), (emoji, emoji + 12));
        assert_eq!(plain.origin(0, expected.len()), (0, text.len()));
        assert!(View::of_json(br#"{"a":"\n\"\\u0041"}"#).is_none());
    }

    #[test]
    fn only_runs_that_say_something_are_decoded() {
        assert_eq!(decode_run(b"QUtJQUFCQ0RFRkdISUpLTE1OT1A= x", 0).expect("text").bytes, b"AKIAABCDEFGHIJKLMNOP");
        assert_eq!(
            decode_run(b"414b494141424344454647484a4b4c4d4e4f5051", 0).expect("text").bytes,
            b"AKIAABCDEFGHJKLMNOPQ"
        );
        for other in [
            "123e4567-e89b-12d3-a456-426614174000",
            "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        ] {
            assert!(decode_run(other.as_bytes(), 0).is_none(), "{other}");
        }
    }
}
