//! Where the bytes of each kind stand in a text: seen once, in bitmaps, so that to ask where a run of them begins or ends
//! takes a shift and a count instead of a loop.

use std::cell::Cell;

use super::shape::CLASSES;

/// The kinds of bytes that rules ask for, beyond the classes of shapes, which come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u8);

impl Mark {
    /// The class of shapes with this letter.
    pub const fn class(letter: u8) -> Mark {
        let mut number = 0;
        while CLASSES[number].0 != letter {
            number += 1;
        }
        Mark(number as u8)
    }

    pub const fn numbered(number: usize) -> Mark {
        Mark(number as u8)
    }

    /// Whether a byte is one of the kind.
    #[inline]
    pub const fn has(self, byte: u8) -> bool {
        OF_BYTES[byte as usize] >> self.0 & 1 == 1
    }
}

/// Letters, digits, `_` and `-`.
pub const NAME: Mark = Mark::class(b'b');
/// What types are written with that stand behind their name.
pub const DECLARATION: Mark = Mark(12);
/// What words of sentences are made of, addresses among them.
pub const WORD: Mark = Mark(13);
/// What opens, closes, escapes or ends something.
pub const SIGN: Mark = Mark(14);
pub const LINE: Mark = Mark(15);
/// What may end a word.
pub const STOP: Mark = Mark(16);
/// What paths of files are made of.
pub const PATH: Mark = Mark(17);
/// What ends or escapes a string.
pub const QUOTE: Mark = Mark(18);
pub const URL_STOP: Mark = Mark(19);
pub const FIELD_STOP: Mark = Mark(20);
/// What keys with dots and brackets are made of.
pub const KEY: Mark = Mark(21);
/// What types are written with.
pub const TYPE: Mark = Mark(22);
/// What paths of programs are made of, up to a call.
pub const CALL: Mark = Mark(23);

/// How many kinds there are.
pub const MARKS: usize = 24;

/// The bytes of the kinds behind the classes; `true` where those of other scripts belong to them.
const OTHERS: [(&[u8], bool); MARKS - 12] = [
    (b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-*. ()[]<>", false),
    (b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-'.@/#", false),
    (b"\n\\\"'`()[]{}", false),
    (b"\n", false),
    (b" \t\n\r\x0c\"'`\\<>&)]};|,", false),
    (b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-./~$\"'", false),
    (b"\n\\\"'`", false),
    (b" \t\n\r\x0c&#\"'<>`\\", false),
    (
        b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f;\"'`<>\\",
        false,
    ),
    (b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-.:/ $[]*@#", true),
    (b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-[]|., <>&?'*:", false),
    (b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-.:>$&@!?*<", false),
];

/// The kinds of each byte, one bit each.
pub const OF_BYTES: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = super::shape::OF_BYTES[byte] as u32;
        byte += 1;
    }
    let mut kind = 0;
    while kind < OTHERS.len() {
        let (bytes, foreign) = OTHERS[kind];
        let mut at = 0;
        while at < bytes.len() {
            table[bytes[at] as usize] |= 1 << (kind + 12);
            at += 1;
        }
        let mut byte = 0x80;
        while foreign && byte < 256 {
            table[byte] |= 1 << (kind + 12);
            byte += 1;
        }
        kind += 1;
    }
    table
};

/// The bitmaps of 64 bytes, one for each kind.
pub type Block = [Cell<u64>; MARKS];
pub const BLOCK: usize = 64;

/// How many blocks are remembered.
const KEPT: usize = 16;

/// The marks of a text. A block is read when it is first asked for: rules ask around the places that the filter saw.
pub struct Marks {
    /// Which block each slot holds.
    numbers: [Cell<u32>; KEPT],
    slots: Box<[Block; KEPT]>,
}

impl Default for Marks {
    fn default() -> Marks {
        Marks {
            numbers: [const { Cell::new(u32::MAX) }; KEPT],
            slots: Box::new([const { [const { Cell::new(0) }; MARKS] }; KEPT]),
        }
    }
}

impl Marks {
    /// Forgets what was read of another text.
    pub fn forget(&mut self) {
        self.numbers.iter().for_each(|number| number.set(u32::MAX));
    }

    /// Where the run of a kind ends that goes on at `at`, at most so many bytes on.
    #[inline]
    pub fn end_within(&self, text: &[u8], mark: Mark, at: usize, most: usize) -> usize {
        self.find(text, mark, at, u64::MAX, at + most).min(at + most)
    }

    /// The first byte of a kind at `at` or behind it, or the end of the text.
    #[inline]
    pub fn next(&self, text: &[u8], mark: Mark, at: usize) -> usize {
        self.find(text, mark, at, 0, usize::MAX)
    }

    /// The first byte of a kind, at most so many bytes on.
    #[inline]
    pub fn next_within(&self, text: &[u8], mark: Mark, at: usize, most: usize) -> usize {
        self.find(text, mark, at, 0, at + most).min(at + most)
    }

    /// The first byte that is of the kind, or of no such kind; no further than behind `most`.
    #[inline]
    fn find(&self, text: &[u8], mark: Mark, at: usize, other: u64, most: usize) -> usize {
        let mut block = at / BLOCK;
        let mut bits = (self.bits(text, block, mark) ^ other) >> (at % BLOCK) << (at % BLOCK);
        while bits == 0 {
            block += 1;
            if block * BLOCK >= text.len().min(most) {
                return text.len().max(at).min(block * BLOCK);
            }
            bits = self.bits(text, block, mark) ^ other;
        }
        (block * BLOCK + bits.trailing_zeros() as usize).min(text.len().max(at))
    }

    /// Where the run of a kind begins that ends at `at`, at most so many bytes in front.
    #[inline]
    pub fn start_within(&self, text: &[u8], mark: Mark, at: usize, most: usize) -> usize {
        let least = at.saturating_sub(most);
        if at == 0 {
            return 0;
        }
        let mut block = (at - 1) / BLOCK;
        let up = BLOCK - 1 - (at - 1) % BLOCK;
        let mut others = !self.bits(text, block, mark) << up >> up;
        while others == 0 && block * BLOCK > least {
            block -= 1;
            others = !self.bits(text, block, mark);
        }
        (block * BLOCK + BLOCK - others.leading_zeros() as usize).max(least)
    }

    /// Which bytes of a block are of a kind; none of those behind the text.
    #[inline]
    fn bits(&self, text: &[u8], block: usize, mark: Mark) -> u64 {
        let slot = block % KEPT;
        if self.numbers[slot].get() != block as u32 {
            self.read(text, block);
        }
        self.slots[slot][usize::from(mark.0)].get()
    }

    #[inline(never)]
    fn read(&self, text: &[u8], block: usize) {
        let from = (block * BLOCK).min(text.len());
        let part = &text[from..text.len().min(from + BLOCK)];
        let slot = block % KEPT;
        read_block(part, &self.slots[slot]);
        // Texts beyond 256 GiB, whose blocks have larger numbers, are not read.
        self.numbers[slot].set(block as u32);
    }
}

/// The bitmaps of at most 64 bytes.
fn read_block(part: &[u8], into: &Block) {
    #[cfg(target_arch = "x86_64")]
    if super::avx512::is_there() {
        return super::avx512::marks(part, into);
    }
    #[cfg(target_arch = "x86_64")]
    if super::avx2::is_there() {
        return super::avx2::marks(part, into);
    }
    read_block_plain(part, into);
}

/// The safe twin: byte by byte.
fn read_block_plain(part: &[u8], into: &Block) {
    let mut block = [0; MARKS];
    for (eight, bytes) in part.chunks(8).enumerate() {
        for byte in 0..MARKS / 8 {
            // The kinds of eight bytes, turned so that each kind has its bits together.
            let rows = bytes.iter().enumerate().fold(0, |rows, (nth, of)| {
                rows | u64::from(OF_BYTES[usize::from(*of)] >> (8 * byte) & 0xFF) << (8 * nth)
            });
            let columns = turned(rows);
            for kind in 0..8 {
                block[8 * byte + kind] |= (columns >> (8 * kind) & 0xFF) << (8 * eight);
            }
        }
    }
    into.iter().zip(block).for_each(|(cell, bits)| cell.set(bits));
}

/// Eight rows of eight bits as eight columns.
fn turned(mut rows: u64) -> u64 {
    for (mask, by) in [(0x00AA_00AA_00AA_00AA, 7), (0x0000_CCCC_0000_CCCC, 14), (0x0000_0000_F0F0_F0F0, 28)] {
        let moved = (rows ^ rows >> by) & mask;
        rows ^= moved ^ moved << by;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn marks_are_what_a_loop_finds(text in proptest::collection::vec(
            prop_oneof![Just(b'a'), Just(b'a'), Just(b' '), Just(b'"'), Just(b'/'), any::<u8>()], 0..300,
        )) {
            for part in text.chunks(BLOCK) {
                let blocks = [const { [const { Cell::new(0) }; MARKS] }; 3];
                read_block(part, &blocks[0]);
                read_block_plain(part, &blocks[1]);
                prop_assert_eq!(&blocks[0], &blocks[1]);
                #[cfg(target_arch = "x86_64")]
                if crate::codec::redaction::avx2::is_there() {
                    crate::codec::redaction::avx2::marks(part, &blocks[2]);
                    prop_assert_eq!(&blocks[2], &blocks[1]);
                }
            }
            let marks = Marks::default();
            for mark in (0..MARKS).map(Mark::numbered) {
                for at in 0..=text.len() {
                    let run = text[at..].iter().take_while(|b| mark.has(**b)).count();
                    prop_assert_eq!(marks.end_within(&text, mark, at, 1000), at + run);
                    let gap = text[at..].iter().take_while(|b| !mark.has(**b)).count();
                    prop_assert_eq!(marks.next(&text, mark, at), at + gap);
                    for most in [0, 1, 5, 63, 64, 65, 200] {
                        prop_assert_eq!(marks.end_within(&text, mark, at, most), at + run.min(most));
                        let back = text[..at].iter().rev().take(most).take_while(|b| mark.has(**b)).count();
                        prop_assert_eq!(marks.start_within(&text, mark, at, most), at - back);
                    }
                }
            }
        }
    }
}
