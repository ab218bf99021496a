//! Sets of bytes, as tables built at compile time.

/// One entry for each byte: looking one up costs the same however many the set has.
pub struct ByteSet([bool; 256]);

impl ByteSet {
    pub const fn of(bytes: &[u8]) -> ByteSet {
        let (mut table, mut at) = ([false; 256], 0);
        while at < bytes.len() {
            table[bytes[at] as usize] = true;
            at += 1;
        }
        ByteSet(table)
    }

    #[inline]
    pub fn has(&self, byte: &u8) -> bool {
        self.0[usize::from(*byte)]
    }
}
