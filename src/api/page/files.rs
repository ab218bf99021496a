//! The files of `ui/`, embedded in the binary.

use bytes::Bytes;

macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/ui/", $name)))),*]
    };
}

/// Every file of the page, under its path in `ui/`.
const FILES: &[(&str, &[u8])] = embed![
    "api.js",
    "code.js",
    "diff.js",
    "dom.js",
    "highlight.js",
    "histogram.js",
    "i18n.js",
    "icon.svg",
    "index.html",
    "json.js",
    "lang/en.js",
    "lang/fa.js",
    "list.js",
    "main.js",
    "pages.js",
    "parts.js",
    "query.js",
    "searchbox.js",
    "settings.js",
    "sse.js",
    "state.js",
    "stream.js",
    "style.css",
    "text.js",
    "views.css",
    "views/charts.js",
    "views/chips.js",
    "views/event.js",
    "views/events.js",
    "views/export.js",
    "views/first.js",
    "views/graph.js",
    "views/help.js",
    "views/login.js",
    "views/operate.js",
    "views/overview.js",
    "views/passing.js",
    "views/people.js",
    "views/range.js",
    "views/timeline.js",
];

/// The files as they are now: a debug build reads them from the folder, if that is there.
pub fn now() -> Vec<(&'static str, Bytes)> {
    let read = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ui/").to_owned() + name;
        cfg!(debug_assertions).then(|| std::fs::read(path).ok()).flatten()
    };
    FILES.iter().map(|(name, built)| (*name, read(name).map_or(Bytes::from_static(built), Bytes::from))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(folder: &std::path::Path, names: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("ui/ can be listed").flatten() {
            if entry.path().is_dir() {
                collect(&entry.path(), names);
            } else {
                let root = concat!(env!("CARGO_MANIFEST_DIR"), "/ui/");
                names.push(entry.path().display().to_string().replace(root, ""));
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let mut names = Vec::new();
        collect(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ui")), &mut names);
        names.sort();
        assert_eq!(FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    }
}
