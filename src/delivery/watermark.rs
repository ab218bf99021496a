//! Restores order among out-of-order completions: a cursor passes an event only when all before it have ended.

use std::collections::VecDeque;

#[derive(Debug)]
pub struct Watermark<T> {
    /// The ticket of the first slot.
    first: u64,
    /// What has ended, and holes for what is still out.
    slots: VecDeque<Option<T>>,
}

impl<T> Default for Watermark<T> {
    fn default() -> Watermark<T> {
        Watermark { first: 0, slots: VecDeque::new() }
    }
}

impl<T> Watermark<T> {
    /// The next ticket.
    pub fn start(&mut self) -> u64 {
        self.slots.push_back(None);
        self.first + self.slots.len() as u64 - 1
    }

    pub fn end(&mut self, ticket: u64, ended: T) {
        let slot = &mut self.slots[(ticket - self.first) as usize];
        assert!(slot.is_none(), "a ticket ends once");
        *slot = Some(ended);
    }

    /// The oldest, once it has ended.
    pub fn pop(&mut self) -> Option<T> {
        let ended = self.slots.front_mut()?.take()?;
        self.slots.pop_front();
        self.first += 1;
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_the_order_of_ends_they_come_out_in_the_order_of_starts(keys in prop::collection::vec(any::<u32>(), 0..40)) {
            let mut watermark = Watermark::default();
            let mut tickets: Vec<(u32, u64)> = keys.iter().map(|key| (*key, watermark.start())).collect();
            tickets.sort_unstable();
            let (mut open, mut out): (Vec<u64>, Vec<u64>) = ((0..keys.len() as u64).collect(), Vec::new());
            for (_, ticket) in tickets {
                watermark.end(ticket, ticket);
                open.retain(|other| *other != ticket);
                out.extend(std::iter::from_fn(|| watermark.pop()));
                prop_assert_eq!(out.len() as u64, open.first().copied().unwrap_or(keys.len() as u64));
            }
            prop_assert!(out.iter().copied().eq(0..keys.len() as u64));
        }
    }
}
