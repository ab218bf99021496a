//! Groups slice by slice, each in a pass of its own, where all together need more memory than queries may hold.

use std::hash::BuildHasher;
use std::sync::Arc;

use super::budget::{Held, Share};
use super::groups::{Groups, KeyValue, Keys};
use super::hashing::Seeded;
use super::search::Snapshot;
use crate::query::request::{AggregateRequest, Group, ReadError};
use crate::visibility::Visibility;

/// Into so many slices one is cut that needs too much.
const CUT: u32 = 4;
/// The most slices: with so many passes a question comes to its deadline before it comes to the end.
const MAX_SLICES: u32 = 1024;

impl Snapshot {
    /// The groups of the events that match, as far as they are wanted, in no order.
    pub fn aggregate(&self, request: &AggregateRequest, visibility: &Visibility) -> Result<Vec<Group>, ReadError> {
        let max_groups = if request.wants_all() { request.max_groups } else { usize::MAX };
        let request = &AggregateRequest { max_groups, ..request.clone() };
        let mut wanted = Wanted::new(request, &self.share);
        each(|slice| self.aggregate_slice(request, visibility, slice), |groups| wanted.take(groups))?;
        match wanted.groups.len() > max_groups {
            true => Err(too_many(request)),
            false => Ok(wanted.groups),
        }
    }

    /// How many groups have a first key.
    pub fn distinct(&self, request: &AggregateRequest, visibility: &Visibility) -> Result<u64, ReadError> {
        let request = &AggregateRequest { max_groups: usize::MAX, ..request.clone() };
        let mut count = 0;
        let add = |groups: Groups| {
            count += groups.named();
            Ok(())
        };
        each(|slice| self.aggregate_slice(request, visibility, slice), add)?;
        Ok(count)
    }
}

pub fn too_many(request: &AggregateRequest) -> ReadError {
    ReadError::Invalid(format!("more than {} groups: narrow the filter or the time", request.max_groups))
}

/// The groups whose keys have some of all hashes.
#[derive(Clone, Copy)]
pub struct Slice {
    nth: u32,
    of: u32,
    hashes: Seeded,
}

impl Slice {
    /// All groups.
    pub fn whole() -> Slice {
        Slice { nth: 0, of: 1, hashes: Seeded::default() }
    }

    pub fn is_whole(&self) -> bool {
        self.of == 1
    }

    /// The hash of one part of a key; never 0.
    pub fn hash(&self, key: &KeyValue) -> u32 {
        ((self.hashes.hash_one(key) >> 32) as u32).max(1)
    }

    /// Whether keys whose parts have these hashes are in the slice.
    pub fn has_hashes(&self, hashes: impl IntoIterator<Item = u32>) -> bool {
        let both = hashes.into_iter().fold(0u32, |all, hash| all.rotate_left(7).wrapping_add(hash));
        both % self.of == self.nth
    }

    pub fn has(&self, keys: &Keys) -> bool {
        self.is_whole() || self.has_hashes(keys.each_ref().map(|key| self.hash(key)))
    }

    fn cut(self) -> impl Iterator<Item = Slice> {
        (0..CUT).map(move |nth| Slice { nth: self.nth + nth * self.of, of: self.of * CUT, ..self })
    }
}

/// Makes groups slice by slice, of as many slices as it takes, and takes those of each.
fn each(
    mut make: impl FnMut(Slice) -> Result<Groups, ReadError>,
    mut take: impl FnMut(Groups) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut left = vec![Slice::whole()];
    let mut least = 1;
    while let Some(slice) = left.pop() {
        if slice.of < least {
            left.extend(slice.cut());
            continue;
        }
        match make(slice) {
            Ok(groups) => take(groups)?,
            // Others of its size would need too much as well.
            Err(ReadError::TooLarge(_)) if slice.of < MAX_SLICES => {
                least = slice.of * CUT;
                left.push(slice);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The groups that are wanted, and the memory that they take.
struct Wanted<'a> {
    request: &'a AggregateRequest,
    groups: Vec<Group>,
    share: &'a Arc<Share>,
    held: Held,
}

impl<'a> Wanted<'a> {
    fn new(request: &'a AggregateRequest, share: &'a Arc<Share>) -> Wanted<'a> {
        Wanted { request, groups: Vec::new(), share, held: Held::default() }
    }

    fn take(&mut self, groups: Groups) -> Result<(), ReadError> {
        let request = self.request;
        for group in groups.finish(&request.group_by).filter(|group| request.wants(group)) {
            self.held.add(self.share, weight(&group))?;
            self.groups.push(group);
            if request.top.as_ref().is_some_and(|top| self.groups.len() >= top.limit.saturating_mul(2).max(1000)) {
                self.cut();
            }
        }
        self.cut();
        Ok(())
    }

    fn cut(&mut self) {
        if let Some(top) = &self.request.top {
            let before: usize = self.groups.iter().map(weight).sum();
            top.cut(&mut self.groups);
            self.held.sub(before - self.groups.iter().map(weight).sum::<usize>());
        }
    }
}

/// Bytes of a group as it is answered.
fn weight(group: &Group) -> usize {
    let text =
        |key: &Option<String>| std::mem::size_of::<Option<String>>() + key.as_ref().map_or(0, |key| key.len() + 16);
    std::mem::size_of::<Group>() + group.keys.iter().map(text).sum::<usize>() + 16
}
