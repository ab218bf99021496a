//! `filter`: passes on what matches a query and drops the rest.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{Check, Failure, Outputs, Transform};
use crate::event::Batch;
use crate::query::Query;

/// Passes on events that match a query; the others are counted as filtered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The query, such as `status:error -event_type:kernel.start`.
    #[serde(rename = "where")]
    pub query: String,
}

pub struct Filter {
    query: Query,
}

impl Transform for Filter {
    const TYPE: &'static str = "filter";
    type Config = Config;

    fn build(config: Config, check: &mut Check) -> Option<Filter> {
        check.query("where", &config.query).map(|query| Filter { query })
    }

    fn apply(&self, mut batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
        let mut matched = Vec::new();
        self.query.matches(&batch, &mut matched);
        let before = batch.len();
        batch.retain(|event| matched[event]);
        out.filtered("where", (before - batch.len()) as u64);
        out.emit(batch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::testing::{batch, build, lines, problems, provenance};

    #[test]
    fn what_does_not_match_is_counted_and_the_rest_is_untouched() {
        let mut out = Outputs::default();
        let events = [r#"{ "status" : "error" }"#, r#"{"status":"success"}"#, r#"{"a":1,"status":"error"}"#];
        let filter: Filter = build("where: status:error");
        filter.apply(batch(&events, provenance(None, None)), &mut out).expect("it does not fail");
        assert_eq!(out.filtered, [("where", 1)]);
        assert_eq!(lines(&out.emitted[0].1), [events[0], events[2]]);
    }

    #[test]
    fn a_kept_event_keeps_the_id_of_its_place() {
        let mut out = Outputs::default();
        let given = batch(&[r#"{"a":1}"#, r#"{"a":2}"#], provenance(None, None));
        let id = given.derived_id(1);
        build::<Filter>("where: a:2").apply(given, &mut out).expect("it does not fail");
        assert_eq!(out.emitted[0].1.derived_id(0), id);
    }

    #[test]
    fn a_query_that_cannot_be_read_is_an_error_in_its_place() {
        let given = problems::<Filter>("where: 'status:(error'");
        assert!(given.len() == 1 && given[0].starts_with("where: "), "{given:?}");
    }
}
