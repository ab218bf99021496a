//! Values that could not be read, and are not checked any further.

use super::problem::Problem;

/// Paths at which something else stands than the operator meant.
#[derive(Default, Debug)]
pub struct Unreliable(pub(super) Vec<String>);

impl Unreliable {
    /// Whether the value at a path, around it or inside it is unreliable.
    pub fn touch(&self, path: &str) -> bool {
        self.0.iter().any(|doubt| is_within(doubt, path) || is_within(path, doubt))
    }

    /// Whether a problem of a component may only follow from what is unreliable. Keys are checked against one another,
    /// so with one unreliable only what lies inside the value of another is sure.
    pub fn cloud(&self, problem: &Problem) -> bool {
        let key = outermost(&problem.path);
        let is_inside = key.len() < problem.path.len() || problem.within.is_some();
        !self.0.is_empty() && (!is_inside || self.0.iter().any(|doubt| doubt.is_empty() || outermost(doubt) == key))
    }
}

fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| outer.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

fn outermost(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::super::source::Span;
    use super::*;

    #[test]
    fn what_is_in_doubt_touches_what_is_around_and_inside() {
        let doubts = Unreliable(vec!["limits.memory".into(), "rules[2].pattern".into()]);
        for path in ["", "limits", "limits.memory", "rules", "rules[2]", "rules[2].pattern"] {
            assert!(doubts.touch(path), "{path}");
        }
        for path in ["limits.event", "limits.memory_too", "rules[1]", "rules[2].name"] {
            assert!(!doubts.touch(path), "{path}");
        }
        assert!(!Unreliable::default().touch(""));
    }

    #[test]
    fn a_doubt_leaves_only_what_is_said_about_the_inside_of_other_keys() {
        let doubts = Unreliable(vec!["auth.type".into()]);
        let problem = |path: &str| Problem::error(path, Span::NOWHERE, "wrong");
        for path in ["", "address", "auth", "auth.users"] {
            assert!(doubts.cloud(&problem(path)), "{path}");
            assert!(!Unreliable::default().cloud(&problem(path)), "{path}");
        }
        assert!(!doubts.cloud(&problem("rules[1].pattern")));
        assert!(!doubts.cloud(&problem("where").within(0..1)));
        assert!(Unreliable(vec![String::new()]).cloud(&problem("rules[1].pattern")));
    }
}
