//! Events and bytes per second of each component, from samples of the accounting a few seconds apart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::telemetry::{Accounting, ComponentKind, ComponentMetrics, Counts};

/// Between two samples; a rate is that of the last one to two of these.
const EVERY: Duration = Duration::from_secs(5);

/// The numbers that have a rate, under their names in the accounting.
type Numbers = [(&'static str, u64); 2];

#[derive(Default)]
struct Sample {
    at: Option<Instant>,
    numbers: HashMap<(ComponentKind, Arc<str>), Numbers>,
}

/// The sample before the newest, and the newest.
#[derive(Default)]
pub struct Rates(Mutex<[Sample; 2]>);

impl Rates {
    /// Samples the accounting until the agent stops.
    pub fn follow(accounting: Accounting, shutdown: CancellationToken) -> Arc<Rates> {
        let rates = Arc::new(Rates::default());
        rates.sample(&accounting, Instant::now());
        let sampled = rates.clone();
        tokio::spawn(async move {
            while shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
                sampled.sample(&accounting, Instant::now());
            }
        });
        rates
    }

    fn sample(&self, accounting: &Accounting, now: Instant) {
        let known = |metrics: Arc<ComponentMetrics>| {
            ((metrics.kind, metrics.name.clone()), numbers(metrics.kind, &metrics.snapshot()))
        };
        let newest = Sample { at: Some(now), numbers: accounting.all().into_iter().map(known).collect() };
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.rotate_left(1);
        samples[1] = newest;
    }

    /// What a component does in a second, with one decimal; nothing for one that was not there at the last sample.
    pub fn of(&self, metrics: &ComponentMetrics, counts: &Counts, now: Instant) -> Value {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (metrics.kind, metrics.name.clone());
        let before = samples.iter().find_map(|sample| Some((sample.at?, *sample.numbers.get(&key)?)));
        let rate = |nth: usize, number: u64| {
            let Some((at, before)) = before else { return 0.0 };
            let seconds = now.saturating_duration_since(at).as_secs_f64().max(0.001);
            (10.0 * number.saturating_sub(before[nth].1) as f64 / seconds).round() / 10.0
        };
        let rates = numbers(metrics.kind, counts).into_iter().enumerate();
        rates.map(|(nth, (name, number))| (name.to_owned(), rate(nth, number).into())).collect::<Map<_, _>>().into()
    }
}

fn numbers(kind: ComponentKind, counts: &Counts) -> Numbers {
    match kind {
        ComponentKind::Source => [("received", counts.received), ("bytes", counts.bytes_received)],
        ComponentKind::Transform => [("entered", counts.entered), ("left", counts.left)],
        ComponentKind::Sink => [("delivered", counts.delivered), ("bytes", counts.bytes_delivered)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds_and_old_totals_are_none() {
        let (accounting, rates, start) = (Accounting::default(), Rates::default(), Instant::now());
        let sink = accounting.open(&"out".into(), ComponentKind::Sink, "file");
        let after = |seconds| start + Duration::from_secs(seconds);
        let told = |seconds| rates.of(&sink, &sink.snapshot(), after(seconds)).to_string();
        sink.update(|counts| counts.delivered = 5000);
        assert_eq!(told(0), r#"{"bytes":0.0,"delivered":0.0}"#);
        rates.sample(&accounting, start);
        sink.update(|counts| counts.delivered += 25);
        assert_eq!(told(2), r#"{"bytes":0.0,"delivered":12.5}"#);
        rates.sample(&accounting, after(5));
        rates.sample(&accounting, after(10));
        sink.update(|counts| counts.bytes_delivered += 100);
        assert_eq!(told(10), r#"{"bytes":20.0,"delivered":0.0}"#);
    }
}
