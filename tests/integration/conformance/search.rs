//! The `elasticsearch` sink before a node that answers with anything, for whole requests and for single documents.

use std::collections::BTreeMap;

use super::answers::{self, Canned, Kind, Now};
use super::{Target, Trouble, hold};
use crate::support::search::{Mishap, Simulator};

struct Node {
    simulator: Simulator,
    now: Now,
    port: u16,
}

/// Status and type that each document is answered with, or only those at the seventh place of a round (`7`).
const OWN: &[(&str, bool)] = &[
    ("all 429 es_rejected_execution_exception", true),
    ("all 403 cluster_block_exception", true),
    ("all 404 index_not_found_exception", true),
    ("all 400 illegal_argument_exception", true),
    ("all 400 index_closed_exception", true),
    ("all 503 unavailable_shards_exception", true),
    ("all 500 null_pointer_exception", true),
    ("all 400 something_new_exception", true),
    ("7 400 illegal_argument_exception", false),
    ("7 400 document_parsing_exception", false),
    ("7 400 something_new_exception", false),
    ("7 429 es_rejected_execution_exception", true),
    ("7 503 unavailable_shards_exception", true),
    ("{}", true),
    ("{\"items\":[]}", true),
    ("{\"items\":[{\"create\":{\"status\":201}}]}", true),
    ("{\"errors\":false,\"items\":[{\"cre", true),
    ("<html>It works!</html>", true),
];

impl Target for Node {
    type Kind = Kind;

    fn keys(&self) -> String {
        format!(
            "type: elasticsearch\nendpoints: ['http://127.0.0.1:{}']\nindex: activity\n\
             auth: {{ type: basic, user: ali, password: geheim-im-knoten }}",
            self.port
        )
    }

    fn troubles(&self) -> Vec<Trouble<Kind>> {
        answers::troubles(OWN)
    }

    fn begin(&self, kind: &Kind) {
        self.now.begin(kind);
        let always = |mishap| self.simulator.always(Some(mishap));
        match kind {
            Kind::Wire(_) => {}
            Kind::Answer(Canned { status, body, retry_after }) => {
                let headers = retry_after.map_or_else(String::new, |text| format!("Retry-After: {text}\r\n"));
                always(Mishap::Answer(*status, headers.leak(), body));
            }
            Kind::Refuses(which) => {
                let which = *which;
                let refuses = move |n| which.refuses(n).then_some((400, "mapper_parsing_exception"));
                always(Mishap::Where(std::sync::Arc::new(refuses)));
            }
            Kind::Own(text) => match text.split(' ').collect::<Vec<_>>()[..] {
                [which @ ("all" | "7"), status, kind] => {
                    let (status, one) = (status.parse().expect("a status"), which == "7");
                    let refuses = move |n: u64| (!one || n % super::ROUND == 7).then_some((status, kind));
                    always(Mishap::Where(std::sync::Arc::new(refuses)));
                }
                _ => always(Mishap::Answer(200, "Content-Type: application/json\r\n", text)),
            },
        }
    }

    fn heal(&self) {
        self.now.heal();
        self.simulator.always(None);
    }

    fn stored(&self) -> BTreeMap<u64, usize> {
        let mut stored = BTreeMap::new();
        self.simulator.numbers().into_iter().for_each(|n| *stored.entry(n).or_default() += 1);
        stored
    }

    fn repeats(&self) -> bool {
        false
    }

    fn requests(&self) -> u64 {
        self.simulator.bulks().len() as u64
    }

    fn secrets(&self) -> Vec<String> {
        vec!["geheim-im-knoten".into()]
    }
}

#[test]
pub fn documents_are_there_once_whatever_a_node_answers() {
    let (simulator, now) = (Simulator::start(), Now::new());
    let port = now.before(simulator.port);
    hold(&Node { simulator, now, port });
}
