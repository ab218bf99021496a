//! Rows that may be on a page, in its order, and the memory that they take.

use std::collections::BinaryHeap;
use std::sync::Arc;

use super::budget::{Held, Share};
use crate::query::request::{ReadError, SortKey};

/// A row that may be on the page: where it is in the order, and where it lies.
pub struct Candidate {
    pub order: Order,
    pub place: usize,
    pub row: usize,
}

/// The best rows that were found so far, no more than `most`, and the memory that they take.
#[derive(Default)]
pub struct Best {
    pub rows: BinaryHeap<Candidate>,
    most: usize,
    pub held: Held,
    /// Places that were not looked through before the deadline.
    pub left: Vec<usize>,
}

impl Best {
    pub fn of(most: usize) -> Best {
        Best { most, ..Best::default() }
    }

    /// The last of as many rows as are wanted: only what comes before it is of use.
    pub fn worst(&self) -> Option<&Order> {
        self.rows.peek().filter(|_| self.rows.len() >= self.most).map(|row| &row.order)
    }

    pub fn add(&mut self, row: Candidate, share: &Arc<Share>) -> Result<(), ReadError> {
        if self.worst().is_some_and(|worst| row.order >= *worst) {
            return Ok(());
        }
        self.held.add(share, weight_of(&row.order))?;
        self.rows.push(row);
        if self.rows.len() > self.most
            && let Some(worst) = self.rows.pop()
        {
            self.held.sub(weight_of(&worst.order));
        }
        Ok(())
    }
}

/// Bytes of a row that may be on the page.
fn weight_of(order: &Order) -> usize {
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
