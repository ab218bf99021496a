//! `weir graph`: draws the pipeline of a configuration.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::Configuration;
use crate::config::{Input, Plan};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Mermaid,
    Dot,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let loaded = match arguments.configuration.load(&arguments.configuration.overrides(false)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    super::print(&draw(&loaded.plan, arguments.format))
}

struct Node<'p> {
    name: &'p str,
    type_name: &'p str,
    kind: &'static str,
}

fn draw(plan: &Plan, format: Format) -> String {
    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut edges: Vec<(String, &str, String)> = Vec::new();
    nodes.extend(plan.sources.iter().map(|one| Node { name: &one.name, type_name: one.type_name, kind: "source" }));
    for one in &plan.transforms {
        nodes.push(Node { name: &one.name, type_name: one.type_name, kind: "transform" });
        edges.extend(one.inputs.iter().map(|input| edge(plan, input, &one.name)));
    }
    for one in &plan.sinks {
        nodes.push(Node { name: &one.name, type_name: one.type_name, kind: "sink" });
        edges.extend(one.inputs.iter().map(|input| edge(plan, input, &one.name)));
    }
    if edges.iter().any(|(from, ..)| from == crate::config::API_SOURCE) {
        nodes.insert(0, Node { name: crate::config::API_SOURCE, type_name: "POST /api/logs", kind: "source" });
    }
    let mut out = String::new();
    match format {
        Format::Mermaid => {
            out.push_str("flowchart LR\n");
            for node in &nodes {
                let (open, close) = match node.kind {
                    "source" => ("([", "])"),
                    "sink" => ("[(", ")]"),
                    _ => ("[", "]"),
                };
                out.push_str(&format!("    {}{open}\"{}<br/>{}\"{close}\n", id(node.name), node.name, node.type_name));
            }
            for (from, to, label) in &edges {
                let arrow = if label.is_empty() { "-->".to_owned() } else { format!("-- {label} -->") };
                out.push_str(&format!("    {} {arrow} {}\n", id(from), id(to)));
            }
        }
        Format::Dot => {
            out.push_str("digraph weir {\n    rankdir=LR;\n");
            for node in &nodes {
                let shape = match node.kind {
                    "source" => "oval",
                    "sink" => "cylinder",
                    _ => "box",
                };
                out.push_str(&format!(
                    "    \"{}\" [label=\"{}\\n{}\", shape={shape}];\n",
                    node.name, node.name, node.type_name
                ));
            }
            for (from, to, label) in &edges {
                out.push_str(&format!("    \"{from}\" -> \"{to}\" [label=\"{label}\"];\n"));
            }
            out.push_str("}\n");
        }
    }
    out
}

fn edge<'p>(plan: &Plan, input: &Input, to: &'p str) -> (String, &'p str, String) {
    let transform = plan.transforms.iter().find(|one| one.name == input.component);
    let outputs = transform.map(|one| one.transform.outputs()).unwrap_or_default();
    let label = input.port.checked_sub(1).and_then(|port| outputs.get(port)).cloned().unwrap_or_default();
    (input.component.to_string(), to, label)
}

/// A name that the language takes as one.
fn id(name: &str) -> String {
    format!("n_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}
