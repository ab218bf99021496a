//! Rows that may be on a page, in its order, and the memory that they take.

use std::collections::BinaryHeap;

use super::budget::Held;
use crate::query::request::SortKey;

/// A row that may be on the page: where it is in the order, and where it lies.
pub struct Candidate {
    pub order: Order,
    pub place: usize,
    pub row: usize,
}

/// The best rows that one thread has found, and the memory that they take.
#[derive(Default)]
pub struct Best {
    pub rows: BinaryHeap<Candidate>,
    pub held: Held,
    /// Places that were not looked through before the deadline.
    pub left: Vec<usize>,
}

/// Bytes of a row that may be on the page.
pub fn weight_of(order: &Order) -> usize {
    let text = match &order.key {
        SortKey::Text(text) | SortKey::Decimal(text) => text.len(),
        SortKey::None | SortKey::Number(_) | SortKey::Missing => 0,
    };
    std::mem::size_of::<Candidate>() + text
}

/// Less is earlier on the page.
#[derive(Clone, PartialEq)]
pub struct Order {
    pub key: SortKey,
    pub time: i64,
    pub seq: u64,
    pub is_descending: bool,
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Order) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Order) -> std::cmp::Ordering {
        let ties = (self.time, self.seq).cmp(&(other.time, other.seq));
        let ties = if self.is_descending { ties.reverse() } else { ties };
        self.key.compare(&other.key, self.is_descending).then(ties)
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.order == other.order
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}
