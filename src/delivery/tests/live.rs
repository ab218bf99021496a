//! Tests of live clients over a journal with unreadable parts: each gap is reported, and nothing else is missing.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::delivery::fanout::{Client, Fanout, Live};
use crate::delivery::shown::Shown;
use crate::delivery::view::{Format, LiveEvent, View};
use crate::event::Raw;
use crate::journal::stepped::{Stepped, commit, lines};
use crate::journal::{Codec, Options, Start, StreamId};
use crate::query::Query;
use crate::visibility::Visibility;

const PLAIN: Format = Format { name: "plain", push: push_number };
/// A format with a bug of its own.
const BROKEN: Format = Format { name: "broken", push: push_but_for_seven };

fn number(event: &LiveEvent<'_>) -> i64 {
    Raw::valid(event.line).get("n").and_then(|n| n.as_i64()).expect("it has a number")
}

fn push_number(out: &mut Vec<u8>, event: &LiveEvent<'_>) {
    out.extend_from_slice(format!("{}\n", number(event)).as_bytes());
}

fn push_but_for_seven(out: &mut Vec<u8>, event: &LiveEvent<'_>) {
    if number(event) == 7 {
        // Without the hook, which would print.
        std::panic::resume_unwind(Box::new("on purpose"));
    }
    push_number(out, event);
}

struct Setup {
    disk: Stepped,
    stream: StreamId,
    written: u64,
    fanout: Arc<Fanout>,
    _stop: tokio_util::sync::DropGuard,
}

impl Setup {
    /// A journal that has very little in memory.
    fn new() -> Setup {
        let options = Options {
            max_bytes: 16 << 20,
            keep_bytes: 8 << 20,
            codec: Codec::None,
            tier_bytes: 1 << 10,
            intake_bytes: 1 << 20,
            ..Options::new("/j")
        };
        let disk = Stepped::new(7, options);
        let stream = disk.journal.stream("a").expect("there is room for a name");
        let cursor = disk.journal.cursor("sink", &[stream], Start::Oldest, None).expect("it is the first");
        drop(cursor);
        let stop = CancellationToken::new();
        let fanout = Fanout::start(
            &disk.journal,
            Shown::all([stream]),
            1 << 20,
            &tokio::runtime::Handle::current(),
            stop.clone(),
        );
        Setup { disk, stream, written: 0, fanout, _stop: stop.drop_guard() }
    }

    /// Appends and syncs so many events, one at a time.
    fn write(&mut self, events: u64) {
        (0..events).for_each(|_| self.write_together(1));
    }

    fn write_together(&mut self, events: u64) {
        drop(self.disk.journal.ticket().commit(commit(self.stream, lines(self.written, events))));
        while self.disk.append(1 << 20) {}
        while self.disk.sync() {}
        self.written += events;
    }

    fn subscribe(&self, format: Format, from: Option<u64>) -> Client {
        self.subscribe_to(None, format, from)
    }

    fn subscribe_to(&self, query: Option<Arc<Query>>, format: Format, from: Option<u64>) -> Client {
        let visibility = Visibility::All { own: String::new(), preview: 5 };
        let view = View { query, visibility, format };
        self.fanout.subscribe(view, from, "ali").expect("there is a slot")
    }
}

/// What a client gets of the events from `from` to `to`: those that it saw, and how many it was told to have missed.
async fn follow(client: &mut Client, from: u64, to: u64) -> (Vec<u64>, u64) {
    let (mut seen, mut missed): (Vec<u64>, u64) = (Vec::new(), 0);
    while (seen.len() as u64) + missed < to - from {
        match client.next().await.expect("the agent runs") {
            Live::Frames(frames) => {
                let text = String::from_utf8(frames.to_vec()).expect("frames are text");
                seen.extend(text.lines().map(|line| line.parse::<u64>().expect("a number")));
            }
            Live::Gap { events, from_seq, to_seq } => {
                assert!(events > 0 && from_seq < to_seq, "{events} between {from_seq} and {to_seq}");
                missed += events;
            }
        }
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "in order and once: {seen:?}");
    assert_eq!(seen.last(), Some(&(to - 1)), "the newest is there");
    (seen, missed)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_resumes_hears_of_what_cannot_be_read() {
    let mut setup = Setup::new();
    setup.write(300);
    setup.disk.fail_reads(true);
    let mut client = setup.subscribe(PLAIN, Some(0));
    let (seen, missed) = follow(&mut client, 0, 300).await;
    assert_eq!(seen.len() as u64 + missed, 300);
    assert!(missed > 100, "{missed} were on the disk only");
    setup.disk.fail_reads(false);
    setup.write(5);
    assert_eq!(follow(&mut client, 300, 305).await, ((300..305).collect(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_follows_hears_of_what_the_shared_reader_cannot_read() {
    let mut setup = Setup::new();
    setup.write(3);
    let newest = setup.disk.journal.stats().synced_seq;
    let mut clients = [setup.subscribe(PLAIN, None), setup.subscribe(PLAIN, Some(newest))];
    setup.write(1);
    for client in &mut clients {
        assert_eq!(follow(client, 3, 4).await, (vec![3], 0));
    }
    // More comes at once than there is memory for, and the disk does not give it back.
    setup.disk.fail_reads(true);
    setup.write(300);
    for client in &mut clients {
        let (seen, missed) = follow(client, 4, 304).await;
        assert_eq!(seen.len() as u64 + missed, 300);
        assert!(missed > 100, "{missed} were on the disk only");
    }
    // It heals, and another one gets everything.
    setup.disk.fail_reads(false);
    setup.write(1);
    for client in &mut clients {
        assert_eq!(follow(client, 304, 305).await, (vec![304], 0));
    }
    let mut late = setup.subscribe(PLAIN, Some(0));
    assert_eq!(follow(&mut late, 0, 305).await, ((0..305).collect(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_for_a_moment_costs_nothing() {
    let mut setup = Setup::new();
    setup.write(300);
    setup.disk.fail_reads(true);
    let mut client = setup.subscribe(PLAIN, Some(0));
    let following = tokio::spawn(async move { follow(&mut client, 0, 300).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    setup.disk.fail_reads(false);
    assert_eq!(following.await.expect("no panic"), ((0..300).collect(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_frames_are_made_is_a_gap_for_that_view_alone() {
    let mut setup = Setup::new();
    let mut broken = setup.subscribe(BROKEN, None);
    let mut well = setup.subscribe(PLAIN, None);
    for n in 0..20 {
        setup.write(1);
        assert_eq!(follow(&mut well, n, n + 1).await, (vec![n], 0));
    }
    setup.write(1);
    let (seen, missed) = follow(&mut broken, 0, 21).await;
    assert!(missed == 1 && !seen.contains(&7), "{seen:?}, {missed} missed");
    setup.write(1);
    assert_eq!(follow(&mut broken, 21, 22).await, (vec![21], 0));
}

#[tokio::test]
async fn clients_that_find_nothing_in_a_long_backlog_let_others_work_in_between() {
    let mut setup = Setup::new();
    for _ in 0..12 {
        setup.write_together(5000);
    }
    let query = Arc::new(Query::parse("n:60000").expect("a query"));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = setup.subscribe_to(Some(query.clone()), PLAIN, Some(0));
        clients.spawn(async move { client.next().await });
    }
    setup.write(1);
    // Whatever else this thread has to do has its turn after each step of a client.
    let mut turns = 0;
    while !clients.is_empty() {
        tokio::task::yield_now().await;
        turns += 1;
        while let Some(got) = clients.try_join_next() {
            let Some(Live::Frames(frames)) = got.expect("no panic") else { panic!("a frame") };
            assert_eq!(&frames[..], b"60000\n");
        }
    }
    assert!(turns >= 12, "{turns} turns while eight clients took three steps each");
}
