//! `route`: sends events to the outputs whose queries they match.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::component::{Check, Failure, Outputs, Transform};
use crate::event::names::ID;
use crate::event::{Batch, Id, Seed};
use crate::query::Query;

/// The most outputs of one component.
const MAX_ROUTES: usize = 64;

/// Sends every event to the outputs whose query it matches, each named by its key and read as `name.output`.
///
/// What matches no query is counted as filtered. The first output, in the order written, has the event itself; any
/// other has an event made from it, with an id derived from its id and the output's name.
#[derive(Debug, Default)]
pub struct Config {
    /// Output and query, in the order in which they are written.
    pub routes: Vec<(String, String)>,
}

pub struct Route {
    routes: Vec<(String, Query)>,
}

impl Transform for Route {
    const TYPE: &'static str = "route";
    type Config = Config;

    fn build(config: Config, check: &mut Check) -> Option<Route> {
        let before = check.problems.len();
        if config.routes.is_empty() {
            check.problem_with_hint("", "expected at least one output", "add one as `errors: status:error`");
        }
        if config.routes.len() > MAX_ROUTES {
            check.problem("", format!("{} outputs are more than {MAX_ROUTES}", config.routes.len()));
        }
        let mut routes = Vec::new();
        for (name, query) in config.routes {
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) {
                check.problem(&name, format!("`{name}` is not a valid output name: letters, digits, `_` and `-`"));
            }
            if let Some(query) = check.query(&name, &query) {
                routes.push((name, query));
            }
        }
        (check.problems.len() == before).then_some(Route { routes })
    }

    fn outputs(&self) -> Vec<String> {
        self.routes.iter().map(|(name, _)| name.clone()).collect()
    }

    fn apply(&self, batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
        let mut taken = vec![false; batch.len()];
        let mut matched = Vec::new();
        for (nth, (name, query)) in self.routes.iter().enumerate() {
            query.matches(&batch, &mut matched);
            // Port 0 would be the output without a name, which a route has not.
            out.emit_to(nth + 1, picked(name, &batch, &matched, &taken));
            taken.iter_mut().zip(&matched).for_each(|(taken, matched)| *taken |= matched);
        }
        out.filtered("unmatched", taken.iter().filter(|taken| !**taken).count() as u64);
        Ok(())
    }
}

/// What goes to an output, in its order. What another has taken becomes an event of its own: its id follows from the
/// event's id and the output.
fn picked(route: &str, batch: &Batch, matched: &[bool], taken: &[bool]) -> Batch {
    let mut batch = batch.clone();
    batch.retain(|event| matched[event]);
    let of_another: Vec<bool> =
        taken.iter().zip(matched).filter(|(_, matched)| **matched).map(|(taken, _)| *taken).collect();
    let derive = |id: &[u8]| Seed::derive(&[b"route", route.as_bytes(), id]);
    batch.derive_those(|event| of_another[event], |seed| derive(&seed.0));
    for event in (0..batch.len()).filter(|event| of_another[*event]) {
        if let Some(own) = batch.get_str(event, ID).and_then(|text| Id::parse(&text)) {
            let id = derive(&own.0.to_be_bytes()).id(0);
            batch.set_str(event, ID, &id.to_string());
        }
    }
    batch
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
        deserializer.deserialize_map(Routes)
    }
}

struct Routes;

impl<'de> Visitor<'de> for Routes {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names of outputs, each with a query")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let mut routes = Vec::new();
        while let Some(route) = map.next_entry()? {
            routes.push(route);
        }
        Ok(Config { routes })
    }
}

impl JsonSchema for Config {
    fn schema_name() -> Cow<'static, str> {
        "Route".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Outputs and their queries: an event goes to every output whose query it matches.",
            "additionalProperties": { "type": "string", "description": "A query, such as `status:error`." },
            "minProperties": 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::testing::{batch, build, lines, problems, provenance};

    fn routed(config: &str, events: &[&str]) -> Outputs {
        let mut out = Outputs::default();
        let route: Route = build(config);
        route.apply(batch(events, provenance(None, None)), &mut out).expect("it does not fail");
        out
    }

    const CONFIG: &str = "errors: status:error\nslow: duration_ms:>1000";

    #[test]
    fn outputs_are_named_in_the_order_written() {
        assert_eq!(build::<Route>("b: x:1\na: x:2").outputs(), ["b", "a"]);
    }

    #[test]
    fn each_event_goes_where_it_matches_and_the_rest_is_counted() {
        let events = [r#"{ "status":"error" }"#, r#"{"duration_ms":2000}"#, r#"{"a":1}"#];
        let out = routed(CONFIG, &events);
        let given: Vec<_> = out.emitted.iter().map(|(port, batch)| (*port, lines(batch))).collect();
        assert_eq!(given, [(1, vec![events[0].to_string()]), (2, vec![events[1].to_string()])]);
        assert_eq!(out.filtered, [("unmatched", 1)]);
    }

    #[test]
    fn a_second_match_is_an_event_with_an_id_of_its_own() {
        let event = r#"{"status":"error","duration_ms":2000}"#;
        let (once, again) = (routed(CONFIG, &[event]), routed(CONFIG, &[event]));
        let id = |out: &Outputs, nth: usize| out.emitted[nth].1.derived_id(0);
        assert_eq!(lines(&once.emitted[1].1), [event], "its bytes are those of the first");
        assert_ne!(id(&once, 0), id(&once, 1));
        assert_eq!(id(&once, 1), id(&again, 1), "the same event again has the same id again");
        assert_eq!(id(&once, 0), batch(&[event], provenance(None, None)).derived_id(0));
    }

    #[test]
    fn an_output_has_its_events_in_their_order_whatever_others_have_taken() {
        let events: Vec<String> = (0..12).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let out = routed("few: n:<5\nmore: n:<9", &events);
        assert_eq!(lines(&out.emitted[1].1), events[..9]);
        let ids =
            |nth: usize| (0..out.emitted[nth].1.len()).map(|n| out.emitted[nth].1.derived_id(n)).collect::<Vec<_>>();
        let (few, more) = (ids(0), ids(1));
        assert!(few.iter().zip(&more).all(|(few, more)| few != more));
        let unrouted = batch(&events, provenance(None, None));
        assert_eq!(more[5..], (5..9).map(|n| unrouted.derived_id(n)).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_producer_calls_an_event_is_no_name_of_what_was_made_of_it() {
        let mut named = batch(&[r#"{"id":"order-5","n":1}"#], provenance(None, None));
        named.identify();
        let route: Route = build("a: n:1\nb: n:1");
        let mut out = Outputs::default();
        route.apply(named, &mut out).expect("it does not fail");
        let ids: Vec<Id> = out.emitted.iter().map(|(_, batch)| batch.identity(0, 0, "order-5").id(0)).collect();
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids[1], out.emitted[1].1.derived_id(0));
    }

    #[test]
    fn an_own_id_is_replaced_in_what_was_made() {
        let event = r#"{"id":"0190163d-8694-739b-aea5-966c26f8ad91","status":"error","duration_ms":2000}"#;
        let out = routed(CONFIG, &[event]);
        assert_eq!(lines(&out.emitted[0].1), [event]);
        let made = lines(&out.emitted[1].1).remove(0);
        let id = made.strip_prefix("{\"id\":\"").and_then(|rest| rest.get(..36)).expect("an id");
        assert!(Id::parse(id).is_some() && !event.contains(id), "{made}");
        assert!(made.ends_with(r#"","status":"error","duration_ms":2000}"#), "{made}");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let given = problems::<Route>("a.b: status:error\nbad: 'x:('");
        assert_eq!(given[0], "a.b: `a.b` is not a valid output name: letters, digits, `_` and `-`");
        assert!(given.len() == 2 && given[1].starts_with("bad: "), "{given:?}");
        assert_eq!(problems::<Route>("{}"), [": expected at least one output"]);
    }
}
