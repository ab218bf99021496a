//! `metrics`: counters and histograms of events, on `/metrics`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{Check, Failure, Outputs, Transform};
use crate::event::Batch;
use crate::query::Query;
use crate::telemetry::MetricSpec;

/// The most metrics of one component, and labels of one metric.
const MAX_METRICS: usize = 64;
const MAX_LABELS: usize = 8;
/// The longest value of a label, in characters.
const MAX_LABEL: usize = 100;
/// Upper bounds in seconds, where a histogram names none.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0];

/// Counters and histograms from events, shown on `/metrics`. Events pass on unchanged. Counters start at 0 when Weir
/// starts. Each metric has a maximum number of series; values beyond it are counted in the series `_other`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The metrics.
    pub metrics: Vec<MetricConfig>,
}

/// One metric.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricConfig {
    /// Name, such as `cells_total`; it must not start with `weir_` or `process_`.
    pub name: String,
    /// Kind of metric.
    #[serde(default)]
    pub kind: Kind,
    /// Help text of the metric.
    #[serde(default)]
    pub help: String,
    /// Query of the events that count.
    #[serde(default, rename = "where")]
    pub query: Option<String>,
    /// Number field that a histogram observes, or that a counter adds instead of 1. Events without it are ignored.
    #[serde(default)]
    pub field: Option<String>,
    /// Factor for the number, such as 0.001 to convert milliseconds to seconds.
    #[serde(default = "one")]
    pub scale: f64,
    /// Fields to use as labels; a label is named after the last part of its path. A missing field is an empty label.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Upper bounds of the histogram's buckets, ascending.
    #[serde(default)]
    pub buckets: Vec<f64>,
    /// Maximum number of series.
    #[serde(default = "default_series")]
    pub max_series: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Counter,
    Histogram,
}

fn one() -> f64 {
    1.0
}

fn default_series() -> u32 {
    200
}

pub struct Metrics {
    metrics: Vec<Metric>,
}

struct Metric {
    spec: Arc<MetricSpec>,
    query: Option<Query>,
    field: Option<Vec<String>>,
    scale: f64,
    labels: Vec<Vec<String>>,
}

impl Transform for Metrics {
    const TYPE: &'static str = "metrics";
    type Config = Config;

    fn build(config: Config, check: &mut Check) -> Option<Metrics> {
        let before = check.problems.len();
        if config.metrics.is_empty() || config.metrics.len() > MAX_METRICS {
            check.problem("metrics", format!("expected 1 to {MAX_METRICS} metrics"));
        }
        let mut metrics: Vec<Metric> = Vec::new();
        for (nth, metric) in config.metrics.into_iter().enumerate() {
            if metrics.iter().any(|other| other.spec.name == metric.name) {
                check.problem(format!("metrics[{nth}].name"), format!("duplicate metric name `{}`", metric.name));
            }
            metrics.extend(read(metric, &format!("metrics[{nth}]"), check));
        }
        (check.problems.len() == before).then_some(Metrics { metrics })
    }

    fn apply(&self, batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
        for metric in &self.metrics {
            for event in 0..batch.len() {
                metric.observe(&batch, event, out);
            }
        }
        out.emit(batch);
        Ok(())
    }
}

impl Metric {
    fn observe(&self, batch: &Batch, event: usize, out: &mut Outputs) {
        if self.query.as_ref().is_some_and(|query| !query.matches_event(batch, event)) {
            return;
        }
        let value = match &self.field {
            None => 1.0,
            Some(path) => match batch.get_path(event, path).and_then(|value| value.as_f64()) {
                Some(value) => value * self.scale,
                None => return,
            },
        };
        // A counter only goes up.
        if !value.is_finite() || (self.spec.buckets.is_none() && value < 0.0) {
            return;
        }
        let label = |path: &Vec<String>| {
            let value = batch.get_path(event, path).filter(|value| !value.is_null());
            value.map(|value| value.display().chars().take(MAX_LABEL).collect()).unwrap_or_default()
        };
        out.measured.observe(&self.spec, self.labels.iter().map(label).collect(), value);
    }
}

fn read(config: MetricConfig, at: &str, check: &mut Check) -> Option<Metric> {
    let before = check.problems.len();
    let is_name = |name: &str, more: &[char]| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || more.contains(&c);
        !name.is_empty() && name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    if !is_name(&config.name, &[':']) || config.name.len() > 128 {
        check.problem(format!("{at}.name"), format!("`{}` is not a valid metric name", config.name));
    }
    if config.name.starts_with("weir_") || config.name.starts_with("process_") {
        check.problem(format!("{at}.name"), "this prefix is reserved for Weir's own metrics");
    }
    if config.kind == Kind::Histogram && config.field.is_none() {
        check.problem(format!("{at}.field"), "a histogram needs `field`");
    }
    if config.kind == Kind::Counter && !config.buckets.is_empty() {
        check.problem(format!("{at}.buckets"), "`buckets` applies to histograms only");
    }
    if config.buckets.windows(2).any(|pair| pair[0] >= pair[1]) || config.buckets.iter().any(|bound| !bound.is_finite())
    {
        check.problem(format!("{at}.buckets"), "expected ascending bounds");
    }
    if !config.scale.is_finite() || config.scale == 0.0 {
        check.problem(format!("{at}.scale"), "expected a number other than 0");
    }
    if config.max_series == 0 {
        check.problem(format!("{at}.max_series"), "expected 1 or more");
    }
    let labels: Vec<Vec<String>> =
        config.labels.iter().map(|label| label.split('.').map(str::to_owned).collect()).collect();
    let names: Vec<String> = labels.iter().filter_map(|path| path.last().cloned()).collect();
    for (nth, name) in names.iter().enumerate() {
        let taken = ["le", "component"].contains(&name.as_str()) || names[..nth].contains(name);
        if !is_name(name, &[]) || name.starts_with("__") || taken {
            check.problem(format!("{at}.labels[{nth}]"), format!("`{name}` is not a valid label"));
        }
    }
    if names.len() > MAX_LABELS {
        check.problem(format!("{at}.labels"), format!("more than {MAX_LABELS} labels"));
    }
    let query = config.query.as_ref().map(|query| check.query(format!("{at}.where"), query));
    if check.problems.len() > before {
        return None;
    }
    let buckets = match (config.kind, config.buckets.is_empty()) {
        (Kind::Counter, _) => None,
        (Kind::Histogram, true) => Some(BUCKETS.to_vec()),
        (Kind::Histogram, false) => Some(config.buckets),
    };
    let max_series = config.max_series as usize;
    let help = config.help.split_whitespace().collect::<Vec<_>>().join(" ");
    let spec = Arc::new(MetricSpec { name: config.name, help, labels: names, buckets, max_series });
    let field = config.field.map(|field| field.split('.').map(str::to_owned).collect());
    Some(Metric { spec, query: query.flatten(), field, scale: config.scale, labels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::testing::{batch, build, lines, problems, provenance};

    #[test]
    fn events_are_counted_and_measured_and_pass_untouched() {
        let metrics: Metrics = build(
            "metrics:\n- { name: cells_total, labels: [status, metadata.team] }\n\
             - { name: cell_seconds, kind: histogram, field: duration_ms, scale: 0.001, where: 'status:success', buckets: [1, 2] }\n\
             - { name: bytes_total, field: metadata.size }",
        );
        let events = [
            r#"{ "status":"success","duration_ms":1500,"metadata":{"team":"a","size":7} }"#,
            r#"{"status":"error","duration_ms":100}"#,
            r#"{"status":"success","duration_ms":"no number","metadata":{"size":-5}}"#,
        ];
        let mut out = Outputs::default();
        metrics.apply(batch(&events, provenance(None, None)), &mut out).expect("it does not fail");
        assert_eq!(lines(&out.emitted[0].1), events);
        let of = |name: &str| &out.measured.0[name].series;
        let label = |status: &str, team: &str| vec![status.to_owned(), team.to_owned()];
        assert_eq!(of("cells_total")[&label("success", "a")].count, 1);
        assert_eq!(of("cells_total").len(), 3);
        let seconds = &of("cell_seconds")[&Vec::new()];
        assert_eq!((seconds.count, seconds.sum, &seconds.buckets[..]), (1, 1.5, &[0, 1][..]));
        assert_eq!(of("bytes_total")[&Vec::new()].sum, 7.0);
    }

    #[test]
    fn what_prometheus_would_not_read_is_refused() {
        let config = "metrics: [{ name: 1a }, { name: weir_x }, { name: b, kind: histogram, buckets: [2, 1] }, \
                      { name: c, labels: [le, a, x.a, 'b-c'], buckets: [1] }, { name: c, scale: 0, max_series: 0 }]";
        let found = problems::<Metrics>(config);
        let expected = [
            "metrics[0].name: ",
            "metrics[1].name: ",
            "metrics[2].field: ",
            "metrics[2].buckets: ",
            "metrics[3].buckets: ",
            "metrics[3].labels[0]: ",
            "metrics[3].labels[2]: ",
            "metrics[3].labels[3]: ",
            "metrics[4].scale: ",
            "metrics[4].max_series: ",
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        found.iter().zip(expected).for_each(|(found, expected)| assert!(found.starts_with(expected), "{found}"));
    }
}
