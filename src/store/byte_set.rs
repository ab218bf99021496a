//! Which bytes the values of a column have: a search for others need not read them.

use serde::{Deserialize, Serialize};

/// Bytes that occur in some texts, in lower case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteSet([u64; 4]);

impl ByteSet {
    /// Adds those of a JSON value. With escapes, and beyond ASCII, it may have any.
    pub fn add(&mut self, json: &[u8]) {
        if !json.is_ascii() || memchr::memchr(b'\\', json).is_some() {
            self.0 = [u64::MAX; 4];
            return;
        }
        for byte in json {
            let byte = byte.to_ascii_lowercase();
            self.0[usize::from(byte >> 6) & 3] |= 1 << (byte & 63);
        }
    }

    pub fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] & 1 << (byte % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_every_byte_of_its_values_in_lower_case() {
        let mut set = ByteSet::default();
        set.add(b"\"User_7\"");
        assert!(b"user_7\"".iter().all(|byte| set.has(*byte)) && !set.has(b'x') && !set.has(b'U'));
        set.add("\"سلام\"".as_bytes());
        assert!((0..=255).all(|byte| set.has(byte)), "what is lowered otherwise may have any");
    }
}
