//! Which files make up a configuration, merged into one tree.

use std::path::{Path, PathBuf};

use crate::diagnostic::{Entry, Kind, Node, Problem, Problems, Sources, Span, yaml};

/// Where a configuration is looked for when none is named.
const USUAL_PLACES: [&str; 2] = ["weir.yaml", "/etc/weir/weir.yaml"];
/// Names the configuration when no argument does.
const VARIABLE: &str = "WEIR_CONFIG";
/// The most files that make one configuration.
const MAX_FILES: usize = 1000;

/// One text that goes into a configuration, with the name that problems show.
pub struct Text {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// The files to read: those given, else `$WEIR_CONFIG`, else the usual places. Empty means the quick start.
pub fn locate(given: &[PathBuf]) -> Vec<PathBuf> {
    if !given.is_empty() {
        return given.to_vec();
    }
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return vec![path.into()];
    }
    USUAL_PLACES.iter().map(PathBuf::from).find(|path| path.exists()).into_iter().collect()
}

/// The files that the paths stand for: a folder stands for its `*.yaml` files in order of their names.
pub fn expand(paths: &[PathBuf], problems: &mut Problems) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match folder(path) {
            Ok(found) if found.is_empty() => {
                problems.push(nowhere(format!("the folder `{}` has no .yaml files", path.display())));
            }
            Ok(found) => files.extend(found),
            Err(error) => problems.push(nowhere(format!("cannot read the folder `{}`: {error}", path.display()))),
        }
    }
    if files.len() > MAX_FILES {
        problems.push(nowhere(format!("{} files; the maximum is {MAX_FILES}", files.len())));
        files.truncate(MAX_FILES);
    }
    files
}

fn folder(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        // Hidden files are what editors and Kubernetes leave beside the real ones.
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && !is_hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the files that can be read, and reports the others.
pub fn read(files: &[PathBuf], problems: &mut Problems) -> Vec<Text> {
    let mut texts = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let size = std::fs::metadata(path).map(|metadata| metadata.len());
        match size.and_then(|size| if size > yaml::MAX_BYTES as u64 { Ok(None) } else { std::fs::read(path).map(Some) })
        {
            Ok(Some(bytes)) => texts.push(Text { name, bytes }),
            Ok(None) => problems.push(nowhere(too_large(&name))),
            Err(error) => problems.push(nowhere(format!("cannot read `{name}`: {error}"))),
        }
    }
    texts
}

fn too_large(name: &str) -> String {
    format!("`{name}` is larger than the maximum of {} bytes", yaml::MAX_BYTES)
}

fn nowhere(message: String) -> Problem {
    Problem::error("", Span::NOWHERE, message)
}

/// Parses every text and merges the trees; what cannot be parsed is reported and left out, and then the answer says
/// that the tree is not whole.
pub fn merge(texts: Vec<Text>, sources: &mut Sources, problems: &mut Problems) -> (Node, bool) {
    let mut whole: Option<Node> = None;
    let mut all_parsed = true;
    for text in texts {
        let Some(node) = parse(text, sources, problems) else {
            all_parsed = false;
            continue;
        };
        if node.entries().is_none() {
            let message = format!("expected a mapping, got {}", node.describe());
            problems.push(Problem::error("", node.span, message));
            all_parsed = false;
            continue;
        }
        if super::foreign::is_foreign_tree(&node, problems) {
            all_parsed = false;
            continue;
        }
        match &mut whole {
            None => whole = Some(node),
            Some(whole) => merge_into(whole, node, 0, problems),
        }
    }
    (whole.unwrap_or_else(|| Node::null(Span::NOWHERE)), all_parsed)
}

fn parse(text: Text, sources: &mut Sources, problems: &mut Problems) -> Option<Node> {
    let text = match String::from_utf8(text.bytes) {
        Ok(content) => {
            let file = sources.add(text.name, content);
            let text = &sources.get(file)?.text;
            if super::foreign::is_foreign(text, file, problems) {
                return None;
            }
            return yaml::parse(file, text, problems);
        }
        Err(error) => (text.name, error),
    };
    let (name, error) = text;
    let at = error.utf8_error().valid_up_to();
    let bytes = error.as_bytes();
    let (message, hint) = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ("the file is UTF-16", "save it as UTF-8"),
        _ => ("the file is not UTF-8 from here on", "save it as UTF-8"),
    };
    let file = sources.add(name, String::from_utf8_lossy(bytes).into_owned());
    problems.push(Problem::error("", Span::new(file, at..at + 1), message).hint(hint));
    None
}

/// Sections of several files become one; what stands in a section stands there once.
fn merge_into(whole: &mut Node, other: Node, depth: usize, problems: &mut Problems) {
    if whole.is_null() {
        *whole = other;
        return;
    }
    match (&mut whole.kind, other.kind) {
        (_, Kind::Scalar(scalar)) if !scalar.quoted && scalar.text.is_empty() => {}
        (Kind::Sequence(items), Kind::Sequence(more)) if depth == 1 => items.extend(more),
        (Kind::Mapping(entries), Kind::Mapping(more)) if depth < 2 => {
            for entry in more {
                match entries.iter_mut().find(|known| known.name() == entry.name()) {
                    None => entries.push(entry),
                    Some(known) if depth == 0 && is_section(&known.value) && is_section(&entry.value) => {
                        merge_into(&mut known.value, entry.value, depth + 1, problems);
                    }
                    Some(known) => problems.push(twice(known, &entry)),
                }
            }
        }
        _ => {}
    }
}

fn is_section(node: &Node) -> bool {
    node.is_null() || node.scalar().is_none()
}

fn twice(first: &Entry, second: &Entry) -> Problem {
    Problem::error("", second.key.span, format!("`{}` is in two files", second.name()))
        .also(first.key.span, "first here")
        .hint("files are merged by section; each key may be in only one of them")
}
