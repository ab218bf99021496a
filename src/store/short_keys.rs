//! Numbers of groups by keys that are two integers.

/// Groups by short keys: an open table, never more than half full.
#[derive(Default)]
pub struct ShortKeys {
    slots: Vec<Option<([i64; 2], u32)>>,
    len: usize,
}

impl ShortKeys {
    fn slot(&self, key: [i64; 2]) -> usize {
        let hash =
            (key[0] as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (key[1] as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        let mut slot = (hash ^ hash >> 32) as usize & (self.slots.len() - 1);
        while self.slots[slot].is_some_and(|(known, _)| known != key) {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        slot
    }

    /// Forgets all; the table keeps its room.
    pub fn clear(&mut self) {
        self.slots.fill(None);
        self.len = 0;
    }

    pub fn get(&self, key: [i64; 2]) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        self.slots[self.slot(key)].map(|(_, number)| number as usize)
    }

    pub fn insert(&mut self, key: [i64; 2], number: usize) {
        if self.slots.len() < 2 * (self.len + 1) {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![None; (old.len() * 2).max(64)];
            for (key, number) in old.into_iter().flatten() {
                let slot = self.slot(key);
                self.slots[slot] = Some((key, number));
            }
        }
        let slot = self.slot(key);
        self.len += usize::from(self.slots[slot].is_none());
        self.slots[slot] = Some((key, number as u32));
    }
}
