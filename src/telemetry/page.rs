//! A page in Prometheus' text format: the lines of one metric are contiguous, whoever adds them.

use std::fmt::Display;

use super::histogram::Histogram;
use super::measured::Family;
use super::names::Metric;
use super::text_format::{Label, write_head, write_histogram, write_sample};

#[derive(Default)]
pub struct Page {
    /// In the order in which the metrics first appeared.
    families: Vec<(Metric, String)>,
    /// Those that an operator made, by name.
    own: Vec<(String, String)>,
}

impl Page {
    pub fn add(&mut self, metric: Metric, labels: &[Label], value: impl Display) {
        write_sample(self.family(metric), metric.name, "", labels, value);
    }

    pub fn add_with(&mut self, metric: Metric, labels: &[Label], more: Label, value: impl Display) {
        self.add(metric, &[labels, &[more]].concat(), value);
    }

    pub fn add_histogram(&mut self, metric: Metric, labels: &[Label], histogram: &Histogram) {
        let (buckets, text) = (histogram.buckets(), self.family(metric));
        write_histogram(text, metric.name, labels, buckets, histogram.sum(), histogram.count());
    }

    /// A metric that an operator defined; the component distinguishes two of the same name.
    pub fn add_family(&mut self, family: &Family, component: &str) {
        let spec = &family.spec;
        let kind = if spec.buckets.is_some() { "histogram" } else { "counter" };
        let text = match self.own.iter().position(|(name, _)| *name == spec.name) {
            Some(place) => &mut self.own[place].1,
            None => {
                let mut text = String::new();
                write_head(&mut text, &spec.name, &spec.help, kind);
                self.own.push((spec.name.clone(), text));
                &mut self.own.last_mut().expect("just pushed").1
            }
        };
        for (values, series) in &family.series {
            let named = spec.labels.iter().zip(values).map(|(name, value)| Label::new(name.clone(), value.clone()));
            let labels: Vec<Label> = [Label::new("component", component.to_owned())].into_iter().chain(named).collect();
            let Some(bounds) = &spec.buckets else {
                write_sample(text, &spec.name, "", &labels, series.sum);
                continue;
            };
            let up_to = series.buckets.iter().scan(0, |sum, count| {
                *sum += count;
                Some(*sum)
            });
            write_histogram(text, &spec.name, &labels, bounds.iter().copied().zip(up_to), series.sum, series.count);
        }
    }

    fn family(&mut self, metric: Metric) -> &mut String {
        let place = match self.families.iter().position(|(known, _)| known.name == metric.name) {
            Some(place) => place,
            None => {
                let mut text = String::new();
                write_head(&mut text, metric.name, metric.help, metric.kind);
                self.families.push((metric, text));
                self.families.len() - 1
            }
        };
        &mut self.families[place].1
    }

    pub fn text(self) -> String {
        let own = self.own.into_iter().map(|(_, text)| text);
        self.families.into_iter().map(|(_, text)| text).chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::names::{JOURNAL_SYNC_SECONDS, RETRIES, STREAM_CLIENTS};

    #[test]
    fn the_lines_of_a_metric_stand_together_under_its_help() {
        let mut page = Page::default();
        let sink = |name: &'static str| [Label::new("component", name)];
        page.add(RETRIES, &sink("a"), 1);
        page.add(STREAM_CLIENTS, &[], 0.5);
        page.add_with(RETRIES, &sink("say \"b\""), Label::new("why", "x"), 2);
        assert_eq!(
            page.text(),
            "# HELP weir_retries_total Writes that were retried.\n\
             # TYPE weir_retries_total counter\n\
             weir_retries_total{component=\"a\"} 1\n\
             weir_retries_total{component=\"say \\\"b\\\"\",why=\"x\"} 2\n\
             # HELP weir_stream_clients Live clients connected.\n\
             # TYPE weir_stream_clients gauge\n\
             weir_stream_clients 0.5\n"
        );
    }

    #[test]
    fn a_histogram_has_its_buckets_sum_and_count() {
        let (mut page, mut syncs) = (Page::default(), Histogram::default());
        syncs.observe(Duration::from_millis(250));
        page.add_histogram(JOURNAL_SYNC_SECONDS, &[], &syncs);
        let text = page.text();
        for line in [
            "# TYPE weir_journal_sync_seconds histogram",
            "weir_journal_sync_seconds_bucket{le=\"0.1\"} 0",
            "weir_journal_sync_seconds_bucket{le=\"0.25\"} 1",
            "weir_journal_sync_seconds_bucket{le=\"+Inf\"} 1",
            "weir_journal_sync_seconds_sum 0.25",
            "weir_journal_sync_seconds_count 1",
        ] {
            assert!(text.lines().any(|given| given == line), "{line} is missing in\n{text}");
        }
    }
}
