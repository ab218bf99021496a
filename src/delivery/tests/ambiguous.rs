//! Tests of refusals: one event's fault or the target's? A common refusal holds the sink and loses nothing; a single
//! one stops no other event.

use std::num::NonZeroU32;

use super::fixture::{Script, Setup, few, until};
use super::*;
use crate::component::Failure;

/// Runs until all has ended; what was written, and the numbers of dead letters.
async fn ended(setup: &Setup, policy: Policy) -> (Vec<u64>, Vec<u64>) {
    let running = tokio::spawn(setup.delivery(policy).run());
    until(|| setup.counts().addressed() > 0 && setup.counts().waiting == 0).await;
    setup.finish(running).await;
    (setup.script.written(), dead(setup).await)
}

async fn dead(setup: &Setup) -> Vec<u64> {
    let number = |body: &[u8]| crate::event::Raw::valid(body).get("n").unwrap().as_i64().unwrap() as u64;
    let mut dead: Vec<u64> = setup.dead_letters().await.iter().map(|dead_letter| number(&dead_letter.body)).collect();
    dead.sort_unstable();
    dead
}

async fn is_held(setup: &Setup) {
    until(|| setup.metrics.health().state == ComponentState::Held).await;
}

#[tokio::test(start_paused = true)]
async fn one_event_whose_refusal_looks_like_the_targets_state_stops_no_other() {
    for guilty in [0, 1, 499, 998, 999] {
        let setup = Setup::new(Script::default());
        setup.script.ambiguous([guilty]);
        setup.feed.push(&[1000]);
        let (written, dead) = ended(&setup, Policy::default()).await;
        assert!(written.iter().copied().eq((0..1000).filter(|n| *n != guilty)), "{guilty}: the others in order");
        assert_eq!(dead, [guilty]);
        assert!(setup.script.sizes().len() <= 24, "{}", setup.script.sizes().len());
        let dead_letter = &setup.dead_letters().await[0];
        assert_eq!(
            (&*dead_letter.reason, &*dead_letter.answer),
            ("refused by the target, which accepts others", "not allowed")
        );
        assert_eq!(setup.counts().retries, 0, "nothing was waited for");
    }
}

#[tokio::test(start_paused = true)]
async fn what_every_event_meets_holds_the_sink_and_loses_and_reorders_nothing() {
    let setup = Setup::new(Script::default());
    setup.script.refuses_all(true);
    setup.feed.push(&[1000, 500]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    is_held(&setup).await;
    let before = setup.script.sizes().len();
    assert!(before <= 16, "{before} writes until it holds");
    tokio::time::sleep(Duration::from_secs(300)).await;
    let probes = &setup.script.sizes()[before..];
    assert!((9..=11).contains(&probes.len()) && probes.iter().all(|events| *events == 1), "{probes:?}");
    assert_eq!((setup.counts().waiting, setup.counts().dead_lettered), (1500, 0));
    setup.script.refuses_all(false);
    setup.script.wait_for(1500).await;
    setup.settled(1500).await;
    let mut written = setup.script.written();
    assert_eq!(written.windows(2).filter(|pair| pair[0] > pair[1]).count(), 1, "but for the one that found out");
    written.sort_unstable();
    assert!(written.into_iter().eq(0..1500));
    setup.finish(running).await;
    assert!(setup.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn several_in_a_row_are_found_one_by_one() {
    for guilty in [vec![0, 1, 2, 3, 4, 5], vec![10, 11, 12, 40, 41, 99], (0..100).step_by(9).collect()] {
        let setup = Setup::new(Script::default());
        setup.script.ambiguous(guilty.clone());
        setup.feed.push(&[100]);
        let (mut written, dead) = ended(&setup, Policy::default()).await;
        written.sort_unstable();
        assert!(written.into_iter().eq((0..100).filter(|n| !guilty.contains(n))));
        assert_eq!(dead, guilty);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_alone_in_its_batch_is_compared_with_those_behind_it() {
    let setup = Setup::new(Script::default());
    setup.script.ambiguous([0, 1, 7]);
    setup.feed.push(&[20]);
    let (written, refused) = ended(&setup, Policy { batch: few(1), ..Policy::default() }).await;
    assert_eq!((written.len(), refused), (17, vec![0, 1, 7]));
    // With nothing to compare it with, it is kept.
    let setup = Setup::new(Script::default());
    setup.script.ambiguous([0]);
    setup.feed.push(&[1]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    is_held(&setup).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((setup.counts().waiting, setup.counts().dead_lettered), (1, 0));
    setup.feed.push(&[1]);
    until(|| setup.counts().waiting == 0).await;
    setup.finish(running).await;
    assert_eq!((setup.script.written(), dead(&setup).await), (vec![1], vec![0]));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_by_name_in_an_answer_is_decided_like_what_is_refused_as_a_whole() {
    // One of six, twice.
    let script = Script::default();
    let refusal = || super::fixture::Answer::Fail(Failure::some(vec![(2, Failure::ambiguous("no"))]));
    script.then(refusal());
    script.then(super::fixture::Answer::Fail(Failure::some(vec![(0, Failure::ambiguous("no"))])));
    let setup = Setup::new(script);
    setup.feed.push(&[6]);
    let (written, dead) = ended(&setup, Policy::default()).await;
    assert_eq!((written, dead), (vec![0, 1, 3, 4, 5], vec![2]));
    assert_eq!(setup.script.sizes(), [6, 1]);
    // All of them: that is no event's fault.
    let script = Script::default();
    let all = (0..6).map(|nth| (nth, Failure::ambiguous("no"))).collect();
    script.then(super::fixture::Answer::Fail(Failure::some(all)));
    let setup = Setup::new(script);
    setup.feed.push(&[6]);
    let running = tokio::spawn(setup.delivery(Policy::default()).run());
    is_held(&setup).await;
    setup.settled(6).await;
    setup.finish(running).await;
    assert_eq!((setup.counts().delivered, setup.counts().dead_lettered), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn attempts_that_are_used_up_cost_the_event_that_the_target_fails_on_and_no_other() {
    let mut policy = Policy::default();
    policy.retry.attempts = NonZeroU32::new(3);
    let setup = Setup::new(Script::default());
    setup.script.fails_on([300]);
    setup.feed.push(&[1000]);
    let (written, dead) = ended(&setup, policy.clone()).await;
    assert_eq!((written.len(), dead), (999, vec![300]));
    assert!(written.is_sorted());
    let setup = Setup::new(Script::default());
    setup.script.fails_on(0..1000);
    setup.feed.push(&[1000]);
    let (written, dead) = ended(&setup, policy).await;
    assert_eq!((written.len(), dead.len()), (0, 1000), "a target that is away costs what it was allowed to");
    assert!(setup.script.sizes().len() <= 20, "{}", setup.script.sizes().len());
}

#[tokio::test(start_paused = true)]
async fn an_eighth_refused_is_no_reason_to_hold_wherever_in_a_large_batch_it_is() {
    for guilty in [0..625, 2000..2625, 4375..5000] {
        let setup = Setup::new(Script::default());
        setup.script.poison(guilty.clone());
        setup.feed.push(&[5000, 5000]);
        let running = tokio::spawn(setup.delivery(Policy { batch: few(5000), ..Policy::default() }).run());
        setup.settled(10_000).await;
        setup.finish(running).await;
        assert_eq!((setup.counts().delivered, setup.counts().dead_lettered), (9375, 625), "{guilty:?}");
        assert!(!setup.counts().errors.contains_key("configuration"));
    }
}

#[tokio::test(start_paused = true)]
async fn small_batches_that_are_all_refused_hold_the_sink_before_much_is_put_aside() {
    let setup = Setup::new(Script::default());
    setup.script.poison(0..2000);
    setup.feed.push(&[2000]);
    let running = tokio::spawn(setup.delivery(Policy { batch: few(10), ..Policy::default() }).run());
    is_held(&setup).await;
    assert!(setup.metrics.health().last_error.unwrap().1.starts_with("every event is refused: "));
    assert!(setup.counts().dead_lettered <= 100, "{}", setup.counts().dead_lettered);
    setup.script.heal();
    until(|| setup.counts().waiting == 0).await;
    setup.finish(running).await;
    assert!(setup.counts().delivered >= 1900);
    // As many in a row, but others behind them are taken: they are what they are.
    let setup = Setup::new(Script::default());
    setup.script.poison(0..300);
    setup.feed.push(&[400]);
    let (written, dead) = ended(&setup, Policy { batch: few(10), ..Policy::default() }).await;
    assert_eq!((written.len(), dead.len()), (100, 300));
}
