//! How much goes through each component in a second, from samples of the books a few seconds apart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::telemetry::{Accounting, ComponentKind, ComponentMetrics, Counts};

/// Between two samples; a rate is that of the last one to two of these.
const EVERY: Duration = Duration::from_secs(5);

/// The numbers that have a rate, under their names in the books.
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
    /// Samples the books until the agent stops.
    pub fn follow(books: Accounting, shutdown: CancellationToken) -> Arc<Rates> {
        let rates = Arc::new(Rates::default());
        rates.sample(&books, Instant::now());
        let sampled = rates.clone();
        tokio::spawn(async move {
            while shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
                sampled.sample(&books, Instant::now());
            }
        });
        rates
    }

    fn sample(&self, books: &Accounting, now: Instant) {
        let known = |ledger: Arc<ComponentMetrics>| {
            ((ledger.kind, ledger.name.clone()), numbers(ledger.kind, &ledger.snapshot()))
        };
        let newest = Sample { at: Some(now), numbers: books.all().into_iter().map(known).collect() };
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.rotate_left(1);
        samples[1] = newest;
    }

    /// What a component does in a second, with one decimal; nothing for one that was not there at the last sample.
    pub fn of(&self, ledger: &ComponentMetrics, counts: &Counts, now: Instant) -> Value {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (ledger.kind, ledger.name.clone());
        let before = samples.iter().find_map(|sample| Some((sample.at?, *sample.numbers.get(&key)?)));
        let rate = |nth: usize, number: u64| {
            let Some((at, before)) = before else { return 0.0 };
            let seconds = now.saturating_duration_since(at).as_secs_f64().max(0.001);
            (10.0 * number.saturating_sub(before[nth].1) as f64 / seconds).round() / 10.0
        };
        let rates = numbers(ledger.kind, counts).into_iter().enumerate();
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
        let (books, rates, start) = (Accounting::default(), Rates::default(), Instant::now());
        let sink = books.open(&"out".into(), ComponentKind::Sink, "file");
        let after = |seconds| start + Duration::from_secs(seconds);
        let told = |seconds| rates.of(&sink, &sink.snapshot(), after(seconds)).to_string();
        sink.update(|counts| counts.delivered = 5000);
        assert_eq!(told(0), r#"{"bytes":0.0,"delivered":0.0}"#);
        rates.sample(&books, start);
        sink.update(|counts| counts.delivered += 25);
        assert_eq!(told(2), r#"{"bytes":0.0,"delivered":12.5}"#);
        rates.sample(&books, after(5));
        rates.sample(&books, after(10));
        sink.update(|counts| counts.bytes_delivered += 100);
        assert_eq!(told(10), r#"{"bytes":20.0,"delivered":0.0}"#);
    }
}
