//! The catalogue of transforms: one file each.

pub mod enrich;
pub mod filter;
pub mod normalize;
pub mod redact;
pub mod route;
pub mod truncate;

use crate::component::TransformEntry;

/// Every type of transform, by its word in the configuration.
pub const CATALOGUE: &[TransformEntry] = &[
    TransformEntry::of::<enrich::Enrich>(),
    TransformEntry::of::<filter::Filter>(),
    TransformEntry::of::<normalize::Normalize>(),
    TransformEntry::of::<redact::Redact>(),
    TransformEntry::of::<route::Route>(),
    TransformEntry::of::<truncate::Truncate>(),
];

/// What the tests of all transforms need: events in, events out.
#[cfg(test)]
pub(crate) mod testing {
    use std::net::IpAddr;
    use std::sync::Arc;

    use bytes::Bytes;

    use crate::component::{Check, Outputs, Transform};
    use crate::diagnostic;
    use crate::event::{Batch, Provenance, Scanner, Seed, Stamp};
    use crate::units::Timestamp;

    /// When all events of the tests were received: 2025-06-01T12:00:00.250Z.
    pub const RECEIVED_AT: Timestamp = Timestamp(1_748_779_200_250_000);

    pub fn provenance(peer: Option<IpAddr>, stamp: Option<Stamp>) -> Arc<Provenance> {
        let seed = Seed([7; 16]);
        Arc::new(Provenance { source: "web".into(), seed, received_at: RECEIVED_AT, peer, stamp: stamp.map(Arc::new) })
    }

    /// A split batch of JSON lines.
    pub fn batch(lines: &[&str], provenance: Arc<Provenance>) -> Batch {
        let mut batch = Batch::new(Bytes::from(lines.join("\n")), provenance);
        let (mut start, mut scanner, mut scratch) = (0, Scanner::new(), Vec::new());
        for (nth, line) in lines.iter().enumerate() {
            let range = start..start + line.len();
            batch.push_split(range, nth as u64, &mut scanner, &mut scratch).expect("the test gives valid events");
            start += line.len() + 1;
        }
        batch
    }

    /// A transform from its configuration, which must be right.
    pub fn build<T: Transform>(yaml: &str) -> T {
        let mut check = Check::new("it", "/nowhere", false);
        let config = diagnostic::from_yaml(yaml).unwrap_or_else(|report| panic!("{report}"));
        let transform = T::build(config, &mut check);
        assert!(check.problems.is_empty(), "{:?}", check.problems);
        transform.expect("a transform without problems")
    }

    /// The problems of a configuration as `path: message`.
    pub fn problems<T: Transform>(yaml: &str) -> Vec<String> {
        let mut check = Check::new("it", "/nowhere", false);
        let config = diagnostic::from_yaml(yaml).unwrap_or_else(|report| panic!("{report}"));
        assert!(T::build(config, &mut check).is_none());
        check.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
    }

    /// The lines of a batch; each must be valid.
    pub fn lines(batch: &Batch) -> Vec<String> {
        let line = |event| {
            let mut out = Vec::new();
            batch.render_event(event, &mut out);
            Scanner::new().validate(&out).expect("a transform gives valid events");
            String::from_utf8(out).expect("events are text")
        };
        (0..batch.len()).map(line).collect()
    }

    /// What a transform makes of a batch on its default output, where it keeps every event.
    pub fn apply<T: Transform>(transform: &T, batch: Batch) -> Vec<String> {
        let mut out = Outputs::default();
        let count = batch.len();
        transform.apply(batch, &mut out).expect("the transform does not fail");
        let given: Vec<String> = out.emitted.iter().flat_map(|(_, batch)| lines(batch)).collect();
        assert_eq!(given.len(), count);
        given
    }
}
