//! Tests of bounds: what a sink may hold, write ahead and retain, under any configuration.

use std::num::NonZeroUsize;

use super::fixture::{Answer, FIRST_SEQ, Script, Setup, few, until};
use super::*;
use crate::component::Failure;

fn side_by_side(writes: usize, events: usize) -> Policy {
    let concurrency = Concurrency::Fixed(NonZeroUsize::new(writes).unwrap());
    Policy { batch: few(events), concurrency, ..Policy::default() }
}

#[tokio::test(start_paused = true)]
async fn behind_a_write_that_hangs_only_so_much_is_written() {
    let script = Script::default();
    script.then(Answer::Hang);
    let setup = Setup::new(script);
    setup.feed.push(&[1000]);
    let running = tokio::spawn(setup.delivery(side_by_side(2, 10)).run());
    tokio::time::sleep(Duration::from_secs(50)).await;
    let written = setup.script.written().len();
    assert!((60..=80).contains(&written), "{written} events behind a hung one, at most 4 batches for each of 2 writes");
    assert_eq!(setup.feed.position(), FIRST_SEQ);
    // It is given up at its time, and everything goes on.
    setup.settled(1000).await;
    setup.finish(running).await;
    assert_eq!(setup.counts().delivered, 1000);
}

#[tokio::test(start_paused = true)]
async fn batches_on_their_way_take_from_one_share_however_many_there_may_be() {
    let script = Script::default();
    (0..64).for_each(|_| script.then(Answer::Slow(Duration::from_secs(10))));
    // A batch of ten events has about 80 bytes, and costs one unit.
    let setup = Setup { memory: DeliveryMemory::new(5 * 1024), ..Setup::new(script) };
    setup.feed.push(&[1000]);
    let running = tokio::spawn(setup.delivery(side_by_side(64, 10)).run());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(setup.script.sizes().len(), 5);
    setup.settled(1000).await;
    setup.finish(running).await;
    // Where nothing is left, one batch at a time still goes.
    let setup = Setup { memory: DeliveryMemory::new(1024), ..Setup::new(Script::default()) };
    let all = setup.memory.take(1024, false);
    setup.feed.push(&[100]);
    let running = tokio::spawn(setup.delivery(side_by_side(8, 10)).run());
    setup.settled(100).await;
    setup.finish(running).await;
    drop(all);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_dropped_although_it_was_handed_out_already() {
    let script = Script::default();
    (0..3).for_each(|_| script.then(Answer::Fail(Failure::transient("away"))));
    let setup = Setup::new(script);
    let hour = Duration::from_secs(3600);
    setup.feed.push_received(&[5], Timestamp::now().minus(hour / 2));
    setup.feed.push_received(&[5], Timestamp::now().minus(2 * hour));
    setup.feed.push(&[5]);
    let running = tokio::spawn(setup.delivery(Policy { max_age: Some(hour), ..Policy::default() }).run());
    until(|| setup.counts().addressed() == 15 && setup.counts().waiting == 0).await;
    setup.finish(running).await;
    let counts = setup.counts();
    assert_eq!((counts.delivered, counts.dropped), (10, [("buffer", 5)].into()));
    let mut written = setup.script.written();
    written.sort_unstable();
    assert!(written.into_iter().eq((0..5).chain(10..15)));
}

#[tokio::test(start_paused = true)]
async fn what_becomes_too_old_is_dropped_while_the_sink_is_held() {
    let script = Script::default();
    let away = Failure::Configuration { answer: "away".into() };
    (0..100_000).for_each(|_| script.then(Answer::Fail(away.clone())));
    let setup = Setup::new(script);
    let hour = Duration::from_secs(3600);
    setup.feed.push_received(&[5], Timestamp::now().minus(hour).plus(Duration::from_millis(200)));
    let running = tokio::spawn(setup.delivery(Policy { max_age: Some(hour), ..Policy::default() }).run());
    until(|| setup.counts().dropped == [("buffer", 5)].into()).await;
    assert_eq!((setup.counts().delivered, setup.counts().waiting), (0, 0));
    setup.finish(running).await;
}
