//! Values that could not be read, and are not checked any further.

use super::problem::Problem;

/// Paths at which something else stands than the operator meant.
#[derive(Default, Debug)]
pub struct Unreliable(pub(super) Vec<String>);

impl Unreliable {
    /// Whether the value at a path, around it or inside it is unreliable.
    pub fn touch(&self, path: &str) -> bool {
        self.0.iter().any(|value| is_within(value, path) || is_within(path, value))
    }

    /// Whether a problem of a component may only follow from what is unreliable. Keys are checked against one another,
    /// so with one unreliable only what lies inside the value of another is sure.
    pub fn may_cause(&self, problem: &Problem) -> bool {
        let key = outermost(&problem.path);
        let is_inside = key.len() < problem.path.len() || problem.within.is_some();
        !self.0.is_empty() && (!is_inside || self.0.iter().any(|value| value.is_empty() || outermost(value) == key))
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
    fn what_is_unreliable_touches_what_is_around_and_inside() {
        let unreliable = Unreliable(vec!["limits.memory".into(), "rules[2].pattern".into()]);
        for path in ["", "limits", "limits.memory", "rules", "rules[2]", "rules[2].pattern"] {
            assert!(unreliable.touch(path), "{path}");
        }
        for path in ["limits.event", "limits.memory_too", "rules[1]", "rules[2].name"] {
            assert!(!unreliable.touch(path), "{path}");
        }
        assert!(!Unreliable::default().touch(""));
    }

    #[test]
    fn an_unreliable_value_leaves_only_problems_inside_other_keys() {
        let unreliable = Unreliable(vec!["auth.type".into()]);
        let problem = |path: &str| Problem::error(path, Span::NOWHERE, "wrong");
        for path in ["", "address", "auth", "auth.users"] {
            assert!(unreliable.may_cause(&problem(path)), "{path}");
            assert!(!Unreliable::default().may_cause(&problem(path)), "{path}");
        }
        assert!(!unreliable.may_cause(&problem("rules[1].pattern")));
        assert!(!unreliable.may_cause(&problem("where").within(0..1)));
        assert!(Unreliable(vec![String::new()]).may_cause(&problem("rules[1].pattern")));
    }
}
