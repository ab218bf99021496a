//! A piece of the text of UUIDs, looked for in their bits: writing out the many of a part takes longer.

use super::value::UUID_BYTES;

const DIGITS: usize = 32;

/// Where a piece may stand in a UUID: bits that are looked at, and what they are. Most lie within one half of all.
#[derive(Debug)]
pub struct UuidPiece {
    halves: [Vec<(u64, u64)>; 2],
    across: Vec<(u128, u128)>,
}

impl UuidPiece {
    /// `None` where the piece, in lower case, has something that no UUID has.
    pub fn of(piece: &str) -> Option<UuidPiece> {
        let piece: Vec<Option<u128>> = piece.bytes().map(digit).collect::<Option<_>>()?;
        let mut found = UuidPiece { halves: Default::default(), across: Vec::new() };
        for start in 0..(UUID_BYTES + 1).saturating_sub(piece.len()) {
            let (mut nth, mut mask, mut value) = (start - hyphens_before(start), 0u128, 0u128);
            let fits = piece.iter().enumerate().all(|(at, digit)| {
                if let Some(digit) = digit {
                    let shift = 4 * (DIGITS - 1 - nth.min(DIGITS - 1));
                    (mask, value, nth) = (mask | 15 << shift, value | digit << shift, nth + 1);
                }
                digit.is_none() == is_hyphen(start + at)
            });
            match ((mask >> 64) as u64, mask as u64) {
                _ if !fits => {}
                (high, 0) => found.halves[0].push((high, (value >> 64) as u64)),
                (0, low) => found.halves[1].push((low, value as u64)),
                _ => found.across.push((mask, value)),
            }
        }
        Some(found)
    }

    /// Whether the text of a UUID has it somewhere.
    pub fn is_in(&self, bits: u128) -> bool {
        let halves = [(bits >> 64) as u64, bits as u64];
        let mut is_there = self.across.iter().any(|(mask, value)| bits & mask == *value);
        for (half, places) in halves.iter().zip(&self.halves) {
            // All places are compared: that takes less than to stop at the first.
            is_there |= places.iter().fold(false, |found, (mask, value)| found | (half & mask == *value));
        }
        is_there
    }

    /// Of the bits of many, the places of those that have it.
    pub fn places_in(&self, all: &[u8]) -> impl Iterator<Item = usize> {
        let bits = all.as_chunks::<16>().0.iter().enumerate();
        bits.filter(|(_, bits)| self.is_in(u128::from_le_bytes(**bits))).map(|(nth, _)| nth)
    }
}

/// The value of a digit, nothing within for a hyphen.
fn digit(byte: u8) -> Option<Option<u128>> {
    match byte {
        b'-' => Some(None),
        b'0'..=b'9' => Some(Some(u128::from(byte - b'0'))),
        b'a'..=b'f' => Some(Some(u128::from(byte - b'a' + 10))),
        _ => None,
    }
}

const HYPHENS: [usize; 4] = [8, 13, 18, 23];

fn is_hyphen(at: usize) -> bool {
    HYPHENS.contains(&at)
}

fn hyphens_before(at: usize) -> usize {
    HYPHENS.iter().filter(|hyphen| **hyphen < at).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::value::write_uuid;
    use super::*;

    proptest! {
        #[test]
        fn a_piece_is_in_the_bits_where_it_is_in_the_text(
            bits: u128, few in 0u32..3, from in 0usize..36, len in 1usize..37, other in "[0-9a-f-]{1,5}",
        ) {
            // Digits that repeat make pieces that are in several places, or nearly.
            let bits = [bits, bits & 0x1111_1111_1111_1111_1111_1111_1111_1111, 0][few as usize];
            let mut json = Vec::new();
            write_uuid(bits, &mut json);
            let text = String::from_utf8(json).unwrap().trim_matches('"').to_owned();
            let own = &text[from..(from + len).min(text.len())];
            for piece in [own, &other, &format!("{own}0"), &text] {
                let found = UuidPiece::of(piece).expect("digits and hyphens");
                prop_assert_eq!(found.is_in(bits), text.contains(piece), "{} in {}", piece, text);
            }
            prop_assert!(UuidPiece::of("12g4").is_none());
        }
    }
}
