//! One step of a stage: from records, or entries that are due, to a commit. Nothing here waits.

use std::sync::Arc;

use bytes::Bytes;

use crate::component::{AnyStage, Changes, DeadEvent, Outputs, State, Transaction, Why};
use crate::event::{Batch, Provenance, Seed};
use crate::journal::Record;
use crate::telemetry::{Counts, panics};
use crate::units::Timestamp;

/// What a step has come to, before anything of it counts.
#[derive(Debug, Default)]
pub struct Step {
    pub changes: Changes,
    /// Port and events, for what follows the stage.
    pub emitted: Vec<(usize, Batch)>,
    /// Events that it failed on, with what their ids derive from.
    pub dead: Vec<(Seed, DeadEvent)>,
    pub counts: Counts,
    /// Entries over which the stage panicked, and why.
    pub panics: Vec<String>,
}

/// Puts the events of records at or behind `from` through the stage.
pub fn take(
    stage: &dyn AnyStage,
    name: &Arc<str>,
    state: &State,
    records: &[Arc<Record>],
    from: u64,
    now: Timestamp,
) -> Step {
    let mut transaction = Transaction::new(state, now);
    let mut step = Step::default();
    for record in records {
        for batch in batches(name, record, from) {
            one(stage, batch, &mut transaction, &mut step);
        }
    }
    step.changes = transaction.into_changes();
    step
}

/// Hands entries back to the stage: because they are due, or because they have to go.
pub fn expire(stage: &dyn AnyStage, state: &State, entries: &[(Bytes, Bytes)], why: Why, now: Timestamp) -> Step {
    let mut transaction = Transaction::new(state, now);
    let mut step = Step::default();
    let mut out = Outputs::default();
    let all = panics::contain(|| {
        for (key, value) in entries {
            hand_back(stage, key, value, why, &mut transaction, &mut out);
        }
    });
    if all.is_ok() {
        enter(&mut step, 0, out, Seed::default());
        step.changes = transaction.into_changes();
        return step;
    }
    transaction = Transaction::new(state, now);
    for (key, value) in entries {
        let saved = transaction.saved();
        let mut out = Outputs::default();
        match panics::contain(|| hand_back(stage, key, value, why, &mut transaction, &mut out)) {
            Ok(()) => enter(&mut step, 0, out, Seed::default()),
            Err(panic) => {
                // Whatever the entry was about is lost, and counted; kept, it would panic for ever.
                transaction.go_back(saved);
                transaction.remove(key);
                *step.counts.errors.entry("panic").or_default() += 1;
                step.panics.push(panic);
            }
        }
    }
    step.changes = transaction.into_changes();
    step
}

fn hand_back(
    stage: &dyn AnyStage,
    key: &Bytes,
    value: &Bytes,
    why: Why,
    transaction: &mut Transaction<'_>,
    out: &mut Outputs,
) {
    // One before may have changed or removed it.
    let Some(now) = transaction.get(key).cloned() else { return };
    if now != *value {
        return;
    }
    stage.due(key, value, why, transaction, out);
    if why != Why::Due {
        transaction.remove(key);
    }
}

/// The events of a record, those of one origin together, so that each keeps the id that follows from it.
fn batches(name: &Arc<str>, record: &Record, from: u64) -> Vec<Batch> {
    let lines = &record.lines;
    let skipped = from.saturating_sub(record.first_seq) as usize;
    let mut batches = Vec::with_capacity(lines.origins.runs().count());
    let mut event = 0;
    for (seed, ordinals) in lines.origins.runs() {
        let provenance =
            Provenance { source: name.clone(), seed, received_at: record.received_at, peer: None, stamp: None };
        let mut batch = Batch::new(lines.bytes.clone(), Arc::new(provenance));
        for ordinal in ordinals {
            if event >= skipped {
                batch.push_validated(lines.start(event)..lines.ends[event] as usize - 1, *ordinal);
            }
            event += 1;
        }
        if !batch.is_empty() {
            batch.split_all();
            batches.push(batch);
        }
    }
    batches
}

/// Steps over one batch; over its events one by one where the whole fails.
fn one(stage: &dyn AnyStage, batch: Batch, transaction: &mut Transaction<'_>, step: &mut Step) {
    let seed = batch.provenance.seed;
    if batch.len() > 1 {
        let saved = transaction.saved();
        let mut out = Outputs::default();
        if let Ok(Ok(())) = panics::contain(|| stage.step(batch.clone(), transaction, &mut out)) {
            return enter(step, batch.len() as u64, out, seed);
        }
        transaction.go_back(saved);
    }
    for event in 0..batch.len() {
        let mut alone = batch.clone();
        alone.retain(|n| n == event);
        let saved = transaction.saved();
        let mut out = Outputs::default();
        let reason = match panics::contain(|| stage.step(alone, transaction, &mut out)) {
            Ok(Ok(())) => {
                enter(step, 1, out, seed);
                continue;
            }
            Ok(Err(failure)) => failure.answer().to_owned(),
            Err(panic) => format!("panic: {panic}"),
        };
        transaction.go_back(saved);
        let mut out = Outputs::default();
        out.dead(&batch, event, reason);
        enter(step, 1, out, seed);
    }
}

/// Takes what a step gave, and counts it.
fn enter(step: &mut Step, entered: u64, out: Outputs, seed: Seed) {
    let left: u64 = out.emitted.iter().map(|(_, batch)| batch.len() as u64).sum();
    let filtered: u64 = out.filtered.iter().map(|(_, count)| count).sum();
    let ended = left + filtered + out.dead.len() as u64;
    let counts = &mut step.counts;
    counts.entered += entered;
    counts.left += left;
    counts.made += ended.saturating_sub(entered);
    counts.dead_lettered += out.dead.len() as u64;
    for (reason, count) in &out.filtered {
        *counts.filtered.entry(reason).or_default() += count;
    }
    if ended < entered {
        // A stage that forgets events is a bug of ours; the accounting must show it rather than balance.
        *counts.errors.entry("unaccounted").or_default() += entered - ended;
    }
    counts.last_event = Some(Timestamp::now());
    step.emitted.extend(out.emitted);
    step.dead.extend(out.dead.into_iter().map(|dead| (seed, dead)));
}
