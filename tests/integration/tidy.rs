//! Keeps the code in order: layers, catalogues, first lines, sizes and where `unsafe` may stand.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the ground up. A file may use modules of lower layers and its own module, nothing else.
const LAYERS: &[&[&str]] = &[
    &["event", "units", "secret", "diagnostic", "varint", "ranges"],
    &["query", "telemetry", "visibility"],
    &["codec", "net", "journal", "store"],
    &["component"],
    &["toolkit"],
    &["delivery", "stages"],
    &["sources", "transforms", "sinks"],
    &["config"],
    &["topology"],
    &["api"],
    &["cli"],
];

/// Lines of a file beyond which it surely has a second subject.
const LONGEST_FILE: usize = 600;

/// The modules in which `unsafe` may stand, each block with a reason.
const UNSAFE_MODULES: &[&str] = &["event", "codec"];

/// Macros that write to the log.
const LOG_MACROS: &[&str] = &["error!(", "warn!(", "info!(", "debug!(", "trace!("];

#[test]
fn fields_of_the_log_are_plain_values() {
    for path in source_files() {
        let code = code(&path);
        for (at, name) in LOG_MACROS.iter().flat_map(|name| code.match_indices(name)) {
            let call = &code[at + name.len()..];
            let call = &call[..call.find(");").unwrap_or(call.len())];
            let has_debug =
                call.split(['(', ',', '=']).any(|field| field.trim_start().starts_with('?')) || call.contains(":?}");
            assert!(!has_debug, "{} logs Rust's debug text: {call}", place(&path));
        }
    }
}

fn source_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
    assert!(files.len() > 20, "the walk over src/ found only {} files", files.len());
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src/ can be read") {
        let path = entry.expect("src/ can be listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// Path below `src/`, such as `sinks/file.rs`.
fn place(path: &Path) -> String {
    let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    path.strip_prefix(src).expect("the file is below src/").display().to_string()
}

fn module(place: &str) -> &str {
    place.split('/').next().unwrap_or(place).trim_end_matches(".rs")
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The code of a file without its comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("the file can be read");
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Every module that a text names as `crate::module`, also inside `use crate::{a::…, b::…}`.
fn modules_used(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 && (c.is_alphanumeric() || c == '_') {
                    word.push(c);
                } else {
                    let first = std::mem::take(&mut word);
                    if !first.is_empty() && layer(&first).is_some() {
                        modules.push(first);
                    }
                }
            }
        } else {
            modules.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    modules
}

#[test]
fn a_file_looks_down_not_up_and_not_sideways() {
    let mut complaints = Vec::new();
    for path in source_files() {
        let place = place(&path);
        let own = module(&place);
        if matches!(own, "lib" | "main") {
            continue;
        }
        let Some(own_floor) = layer(own) else {
            complaints
                .push(format!("src/{place}: the module `{own}` stands on no layer; give it one in tests/tidy.rs"));
            continue;
        };
        for used in modules_used(&code(&path)) {
            let Some(used_floor) = layer(&used) else { continue };
            // Floor 0 is one piece of ground: plain data may be made of plain data.
            let same_ground = own_floor == 0 && used_floor == 0;
            if used != own && used_floor >= own_floor && !same_ground {
                let direction = if used_floor == own_floor { "sideways" } else { "up" };
                complaints.push(format!(
                    "src/{place}: `{own}` (layer {own_floor}) looks {direction} at `{used}` (layer {used_floor}); \
                     move what both need to a lower layer"
                ));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_groups_and_paths() {
    let text = "use crate::{event::Batch, journal::{self, Record}};\nlet x = crate::query::parse();";
    assert_eq!(modules_used(text), ["event", "journal", "query"]);
}

#[test]
fn a_file_begins_with_what_it_is_for() {
    for path in source_files() {
        let text = fs::read_to_string(&path).expect("the file can be read");
        let first = text.lines().next().unwrap_or("");
        assert!(
            first.starts_with("//! ") && first.len() > 12,
            "src/{}: the first line must be `//! ` and a sentence",
            place(&path)
        );
    }
}

#[test]
fn a_file_has_one_subject() {
    let mut complaints = Vec::new();
    for path in source_files() {
        let lines = fs::read_to_string(&path).expect("the file can be read").lines().count();
        if lines > LONGEST_FILE {
            complaints.push(format!("src/{}: {lines} lines; look for the second subject", place(&path)));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_component_is_in_its_catalogue() {
    for kind in ["sources", "transforms", "sinks"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(kind);
        let catalogue = fs::read_to_string(folder.join("mod.rs")).expect("each kind has a mod.rs");
        let entries: Vec<&str> =
            catalogue.split("CATALOGUE").nth(1).expect("each kind has a catalogue").lines().collect();
        for entry in fs::read_dir(&folder).expect("the folder can be listed") {
            let path = entry.expect("the folder can be listed").path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).expect("file names are plain").to_owned();
            if name == "mod" {
                continue;
            }
            let mention = format!("{name}::");
            assert!(
                entries.iter().any(|line| line.contains(&mention)),
                "src/{kind}/{name}: a component needs its line in the CATALOGUE of src/{kind}/mod.rs; \
                 what two components share belongs on a lower layer"
            );
        }
    }
}

#[test]
fn unsafe_code_stands_only_where_speed_was_measured() {
    for path in source_files() {
        let place = place(&path);
        let code = code(&path);
        let has_unsafe = code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl");
        assert!(
            !has_unsafe || UNSAFE_MODULES.contains(&module(&place)),
            "src/{place}: `unsafe` is for event and codec only"
        );
    }
}

/// Words that once had a meaning of their own here, and what everybody else calls the thing.
const PRIVATE_WORDS: &[(&str, &str)] = &[
    ("purse", "memory budget"),
    ("ledger", "metrics of a component, or a tracker of ranges"),
    ("books", "event accounting"),
    ("veil", "secret mask"),
    ("commons", "context"),
    ("shelf", "dead-letter store"),
    ("desk", "normalizer"),
    ("flights", "submissions"),
    ("house", "built in, or housekeeping"),
];

/// Identifiers in code, without comments and texts.
fn identifiers(code: &str) -> impl Iterator<Item = &str> {
    code.lines()
        .map(|line| line.split("//").next().unwrap_or(line))
        .flat_map(|line| line.split('"').step_by(2))
        .flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_'))
}

#[test]
fn things_have_the_names_that_everybody_knows() {
    let mut found = Vec::new();
    for path in source_files() {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        for name in identifiers(&text) {
            let lower = name.to_lowercase();
            for (word, instead) in PRIVATE_WORDS {
                if lower == *word || lower.strip_suffix('s') == Some(word) {
                    found.push(format!("{}: `{name}` is a {instead}", place(&path)));
                }
            }
        }
    }
    found.dedup();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
