//! What transforms cost: each alone on events that are split already, and all in a row, in MB of input per CPU-second.
//!
//! `cargo bench --bench transforms [FILE]`; without a file it makes events of its own.

mod workload;

use std::hint::black_box;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use weir::component::{Check, Outputs, Transform};
use weir::diagnostic;
use weir::event::Batch;
use weir::transforms::enrich::Enrich;
use weir::transforms::normalize::Normalize;
use weir::transforms::redact::Redact;
use weir::transforms::truncate::Truncate;
use workload::{cpu_seconds, pieces, split};

const ROUNDS: usize = 5;

fn main() {
    let events = workload::events();
    let pieces = pieces(&events);
    let normalize: Normalize = build("{}");
    let redact: Redact = build("{}");
    let truncate: Truncate = build("{}");
    let enrich: Enrich = build("set: {environment: production, team: research}\nhost: true");
    let nested: Enrich = build("set: {metadata.team: research}");

    let tree = measure(
        "serde_json to a tree",
        &pieces,
        |piece| piece.clone(),
        |piece: Bytes| {
            for line in piece.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                black_box(serde_json::from_slice::<serde_json::Value>(line).expect("valid"));
            }
        },
    );
    let compare = |rate: f64| println!("{:>52}  {:.2} times the tree", "", rate / tree);
    compare(measure("split", &pieces, |piece| piece.clone(), |piece| split(&piece)));
    measure("normalize", &pieces, split, |batch| apply(&normalize, batch));
    measure("redact", &pieces, split, |batch| apply(&redact, batch));
    measure("truncate", &pieces, split, |batch| apply(&truncate, batch));
    measure("enrich with three members", &pieces, split, |batch| apply(&enrich, batch));
    measure("enrich with a member of metadata", &pieces, split, |batch| apply(&nested, batch));
    measure("render what is untouched", &pieces, split, |batch| batch.render());
    measure("render normalized", &pieces, |piece| apply(&normalize, split(piece)), |batch| batch.render());
    compare(measure(
        "split, redact, truncate, enrich, render",
        &pieces,
        |piece| piece.clone(),
        |piece| apply(&enrich, apply(&truncate, apply(&redact, split(&piece)))).render(),
    ));
    compare(measure(
        "split, normalize, redact, truncate, enrich, render",
        &pieces,
        |piece| piece.clone(),
        |piece| apply(&enrich, apply(&truncate, apply(&redact, apply(&normalize, split(&piece))))).render(),
    ));
}

fn build<T: Transform>(yaml: &str) -> T
where
    T::Config: DeserializeOwned,
{
    let mut check = Check::new("bench", "/nowhere", false);
    T::build(diagnostic::from_yaml(yaml).expect("right"), &mut check).expect("right")
}

fn apply<T: Transform>(transform: &T, batch: Batch) -> Batch {
    let mut out = Outputs::default();
    transform.apply(batch, &mut out).expect("it does not fail");
    out.emitted.pop().expect("a batch comes out").1
}

/// The best of some rounds, in MB per second of this process's CPU; what `prepare` does is not counted.
fn measure<I, O>(name: &str, pieces: &[Bytes], prepare: impl Fn(&Bytes) -> I, act: impl Fn(I) -> O) -> f64 {
    let size: usize = pieces.iter().map(Bytes::len).sum();
    let best = (0..ROUNDS).map(|_| {
        let mut spent = 0.0;
        // Some pieces at a time, so that the clock is asked seldom and memory is used again.
        for pieces in pieces.chunks(16) {
            let prepared: Vec<I> = pieces.iter().map(&prepare).collect();
            let before = cpu_seconds();
            let done: Vec<O> = prepared.into_iter().map(&act).collect();
            spent += cpu_seconds() - before;
            drop(black_box(done));
        }
        size as f64 / 1e6 / spent
    });
    let best = best.fold(0.0, f64::max);
    println!("{name:>52}  {best:8.0} MB per CPU-second");
    best
}
