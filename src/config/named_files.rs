//! Certificates and keys that the configuration names by path, and without which no agent runs.

use std::collections::BTreeMap;

use super::Plan;
use crate::diagnostic::{Node, Problem, Problems, Span};
use crate::net::tls;

/// Where each part of a configuration that may name such files stands.
#[derive(Debug, Default)]
pub struct Places(BTreeMap<String, Span>);

const API_TLS: &str = "api.tls";
const API_AUTH: &str = "api.auth";

impl Places {
    pub(super) fn of(plan: &Plan, root: &Node) -> Places {
        let sources = plan.sources.iter().map(|source| of_source(&source.name));
        let paths = sources.chain([API_TLS.to_owned(), API_AUTH.to_owned()]);
        Places(paths.map(|path| (path.clone(), root.find(&path, Span::NOWHERE).1)).collect())
    }

    /// Loads the files as a start would.
    pub(super) fn check(&self, plan: &Plan) -> Problems {
        let api = &plan.settings.api;
        let sources = plan.sources.iter().map(|planned| (of_source(&planned.name), planned.source.check_files()));
        let shown = api.tls.iter().map(|config| (API_TLS.to_owned(), tls::server(config).map(drop)));
        let believed = api.auth.iter().map(|auth| (API_AUTH.to_owned(), auth.authenticator().map(drop)));
        let mut problems = Problems::default();
        for (path, checked) in sources.chain(shown).chain(believed) {
            if let Err(message) = checked {
                let span = self.0.get(&path).copied().unwrap_or(Span::NOWHERE);
                problems.push(Problem::error(path.clone(), span, format!("{path}: {message}")));
            }
        }
        problems
    }
}

fn of_source(name: &str) -> String {
    format!("sources.{name}.tls")
}
