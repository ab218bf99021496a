//! Counters and histograms that operators define over events, with a bound on their series.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What a label has in the series that take what is beyond the bound.
pub const OTHER: &str = "_other";

/// One metric as it was configured.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSpec {
    pub name: String,
    pub help: String,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// Upper bounds of a histogram, ascending; a counter has none.
    pub buckets: Option<Vec<f64>>,
    /// Beyond this many series, further ones are counted together.
    pub max_series: usize,
}

/// The values of one combination of labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub count: u64,
    pub sum: f64,
    /// How many values fit into each bucket and into none before.
    pub buckets: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub spec: Arc<MetricSpec>,
    pub series: BTreeMap<Vec<String>, Series>,
}

/// All metrics of one transform, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured(pub BTreeMap<String, Family>);

impl Measured {
    pub fn observe(&mut self, spec: &Arc<MetricSpec>, labels: Vec<String>, value: f64) {
        let mut one = Series { count: 1, sum: value, buckets: Vec::new() };
        if let Some(bounds) = &spec.buckets {
            one.buckets = vec![0; bounds.len()];
            if let Some(bucket) = bounds.iter().position(|bound| value <= *bound) {
                one.buckets[bucket] = 1;
            }
        }
        self.family(spec).add(labels, &one);
    }

    pub fn add(&mut self, more: &Measured) {
        for family in more.0.values() {
            let mine = self.family(&family.spec);
            family.series.iter().for_each(|(labels, series)| mine.add(labels.clone(), series));
        }
    }

    /// One that was configured differently before starts again at zero.
    fn family(&mut self, spec: &Arc<MetricSpec>) -> &mut Family {
        let empty = || Family { spec: spec.clone(), series: BTreeMap::new() };
        let family = self.0.entry(spec.name.clone()).or_insert_with(empty);
        if family.spec != *spec {
            *family = empty();
        }
        family
    }
}

impl Family {
    fn add(&mut self, labels: Vec<String>, more: &Series) {
        let is_full = self.series.len() >= self.spec.max_series && !self.series.contains_key(&labels);
        let labels = if is_full { vec![OTHER.to_owned(); labels.len()] } else { labels };
        let series = self.series.entry(labels).or_default();
        series.count += more.count;
        series.sum += more.sum;
        series.buckets.resize(more.buckets.len(), 0);
        series.buckets.iter_mut().zip(&more.buckets).for_each(|(mine, more)| *mine += more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(buckets: Option<Vec<f64>>) -> Arc<MetricSpec> {
        let (name, help) = ("m".to_owned(), String::new());
        Arc::new(MetricSpec { name, help, labels: vec!["l".into()], buckets, max_series: 2 })
    }

    #[test]
    fn beyond_the_bound_series_are_counted_together() {
        let (mut measured, spec) = (Measured::default(), spec(None));
        for label in ["a", "b", "c", "d", "a"] {
            measured.observe(&spec, vec![label.into()], 1.0);
        }
        let counts: Vec<(&str, u64)> =
            measured.0["m"].series.iter().map(|(labels, series)| (labels[0].as_str(), series.count)).collect();
        assert_eq!(counts, [(OTHER, 2), ("a", 2), ("b", 1)]);
    }

    #[test]
    fn adding_is_the_same_as_observing() {
        let spec = spec(Some(vec![1.0, 5.0]));
        let (mut whole, mut parts) = (Measured::default(), Measured::default());
        for value in [0.5, 1.0, 4.0, 9.0] {
            whole.observe(&spec, vec!["a".into()], value);
            let mut part = Measured::default();
            part.observe(&spec, vec!["a".into()], value);
            parts.add(&part);
        }
        assert_eq!(whole, parts);
        assert_eq!(whole.0["m"].series[&vec!["a".to_owned()]].buckets, [2, 1]);
    }

    #[test]
    fn a_metric_that_is_configured_otherwise_begins_anew() {
        let mut measured = Measured::default();
        measured.observe(&spec(None), vec!["a".into()], 1.0);
        measured.observe(&spec(Some(vec![1.0])), vec!["a".into()], 1.0);
        assert_eq!(measured.0["m"].series[&vec!["a".to_owned()]].count, 1);
    }
}
