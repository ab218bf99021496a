//! Tests of the delivery loop against scripted faults on a paused clock, and against chance.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::policy::{Batching, Concurrency};
use super::*;
use crate::component::Failure;
use crate::event::Seed;
use crate::telemetry::ComponentKind;

mod ambiguous;
mod bounds;
mod chance;
mod fake_feed;
mod fixture;
mod live;
mod parked;

use fixture::{Answer, Script, Setup, few, until};

#[tokio::test(start_paused = true)]
async fn cuts_are_bounded_by_events_and_bytes_and_records_are_cut_across() {
    let setup = Setup::new(Script::default());
    setup.feed.push(&[7, 7, 1]);
    setup.feed.close();
    setup.run(Policy { batch: few(5), ..Policy::default() }).await;
    assert_eq!(setup.script.sizes(), [5, 5, 5]);
    assert!(setup.script.written().into_iter().eq(0..15));
    assert_eq!(setup.counts().delivered, 15);

    let setup = Setup::new(Script::default());
    setup.feed.push(&[4, 4]);
    setup.feed.close();
    let batch = Batching { bytes: crate::units::ByteSize(24), ..Batching::default() };
    setup.run(Policy { batch, ..Policy::default() }).await;
    assert_eq!(setup.script.sizes(), [3, 3, 2], "a line has eight bytes");
}

#[tokio::test(start_paused = true)]
async fn an_event_waits_for_company_no_longer_than_the_age() {
    let setup = Setup::new(Script::default());
    let started = Instant::now();
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    setup.feed.push(&[1]);
    setup.script.wait_for(1).await;
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    setup.feed.be_eager();
    setup.feed.push(&[1]);
    setup.script.wait_for(2).await;
    assert_eq!(started.elapsed(), Duration::from_secs(1), "somebody waits for delivery");
    setup.stop.cancel();
    running.await.unwrap();
    assert_eq!(setup.metrics.health().state, ComponentState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_at_the_start_is_opened_until_it_is_up() {
    let script = Script::default();
    script.open_fails([Failure::transient("refused"), Failure::configuration("no such table")]);
    let setup = Setup::new(script);
    setup.feed.push(&[3]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(setup.metrics.health().state, ComponentState::Retrying);
    assert_eq!(setup.counts().waiting, 3);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(setup.metrics.health().state, ComponentState::Held);
    assert_eq!(setup.metrics.health().last_error.unwrap().1, "no such table");
    setup.script.wait_for(3).await;
    setup.finish(running).await;
    assert_eq!((setup.counts().delivered, setup.counts().waiting), (3, 0));
    assert_eq!(setup.counts().errors, [("transient", 1), ("configuration", 1)].into());
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_retried_with_growing_waits_and_the_time_asked_for() {
    let script = Script::default();
    script.then(Answer::Fail(Failure::transient("busy")));
    script.then(Answer::Fail(Failure::transient("busy")));
    let asked = Failure::Transient { answer: "429".into(), after: Some(Duration::from_secs(77)) };
    script.then(Answer::Fail(asked));
    let setup = Setup::new(script);
    setup.feed.push(&[2]);
    setup.feed.close();
    let started = Instant::now();
    setup.run(Policy::default()).await;
    let took = started.elapsed().as_secs_f64();
    assert!((79.4..=80.0).contains(&took), "{took}");
    assert_eq!(setup.script.sizes(), [2, 2, 2, 2]);
    assert_eq!((setup.counts().delivered, setup.counts().retries), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_or_panics_is_an_error_and_never_a_success() {
    let script = Script::default();
    script.then(Answer::Hang);
    script.then(Answer::Panic);
    let setup = Setup::new(script);
    setup.feed.push(&[2]);
    setup.feed.close();
    setup.run(Policy::default()).await;
    assert_eq!(setup.script.written(), [0, 1]);
    assert_eq!(setup.counts().errors, [("timeout", 1), ("panic", 1)].into());
    assert_eq!(setup.counts().delivered, 2);
    assert_eq!(setup.script.opened(), 3, "after such an end the sink is opened afresh");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_makes_the_sink_panic_every_time_is_found_and_put_aside() {
    let script = Script::default();
    script.panics_on(5);
    let setup = Setup::new(script);
    setup.feed.push(&[8]);
    setup.feed.close();
    setup.run(Policy::default()).await;
    assert_eq!(setup.script.written(), [0, 1, 2, 3, 4, 6, 7]);
    let dead_letters = setup.dead_letters().await;
    assert_eq!(dead_letters.len(), 1);
    assert_eq!(
        (&*dead_letters[0].body, dead_letters[0].reason.as_str()),
        (&br#"{"n":5}"#[..], "the sink panicked on this event")
    );
}

#[tokio::test(start_paused = true)]
async fn poison_is_found_with_few_writes_and_kept_with_its_reason_before_the_cursor_passes() {
    let script = Script::default();
    script.poison([300]);
    let setup = Setup::new(script);
    setup.feed.push(&[1000]);
    setup.feed.close();
    setup.run(Policy::default()).await;
    let counts = setup.counts();
    assert_eq!((counts.delivered, counts.dead_lettered, counts.waiting), (999, 1, 0));
    let writes = setup.script.sizes().len();
    assert!(writes <= 1 + 2 * 10, "{writes} writes");
    assert!(setup.script.written().is_sorted(), "one write at a time keeps the order");
    let dead_letter = &setup.dead_letters().await[0];
    assert_eq!(&*dead_letter.body, br#"{"n":300}"#);
    assert_eq!(dead_letter.answer, "300 is out of range");
    assert_eq!(dead_letter.reason, "refused by the target");
    assert_eq!(dead_letter.event_id, Some(dead_letter.seed.id(dead_letter.ordinal)));
    assert!(dead_letter.attempts >= 9, "{}", dead_letter.attempts);
}

#[tokio::test(start_paused = true)]
async fn of_a_partial_outcome_the_good_are_done_the_transient_retried_alone_and_the_poison_put_aside() {
    let script = Script::default();
    script.then(Answer::Fail(Failure::some(vec![(4, Failure::poison("no")), (1, Failure::transient("busy"))])));
    let setup = Setup::new(script);
    setup.feed.push(&[6]);
    setup.feed.close();
    setup.run(Policy::default()).await;
    assert_eq!(setup.script.sizes(), [6, 1]);
    assert_eq!(setup.script.written(), [0, 2, 3, 5, 1]);
    assert_eq!((setup.counts().delivered, setup.counts().dead_lettered), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn a_partial_outcome_about_events_that_were_not_given_is_no_success() {
    let script = Script::default();
    script.then(Answer::Fail(Failure::some(vec![(6, Failure::poison("no"))])));
    script.then(Answer::Fail(Failure::some(vec![])));
    let setup = Setup::new(script);
    setup.feed.push(&[6]);
    setup.feed.close();
    setup.run(Policy::default()).await;
    assert_eq!(setup.script.sizes(), [6, 6, 6]);
    assert_eq!((setup.counts().delivered, setup.counts().dead_lettered), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn when_most_events_are_poison_the_fault_is_not_theirs_and_they_are_held() {
    let script = Script::default();
    script.poison(0..2000);
    let setup = Setup::new(script);
    setup.feed.push(&[1000, 1000]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(setup.metrics.health().state, ComponentState::Held);
    assert!(setup.metrics.health().last_error.unwrap().1.starts_with("more than half"));
    assert_eq!((setup.counts().dead_lettered, setup.counts().waiting), (0, 2000));
    let before = setup.script.sizes().len();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(setup.script.sizes().len(), before + 10, "one event is tried every thirty seconds");
    setup.script.heal();
    setup.script.wait_for(2000).await;
    setup.finish(running).await;
    assert_eq!((setup.counts().delivered, setup.counts().dead_lettered), (2000, 0));
    assert!(setup.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_dead_letters_poison_is_dropped_and_counted() {
    let script = Script::default();
    script.poison([1]);
    let setup = Setup::new(script);
    setup.feed.push(&[3]);
    setup.feed.close();
    setup.run(Policy { dead_letter: false, ..Policy::default() }).await;
    assert_eq!((setup.counts().delivered, setup.counts().dropped), (2, [("poison", 1)].into()));
    assert!(setup.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_event_is_given_up_after_the_attempts_that_are_allowed() {
    let setup = Setup::new(Script::default());
    setup.script.fails_on([0, 1]);
    setup.feed.push(&[2]);
    setup.feed.close();
    let mut policy = Policy::default();
    policy.retry.attempts = std::num::NonZeroU32::new(3);
    setup.run(policy).await;
    let dead_letters = setup.dead_letters().await;
    assert_eq!(dead_letters.len(), 2);
    assert_eq!((dead_letters[0].reason.as_str(), dead_letters[0].attempts), ("gave up", 4));
    assert_eq!(setup.script.sizes(), [2, 2, 2, 1, 1], "whether one of them is at fault is found out at once");
}

#[tokio::test(start_paused = true)]
async fn a_full_dead_letter_queue_holds_the_sink_until_there_is_room() {
    let script = Script::default();
    script.poison([0]);
    let setup = Setup::with_dead_letters(script, DeadLetters::in_memory(700).unwrap());
    let filler = fixture::dead_letter("another", 700 - 420);
    setup.dead_letters.append(vec![filler]).await.unwrap();
    setup.feed.push(&[2]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    // The queue has a thread of its own, which the paused clock does not wait for.
    fixture::until(|| setup.metrics.health().state == ComponentState::Held).await;
    assert_eq!(setup.metrics.health().last_error.unwrap().1, "the dead-letter queue is full");
    assert_eq!(setup.counts().waiting, 2, "nothing is settled");
    let number = setup.dead_letters.list(None, 1).await.unwrap()[0].number;
    setup.dead_letters.remove(vec![number]).await.unwrap();
    setup.settled(2).await;
    setup.finish(running).await;
    assert_eq!((setup.counts().delivered, setup.counts().dead_lettered), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn writes_that_end_out_of_order_are_settled_in_order() {
    let script = Script::default();
    script.then(Answer::Slow(Duration::from_secs(20)));
    let setup = Setup::new(script);
    setup.feed.push(&[2, 2, 2]);
    let concurrency = Concurrency::Fixed(std::num::NonZeroUsize::new(3).unwrap());
    let policy = Policy { batch: few(2), concurrency, ..Policy::default() };
    let running = tokio::spawn(setup.delivery(policy).run());
    setup.script.wait_for(4).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(setup.feed.position(), fixture::FIRST_SEQ, "the first write is still out");
    assert_eq!((setup.counts().delivered, setup.counts().waiting), (0, 6));
    setup.script.wait_for(6).await;
    setup.settled(6).await;
    setup.finish(running).await;
    assert_eq!(setup.counts().delivered, 6);
}

#[tokio::test(start_paused = true)]
async fn on_stop_a_write_on_its_way_ends_in_peace_and_what_waits_is_given_up() {
    let script = Script::default();
    script.then(Answer::Slow(Duration::from_secs(5)));
    let setup = Setup::new(script);
    setup.feed.push(&[2, 2]);
    let running = tokio::spawn(setup.delivery(Policy { batch: few(2), ..Policy::default() }).run());
    tokio::time::sleep(Duration::from_secs(1)).await;
    setup.finish(running).await;
    assert_eq!((setup.counts().delivered, setup.counts().waiting), (2, 2));

    let script = Script::default();
    script.then(Answer::Fail(Failure::transient("down")));
    let setup = Setup::new(script);
    setup.feed.push(&[2]);
    let running = tokio::spawn(setup.delivery(Policy { batch: few(2), ..Policy::default() }).run());
    tokio::time::sleep(Duration::from_millis(10)).await;
    let before = Instant::now();
    setup.finish(running).await;
    assert_eq!(before.elapsed(), Duration::ZERO, "backing off is not worth waiting for");
    assert_eq!(setup.counts().waiting, 2);
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_a_write_that_does_not_end_and_settles_nothing() {
    let script = Script::default();
    script.then(Answer::Hang);
    let setup = Setup::new(script);
    setup.feed.push(&[2]);
    let running = tokio::spawn(setup.delivery(Policy { batch: few(2), ..Policy::default() }).run());
    tokio::time::sleep(Duration::from_secs(1)).await;
    setup.stop.cancel();
    setup.kill.cancel();
    running.await.unwrap();
    assert_eq!((setup.counts().delivered, setup.counts().waiting), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn what_the_filter_sorts_out_is_counted_and_passed_without_a_write() {
    let setup = Setup::new(Script::default());
    setup.feed.push(&[10, 3]);
    setup.feed.close();
    let mut delivery = setup.delivery(Policy::default());
    delivery.filter =
        Some(Box::new(|record| (0..record.lines.len()).map(|n| (record.stream_first + n as u64) % 5 == 1).collect()));
    delivery.run().await;
    assert_eq!(setup.script.written(), [1, 6, 11]);
    assert_eq!((setup.counts().delivered, setup.counts().filtered_total(), setup.counts().waiting), (3, 10, 0));
}

#[tokio::test(start_paused = true)]
async fn events_that_were_passed_over_are_counted_as_dropped_and_once() {
    let setup = Setup::new(Script::default());
    setup.feed.push(&[2]);
    setup.feed.lose(3);
    setup.feed.push(&[2]);
    setup.feed.close();
    setup.run(Policy::default()).await;
    assert_eq!((setup.counts().delivered, setup.counts().dropped.clone()), (4, [("buffer", 3)].into()));
    setup.feed.lose(4);
    setup.feed.push(&[1]);
    setup.run(Policy::default()).await;
    assert_eq!((setup.counts().delivered, setup.counts().dropped), (5, [("buffer", 7)].into()));
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_while_a_write_hangs_is_counted_at_once_and_saved_when_the_cursor_passes_it() {
    let script = Script::default();
    script.then(Answer::Hang);
    let setup = Setup::new(script);
    setup.feed.push(&[2]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    until(|| setup.script.sizes().len() == 1).await;
    setup.feed.lose(3);
    setup.feed.push(&[2]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let counts = setup.counts();
    assert_eq!((counts.dropped, counts.waiting), ([("buffer", 3)].into(), 4));
    let mut saved = Counts::default();
    totals::decode(&setup.feed.totals(), &mut saved);
    assert_eq!(saved.dropped, [].into(), "a restart finds it missing again");
    setup.settled(7).await;
    until(|| setup.counts().waiting == 0).await;
    let counts = setup.counts();
    assert_eq!((counts.delivered, counts.dropped, counts.skipped), (4, [("buffer", 3)].into(), 0));
    totals::decode(&setup.feed.totals(), &mut saved);
    assert_eq!(saved.dropped, [("buffer", 3)].into());
    setup.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn totals_and_the_sinks_memory_survive_a_restart_even_if_the_memory_is_ahead() {
    let script = Script::default();
    script.remembers();
    let setup = Setup::new(script);
    setup.feed.push(&[2, 2]);
    setup.feed.close();
    setup.feed.saves_after(u64::MAX);
    setup.run(Policy { batch: few(2), ..Policy::default() }).await;
    assert_eq!(setup.script.memory_at_open(), [None]);
    setup.feed.crash(true);
    // A life that ends, for all its events, before it has read one.
    let short = setup.again();
    short.script.open_fails([Failure::transient("busy")]);
    short.kill.cancel();
    short.run(Policy { batch: few(2), ..Policy::default() }).await;
    assert_eq!((short.counts().delivered, short.counts().waiting), (4, 0), "what the memory covers does not wait");
    // One in which nothing else comes.
    let quiet = setup.again();
    quiet.run(Policy { batch: few(2), ..Policy::default() }).await;
    assert_eq!(quiet.feed.position(), fixture::FIRST_SEQ + 4, "the cursor does not wait for another event");
    assert_eq!((quiet.counts().delivered, quiet.counts().waiting), (4, 0));
    setup.feed.push(&[2]);
    setup.feed.crash(true);
    let again = setup.again();
    again.run(Policy { batch: few(2), ..Policy::default() }).await;
    assert_eq!(again.script.memory_at_open()[1], Some((fixture::FIRST_SEQ + 4, 4)));
    assert!(again.script.written().into_iter().eq(0..6), "what the memory covers is not written again");
    assert_eq!((again.counts().delivered, again.counts().waiting), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_replayed_with_the_same_id_and_only_when_the_sink_delivers() {
    let script = Script::default();
    script.poison([1]);
    let setup = Setup::new(script);
    setup.feed.push(&[3]);
    let (ask, running) = setup.start_with_replays(Policy { batch: few(3), ..Policy::default() });
    setup.settled(3).await;
    let dead_letter = setup.dead_letters.list(None, 1).await.unwrap().remove(0);
    assert_eq!(ask(dead_letter.clone()).await, Err("1 is out of range".to_owned()));
    setup.script.heal();
    assert_eq!(ask(dead_letter.clone()).await, Ok(()));
    assert_eq!(setup.script.last_id(), dead_letter.content.event_id);
    let counts = setup.counts();
    assert_eq!((counts.delivered, counts.dead_lettered, counts.waiting), (3, 1, 0));
    setup.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_spreads_the_cuts() {
    let setup = Setup::new(Script::default());
    setup.feed.push(&[30]);
    setup.feed.close();
    let started = Instant::now();
    setup.run(Policy { batch: few(10), rate: Some(crate::units::Rate::per_second(10)), ..Policy::default() }).await;
    assert_eq!(started.elapsed(), Duration::from_secs(2));
}
