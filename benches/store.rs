//! The embedded store: what an event costs to store, how much room it takes, and how long questions take.
//!
//! `cargo bench --bench store [FILE]`; without a file it makes events of its own. `WEIR_BENCH_EVENTS` says how many are
//! stored (1,000,000): the file is stored again, with other times, until there are so many. `WEIR_BENCH_KEEP` names a
//! folder that is filled once and asked again. `WEIR_BENCH_ASK` names a part of the questions that are asked, of all.
//! `WEIR_BENCH_COLD` asks some questions with nothing in the page cache, which takes root.

#[allow(dead_code, reason = "this bench uses its part")]
mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir::component::{Outputs, Transform};
use weir::event::{Batch, Lines};
use weir::query::request::{AggregateRequest, CountLimit, Filter, GroupKey, PageRequest, Sort, Zone};
use weir::query::{Check, Expr, Pattern, Query, Test};
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
    ask_drawn(&store);
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
            let origin = |n: usize| some.origins.at(n);
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
    let mut check = weir::component::Check::new("bench", "/nowhere", true);
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
    let day_of = |time: i64| Timestamp(time).to_string()[..10].to_owned();
    let since = format!("timestamp:>={}", day_of(newest - DAY));
    page(store, "timestamp of the last day", filter(&since));
    page(store, "timestamp before the first day", filter("timestamp:<2001-01-01"));
    count(store, "count of timestamp of the last day", filter(&since), CountLimit::UpTo(100_000));
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

/// Texts drawn by lot, each asked once: what nobody has asked before.
fn ask_drawn(store: &Store) {
    println!("{:>44} {:>8} {:>8} {:>8} {:>8} {:>6}", "a hundred drawn", "p50 ms", "p95 ms", "most", "CPU ms", "found");
    let lot = &mut Lot(0x9E37_79B9_7F4A_7C15);
    let seqs: Vec<(u64, u64)> = store.snapshot().places().iter().map(|place| place.seqs()).collect();
    let code = |lot: &mut Lot| {
        let (first, last) = seqs[lot.below(seqs.len() as u64) as usize];
        let row = store.snapshot().by_seq(lot.between(first, last), &everything()).expect("it is read");
        let line = String::from_utf8(row.map_or_else(Vec::new, |row| row.line)).expect("lines are text");
        let code: String = line.split("\"code\":\"").nth(1).unwrap_or("import numpy").chars().take(400).collect();
        code.split("\",\"").next().unwrap_or_default().replace("\\n", "\n").replace("\\\"", "\"")
    };
    let piece = |lot: &mut Lot, least: u64, most: u64| loop {
        let text: Vec<char> = code(lot).chars().collect();
        let len = lot.between(least, most) as usize;
        if text.len() > len {
            let from = lot.below((text.len() - len) as u64) as usize;
            break text[from..from + len].iter().collect::<String>();
        }
    };
    /// The digits behind a word are other ones.
    fn renumbered(lot: &mut Lot, text: &str, digits: u64) -> Option<String> {
        let is_word =
            |at: usize| text[..at].bytes().rev().take(4).filter(|b| b.is_ascii_lowercase() || *b == b'_').count() == 4;
        let at = text.bytes().zip(0..).find(|(b, at)| b.is_ascii_digit() && is_word(*at))?.1;
        Some(format!("{}{}", &text[at - 4..at], lot.text("0123456789", digits)))
    }
    let all = "abcdefghijklmnopqrstuvwxyz0123456789_.";
    let numbered = |lot: &mut Lot, digits: u64| loop {
        let text = code(lot);
        if let Some(found) = text.is_ascii().then(|| renumbered(lot, &text, digits)).flatten() {
            break found;
        }
    };
    drawn(store, lot, "three characters", &|lot| lot.text(all, 3));
    drawn(store, lot, "three letters", &|lot| lot.text(&all[..26], 3));
    drawn(store, lot, "six to twelve characters", &|lot| (lot.between(6, 12), lot.text(all, 12)).cut());
    drawn(store, lot, "three or four digits", &|lot| (lot.between(3, 4), lot.text("0123456789", 4)).cut());
    drawn(store, lot, "five to eight digits", &|lot| (lot.between(5, 8), lot.text("0123456789", 8)).cut());
    drawn(store, lot, "five to eight hexadecimal digits", &|lot| {
        (lot.between(5, 8), lot.text("0123456789abcdef", 8)).cut()
    });
    drawn(store, lot, "a word and three digits", &|lot| numbered(lot, 3));
    drawn(store, lot, "a word and four digits", &|lot| numbered(lot, 4));
    drawn(store, lot, "pieces of the texts", &|lot| piece(lot, 3, 24));
    drawn(store, lot, "such pieces with another character", &|lot| {
        let mut text: Vec<char> = piece(lot, 4, 24).chars().collect();
        let at = lot.below(text.len() as u64) as usize;
        text[at] = lot.text(all, 1).chars().next().unwrap_or('x');
        text.into_iter().collect()
    });
}

fn drawn(store: &Store, lot: &mut Lot, label: &str, draw: &dyn Fn(&mut Lot) -> String) {
    if std::env::var("WEIR_BENCH_ASK").is_ok_and(|wanted| !label.contains(&wanted)) {
        return;
    }
    let texts: Vec<String> = (0..100).map(|_| draw(lot)).collect();
    let (mut times, mut found, cpu) = (Vec::with_capacity(100), 0, cpu_seconds());
    for text in &texts {
        let test = Test { field: None, check: Check::Is(Pattern::text(text)) };
        let filter = Filter { query: Some(Arc::new(Query::of(Expr::Test(test)))), ..Filter::default() };
        let start = Instant::now();
        let page = store.snapshot().page(&request(filter), &everything()).expect("a page");
        times.push((start.elapsed().as_secs_f64() * 1e3, text));
        found += usize::from(!page.rows.is_empty());
    }
    let cpu = (cpu_seconds() - cpu) * 1e3 / 100.0;
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (median, p95, most) = (times[50].0, times[95].0, times[99].0);
    println!("{label:>44} {median:>8.2} {p95:>8.2} {most:>8.2} {cpu:>8.2} {found:>6}  {:?}", times[99].1);
}

/// Numbers that are the same in each run.
struct Lot(u64);

impl Lot {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn text(&mut self, of: &str, len: u64) -> String {
        let of: Vec<char> = of.chars().collect();
        (0..len).map(|_| of[self.below(of.len() as u64) as usize]).collect()
    }
}

/// A text and how much of it is meant.
trait Cut {
    fn cut(self) -> String;
}

impl Cut for (u64, String) {
    fn cut(mut self) -> String {
        self.1.truncate(self.0 as usize);
        self.1
    }
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
    AggregateRequest {
        filter: filter(query),
        group_by,
        with_durations: true,
        with_percentiles,
        max_groups: 100_000,
        min_count: 0,
        top: None,
        deadline: deadline(),
    }
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
