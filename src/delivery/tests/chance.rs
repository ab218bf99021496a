//! Property test: writes fail and the process dies in any order; each event ends in exactly one place.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::fixture::FIRST_SEQ;
use super::*;

/// What becomes of an event by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Good,
    Poison,
    Filtered,
}

#[derive(Clone, Debug)]
enum Mishap {
    Transient,
    Held,
    Panic,
    Hang,
    Slow(u64),
    Partial(Vec<(u8, bool)>),
    Nonsense,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![8 => Just(Fate::Good), 1 => Just(Fate::Poison), 2 => Just(Fate::Filtered)]
}

fn mishap() -> impl Strategy<Value = Option<Mishap>> {
    let partial = prop::collection::vec((any::<u8>(), any::<bool>()), 1..4);
    prop_oneof![
        4 => Just(None),
        2 => Just(Some(Mishap::Transient)),
        1 => Just(Some(Mishap::Held)),
        1 => Just(Some(Mishap::Panic)),
        1 => Just(Some(Mishap::Hang)),
        3 => (0u64..100).prop_map(|secs| Some(Mishap::Slow(secs))),
        2 => partial.prop_map(|failures| Some(Mishap::Partial(failures))),
        1 => Just(Some(Mishap::Nonsense)),
    ]
}

#[derive(Clone, Debug)]
struct Plan {
    fates: Vec<Fate>,
    records: Vec<usize>,
    mishaps: Vec<Option<Mishap>>,
    batch: usize,
    concurrency: usize,
    /// Virtual seconds until the process dies, each time.
    lives: Vec<u64>,
    orderly: bool,
    /// How often the disk is asked for the cursor until it follows, and whether a crash keeps a newer memory.
    saves_after: u64,
    keeps_memory: bool,
    remembers: bool,
    keeps_dead_letters: bool,
    /// Events go to so many places in turn; some of them refuse so many writes.
    places: u64,
    refusals: Vec<(u64, usize)>,
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        prop::collection::vec(fate(), 1..60),
        prop::collection::vec(1usize..9, 1..60),
        prop::collection::vec(mishap(), 0..40),
        1usize..12,
        1usize..4,
        prop::collection::vec(1u64..200, 0..4),
        (any::<bool>(), 0u64..4, any::<bool>(), any::<bool>(), any::<bool>()),
        0u64..4,
        prop::collection::vec((0u64..4, 1usize..12), 0..3),
    )
        .prop_map(|(fates, records, mishaps, batch, concurrency, lives, disk, places, refusals)| Plan {
            fates,
            records,
            mishaps,
            batch,
            concurrency,
            lives,
            orderly: disk.0,
            saves_after: disk.1,
            keeps_memory: disk.2,
            remembers: disk.3,
            keeps_dead_letters: disk.4,
            places,
            refusals,
        })
}

/// Pushes all events, in records of the planned sizes.
fn push(setup: &Setup, plan: &Plan) {
    let mut left = plan.fates.len();
    for size in plan.records.iter().cycle() {
        if left == 0 {
            break;
        }
        setup.feed.push(&[left.min(*size)]);
        left -= left.min(*size);
    }
}

fn script(plan: &Plan) -> Script {
    let script = Script::default();
    script.has_places(plan.places);
    if plan.remembers {
        script.remembers();
    }
    plan.refusals.iter().for_each(|(place, writes)| script.refuses(*place, *writes));
    script.poison((0u64..).zip(&plan.fates).filter(|(_, fate)| **fate == Fate::Poison).map(|(event, _)| event));
    for mishap in &plan.mishaps {
        let Some(mishap) = mishap else {
            script.then(Answer::Slow(Duration::ZERO));
            continue;
        };
        script.then(match mishap {
            Mishap::Transient => Answer::Fail(Failure::transient("busy")),
            Mishap::Held => Answer::Fail(Failure::configuration("wrong password")),
            Mishap::Panic => Answer::Panic,
            Mishap::Hang => Answer::Hang,
            Mishap::Slow(seconds) => Answer::Slow(Duration::from_secs(*seconds)),
            Mishap::Partial(failures) => Answer::Partial(failures.clone()),
            Mishap::Nonsense => Answer::Fail(Failure::some(vec![(1000, Failure::poison("who?"))])),
        });
    }
    script
}

/// One life of the process, to its end or to its death.
async fn live(setup: &Setup, plan: &Plan, seconds: Option<u64>) {
    let policy = Policy {
        batch: few(plan.batch),
        concurrency: Concurrency::Fixed(NonZeroUsize::new(plan.concurrency).unwrap()),
        dead_letter: plan.keeps_dead_letters,
        ..Policy::default()
    };
    let mut delivery = setup.delivery(policy);
    let fates = plan.fates.clone();
    delivery.filter = Some(Box::new(move |record| {
        let first = record.stream_first as usize;
        (first..first + record.lines.len()).map(|event| fates[event] != Fate::Filtered).collect()
    }));
    let running = tokio::spawn(delivery.run());
    match seconds {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => {
            setup.settled(plan.fates.len() as u64).await;
            let events = plan.fates.len() as u64;
            // Before the loop begins its accounting is empty.
            fixture::until(|| setup.counts().addressed() == events && setup.counts().waiting == 0).await;
        }
    }
    match plan.orderly || seconds.is_none() {
        true => setup.stop.cancel(),
        false => setup.kill.cancel(),
    }
    running.await.unwrap();
    check_the_accounting(setup, plan);
    match plan.orderly {
        true => setup.feed.save(),
        false => setup.feed.crash(plan.keeps_memory),
    }
}

fn check_the_accounting(setup: &Setup, plan: &Plan) {
    let counts = setup.counts();
    assert_eq!(counts.addressed(), plan.fates.len() as u64, "{counts:?}");
    let behind = FIRST_SEQ + plan.fates.len() as u64 - setup.feed.position();
    // What the sink's memory covers does not wait, though a crash has left the cursor behind it.
    let covers = plan.remembers && plan.keeps_memory && !plan.orderly && counts.waiting < behind + counts.parked;
    assert!(covers || counts.waiting == behind + counts.parked, "{behind} behind, {counts:?}");
}

async fn run(plan: Plan) {
    let mut setup = Setup { parks: true, ..Setup::new(script(&plan)) };
    setup.feed.saves_after(plan.saves_after);
    push(&setup, &plan);
    for seconds in &plan.lives {
        live(&setup, &plan, Some(*seconds)).await;
        setup = setup.again();
    }
    live(&setup, &plan, None).await;

    let written: BTreeSet<u64> = setup.script.written().into_iter().collect();
    let mut dead_letters: BTreeMap<u64, usize> = BTreeMap::new();
    for dead_letter in setup.dead_letters().await {
        assert_eq!(dead_letter.parked, None, "nothing is parked any more");
        *dead_letters.entry(dead_letter.ordinal).or_default() += 1;
    }
    for (event, fate) in (0u64..).zip(&plan.fates) {
        let (is_written, dead_letters) = (written.contains(&event), dead_letters.get(&event).copied().unwrap_or(0));
        match fate {
            Fate::Filtered => assert!(!is_written && dead_letters == 0, "{event} was filtered"),
            _ if !plan.keeps_dead_letters => {
                assert_eq!(dead_letters, 0);
                assert!(!is_written || *fate == Fate::Good);
            }
            Fate::Poison => assert!(!is_written && dead_letters == 1, "{event} is poison: {dead_letters} dead letters"),
            // A partial answer may have called it poison in one life and not in the next.
            Fate::Good => assert!(dead_letters <= 1 && (is_written || dead_letters == 1), "{event} is lost"),
        }
        if plan.lives.is_empty() && plan.keeps_dead_letters && *fate == Fate::Good {
            assert_eq!(usize::from(is_written) + dead_letters, 1, "{event} ended in two places");
        }
    }
    let counts = setup.counts();
    assert_eq!(counts.waiting, 0);
    let filtered = plan.fates.iter().filter(|fate| **fate == Fate::Filtered).count() as u64;
    assert_eq!(counts.filtered_total(), filtered);
    if plan.lives.is_empty() {
        assert_eq!((counts.delivered, counts.dead_lettered), (written.len() as u64, dead_letters.len() as u64));
        assert_eq!(setup.script.written().len(), written.len(), "without a death nothing is written twice");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_event_ends_in_exactly_one_place_and_the_accounting_balances(plan in plan()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(plan));
    }
}
