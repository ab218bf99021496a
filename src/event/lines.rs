//! Rendered events: JSON lines, their ends, and what their ids derive from.

use bytes::Bytes;

use super::id::{Id, Seed};

/// The lines of one stream that travel together: `bytes` holds them one after another, each ended by `\n`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    pub bytes: Bytes,
    /// For each event the offset behind its `\n` in `bytes`; ascending, the last equals `bytes.len()`.
    pub ends: Vec<u32>,
    /// What the events' ids derive from, in their order.
    pub origins: Origins,
}

/// For each event its origin and its ordinal in it (byte offset, Kafka offset or index in the request). Consecutive events
/// of one origin are a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// For each run its seed, and how many events there are up to its end.
    runs: Vec<(Seed, u32)>,
    ordinals: Vec<u64>,
}

impl Lines {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The n-th line without its `\n`.
    pub fn line(&self, n: usize) -> &[u8] {
        &self.bytes[self.start(n)..self.ends[n] as usize - 1]
    }

    /// Where the n-th line starts; `start(len())` is the end of all.
    pub fn start(&self, n: usize) -> usize {
        if n == 0 { 0 } else { self.ends[n - 1] as usize }
    }

    /// The id derived for the n-th event (its own `id` member, if it has one, takes precedence with the caller).
    pub fn derived_id(&self, n: usize) -> Id {
        let (seed, ordinal) = self.origins.at(n);
        seed.id(ordinal)
    }
}

impl Origins {
    /// Events of one origin.
    pub fn of(seed: Seed, ordinals: impl IntoIterator<Item = u64>) -> Origins {
        let mut origins = Origins::default();
        origins.push(seed, ordinals);
        origins
    }

    /// Adds events of one origin. They continue the last run if they are of its origin.
    pub fn push(&mut self, seed: Seed, ordinals: impl IntoIterator<Item = u64>) {
        let before = self.ordinals.len();
        self.ordinals.extend(ordinals);
        let end = u32::try_from(self.ordinals.len()).expect("a record has fewer events than bytes");
        match self.runs.last_mut() {
            _ if self.ordinals.len() == before => {}
            Some((last, last_end)) if *last == seed => *last_end = end,
            _ => self.runs.push((seed, end)),
        }
    }

    /// Adds others behind these.
    pub fn append(&mut self, others: &Origins) {
        others.runs().for_each(|(seed, ordinals)| self.push(seed, ordinals.iter().copied()));
    }

    /// Those of the events from `from` up to `to`.
    pub fn between(&self, from: usize, to: usize) -> Origins {
        let mut found = Origins::default();
        let mut first = 0;
        for (seed, ordinals) in self.runs() {
            let end = first + ordinals.len();
            let (low, high) = (from.max(first), to.min(end));
            if low < high {
                found.push(seed, ordinals[low - first..high - first].iter().copied());
            }
            first = end;
        }
        found
    }

    /// What the n-th event's id derives from.
    pub fn at(&self, n: usize) -> (Seed, u64) {
        let run = self.runs.partition_point(|(_, end)| *end as usize <= n);
        (self.runs[run].0, self.ordinals[n])
    }

    /// Each run with the ordinals of its events.
    pub fn runs(&self) -> impl Iterator<Item = (Seed, &[u64])> {
        let mut first = 0;
        self.runs.iter().map(move |(seed, end)| {
            let ordinals = &self.ordinals[first..*end as usize];
            first = *end as usize;
            (*seed, ordinals)
        })
    }

    /// Bytes that they take in memory.
    pub fn pinned_bytes(&self) -> usize {
        size_of_val(&*self.runs) + size_of_val(&*self.ordinals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_keeps_its_origin_however_lines_are_joined_and_cut() {
        let seeds: Vec<Seed> = [1, 1, 2, 3, 3, 3, 1, 2].map(|n| Seed([n; 16])).to_vec();
        let all: Vec<(Seed, u64)> = seeds.into_iter().zip([5, 6, 0, 9, 4, 4, 7, 0]).collect();
        let mut origins = Origins::default();
        all.iter().for_each(|(seed, ordinal)| origins.push(*seed, [*ordinal]));
        origins.push(Seed([9; 16]), []);
        assert_eq!(origins.runs().count(), 5);
        let found = |origins: &Origins, len: usize| (0..len).map(|n| origins.at(n)).collect::<Vec<_>>();
        assert_eq!(found(&origins, 8), all);
        for from in 0..8 {
            for to in from..=8 {
                let mut joined = origins.between(0, from);
                let part = origins.between(from, to);
                assert_eq!(found(&part, to - from), all[from..to]);
                joined.append(&part);
                joined.append(&origins.between(to, 8));
                assert_eq!(joined, origins);
            }
        }
    }
}
