//! Prometheus' text format: labels, samples, and the lines before a metric, with their escapes.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4. Names come from constants or
//! from a checked configuration, so they are written as they are; values and help texts are escaped.

use std::borrow::Cow;
use std::fmt::{Display, Write};

#[derive(Clone, Debug)]
pub struct Label {
    name: Cow<'static, str>,
    value: Cow<'static, str>,
}

impl Label {
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Label {
        Label { name: name.into(), value: value.into() }
    }
}

/// Writes the `# HELP` and `# TYPE` lines of a metric.
pub fn write_head(text: &mut String, name: &str, help: &str, kind: &str) {
    push(text, format_args!("# HELP {name} "));
    push_escaped(text, help, false);
    push(text, format_args!("\n# TYPE {name} {kind}\n"));
}

/// Writes one sample; `suffix` is empty, or one such as `_bucket`.
pub fn write_sample(text: &mut String, name: &str, suffix: &str, labels: &[Label], value: impl Display) {
    text.push_str(name);
    text.push_str(suffix);
    for (nth, label) in labels.iter().enumerate() {
        text.push(if nth == 0 { '{' } else { ',' });
        text.push_str(&label.name);
        text.push_str("=\"");
        push_escaped(text, &label.value, true);
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
    push(text, format_args!(" {value}\n"));
}

/// Writes the buckets, sum and count of a histogram. `buckets`: each upper bound with the number of values up to it.
pub fn write_histogram(
    text: &mut String,
    name: &str,
    labels: &[Label],
    buckets: impl Iterator<Item = (f64, u64)>,
    sum: f64,
    count: u64,
) {
    let buckets = buckets.map(|(bound, up_to)| (bound.to_string(), up_to));
    for (bound, up_to) in buckets.chain([("+Inf".to_owned(), count)]) {
        write_sample(text, name, "_bucket", &[labels, &[Label::new("le", bound)]].concat(), up_to);
    }
    write_sample(text, name, "_sum", labels, sum);
    write_sample(text, name, "_count", labels, count);
}

fn push_escaped(text: &mut String, value: &str, is_quoted: bool) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if is_quoted => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

fn push(text: &mut String, what: std::fmt::Arguments) {
    text.write_fmt(what).expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_line_or_a_value_is_escaped() {
        let mut text = String::new();
        write_head(&mut text, "m_total", "one \"line\",\nor \\ two", "counter");
        write_sample(&mut text, "m_total", "", &[Label::new("a", "x\"y\\z\nw"), Label::new("b", "é")], 1.5);
        write_sample(&mut text, "m_total", "", &[], u64::MAX);
        assert_eq!(
            text,
            "# HELP m_total one \"line\",\\nor \\\\ two\n# TYPE m_total counter\n\
             m_total{a=\"x\\\"y\\\\z\\nw\",b=\"é\"} 1.5\nm_total 18446744073709551615\n"
        );
    }

    #[test]
    fn a_histogram_keeps_its_suffixes_whatever_it_is_called() {
        let mut text = String::new();
        write_histogram(&mut text, "row_count", &[Label::new("a", "b")], [(0.5, 1), (2.0, 3)].into_iter(), 4.25, 4);
        assert_eq!(
            text,
            "row_count_bucket{a=\"b\",le=\"0.5\"} 1\nrow_count_bucket{a=\"b\",le=\"2\"} 3\n\
             row_count_bucket{a=\"b\",le=\"+Inf\"} 4\nrow_count_sum{a=\"b\"} 4.25\nrow_count_count{a=\"b\"} 4\n"
        );
    }
}
