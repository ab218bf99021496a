//! Encodes one JSON value as a column's type, straight from its text, or reports that it does not fit.

use std::borrow::Cow;
use std::net::IpAddr;

use jiff::tz::TimeZone;
use tokio_postgres::types::Type;

use crate::event::decimal::Decimal;
use crate::event::time::Moment;
use crate::event::{Id, Kind, Raw};
use crate::units::Timestamp;

/// Microseconds from 1970 to 2000, where Postgres counts from.
const EPOCH: i64 = 946_684_800_000_000;
const DAY: i64 = 86_400_000_000;
/// The replacement for NUL, which Postgres cannot store in text.
const NUL_SHOWN: &str = "\u{2400}";

/// How values of a column travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text with the most characters it may have.
    Text(Option<usize>),
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// The most digits before the point.
    Numeric(Option<i32>),
    Bool,
    TimestampTz,
    Timestamp,
    /// A time without a zone, in the time of this one.
    Local(TimeZone),
    Date,
    Uuid,
    Inet,
    Json,
    Jsonb,
    Bytea,
    /// As the text of an array, which the server casts.
    Array(Box<Form>),
    /// Any other type: as text, which the server casts.
    Cast,
}

/// The value is none of the column's type.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit;

impl Form {
    /// By the type's name in the catalogue and the modifier of the column.
    pub fn of(type_name: &str, modifier: i32) -> Form {
        let limit = (modifier > 4).then_some(modifier as usize - 4);
        match type_name {
            "text" => Form::Text(None),
            "varchar" | "bpchar" => Form::Text(limit),
            "int2" => Form::Int2,
            "int4" => Form::Int4,
            "int8" => Form::Int8,
            "float4" => Form::Float4,
            "float8" => Form::Float8,
            "numeric" => Form::Numeric((modifier >= 4).then(|| {
                let (precision, scale) = ((modifier - 4) >> 16 & 0xFFFF, (((modifier - 4) & 0x7FF) ^ 1024) - 1024);
                precision - scale
            })),
            "bool" => Form::Bool,
            "timestamptz" => Form::TimestampTz,
            "timestamp" => Form::Timestamp,
            "date" => Form::Date,
            "uuid" => Form::Uuid,
            "inet" => Form::Inet,
            "json" => Form::Json,
            "jsonb" => Form::Jsonb,
            "bytea" => Form::Bytea,
            // An array's name begins with `_`.
            _ => match type_name.strip_prefix('_').map(|element| Form::of(element, modifier)) {
                Some(Form::Array(_) | Form::Cast) | None => Form::Cast,
                Some(element) => Form::Array(Box::new(element)),
            },
        }
    }

    /// The type that travels, and the array of it.
    pub fn wire(&self) -> (Type, Type) {
        match self {
            Form::Text(_) | Form::Array(_) | Form::Cast => (Type::TEXT, Type::TEXT_ARRAY),
            Form::Int2 => (Type::INT2, Type::INT2_ARRAY),
            Form::Int4 => (Type::INT4, Type::INT4_ARRAY),
            Form::Int8 => (Type::INT8, Type::INT8_ARRAY),
            Form::Float4 => (Type::FLOAT4, Type::FLOAT4_ARRAY),
            Form::Float8 => (Type::FLOAT8, Type::FLOAT8_ARRAY),
            Form::Numeric(_) => (Type::NUMERIC, Type::NUMERIC_ARRAY),
            Form::Bool => (Type::BOOL, Type::BOOL_ARRAY),
            Form::TimestampTz => (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY),
            Form::Timestamp | Form::Local(_) => (Type::TIMESTAMP, Type::TIMESTAMP_ARRAY),
            Form::Date => (Type::DATE, Type::DATE_ARRAY),
            Form::Uuid => (Type::UUID, Type::UUID_ARRAY),
            Form::Inet => (Type::INET, Type::INET_ARRAY),
            Form::Json => (Type::JSON, Type::JSON_ARRAY),
            Form::Jsonb => (Type::JSONB, Type::JSONB_ARRAY),
            Form::Bytea => (Type::BYTEA, Type::BYTEA_ARRAY),
        }
    }

    /// Whether the server has to cast what travels.
    pub fn needs_cast(&self) -> bool {
        matches!(self, Form::Array(_) | Form::Cast)
    }

    /// Appends the value's bytes, without a length before them, and counts what had to be changed. What was appended
    /// to an unfit value's end is the caller's to take back.
    pub fn write(&self, value: Raw<'_>, out: &mut Vec<u8>, altered: &mut u64) -> Result<(), Unfit> {
        match self {
            Form::Text(limit) => write_text(&value.display(), *limit, out, altered),
            Form::Cast => write_text(&value.display(), None, out, altered),
            Form::Bytea => out.extend_from_slice(value.display().as_bytes()),
            Form::Int2 => out.extend_from_slice(&i16::try_from(integer(value)?).map_err(|_| Unfit)?.to_be_bytes()),
            Form::Int4 => out.extend_from_slice(&i32::try_from(integer(value)?).map_err(|_| Unfit)?.to_be_bytes()),
            Form::Int8 => out.extend_from_slice(&integer(value)?.to_be_bytes()),
            Form::Float4 => {
                let single = float(value)? as f32;
                out.extend_from_slice(&Some(single).filter(|single| single.is_finite()).ok_or(Unfit)?.to_be_bytes());
            }
            Form::Float8 => out.extend_from_slice(&float(value)?.to_be_bytes()),
            Form::Numeric(most) => write_numeric(&number_text(value)?, *most, out)?,
            Form::Bool => out.push(u8::from(boolean(value)?)),
            Form::TimestampTz | Form::Timestamp => out.extend_from_slice(&(moment(value)? - EPOCH).to_be_bytes()),
            Form::Local(zone) => {
                let at = moment(value)?;
                let known = jiff::Timestamp::from_microsecond(at).map_err(|_| Unfit)?;
                let local = at + i64::from(zone.to_offset(known).seconds()) * 1_000_000;
                out.extend_from_slice(&(local - EPOCH).to_be_bytes());
            }
            Form::Date => {
                let days = (moment(value)? - EPOCH).div_euclid(DAY);
                out.extend_from_slice(&i32::try_from(days).map_err(|_| Unfit)?.to_be_bytes());
            }
            Form::Uuid => {
                let id = value.as_str().and_then(|text| Id::parse(&text)).ok_or(Unfit)?;
                out.extend_from_slice(&id.0.to_be_bytes());
            }
            Form::Inet => write_inet(&value.as_str().ok_or(Unfit)?, out)?,
            Form::Json => write_json(value.as_bytes(), out, altered),
            Form::Jsonb => {
                // The version of the format.
                out.push(1);
                write_json(value.as_bytes(), out, altered);
            }
            Form::Array(element) => write_array(element, value, out, altered)?,
        }
        Ok(())
    }

    /// A point in time, for columns that are given one.
    pub fn write_time(&self, at: Timestamp, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let text = format!("\"{at}\"");
        self.write(Raw::valid(text.as_bytes()), out, &mut 0)
    }
}

/// Cuts what is too long between two characters, and shows NULs.
fn write_text(text: &str, limit: Option<usize>, out: &mut Vec<u8>, altered: &mut u64) {
    let mut text = Cow::Borrowed(text);
    let mut is_altered = false;
    if memchr::memchr(0, text.as_bytes()).is_some() {
        text = Cow::Owned(text.replace('\0', NUL_SHOWN));
        is_altered = true;
    }
    let fitting = match limit {
        Some(limit) if text.len() > limit => text.char_indices().nth(limit).map_or(text.len(), |(end, _)| end),
        _ => text.len(),
    };
    is_altered |= fitting < text.len();
    *altered += u64::from(is_altered);
    out.extend_from_slice(&text.as_bytes()[..fitting]);
}

/// Copies JSON text; an escaped NUL in it is shown.
pub fn write_json(text: &[u8], out: &mut Vec<u8>, altered: &mut u64) {
    const NUL: &[u8] = b"\\u0000";
    if memchr::memmem::find(text, NUL).is_none() {
        return out.extend_from_slice(text);
    }
    let mut rest = text;
    let mut is_altered = false;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let escape = &rest[at..];
        let taken = if escape.starts_with(NUL) {
            out.extend_from_slice(NUL_SHOWN.as_bytes());
            is_altered = true;
            NUL.len()
        } else {
            let taken = escape.len().min(2);
            out.extend_from_slice(&escape[..taken]);
            taken
        };
        rest = &escape[taken..];
    }
    out.extend_from_slice(rest);
    *altered += u64::from(is_altered);
}

/// The spelling of a number, written as one or as a text.
fn number_text<'a>(value: Raw<'a>) -> Result<Cow<'a, str>, Unfit> {
    match value.kind() {
        Kind::Number => Ok(Cow::Borrowed(value.text())),
        Kind::String => {
            let text = value.as_str().ok_or(Unfit)?;
            let starts = text.trim().bytes().next().is_some_and(|first| first.is_ascii_digit() || first == b'-');
            if starts { Ok(Cow::Owned(text.trim().to_owned())) } else { Err(Unfit) }
        }
        _ => Err(Unfit),
    }
}

/// A whole number; one with a fraction is rounded, halves away from zero.
fn integer(value: Raw<'_>) -> Result<i64, Unfit> {
    let text = number_text(value)?;
    if let Ok(whole) = text.parse() {
        return Ok(whole);
    }
    let rounded = text.parse::<f64>().map_err(|_| Unfit)?.round();
    // Both bounds are exact doubles.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded) {
        return Ok(rounded as i64);
    }
    Err(Unfit)
}

fn float(value: Raw<'_>) -> Result<f64, Unfit> {
    number_text(value)?.parse().ok().filter(|number: &f64| number.is_finite()).ok_or(Unfit)
}

fn boolean(value: Raw<'_>) -> Result<bool, Unfit> {
    // As JSON, Postgres and Python write it.
    match value.display().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "1" => Ok(true),
        "false" | "f" | "no" | "0" => Ok(false),
        _ => Err(Unfit),
    }
}

/// Microseconds since 1970.
fn moment(value: Raw<'_>) -> Result<i64, Unfit> {
    let text = value.display();
    if value.kind() == Kind::String {
        if let Some(at) = Timestamp::parse(&text) {
            return Ok(at.0);
        }
        let day = || (text.len() == 10).then(|| Timestamp::parse(&format!("{text}T00:00:00Z"))).flatten();
        if let Some(at) = Moment::parse(&text).map(|moment| moment.timestamp()).or_else(day) {
            return Ok(at.0);
        }
    }
    Moment::parse_epoch(&text).map(|moment| moment.timestamp().0).ok_or(Unfit)
}

/// Base-10000 digits, as `numeric_recv` reads them.
fn write_numeric(text: &str, most: Option<i32>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let number = Decimal::parse(text.as_bytes()).ok_or(Unfit)?;
    let (whole, fraction) = number.places();
    let first = whole.iter().position(|digit| *digit != b'0').unwrap_or(whole.len());
    let whole = &whole[first..];
    if most.is_some_and(|most| whole.len() as i32 > most) {
        return Err(Unfit);
    }
    let group = |digits: &[u8]| digits.iter().fold(0u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let (head, groups) = whole.split_at(whole.len() % 4);
    let mut digits: Vec<u16> = Vec::with_capacity(whole.len() / 4 + fraction.len() / 4 + 2);
    if !head.is_empty() {
        digits.push(group(head));
    }
    digits.extend(groups.chunks(4).map(group));
    let weight = digits.len() as i16 - 1;
    for chunk in fraction.chunks(4) {
        let missing = 4 - chunk.len() as u32;
        digits.push(group(chunk) * 10u16.pow(missing));
    }
    let sign: u16 = if number.is_negative() { 0x4000 } else { 0 };
    out.extend_from_slice(&(digits.len() as u16).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&(fraction.len() as u16).to_be_bytes());
    for digit in digits {
        out.extend_from_slice(&digit.to_be_bytes());
    }
    Ok(())
}

/// An address, or a network with `/` and its bits.
fn write_inet(text: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let (address, bits) = match text.trim().split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| Unfit)?)),
        None => (text.trim(), None),
    };
    let mut put = |family: u8, most: u8, octets: &[u8]| {
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(Unfit);
        }
        out.extend_from_slice(&[family, bits, 0, octets.len() as u8]);
        out.extend_from_slice(octets);
        Ok(())
    };
    match address.parse().map_err(|_| Unfit)? {
        IpAddr::V4(address) => put(2, 32, &address.octets()),
        IpAddr::V6(address) => put(3, 128, &address.octets()),
    }
}

/// `{"a","b",NULL}`. Each element has to fit the array's type.
fn write_array(element: &Form, value: Raw<'_>, out: &mut Vec<u8>, altered: &mut u64) -> Result<(), Unfit> {
    if value.kind() != Kind::Array {
        return Err(Unfit);
    }
    let mut scratch = Vec::new();
    out.push(b'{');
    for (nth, item) in value.elements().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        if item.is_null() {
            out.extend_from_slice(b"NULL");
            continue;
        }
        if matches!(item.kind(), Kind::Array | Kind::Object) && !matches!(element, Form::Json | Form::Jsonb) {
            return Err(Unfit);
        }
        scratch.clear();
        let text = match element {
            Form::Text(_) => {
                element.write(item, &mut scratch, altered)?;
                String::from_utf8_lossy(&scratch)
            }
            Form::Int2 | Form::Int4 | Form::Int8 => {
                element.write(item, &mut scratch, altered)?;
                Cow::Owned(integer(item)?.to_string())
            }
            Form::Json | Form::Jsonb => {
                write_json(item.as_bytes(), &mut scratch, altered);
                String::from_utf8_lossy(&scratch)
            }
            _ => {
                element.write(item, &mut scratch, altered)?;
                item.display()
            }
        };
        out.push(b'"');
        for byte in text.bytes() {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        out.push(b'"');
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(form: &Form, json: &str) -> Result<(Vec<u8>, u64), Unfit> {
        let (mut out, mut altered) = (Vec::new(), 0);
        form.write(Raw::valid(json.as_bytes()), &mut out, &mut altered)?;
        Ok((out, altered))
    }

    fn text(form: &Form, json: &str) -> Option<(String, u64)> {
        bytes(form, json).ok().map(|(out, altered)| (String::from_utf8(out).expect("text"), altered))
    }

    #[test]
    fn texts_are_cut_between_characters_and_show_their_nuls() {
        let five = Form::Text(Some(5));
        for (json, expected, altered) in [
            (r#""abc""#, "abc", 0),
            (r#""abcdef""#, "abcde", 1),
            (r#""äöüßé""#, "äöüßé", 0),
            (r#""äöüßéx""#, "äöüßé", 1),
            (r#""a\u0000b""#, "a␀b", 1),
            ("true", "true", 0),
            (r#"{"a":1}"#, r#"{"a":"#, 1),
        ] {
            assert_eq!(text(&five, json), Some((expected.to_owned(), altered)), "{json}");
        }
    }

    #[test]
    fn integers_are_rounded_and_never_overflow() {
        let number = |form: &Form, json: &str| bytes(form, json).ok().map(|(out, _)| out);
        assert_eq!(number(&Form::Int4, "12.5"), Some(13i32.to_be_bytes().to_vec()));
        assert_eq!(number(&Form::Int4, "\" -7 \""), Some((-7i32).to_be_bytes().to_vec()));
        assert_eq!(number(&Form::Int8, "9007199254740993"), Some(9_007_199_254_740_993i64.to_be_bytes().to_vec()));
        assert_eq!(number(&Form::Int8, "1e3"), Some(1000i64.to_be_bytes().to_vec()));
        for (form, json) in [
            (Form::Int2, "32768"),
            (Form::Int4, "3000000000"),
            (Form::Int8, "9223372036854775808"),
            (Form::Int8, "1e400"),
            (Form::Int4, "true"),
            (Form::Int4, r#""nan""#),
            (Form::Int4, r#""""#),
            (Form::Float4, "1e39"),
            (Form::Float8, "1e400"),
            (Form::Numeric(Some(2)), "100.5"),
            (Form::Bool, "2"),
            (Form::TimestampTz, r#""yesterday""#),
            (Form::Uuid, r#""anon-17""#),
            (Form::Inet, r#""unknown""#),
            (Form::Inet, r#""10.0.0.0/33""#),
            (Form::Inet, "17"),
            (Form::Array(Box::new(Form::Int4)), r#"[1,"x"]"#),
            (Form::Array(Box::new(Form::Text(None))), r#""a""#),
        ] {
            assert_eq!(bytes(&form, json), Err(Unfit), "{form:?} {json}");
        }
    }

    #[test]
    fn json_is_copied_and_only_a_real_nul_is_shown() {
        assert_eq!(text(&Form::Json, r#"{"n": 1.50}"#), Some((r#"{"n": 1.50}"#.into(), 0)));
        assert_eq!(text(&Form::Json, r#""a\u0000\\u0000\n""#), Some((r#""a␀\\u0000\n""#.into(), 1)));
        assert_eq!(text(&Form::Json, r#""\\u0000""#), Some((r#""\\u0000""#.into(), 0)));
        assert_eq!(bytes(&Form::Jsonb, "{}"), Ok((b"\x01{}".to_vec(), 0)));
    }

    #[test]
    fn arrays_are_written_as_postgres_reads_them() {
        let texts = Form::of("_text", -1);
        assert_eq!(texts, Form::Array(Box::new(Form::Text(None))));
        let expected = r#"{"a","say \"hi\"","back\\slash",NULL,"5"}"#;
        assert_eq!(text(&texts, r#"["a","say \"hi\"","back\\slash",null,5]"#), Some((expected.into(), 0)));
        assert_eq!(text(&texts, "[]"), Some(("{}".into(), 0)));
    }

    #[test]
    fn types_are_known_by_name_and_modifier() {
        assert_eq!(Form::of("varchar", 54), Form::Text(Some(50)));
        assert_eq!(Form::of("numeric", ((6 << 16) | 2) + 4), Form::Numeric(Some(4)));
        assert_eq!(Form::of("numeric", -1), Form::Numeric(None));
        assert_eq!(Form::of("my_enum", -1), Form::Cast);
        assert_eq!(Form::of("_my_enum", -1), Form::Cast);
    }

    #[test]
    fn numerics_keep_every_digit() {
        let encoded = bytes(&Form::Numeric(None), "-12345.678").expect("a number").0;
        let expected: Vec<u8> =
            [3u16, 1, 0x4000, 3, 1, 2345, 6780].iter().flat_map(|part| part.to_be_bytes()).collect();
        assert_eq!(encoded, expected);
        let zero: Vec<u8> = [0u16, 0xFFFF, 0, 0].iter().flat_map(|part| part.to_be_bytes()).collect();
        assert_eq!(bytes(&Form::Numeric(None), "0").expect("zero").0, zero);
    }
}
