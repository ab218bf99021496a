//! Finds the newest events by their ids: numbers of rows, by hashes of the ids, which the rows themselves have.

use std::hash::BuildHasher;

use super::hashing::Seeded;
use crate::event::Id;

const EMPTY: u64 = 0;
/// Slots of the smallest table.
const LEAST: usize = 1024;

/// A third of what ids with their rows would take.
#[derive(Default)]
pub struct IdTable {
    /// In the upper half of the hash as much as there is room for, in the lower one more than the row.
    slots: Vec<u64>,
    len: usize,
    hasher: Seeded,
}

impl IdTable {
    /// Notes the row of an id. `id_of` tells the id of a row that is there; of equal ids the first stays.
    pub fn insert(&mut self, id: Id, row: u32, id_of: impl Fn(u32) -> Id) {
        if self.len * 8 >= self.slots.len() * 7 {
            self.grow();
        }
        let hash = self.hasher.hash_one(id);
        if let Err(slot) = self.find(hash, |row| id_of(row) == id) {
            self.slots[slot] = slot_of(hash, row);
            self.len += 1;
        }
    }

    pub fn row(&self, id: Id, id_of: impl Fn(u32) -> Id) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        self.find(self.hasher.hash_one(id), |row| id_of(row) == id).ok()
    }

    /// The row, or the slot where it would be.
    fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let mut at = self.first(hash);
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return Err(at);
            }
            let row = slot as u32 - 1;
            if slot == slot_of(hash, row) && is_it(row) {
                return Ok(row);
            }
            at = (at + 1) % self.slots.len();
        }
    }

    /// Where looking for a hash begins: its upper half alone tells, so that a table can grow without the ids.
    fn first(&self, hash: u64) -> usize {
        (((hash >> 32) * self.slots.len() as u64) >> 32) as usize
    }

    fn grow(&mut self) {
        let larger = (self.slots.len() * 2).max(LEAST);
        let before = std::mem::replace(&mut self.slots, vec![EMPTY; larger]);
        for slot in before.into_iter().filter(|slot| *slot != EMPTY) {
            let mut at = self.first(slot);
            while self.slots[at] != EMPTY {
                at = (at + 1) % self.slots.len();
            }
            self.slots[at] = slot;
        }
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        self.slots.len() * std::mem::size_of::<u64>()
    }
}

fn slot_of(hash: u64, row: u32) -> u64 {
    hash & !u64::from(u32::MAX) | u64::from(row + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_first_row_of_each_id_is_found_and_no_other() {
        let mut table = IdTable::default();
        assert_eq!(table.row(Id(1), |_| Id(1)), None);
        let ids: Vec<Id> = (0..5000u128).map(|n| Id((n * n % 3001) << (n % 3 * 40))).collect();
        let (id_of, mut wanted) = (|row: u32| ids[row as usize], HashMap::new());
        for (row, id) in ids.iter().enumerate() {
            table.insert(*id, row as u32, id_of);
            wanted.entry(*id).or_insert(row as u32);
            assert_eq!(table.row(*id, id_of), wanted.get(id).copied());
        }
        for n in 0..20_000u128 {
            let id = Id((n * 7) << (n % 3 * 40));
            assert_eq!(table.row(id, id_of), wanted.get(&id).copied(), "{n}");
        }
        assert!(table.len == wanted.len() && table.weight() < wanted.len() * 20);
    }
}
