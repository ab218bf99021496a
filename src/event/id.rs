//! Event ids: the producer's UUID or ULID, or a UUIDv8 derived from the event's origin.

use std::fmt;

/// An event's id as 128 bits; its spelling stays where it was written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u128);

/// What the ids of one origin (a file, a partition, a request, a connection) are derived from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Seed(pub [u8; 16]);

impl Seed {
    /// A seed that follows from its parts alone, so that the same origin read again has the same ids.
    pub fn derive(parts: &[&[u8]]) -> Seed {
        let mut text = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
        for part in parts {
            text.extend_from_slice(&(part.len() as u64).to_le_bytes());
            text.extend_from_slice(part);
        }
        let mut seed = [0; 16];
        // In one go: events that their producer names are hashed one by one.
        seed.copy_from_slice(&blake3::hash(&text).as_bytes()[..16]);
        Seed(seed)
    }

    /// A seed for an origin that can not be read again.
    pub fn random() -> Seed {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed).expect("the operating system has random bytes");
        Seed(seed)
    }

    /// The id of the event with this ordinal (byte offset, Kafka offset or index) in the origin.
    pub fn id(&self, ordinal: u64) -> Id {
        let mut text = [0; 24];
        text[..16].copy_from_slice(&self.0);
        text[16..].copy_from_slice(&ordinal.to_le_bytes());
        Id::version8(blake3::hash(&text).as_bytes())
    }
}

const NO_HEX: u8 = 16;

/// The value of each hexadecimal digit.
const HEX: [u8; 256] = {
    let mut values = [NO_HEX; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        values[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

impl Id {
    /// A UUIDv8 with the first 122 free bits of a hash.
    pub fn version8(hash: &[u8; 32]) -> Id {
        let mut bits = [0; 16];
        bits.copy_from_slice(&hash[..16]);
        bits[6] = (bits[6] & 0x0F) | 0x80;
        bits[8] = (bits[8] & 0x3F) | 0x80;
        Id(u128::from_be_bytes(bits))
    }

    /// Reads a UUID (with or without hyphens, any case) or a ULID.
    pub fn parse(text: &str) -> Option<Id> {
        Id::parse_bytes(text.as_bytes())
    }

    /// The same for text that need not be UTF-8.
    pub fn parse_bytes(text: &[u8]) -> Option<Id> {
        match text.len() {
            36 => Id::parse_uuid(text),
            32 => Id::from_digits(&[text]),
            26 => Id::parse_ulid(text),
            _ => None,
        }
    }

    fn parse_uuid(text: &[u8]) -> Option<Id> {
        if [8, 13, 18, 23].iter().any(|at| text[*at] != b'-') {
            return None;
        }
        Id::from_digits(&[&text[..8], &text[9..13], &text[14..18], &text[19..23], &text[24..36]])
    }

    /// Digits are looked up, and only at the end it is asked whether all were some: nearly every event has such an id.
    fn from_digits(parts: &[&[u8]]) -> Option<Id> {
        let (mut value, mut all) = (0u128, 0);
        for byte in parts.iter().copied().flatten() {
            let digit = HEX[usize::from(*byte)];
            all |= digit;
            value = value << 4 | u128::from(digit);
        }
        (all < NO_HEX).then_some(Id(value))
    }

    fn parse_ulid(text: &[u8]) -> Option<Id> {
        const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut value: u128 = 0;
        for (at, byte) in text.iter().enumerate() {
            let digit = DIGITS.iter().position(|d| *d == byte.to_ascii_uppercase())? as u128;
            if at == 0 && digit > 7 {
                return None;
            }
            value = value << 5 | digit;
        }
        Some(Id(value))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (v >> 96) as u32,
            (v >> 80) as u16,
            (v >> 64) as u16,
            (v >> 48) as u16,
            v & 0xFFFF_FFFF_FFFF
        )
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
