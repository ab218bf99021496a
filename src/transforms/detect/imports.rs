//! The modules that Python code imports.

use std::collections::BTreeSet;

/// The most modules of one event.
const MAX_IMPORTS: usize = 100;

/// The top-level names of what is imported, each once.
pub fn of(code: &str) -> Vec<String> {
    let mut modules = BTreeSet::new();
    for line in code.lines().flat_map(|line| line.split(';')) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("from") => {
                if let (Some(module), Some("import")) = (words.next(), words.next()) {
                    enter(&mut modules, module);
                }
            }
            Some("import") => {
                let rest = line.trim_start().trim_start_matches("import");
                rest.split(',').filter_map(|part| part.split_whitespace().next()).for_each(|m| enter(&mut modules, m));
            }
            _ => {}
        }
        if modules.len() >= MAX_IMPORTS {
            break;
        }
    }
    modules.into_iter().collect()
}

fn enter(modules: &mut BTreeSet<String>, module: &str) {
    let top = module.split('.').next().unwrap_or("");
    // A relative import names nothing, and prose after the word `import` is no name.
    if !top.is_empty()
        && top.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !top.starts_with(|c: char| c.is_ascii_digit())
    {
        modules.insert(top.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_in_all_their_forms() {
        let code = "import os, sys as s\nfrom a.b import c\n  import numpy.linalg; import x\nfrom . import y\n# import z\nimport 3d";
        assert_eq!(of(code), ["a", "numpy", "os", "sys", "x"]);
    }
}
