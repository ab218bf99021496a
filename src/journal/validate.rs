//! Which bytes of a segment are valid by the invariants of `format`; repairs the end of the last one.

use std::io;
use std::ops::Range;

use super::format::{DATA_START, RECORD_HEADER, RecordHeader};
use super::segment::{Found, Segment, fill, next_header, walk};

/// What stands in a segment, in order.
#[derive(Debug)]
pub enum Item {
    Whole(u32, RecordHeader),
    /// A record with a good header and lines, or notes, that are not.
    Torn(u32, RecordHeader),
    Damage(Range<u32>),
}

/// Which bytes of a segment are to be believed.
#[derive(Debug, Default)]
pub struct Validated {
    /// Whole records and where they stand.
    records: Vec<(u32, RecordHeader)>,
    /// Those of the damaged ones whose header is good.
    torn: Vec<(u32, RecordHeader)>,
    pub damaged: Vec<Range<u32>>,
    /// Up to here a finished sync is certain.
    claimed: u32,
    /// Behind the last record that counts.
    pub end: u32,
}

impl Validated {
    pub fn items(&self) -> Vec<Item> {
        let mut items: Vec<(u32, Item)> = self.records.iter().map(|(at, one)| (*at, Item::Whole(*at, *one))).collect();
        items.extend(self.torn.iter().map(|(at, one)| (*at, Item::Torn(*at, *one))));
        let is_torn = |range: &&Range<u32>| self.torn.iter().any(|(at, _)| *at == range.start);
        let rest = self.damaged.iter().filter(|range| !is_torn(range));
        items.extend(rest.map(|range| (range.start, Item::Damage((*range).clone()))));
        items.sort_by_key(|(at, _)| *at);
        items.into_iter().map(|(_, item)| item).collect()
    }

    /// Damaged bytes behind everything that has a number, enough of them for a record that holds something.
    pub fn unnumbered(&self) -> u64 {
        let last = self.records.iter().chain(&self.torn).map(|(at, _)| *at).max().unwrap_or(0);
        let behind = self.damaged.iter().filter(|range| range.start > last && range.len() > RECORD_HEADER);
        behind.map(|range| range.len() as u64).sum()
    }
}

/// `known_end` is what a later segment says about the end of this one.
pub fn validate(bytes: &[u8], salt: u32, known_end: Option<u32>) -> Validated {
    let limit = known_end.unwrap_or(bytes.len() as u32).min(bytes.len() as u32);
    let found = walk(bytes, salt, limit);
    let claims = found.iter().map(|found| match found {
        Found::Record { header, .. } => header.synced,
        Found::Damage { .. } => 0,
    });
    let claimed = known_end.unwrap_or_else(|| claims.max().unwrap_or(0)).clamp(DATA_START, limit.max(DATA_START));
    let mut validated = Validated { claimed, end: claimed, ..Validated::default() };
    let mut covered = DATA_START;
    let mut group: Vec<(u32, RecordHeader)> = Vec::new();
    let mut next_seq = 0;
    for one in found {
        match one {
            Found::Record { at, header, whole } if at < claimed => {
                let end = at + header.total_len() as u32;
                if whole && end <= claimed && header.first_seq >= next_seq {
                    next_seq = header.end_seq();
                    validated.records.push((at, header));
                } else {
                    validated.damaged.push(at..end.min(claimed));
                    if !whole && end <= claimed && header.first_seq >= next_seq {
                        validated.torn.push((at, header));
                    }
                }
                covered = end;
            }
            Found::Damage { from, to } if from < claimed => {
                validated.damaged.push(from..to.min(claimed));
                covered = to.min(claimed);
            }
            // Behind the last certain sync only whole groups count that follow without a break.
            Found::Record { at, header, whole } => {
                let expected = group.last().map_or(validated.end, |(at, last)| at + last.total_len() as u32);
                let in_order = usize::from(header.order) == group.len() && header.first_seq >= next_seq;
                if !whole || at != expected || !in_order {
                    break;
                }
                next_seq = header.end_seq();
                group.push((at, header));
                if header.ends_group() {
                    validated.end = at + header.total_len() as u32;
                    validated.records.append(&mut group);
                }
            }
            Found::Damage { .. } => break,
        }
    }
    if covered < claimed {
        validated.damaged.push(covered..claimed);
    }
    validated
}

/// Makes the end of the last segment certain: what is kept without a known sync is written and synced once more
/// (a sync that failed may have left it in memory only), and what is cut off is overwritten. Tells how much was cut.
pub fn mend_tail(segment: &Segment, bytes: &[u8], validated: &Validated) -> io::Result<u64> {
    let file = &*segment.place.file;
    let (claimed, end) = (validated.claimed as usize, validated.end as usize);
    let mut cut = 0;
    // Without any known sync the header itself may be in memory only.
    let header_is_uncertain = claimed == DATA_START as usize;
    if header_is_uncertain {
        file.write_at(&bytes[..claimed.min(bytes.len())], 0)?;
    }
    if end > claimed {
        file.write_at(&bytes[claimed..end], claimed as u64)?;
    }
    if end < bytes.len()
        && let Some(leftover) = next_header(bytes, end, segment.salt)
    {
        cut = walk(bytes, segment.salt, bytes.len() as u32)
            .iter()
            .filter_map(|found| match found {
                Found::Record { at, header, .. } if *at as usize >= leftover => Some(header.total_len() as u64),
                _ => None,
            })
            .sum();
        fill(file, validated.end, segment.place.bytes)?;
    }
    if end > claimed || cut > 0 || header_is_uncertain {
        file.sync()?;
    }
    Ok(cut)
}
