//! Statistics: totals, groups, and counts over time.

use std::collections::BTreeMap;

use super::Api;
use super::acts::record_read;
use super::answer::Answer;
use super::params::bad;
use super::reading::{
    MAX_GROUPS, check_fields, filter, groups, groups_request, has_outcomes, problem, reader, visibility, whole,
};
use super::routes::Call;
use super::shape::{Object, array};
use crate::net::http::Problem;
use crate::query::request::{AggregateRequest, Filter, Group, GroupKey, ReadError, Top, Zone, most_first};
use crate::units::{Duration, Timestamp};
use crate::visibility::Visibility;

/// What may be grouped by.
pub const GROUPS: [&str; 10] =
    ["endpoint", "user_id", "event_type", "entity_type", "session_id", "status", "host", "ip_address", "hour", "day"];
/// The most groups of an answer that does not say how many it wants; where memory has no room for so many, for fewer.
const GROUP_LIMITS: [u64; 4] = [MAX_GROUPS, 10_000, 1000, 100];
const DAY: i64 = 86_400 * 1_000_000;
/// Buckets of a histogram for which no interval was given.
const BUCKETS: i64 = 60;
const MAX_BUCKETS: i64 = 10_000;
/// Widths that people like, in seconds.
const WIDTHS: [i64; 16] =
    [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_592_000, 31_536_000];

pub async fn stats(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_fields(api, &call.params).await?;
    let (filter, sees) = (filter(&call.params)?, visibility(api, call.reader()));
    let (body, results) = match call.params.text("group_by") {
        Some(keys) => grouped(api, &call, keys, filter, sees).await?,
        None if call.params.text("min_count").is_some() => {
            return Err(bad("min_count", "only groups have a least count: name `group_by`, too"));
        }
        None if call.params.text("limit").is_some() => {
            return Err(bad("limit", "only groups have a limit: name `group_by`, too"));
        }
        None => totals(api, filter, sees).await?,
    };
    record_read(api, &call, "activity_read", results);
    Ok(Answer::json(body))
}

/// The answer, and how many events it is about.
async fn totals(api: &Api, filter: Filter, sees: Visibility) -> Result<(Vec<u8>, u64), Problem> {
    let day_ago = Timestamp(Timestamp::now().0 - DAY);
    let recent = Filter { from: Some(filter.from.map_or(day_ago, |from| from.max(day_ago))), ..filter.clone() };
    let recent = whole(api, recent, sees.clone()).await?;
    let all = groups(api, filter.clone(), Vec::new(), true, sees.clone()).await?.pop().unwrap_or_default();
    let [by_event_type, by_entity_type] = by_types(api, filter, sees).await?;
    let has_outcomes = has_outcomes(api).await?;
    let body = Object::new()
        .number("total_logs", all.count)
        .number("recent_24h", recent.count)
        .raw("by_event_type", Some(&counts(&by_event_type)))
        .raw("by_entity_type", Some(&counts(&by_entity_type)))
        .count("errors", has_outcomes.then_some(all.errors))
        .float("success_rate", has_outcomes.then(|| all.success_rate()))
        .float("avg_ms", all.avg_ms())
        .float("max_ms", all.max_ms)
        .float("p95_ms", all.p95_ms)
        .time("first_event", all.first)
        .time("last_event", all.last)
        .finish();
    Ok((body, all.count))
}

/// How many events have each `event_type`, and each `entity_type`: by one look at the events, unless there are too many
/// pairs of both.
async fn by_types(api: &Api, filter: Filter, sees: Visibility) -> Result<[BTreeMap<String, u64>; 2], Problem> {
    const NAMES: [&str; 2] = ["event_type", "entity_type"];
    let place = reader(api)?;
    let mut keys = Vec::new();
    for (nth, name) in NAMES.into_iter().enumerate() {
        if place.lacks(vec![name.to_owned()]).await.map_err(problem)?.is_none() {
            keys.push((nth, GroupKey::Field(vec![name.to_owned()])));
        }
    }
    let mut counts = [BTreeMap::new(), BTreeMap::new()];
    let mut add = |keys: &[(usize, GroupKey)], found: Vec<Group>| {
        for group in found {
            for ((nth, _), value) in keys.iter().zip(group.keys) {
                if let Some(value) = value {
                    *counts[*nth].entry(value).or_default() += group.count;
                }
            }
        }
    };
    let by = |keys: &[(usize, GroupKey)]| keys.iter().map(|(_, key)| key.clone()).collect();
    match place.aggregate(groups_request(filter.clone(), by(&keys), false), sees.clone()).await {
        Ok(found) => add(&keys, found),
        Err(ReadError::Invalid(_) | ReadError::TooLarge(_)) => {
            for key in keys.chunks(1) {
                add(key, groups(api, filter.clone(), by(key), false, sees.clone()).await?);
            }
        }
        Err(error) => return Err(problem(error)),
    }
    Ok(counts)
}

/// The most frequent first.
fn counts(by: &BTreeMap<String, u64>) -> Vec<u8> {
    let mut counts: Vec<(&String, &u64)> = by.iter().collect();
    counts.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut object = Object::new();
    for (name, count) in counts {
        object.number(name, *count);
    }
    object.finish()
}

/// The answer, and how many groups it has.
async fn grouped(
    api: &Api,
    call: &Call,
    keys: &str,
    filter: Filter,
    sees: Visibility,
) -> Result<(Vec<u8>, u64), Problem> {
    let names: Vec<&str> = keys.split(',').map(str::trim).collect();
    if names.is_empty()
        || names.len() > 2
        || names.iter().skip(1).any(|name| *name == names[0])
        || names.iter().any(|name| !GROUPS.contains(name))
    {
        return Err(bad("group_by", &format!("expected one or two different ones of {}", GROUPS.join(", "))));
    }
    let by: Vec<GroupKey> = names.iter().map(|name| group_key(name, call.params.zone())).collect();
    let limits = match call.params.text("limit") {
        Some(_) => vec![call.params.number("limit", 0)],
        None => GROUP_LIMITS.to_vec(),
    };
    let least = call.params.number("min_count", 0);
    let mut found = Err(ReadError::Deadline);
    let mut most = 0;
    for limit in limits {
        most = limit as usize;
        // One more tells whether there are more.
        let top = Some(Top::most(most + 1));
        let request = AggregateRequest { min_count: least, top, ..groups_request(filter.clone(), by.clone(), true) };
        found = reader(api)?.aggregate(request, sees.clone()).await;
        if !matches!(found, Err(ReadError::TooLarge(_))) {
            break;
        }
    }
    let mut found = found.map_err(problem)?;
    let is_partial = found.len() > most;
    found.truncate(most);
    sort(&mut found, &names);
    let has_outcomes = has_outcomes(api).await?;
    let rows = found.iter().map(|group| {
        let mut object = Object::new();
        match &group.keys[..] {
            [only] => object.text("key", only.as_deref()),
            several => {
                let keys = array(several.iter().map(|key| match key {
                    Some(key) => super::activity::quoted(key),
                    None => b"null".to_vec(),
                }));
                object.raw("key", Some(&keys))
            }
        };
        for (name, key) in names.iter().zip(&group.keys) {
            object.text(name, key.as_deref());
        }
        object
            .number("count", group.count)
            .count("errors", has_outcomes.then_some(group.errors))
            .float("success_rate", has_outcomes.then(|| group.success_rate()))
            .float("avg_ms", group.avg_ms())
            .float("max_ms", group.max_ms)
            .float("p95_ms", group.p95_ms)
            .finish()
    });
    let rows = array(rows);
    let mut object = Object::new();
    object.text("group_by", Some(&names.join(","))).raw("groups", Some(&rows));
    if is_partial {
        object.bool("is_partial", true);
    }
    Ok((object.finish(), found.len() as u64))
}

fn group_key(name: &str, zone: &Zone) -> GroupKey {
    match name {
        "day" => GroupKey::Day(zone.clone()),
        "hour" => GroupKey::Hour(zone.clone()),
        field => GroupKey::Field(vec![field.to_owned()]),
    }
}

/// Times in their order, all others by count.
fn sort(groups: &mut [Group], names: &[&str]) {
    match names.first() {
        Some(&"day") => groups.sort_by(|a, b| a.keys.cmp(&b.keys)),
        Some(&"hour") => groups.sort_by_key(|group| {
            let hour = group.keys[0].as_deref().and_then(|hour| hour.parse::<u32>().ok());
            (hour, group.keys.get(1).cloned())
        }),
        _ => groups.sort_by(most_first),
    }
}

pub async fn histogram(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_fields(api, &call.params).await?;
    let (filter, sees) = (filter(&call.params)?, visibility(api, call.reader()));
    let zone = call.params.zone().clone();
    let counted = async |filter: Filter, by: Vec<GroupKey>| {
        let request = AggregateRequest { with_durations: false, ..groups_request(filter, by, false) };
        reader(api)?.aggregate(request, sees.clone()).await.map_err(problem)
    };
    let all = counted(filter.clone(), Vec::new()).await?.pop().unwrap_or_default();
    let (first, last) = (filter.from.or(all.first), filter.to.or(all.last));
    let span = match (first, last) {
        (Some(first), Some(last)) => (last.0 - first.0).max(1),
        _ => DAY,
    };
    let micros = match call.params.text("interval") {
        Some(text) => width(text)?,
        None => WIDTHS.iter().map(|seconds| seconds * 1_000_000).find(|width| span / width < BUCKETS).unwrap_or(span),
    };
    if span / micros > MAX_BUCKETS {
        return Err(bad(
            "interval",
            &format!("more than {MAX_BUCKETS} buckets: use a longer interval or a shorter time range"),
        ));
    }
    // The first interval may begin before the first event, and the last one end behind the last.
    let zone = match (all.first, all.last) {
        (Some(first), Some(last)) => {
            zone.between(Timestamp(first.0.saturating_sub(micros)), Timestamp(last.0.saturating_add(micros)))
        }
        _ => zone,
    };
    let by = vec![GroupKey::Interval { micros, zone }, GroupKey::Field(vec!["status".to_owned()])];
    let found = counted(filter, by).await?;
    let mut buckets: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for group in &found {
        let (start, status) = (group.keys[0].as_deref().unwrap_or(""), group.keys[1].as_deref().unwrap_or("none"));
        *buckets.entry(start).or_default().entry(status).or_default() += group.count;
    }
    let rows = buckets.iter().map(|(start, by_status)| {
        let mut statuses = Object::new();
        for (status, count) in by_status {
            statuses.number(status, *count);
        }
        Object::new()
            .text("start", Some(start))
            .number("count", by_status.values().sum::<u64>())
            .raw("by_status", Some(&statuses.finish()))
            .finish()
    });
    let rows = array(rows);
    let body = Object::new()
        .number("interval_ms", micros / 1000)
        .time("start", first)
        .time("end", last)
        .number("total", all.count)
        .raw("buckets", Some(&rows))
        .finish();
    record_read(api, &call, "activity_read", all.count);
    Ok(Answer::json(body))
}

/// A width in microseconds: `30s`, `5m`, `1h`, `1d`, or a number of seconds.
fn width(text: &str) -> Result<i64, Problem> {
    let seconds = text.parse::<u64>().ok().map(std::time::Duration::from_secs);
    let width = seconds.or_else(|| text.parse::<Duration>().ok().map(Into::into));
    let width = width.map(|width| width.as_micros() as i64).filter(|width| *width >= 1_000_000);
    width.ok_or_else(|| bad("interval", "expected a duration of at least 1 s, such as `5m` or `1h`"))
}
