//! Tests of parking: one destination refuses its events; the others do not wait, and nothing is lost.

use super::fixture::{FIRST_SEQ, Script, Setup, few, until};
use super::*;

/// Two places, of which the one for odd events refuses so many writes. (Whoever looks at what is between had better take
/// `FOR_EVER`: the paused clock runs on while the queue's own thread is at work.)
fn odd_refused(writes: usize) -> Script {
    let script = Script::default();
    script.has_places(2);
    script.refuses(1, writes);
    script
}

const FOR_EVER: usize = usize::MAX;

fn parking(script: Script) -> Setup {
    Setup { parks: true, ..Setup::new(script) }
}

fn said(setup: &Setup) -> String {
    setup.metrics.health().last_error.map(|(_, said)| said).unwrap_or_default()
}

/// Delivered, parked and waiting, after a look whether the accounting balances.
fn accounting(setup: &Setup, events: u64) -> (u64, u64, u64) {
    let counts = setup.counts();
    assert_eq!(counts.addressed(), events, "{counts:?}");
    (counts.delivered, counts.parked, counts.waiting)
}

async fn all_ended(setup: &Setup) {
    until(|| setup.counts().waiting == 0).await;
}

fn sorted(setup: &Setup) -> Vec<u64> {
    let mut written = setup.script.written();
    written.sort_unstable();
    written
}

#[tokio::test(start_paused = true)]
async fn what_one_place_refuses_is_parked_and_delivered_once_it_takes_it() {
    let setup = parking(odd_refused(FOR_EVER));
    setup.feed.push(&[6]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    setup.settled(6).await;
    until(|| setup.metrics.health().state == ComponentState::Degraded).await;
    assert_eq!(setup.script.written(), [0, 2, 4]);
    assert_eq!(accounting(&setup, 6), (3, 3, 3));
    assert!(said(&setup).starts_with("3 events are parked for `p1` since "), "{}", said(&setup));
    assert!(said(&setup).ends_with(": no place p1"), "{}", said(&setup));
    let dead_letters = setup.dead_letters().await;
    assert!(
        dead_letters.iter().all(|dead_letter| dead_letter.parked.as_deref() == Some("p1") && dead_letter.attempts == 1)
    );
    // What comes for the same place later is parked behind them.
    setup.feed.push(&[2]);
    setup.settled(8).await;
    assert_eq!(accounting(&setup, 8), (4, 4, 4));
    setup.script.refuses(1, 0);
    all_ended(&setup).await;
    assert_eq!(accounting(&setup, 8), (8, 0, 0));
    assert!(sorted(&setup).into_iter().eq(0..8));
    assert!(setup.dead_letters().await.is_empty());
    until(|| setup.metrics.health().state == ComponentState::Running).await;
    assert_eq!(setup.script.opened(), 1, "the sink itself was well all the time");
    setup.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_goes_on_refusing_is_asked_less_and_less_often() {
    let setup = parking(odd_refused(FOR_EVER));
    setup.feed.push(&[6]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    setup.settled(6).await;
    let (before, begun) = (setup.script.sizes().len(), tokio::time::Instant::now());
    until(|| setup.script.sizes().len() >= before + 8).await;
    // Waits of 1, 2, 4, 8, 16 and then 30 seconds, each up to a fifth shorter; the paused clock may make them longer.
    let lasted = begun.elapsed();
    assert!(lasted.as_secs() >= 70, "asked eight times in {lasted:?}");
    setup.script.refuses(1, 0);
    all_ended(&setup).await;
    setup.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_all_places_holds_the_sink_and_parks_nothing() {
    let script = odd_refused(3);
    script.refuses(0, 3);
    let setup = parking(script);
    setup.feed.push(&[4]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    until(|| setup.metrics.health().state == ComponentState::Held).await;
    assert_eq!(accounting(&setup, 4), (0, 0, 4));
    setup.settled(4).await;
    assert_eq!(accounting(&setup, 4), (4, 0, 0));
    assert!(setup.dead_letters().await.is_empty());
    setup.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_a_whole_write_is_parked_if_another_place_took_something_before() {
    let setup = parking(odd_refused(FOR_EVER));
    let running = tokio::spawn(setup.delivery(Policy { batch: few(1), ..Policy::default() }).run());
    setup.feed.push(&[3]);
    setup.settled(3).await;
    assert_eq!(setup.script.written(), [0, 2], "the third did not wait for the second");
    assert_eq!(accounting(&setup, 3), (2, 1, 1));
    setup.script.refuses(1, 0);
    all_ended(&setup).await;
    setup.finish(running).await;

    let setup = Setup::new(odd_refused(2));
    setup.feed.push(&[4]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    until(|| setup.metrics.health().state == ComponentState::Held).await;
    assert!(setup.dead_letters().await.is_empty(), "a queue that dies with the process keeps no promise");
    setup.settled(4).await;
    setup.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_point_loses_nothing_and_the_accounting_balances_after_it() {
    // Parked, and the cursor has passed them, but not on the disk: they come again, and are parked once.
    let setup = parking(odd_refused(FOR_EVER));
    setup.feed.saves_after(u64::MAX);
    setup.feed.push(&[6]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    setup.settled(6).await;
    running.abort();
    setup.feed.crash(false);
    assert_eq!(setup.feed.position(), FIRST_SEQ);
    let again = setup.again();
    let running = tokio::spawn(again.delivery(Policy::default()).run());
    again.settled(6).await;
    assert_eq!(accounting(&again, 6), (3, 3, 3));
    assert_eq!(again.dead_letters().await.len(), 3);
    // Parked, and the disk says so.
    running.abort();
    again.feed.save();
    again.feed.crash(false);
    let again = setup.again();
    let running = tokio::spawn(again.delivery(Policy::default()).run());
    until(|| again.metrics.health().state == ComponentState::Degraded).await;
    assert_eq!(accounting(&again, 6), (3, 3, 3));
    // The place answers, and the process dies before the totals are saved.
    again.script.refuses(1, 0);
    until(|| again.counts().waiting == 0).await;
    running.abort();
    again.feed.crash(false);
    let last = again.again();
    let running = tokio::spawn(last.delivery(Policy::default()).run());
    until(|| last.metrics.health().state == ComponentState::Running).await;
    assert_eq!(accounting(&last, 6), (6, 0, 0));
    let mut odd = sorted(&last);
    odd.retain(|event| event % 2 == 1);
    assert_eq!(odd, [1, 3, 5], "what was parked was delivered once");
    last.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn how_parked_events_ended_is_known_after_a_crash_before_the_totals_were_saved() {
    for keeps in [true, false] {
        let script = odd_refused(FOR_EVER);
        script.poison([3]);
        let setup = parking(script);
        let policy = || Policy { dead_letter: keeps, ..Policy::default() };
        setup.feed.push(&[8]);
        let running = tokio::spawn(setup.delivery(policy()).run());
        setup.settled(8).await;
        until(|| setup.counts().parked == 4).await;
        // One is let go, one is poison, two are delivered; of all that nothing is saved.
        setup.feed.save();
        setup.feed.saves_after(u64::MAX);
        let number = setup.dead_letters.list(None, 1).await.unwrap()[0].number;
        let removed = setup.dead_letters.remove(vec![number]).await.unwrap();
        setup.metrics.update(|counts| counts.end_parked(removed.parked["out"]));
        setup.script.refuses(1, 0);
        all_ended(&setup).await;
        let before = setup.counts();
        running.abort();
        setup.feed.crash(false);
        let again = setup.again();
        let running = tokio::spawn(again.delivery(policy()).run());
        until(|| again.counts().addressed() == 8 && again.counts().waiting == 0).await;
        let counts = again.counts();
        assert_eq!((counts.delivered, counts.dead_lettered), (before.delivered, before.dead_lettered));
        assert_eq!((&counts.dropped, counts.waiting), (&before.dropped, 0));
        assert_eq!((counts.delivered, counts.dropped["dlq"], counts.dead_lettered), (6, 1, u64::from(keeps)));
        again.finish(running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_ends_only_after_the_cursor_on_the_disk_has_passed_it() {
    let setup = parking(odd_refused(1));
    setup.feed.saves_after(u64::MAX);
    setup.feed.push(&[4]);
    let (ask, running) = setup.start_with_replays(Policy::default());
    setup.settled(4).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(accounting(&setup, 4), (2, 2, 2), "after a crash they come again: they may not end twice");
    let dead_letter = setup.dead_letters.list(None, 1).await.unwrap().remove(0);
    assert_eq!(ask(dead_letter).await, Err("its batch is still being delivered; try again after that".to_owned()));
    setup.feed.saves_after(3);
    all_ended(&setup).await;
    assert_eq!(accounting(&setup, 4), (4, 0, 0));
    assert!(sorted(&setup).into_iter().eq(0..4));
    setup.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_as_poison_becomes_a_dead_letter_in_its_turn() {
    let script = odd_refused(3);
    script.poison([3]);
    let setup = parking(script);
    setup.feed.push(&[8]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    setup.settled(8).await;
    all_ended(&setup).await;
    assert_eq!(accounting(&setup, 8), (7, 0, 0));
    assert_eq!(setup.counts().dead_lettered, 1);
    let dead_letters = setup.dead_letters().await;
    assert_eq!(dead_letters.len(), 1);
    assert_eq!((&*dead_letters[0].body, &dead_letters[0].parked), (&br#"{"n":3}"#[..], &None));
    assert_eq!((&*dead_letters[0].reason, &*dead_letters[0].answer), ("refused by the target", "3 is out of range"));
    assert!(sorted(&setup).into_iter().eq([0, 1, 2, 4, 5, 6, 7]));
    setup.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn parked_events_fill_the_queue_to_its_bound_and_make_room_by_themselves() {
    let setup =
        Setup { parks: true, ..Setup::with_dead_letters(odd_refused(FOR_EVER), DeadLetters::in_memory(2000).unwrap()) };
    setup.feed.push(&[20]);
    let running = tokio::spawn(setup.delivery(Policy { batch: few(2), ..Policy::default() }).run());
    until(|| setup.metrics.health().state == ComponentState::Held).await;
    assert_eq!(said(&setup), "the dead-letter queue is full");
    let (delivered, parked, waiting) = accounting(&setup, 20);
    assert!(parked >= 2 && delivered == parked && waiting == 20 - delivered, "{delivered} {parked} {waiting}");
    setup.script.refuses(1, 0);
    all_ended(&setup).await;
    assert_eq!(accounting(&setup, 20), (20, 0, 0));
    assert!(sorted(&setup).into_iter().eq(0..20));
    setup.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn somebody_may_have_a_parked_event_tried_at_once() {
    let setup = parking(odd_refused(FOR_EVER));
    setup.feed.push(&[4]);
    let (ask, running) = setup.start_with_replays(Policy::default());
    setup.settled(4).await;
    let dead_letter = setup.dead_letters.list(None, 1).await.unwrap().remove(0);
    assert_eq!(ask(dead_letter.clone()).await, Err("no place p1".to_owned()));
    assert_eq!(accounting(&setup, 4), (2, 2, 2));
    setup.script.refuses(1, 0);
    assert_eq!(ask(dead_letter.clone()).await, Ok(()));
    all_ended(&setup).await;
    assert_eq!(accounting(&setup, 4), (4, 0, 0));
    assert!(sorted(&setup).into_iter().eq(0..4));
    setup.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn dead_letters_that_somebody_drops_wait_no_longer() {
    let setup = parking(odd_refused(FOR_EVER));
    setup.feed.push(&[4]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    setup.settled(4).await;
    for left in [1, 0] {
        let number = setup.dead_letters.list(None, 1).await.unwrap()[0].number;
        let removed = setup.dead_letters.remove(vec![number]).await.unwrap();
        assert_eq!(removed.dead_letters, 1);
        setup.metrics.update(|counts| counts.end_parked(removed.parked["out"]));
        setup.dropped.notify_one();
        until(|| left == 0 || said(&setup).starts_with("1 event is parked")).await;
    }
    until(|| setup.metrics.health().state == ComponentState::Running).await;
    assert_eq!(accounting(&setup, 4), (2, 0, 0));
    setup.finish(running).await;
    let again = setup.again();
    let running = tokio::spawn(again.delivery(Policy::default()).run());
    until(|| again.metrics.health().state == ComponentState::Running).await;
    assert_eq!(again.counts().dropped, [("dlq", 2)].into());
    again.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_parked_comes_no_faster_than_the_rate() {
    let setup = parking(odd_refused(1));
    setup.feed.push(&[10]);
    let rate = Some(crate::units::Rate::per_second(1));
    let started = Instant::now();
    let running = tokio::spawn(setup.delivery(Policy { rate, ..Policy::default() }).run());
    setup.settled(10).await;
    // Something to look after, so that the loop does not sleep until its time has come.
    setup.feed.push(&[1]);
    until(|| setup.counts().parked < 5).await;
    assert!(started.elapsed() >= Duration::from_secs(11), "ten events are paid for, then one finds out");
    all_ended(&setup).await;
    assert_eq!(accounting(&setup, 11), (11, 0, 0));
    setup.finish(running).await;
}
