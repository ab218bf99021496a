//! Groups slice by slice, each in a pass of its own, where all together need more memory than queries may hold.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::budget::{Held, Share};
use super::candidates::{Needs, with_one_of};
use super::groups::{Groups, KeyValue, Keys, keys_of};
use super::hashing::Seeded;
use super::search::Snapshot;
use super::value::plain_uuid;
use crate::query::request::{AggregateRequest, Group, GroupKey, Ranking, ReadError, Top};
use crate::visibility::Visibility;

/// Into so many slices one is cut that needs too much.
const CUT: u32 = 4;
/// Of so many groups it is looked up which chunks have them.
const MAX_FIRSTS: usize = 200;
/// The most slices: with so many passes a question comes to its deadline before it comes to the end.
const MAX_SLICES: u32 = 1024;

impl Snapshot {
    /// The groups of the events that match, as far as they are wanted, in no order.
    pub fn aggregate(&self, request: &AggregateRequest, visibility: &Visibility) -> Result<Vec<Group>, ReadError> {
        let max_groups = if request.wants_all() { request.max_groups } else { usize::MAX };
        let request = &AggregateRequest { max_groups, ..request.clone() };
        let mut wanted = Wanted::new(request, &self.share);
        let make = |slice| self.aggregate_slice(request, visibility, slice);
        let all = make(Slice::whole());
        if matches!(all, Err(ReadError::TooLarge(_))) {
            let told = match self.newest_groups(request, visibility)? {
                Some(newest) => Some(newest),
                None => self.most_groups(request, visibility)?,
            };
            if let Some(told) = told {
                wanted.take(make(told)?)?;
                return Ok(wanted.groups);
            }
        }
        let mut all = Some(all);
        each(|slice| all.take().unwrap_or_else(|| make(slice)), |groups| wanted.take(groups))?;
        match wanted.groups.len() > max_groups {
            true => Err(too_many(request)),
            false => Ok(wanted.groups),
        }
    }

    /// A slice with the groups that are wanted, if these are those with the most events: which they are is told by counts
    /// alone, and more groups are counted at a time than are summed up with their durations.
    fn most_groups(&self, request: &AggregateRequest, visibility: &Visibility) -> Result<Option<Slice>, ReadError> {
        let measured = request.with_durations || request.with_percentiles;
        let is_told = request.top.as_ref().is_some_and(|top| top.ranking == Ranking::Most);
        if !measured || !is_told {
            return Ok(None);
        }
        let counts = AggregateRequest { with_durations: false, with_percentiles: false, ..request.clone() };
        let mut most = Wanted::new(&counts, &self.share);
        each(|slice| self.aggregate_slice(&counts, visibility, slice), |groups| most.take(groups))?;
        Ok(Slice::of_groups(&most.groups, &request.group_by))
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
#[derive(Clone)]
pub struct Slice {
    nth: u32,
    of: u32,
    hashes: Seeded,
    /// The hashes, where they are those of some keys; few other keys have the same.
    only: Option<Arc<HashSet<u32>>>,
    /// The member that their first keys are of, and these, where they are few: most chunks have none of them.
    firsts: Option<Arc<(String, Vec<Arc<str>>)>>,
}

impl Slice {
    /// All groups.
    pub fn whole() -> Slice {
        Slice { nth: 0, of: 1, hashes: Seeded::default(), only: None, firsts: None }
    }

    /// These groups; none where a label does not tell its key.
    pub fn of_groups(groups: &[Group], by: &[GroupKey]) -> Option<Slice> {
        let keys: Vec<Keys> = groups.iter().map(|group| keys_of(by, &group.keys)).collect::<Option<_>>()?;
        let mut firsts = None;
        if let Some(GroupKey::Field(path)) = by.first()
            && let [name] = &path[..]
            && keys.len() <= MAX_FIRSTS
        {
            let text = |key: &Keys| if let KeyValue::Text(text) = &key[0] { Some(text.clone()) } else { None };
            let texts: Option<Vec<Arc<str>>> = keys.iter().map(text).collect();
            firsts = texts.map(|texts| Arc::new((name.clone(), texts)));
        }
        Some(Slice { firsts, ..Slice::only(keys.into_iter()) })
    }

    /// What chunks need that have some of the groups, of those that have what a filter needs.
    pub fn needs(&self, of_filter: Needs) -> Needs {
        match &self.firsts {
            Some(firsts) => with_one_of(of_filter, &firsts.0, &firsts.1),
            None => of_filter,
        }
    }

    /// The groups with these keys.
    fn only(keys: impl Iterator<Item = Keys>) -> Slice {
        let whole = Slice::whole();
        let only = keys.map(|keys| joined(keys.each_ref().map(|key| whole.hash(key)))).collect();
        Slice { only: Some(Arc::new(only)), ..whole }
    }

    pub fn is_whole(&self) -> bool {
        self.of == 1 && self.only.is_none()
    }

    /// The hash of one part of a key; never 0.
    pub fn hash(&self, key: &KeyValue) -> u32 {
        match key {
            KeyValue::Text(text) => match plain_uuid(text.as_bytes()) {
                Some(bits) => self.hash_uuid(bits),
                None => self.hash_one(key),
            },
            _ => self.hash_one(key),
        }
    }

    /// The same for a text that is a UUID: a column has its bits.
    pub fn hash_uuid(&self, bits: u128) -> u32 {
        self.hash_one(bits)
    }

    fn hash_one(&self, value: impl Hash) -> u32 {
        ((self.hashes.hash_one(value) >> 32) as u32).max(1)
    }

    /// Whether keys whose parts have these hashes are in the slice.
    pub fn has_hashes(&self, hashes: impl IntoIterator<Item = u32>) -> bool {
        let both = joined(hashes);
        match &self.only {
            Some(only) => only.contains(&both),
            None => both % self.of == self.nth,
        }
    }

    pub fn has(&self, keys: &Keys) -> bool {
        self.is_whole() || self.has_hashes(keys.each_ref().map(|key| self.hash(key)))
    }

    fn cut(self) -> impl Iterator<Item = Slice> {
        (0..CUT).map(move |nth| Slice { nth: self.nth + nth * self.of, of: self.of * CUT, ..self.clone() })
    }
}

/// One hash of those of the parts of a key.
fn joined(hashes: impl IntoIterator<Item = u32>) -> u32 {
    hashes.into_iter().fold(0u32, |all, hash| all.rotate_left(7).wrapping_add(hash))
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
        match make(slice.clone()) {
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
            let is_long = |top: &Top| self.groups.len() >= top.limit.saturating_add((top.limit / 2).max(1000));
            if request.top.as_ref().is_some_and(is_long) {
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
