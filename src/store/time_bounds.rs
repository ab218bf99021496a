//! The times between which a query's events are, as far as its tests of times tell.

use super::layout::{Encoding, Section};
use super::part::Part;
use crate::query::{Expr, FieldTest};
use crate::visibility::Visibility;

/// The first and the last; none are between them where the second is less.
pub type Bounds = (i64, i64);

pub const ANY: Bounds = (i64::MIN, i64::MAX);

/// The times of the events of a part that a query can be true of.
pub fn of(part: &Part, expr: &Expr, visibility: &Visibility) -> Bounds {
    match expr {
        Expr::All | Expr::Not(_) => ANY,
        Expr::And(parts) => parts.iter().map(|one| of(part, one, visibility)).fold(ANY, within_both),
        Expr::Or(parts) => parts
            .iter()
            .map(|one| of(part, one, visibility))
            .reduce(|(first, last), (other, end)| (first.min(other), last.max(end)))
            .unwrap_or(ANY),
        Expr::Test(test) => FieldTest::new(test).and_then(|test| of_test(part, &test, visibility)).unwrap_or(ANY),
    }
}

fn within_both((first, last): Bounds, (other, end): Bounds) -> Bounds {
    (first.max(other), last.min(end))
}

/// Nothing where the member that is tested may be something else than the time by which events are ordered.
fn of_test(part: &Part, test: &FieldTest, visibility: &Visibility) -> Option<Bounds> {
    let (first, last) = test.times()?;
    // Where some line is kept whole the columns do not have all of it.
    let is_of_columns = part.has_sums();
    let is_time = |name: &str| match part.column(name) {
        _ if visibility.hides(name) => false,
        None => true,
        Some((column, described)) => is_same_time(part, column, described.encoding),
    };
    (is_of_columns && is_time(&test.name) && test.canonical.is_none_or(is_time)).then_some((first.0, last.0))
}

/// Whether the values of a column are the times by which their events are ordered.
pub fn is_same_time(part: &Part, column: u32, encoding: Encoding) -> bool {
    matches!(encoding, Encoding::SameTime { .. }) && !part.file.has(Section::ExceptionRows, column as usize)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Folder, Stored, all, filter, later, newest, plain};
    use super::super::{Options, Store};
    use crate::query::request::{CountLimit, PageRequest};

    fn line(day: u64, n: u64) -> String {
        format!("{{\"timestamp\":\"2026-01-{day:02}T00:00:{n:02}Z\",\"status\":\"ok\",\"n\":{n}}}")
    }

    #[test]
    fn parts_of_other_times_than_a_query_asks_for_are_not_read() {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        for day in 1..=3 {
            let events: Vec<Stored> = (0..40).map(|n| plain(day * 100 + n, &line(day, n))).collect();
            store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("they are stored");
            store.seal_now().expect("a part is made");
        }
        let snapshot = store.snapshot();
        // Whoever reads a column of these finds damage.
        for part in &snapshot.parts[..2] {
            let len = std::fs::metadata(part.path()).expect("it is there").len();
            std::fs::write(part.path(), vec![0; len as usize]).expect("it is written");
        }
        for (query, count) in [
            ("timestamp:>=2026-01-03", 40),
            ("timestamp:>2026-01-02 n:>10", 29),
            ("timestamp:>=2026-01-03T00:00:30Z timestamp:<2026-01-03T00:00:35Z", 5),
            ("timestamp:2026-01-03", 40),
            ("timestamp:2026-01-05 OR timestamp:[2026-01-03T00:00 TO 2026-01-04]", 40),
            ("timestamp:>2027-01-01", 0),
        ] {
            let found = snapshot.count(&filter(query), &all(), CountLimit::Exact, later()).expect("a count");
            let request = PageRequest { is_descending: false, ..newest(query, 100) };
            let rows = snapshot.page(&request, &all()).expect("a page").rows.len();
            assert_eq!((found.count, rows), (count, count as usize), "{query}");
            assert!(snapshot.damaged.lock().expect("no panic").is_empty(), "{query}");
        }
    }

    #[test]
    fn a_part_in_which_some_time_is_written_otherwise_is_looked_through() {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let odd = ["2027-05-05", " 2027-05-05T00:00:00Z", "2027-05-05T02:00:00+02:00", "soon"];
        let events: Vec<Stored> = (0..200)
            .map(|n| {
                let line = line(1, n % 60);
                let odd = odd.get(n as usize / 50).filter(|_| n % 50 == 7);
                plain(n + 1, &odd.map_or(line.clone(), |odd| line.replace(&line[14..34], odd)))
            })
            .collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("they are stored");
        for _ in 0..2 {
            for query in ["timestamp:>2027-01-01", "timestamp:2027-05-05", "timestamp:<2026-02-01"] {
                let wanted = filter(query).query.expect("a query");
                let wanted =
                    events.iter().filter(|event| wanted.matches_line(crate::event::Raw::valid(event.line.as_bytes())));
                let found =
                    store.snapshot().count(&filter(query), &all(), CountLimit::Exact, later()).expect("a count");
                assert_eq!(found.count, wanted.count() as u64, "{query}");
            }
            store.seal_now().expect("a part is made");
        }
    }
}
