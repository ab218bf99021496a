//! Property test: with any journal byte flipped at rest, a state is restored without doubtful entries, and the loss is
//! counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::tests::{Life, send};
use super::*;
use crate::component::{Failure, Others, Outputs, Transaction};
use crate::journal::stepped::{Random, Stepped};
use crate::journal::{Codec, Mode, Options};

/// Holds each key with its last number, silently. A number that three divides finishes its key.
struct Holding;

impl AnyStage for Holding {
    fn type_name(&self) -> &'static str {
        "holding"
    }

    fn others(&self) -> Others {
        Others::Pass
    }

    fn outputs(&self) -> &'static [&'static str] {
        &[]
    }

    fn takes(&self, batch: &Batch, taken: &mut Vec<bool>) {
        taken.resize(batch.len(), true);
    }

    fn step(&self, batch: Batch, state: &mut Transaction<'_>, out: &mut Outputs) -> Result<(), Failure> {
        let n = batch.find_name("n");
        for event in 0..batch.len() {
            let n = n.and_then(|n| batch.get(event, n)).and_then(|n| n.as_i64()).expect("the test gives one");
            let key = format!("k{}", n * 7919 % 40);
            match n % 3 {
                0 => state.remove(key.as_bytes()),
                _ => state.put(key.as_bytes(), n.to_string(), None),
            }
        }
        out.filtered("held", batch.len() as u64);
        Ok(())
    }

    fn due(&self, key: &[u8], _: &Bytes, _: Why, state: &mut Transaction<'_>, _: &mut Outputs) {
        state.remove(key);
    }

    fn held(&self, _: &Bytes) -> u64 {
        1
    }
}

fn entries(state: &State) -> BTreeMap<Bytes, Bytes> {
    state.oldest(usize::MAX).into_iter().collect()
}

/// What a test run has met.
#[derive(Default)]
struct Met {
    whole: usize,
    lost: usize,
}

async fn live(seed: u64, met: &mut Met) {
    let mut random = Random(seed);
    let options = Options {
        mode: Mode::Disk,
        max_bytes: [200 << 10, 1 << 20][random.below(2) as usize],
        keep_bytes: [0, 16 << 10][random.below(2) as usize],
        codec: [Codec::None, Codec::Lz4, Codec::Zstd][random.below(3) as usize],
        intake_bytes: 1 << 20,
        tier_bytes: 4 << 10,
        ..Options::new("/j")
    };
    let mut life = Life::begin(Stepped::new(seed, options), Arc::new(Holding));
    let (mut sent, most) = (0, 1 + random.below(4));
    for round in 0..20 + random.below(200) {
        let numbers: Vec<u64> = (0..1 + random.below(most)).map(|n| sent + n + 1).collect();
        sent += numbers.len() as u64;
        drop(send(&mut life, &numbers, &mut random));
        life.settle().await;
        if round % 8 == 7 || random.chance(5) {
            life.stepped.keep_bounds();
        }
        if random.chance(2) {
            life = Life::begin(life.stepped.restarted(), Arc::new(Holding));
        }
    }
    life.settle().await;
    life.stepped.keep_bounds();
    let truth = entries(&restore(&life.stepped.journal, "s", Some("holding")).state);
    for _ in 0..40 {
        let Some((hurt, place)) = life.stepped.with_a_flipped_byte(&mut random) else { continue };
        let found = restore(&hurt.journal, "s", Some("holding"));
        let left = entries(&found.state);
        for (key, value) in &left {
            assert_eq!(truth.get(key), Some(value), "seed {seed}, {place}: {key:?} is not what it was last");
        }
        match left.len() == truth.len() {
            true => met.whole += 1,
            false => met.lost += 1,
        }
        let lost = (truth.len() - left.len()) as u64;
        assert_eq!(found.lost(), (lost, lost), "seed {seed}, {place}");
        assert!(lost == 0 || found.is_damaged(), "seed {seed}, {place}: nothing is said of {lost} lost entries");
    }
}

#[test]
fn a_flipped_byte_brings_back_no_earlier_state_and_what_it_costs_is_counted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut met = Met::default();
    for seed in 0..100 {
        runtime.block_on(live(seed, &mut met));
    }
    assert!(met.whole > 500 && met.lost > 20, "{} whole, {} with losses", met.whole, met.lost);
}
