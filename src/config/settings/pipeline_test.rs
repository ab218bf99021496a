//! `tests:` — what a configuration promises about itself.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// One test: events go in at a component, and something is expected at another.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Test {
    /// What holds, as a sentence.
    pub name: String,
    /// What goes in.
    pub input: Input,
    /// What must come out.
    pub expect: Vec<Expectation>,
}

/// Events at a component.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Input {
    /// Name of the component.
    pub at: String,
    /// The events.
    pub events: Vec<Value>,
}

/// What a component gives on, or what a sink would send.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Expectation {
    /// Name of the component.
    pub at: String,
    /// The events in order; further members of an event are errors too.
    pub events: Option<Vec<Value>>,
    /// Exactly these bytes, from a sink's encoder.
    pub bytes: Option<String>,
}
