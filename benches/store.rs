//! The embedded store: what an event costs to store, how much room it takes, and how long questions take.
//!
//! `cargo bench --bench store [FILE]`; without a file it makes events of its own. `WEIR_BENCH_EVENTS` says how many are
//! stored (1,000,000): the file is stored again, with other times, until there are so many. `WEIR_BENCH_KEEP` names a
//! folder that is filled once and asked again. `WEIR_BENCH_ASK` names a part of the questions that are asked, of all. `WEIR_BENCH_COLD` asks some questions with nothing in the page cache, which
//! takes root.

#[allow(dead_code, reason = "this bench uses its part")]
mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir::component::{Check, Outputs, Transform};
use weir::event::{Batch, Lines};
use weir::query::Query;
use weir::query::request::{AggregateRequest, CountLimit, Filter, GroupKey, PageRequest, Sort, Zone};
use weir::store::{NewEvent, Options, Store};
use weir::transforms::normalize::Normalize;
use weir::units::Timestamp;
use weir::visibility::Visibility;
use workload::{cpu_seconds, pieces, split};

const ROUNDS: usize = 20;
const COLD_ROUNDS: usize = 5;
const DAY: i64 = 86_400 * 1_000_000;

fn main() {
    let wanted: usize = std::env::var("WEIR_BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let kept = std::env::var_os("WEIR_BENCH_KEEP").map(PathBuf::from);
    let dir =
        kept.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("weir-bench-store-{}", std::process::id())));
    let opening = Instant::now();
    let (store, report) = Store::open(&Options::new(&dir)).expect("the store opens");
    println!("open with {} events: {:.1} ms", report.events, opening.elapsed().as_secs_f64() * 1e3);
    if (report.events as usize) < wanted {
        fill(&store, wanted);
    }
    store.settle();
    let events = store.snapshot().places().iter().map(|place| place.events()).sum::<usize>();
    println!(
        "{events} events, {:.1} bytes each on disk, {} MiB in memory",
        store.bytes() as f64 / events as f64,
        store.weight() >> 20
    );
    ask(&store);
    drop(store);
    if std::env::var_os("WEIR_BENCH_COLD").is_some() {
        ask_cold(&dir);
    }
    if kept.is_none() {
        drop(std::fs::remove_dir_all(&dir));
    }
}

fn fill(store: &Store, wanted: usize) {
    let events = workload::events();
    let pieces = pieces(&events);
    let normalize = build();
    let lines: Vec<Lines> = pieces.iter().map(|piece| apply(&normalize, split(piece)).render()).collect();
    let per_round: usize = lines.iter().map(Lines::len).sum();
    let bytes: usize = lines.iter().map(|lines| lines.bytes.len()).sum();
    let rounds = wanted.div_ceil(per_round);
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    let (mut seq, mut stored) = (1_767_225_600_000_000u64, 0);
    'all: for round in 0..rounds {
        for (piece, some) in lines.iter().enumerate() {
            let mut seed = [round as u8; 16];
            seed[..4].copy_from_slice(&(piece as u32).to_le_bytes());
            // The same texts on other days, under other ids.
            let shifted: Vec<Vec<u8>> = (0..some.len()).map(|n| shift(some.line(n), round as u64)).collect();
            let origin = |n: usize| some.origin(n);
            let new: Vec<NewEvent<'_>> = shifted
                .iter()
                .enumerate()
                .map(|(n, line)| {
                    seq += 1;
                    let (_, ordinal) = origin(n);
                    NewEvent { seq, received_at: Timestamp(seq as i64), seed: weir::event::Seed(seed), ordinal, line }
                })
                .collect();
            stored += store.append(&new).expect("it is stored").stored;
            if stored >= wanted {
                break 'all;
            }
        }
    }
    store.settle();
    let (cpu, wall) = (cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
    println!(
        "stored {stored} events of {} bytes: {:.0} a CPU-second, {:.0} a second",
        bytes / per_round,
        stored as f64 / cpu,
        stored as f64 / wall,
    );
}

/// Another day for each round; the id goes, so that it is derived.
fn shift(line: &[u8], round: u64) -> Vec<u8> {
    let text = std::str::from_utf8(line).expect("lines are text");
    let id = text.find("\"id\":\"").map(|at| (at, at + 6 + 36 + 2));
    let mut out = match id {
        Some((from, to)) => format!("{}{}", &text[..from], &text[to..]),
        None => text.to_owned(),
    };
    if out.contains(",}") {
        out = out.replace(",}", "}");
    }
    if let Some(at) = out.find("2025-01-") {
        let (month, day) = (1 + round / 28 % 12, 1 + round % 28);
        out.replace_range(at..at + 10, &format!("2025-{month:02}-{day:02}"));
    }
    out.into_bytes()
}

fn build() -> Normalize {
    let mut check = Check::new("bench", "/nowhere", true);
    Normalize::build(Default::default(), &mut check).expect("it is built")
}

fn apply(transform: &Normalize, batch: Batch) -> Batch {
    let mut outputs = Outputs::default();
    transform.apply(batch, &mut outputs).expect("it applies");
    outputs.emitted.pop().expect("a batch comes out").1
}

fn everything() -> Visibility {
    Visibility::All { own: String::new(), preview: 100 }
}

fn filter(query: &str) -> Filter {
    let query = (!query.is_empty()).then(|| Arc::new(Query::parse(query).expect("a query")));
    Filter { query, ..Filter::default() }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn ask(store: &Store) {
    println!("{:>44} {:>8} {:>8} {:>8} {:>8} {:>6}", "", "p50 ms", "p95 ms", "first", "CPU ms", "rows");
    for query in [
        "",
        "zqxjkvbp",
        "qty_4242",
        "\"order-4242\"",
        "user42",
        "\"epochs\\\")\"",
        "import",
        "accuracy",
        "user_id:user_142",
        "status:error",
        "user_id:user_142 status:error",
        "session_id:de823285-01e7-40a0-af18-2049b329b6a4",
        "status:lost",
        "event_type:code_execution",
        "code:\"KeyError: 'price'\"",
        "\"結果\"",
        "duration_ms:>990",
        "ab",
    ] {
        page(store, query, filter(query));
    }
    let newest = store.snapshot().places().iter().map(|place| place.times().1).max().unwrap_or(0);
    let mut recent = filter("user_id:user_142");
    recent.from = Some(Timestamp(newest - 2 * DAY));
    page(store, "user_id:user_142 in two days", recent);
    count(store, "count of everything", filter(""), CountLimit::Exact);
    count(store, "count of one user", filter("user_id:user_142"), CountLimit::UpTo(100_000));
    count(store, "count of a word up to 100,000", filter("import"), CountLimit::UpTo(100_000));
    let day = GroupKey::Day(Zone::default());
    let field = |name: &str| GroupKey::Field(vec![name.to_owned()]);
    aggregate(store, "day and status", "", vec![day.clone(), field("status")], false);
    aggregate(
        store,
        "histogram of 60, by status",
        "",
        vec![GroupKey::Interval { micros: 5 * DAY, zone: Zone::default() }, field("status")],
        false,
    );
    aggregate(store, "day and status of one user", "user_id:user_142", vec![day, field("status")], false);
    aggregate(store, "one user, with p95", "user_id:user_142", vec![], true);
    // Each of whom nothing was asked before.
    let mut users = (200..).map(|number| format!("user_id:user_{number}"));
    measure("another user each time, with p95", || {
        store
            .snapshot()
            .aggregate(&groups(&users.next().unwrap_or_default(), vec![], true), &everything())
            .map_or(0, |groups| groups.len())
    });
    measure("count of another user each time", || {
        let filter = filter(&users.next().unwrap_or_default());
        store.snapshot().count(&filter, &everything(), CountLimit::Exact, deadline()).expect("a count").count as usize
    });
    aggregate(store, "everything, with p95", "", vec![], true);
    aggregate(store, "every user", "", vec![field("user_id")], false);
    aggregate(store, "every user, with p95", "", vec![field("user_id")], true);
    let last = store.snapshot().page(&request(filter("")), &everything()).expect("a page").rows.pop().expect("a row");
    measure("one event by seq", || {
        usize::from(store.snapshot().by_seq(last.seq, &everything()).expect("read").is_some())
    });
    let id = weir::event::Id::parse(&last.id).expect("an id");
    measure("one event by id", || usize::from(store.snapshot().by_id(id, &everything()).expect("read").is_some()));
}

/// The first question after a start with an empty page cache; opening the store is not counted.
fn ask_cold(dir: &std::path::Path) {
    println!("{:>44} {:>8} {:>8}", "cold", "p50 ms", "most");
    for query in ["zqxjkvbp", "qty_4242", "user_id:user_142", "status:error", ""] {
        let mut times: Vec<f64> = (0..COLD_ROUNDS)
            .map(|_| {
                std::fs::write("/proc/sys/vm/drop_caches", "1").expect("only root may empty the page cache");
                let (store, _) = Store::open(&Options::new(dir)).expect("the store opens");
                let snapshot = store.snapshot();
                let start = Instant::now();
                snapshot.page(&request(filter(query)), &everything()).expect("a page");
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{query:>44} {:>8.1} {:>8.1}", times[COLD_ROUNDS / 2], times[COLD_ROUNDS - 1]);
    }
}

fn request(filter: Filter) -> PageRequest {
    PageRequest {
        filter,
        sort: Sort::Time,
        is_descending: true,
        after: None,
        offset: 0,
        limit: 100,
        deadline: deadline(),
        may_be_partial: false,
    }
}

fn page(store: &Store, label: &str, filter: Filter) {
    if std::env::var("WEIR_BENCH_ASK").is_ok_and(|wanted| label.contains(&wanted)) {
        let needs = weir::store::search::needs_of(&filter, &everything());
        let places = store.snapshot().places();
        let chunks: usize = places.iter().map(|place| place.candidates(&needs).expect("chunks").iter().count()).sum();
        println!("{label:>44} may be in {chunks} chunks");
    }
    measure(label, || store.snapshot().page(&request(filter.clone()), &everything()).expect("a page").rows.len());
}

fn count(store: &Store, label: &str, filter: Filter, limit: CountLimit) {
    measure(label, || {
        store.snapshot().count(&filter, &everything(), limit, deadline()).expect("a count").count as usize
    });
}

fn groups(query: &str, group_by: Vec<GroupKey>, with_percentiles: bool) -> AggregateRequest {
    AggregateRequest { filter: filter(query), group_by, with_percentiles, max_groups: 100_000, deadline: deadline() }
}

fn aggregate(store: &Store, label: &str, query: &str, group_by: Vec<GroupKey>, with_percentiles: bool) {
    measure(label, || {
        let request = groups(query, group_by.clone(), with_percentiles);
        store.snapshot().aggregate(&request, &everything()).expect("groups").len()
    });
}

fn measure(label: &str, mut question: impl FnMut() -> usize) {
    if std::env::var("WEIR_BENCH_ASK").is_ok_and(|wanted| !label.contains(&wanted)) {
        return;
    }
    let mut times = Vec::with_capacity(ROUNDS);
    let (mut rows, cpu) = (0, cpu_seconds());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        rows = question();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let (first, cpu) = (times[0], (cpu_seconds() - cpu) * 1e3 / ROUNDS as f64);
    times.sort_by(f64::total_cmp);
    let (median, p95) = (times[ROUNDS / 2], times[ROUNDS * 19 / 20]);
    println!("{label:>44} {median:>8.2} {p95:>8.2} {first:>8.2} {cpu:>8.2} {rows:>6}");
}
