//! Reads a typed value from a node and collects every problem in it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use serde::de::DeserializeOwned;

use super::de::NodeReader;
use super::fault::{Culprit, Fault};
use super::node::Node;
use super::placeholder::Placeholder;
use super::problem::{Problem, Problems};
use super::source::{Sources, Span};
use super::unreliable::Unreliable;

/// At most this many problems of one component are looked for.
const MAX_ATTEMPTS: usize = 100;

/// Reads a value, or reports everything that is wrong with it; paths are relative to the node.
pub fn read<T: DeserializeOwned>(node: &Node, problems: &mut Problems) -> Option<T> {
    let before = problems.len();
    read_anyway(node, problems).map(|(value, _)| value).filter(|_| problems.len() == before)
}

/// The same, but a value with problems is given back too, with something in place of what was wrong: to look for more
/// in it that is certain.
pub fn read_anyway<T: DeserializeOwned>(node: &Node, problems: &mut Problems) -> Option<(T, Unreliable)> {
    let recovery = Recovery::default();
    let mut outcome = None;
    // A reader that meets a bad value gives up, so the value is hidden from it and it tries again.
    for _ in 0..MAX_ATTEMPTS {
        let fault = match T::deserialize(NodeReader::new(node, &recovery)) {
            Ok(value) => {
                outcome = Some(value);
                break;
            }
            Err(fault) => fault,
        };
        if !recovery.recover(fault, problems) {
            break;
        }
    }
    for problem in recovery.noted.into_inner() {
        problems.push(problem);
    }
    for span in recovery.private.into_inner() {
        problems.hide(span);
    }
    let unreliable = Unreliable(recovery.unreliable.into_inner());
    outcome.map(|value| (value, unreliable))
}

/// Gives the problems found since there were `before` their full path, and a place to those that only name a path:
/// the value at it, or `at` (the key above) where something is missing from the node as a whole.
pub fn place(problems: &mut Problems, before: usize, node: &Node, path: &str, at: Span) {
    for problem in problems.iter_mut().skip(before) {
        if problem.span.is_nowhere() {
            let (value, key) = node.find(&problem.path, at);
            if let Some(scalar) = value.scalar() {
                problem.message = scalar.conceal(&problem.message);
                problem.hint = problem.hint.take().map(|hint| scalar.conceal(&hint));
            }
            problem.span = match problem.within.take() {
                Some(range) => value.within(range),
                None if value.scalar().is_some_and(|scalar| !scalar.text.is_empty()) => value.span,
                None => key,
            };
        }
        problem.path = join(path, &problem.path);
    }
    problems.sort_from(before);
}

/// Reads a value from YAML text alone, its problems rendered as the operator would see them.
pub fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut sources = Sources::default();
    let file = sources.add("yaml", text);
    let mut problems = Problems::default();
    let value = super::yaml::parse(file, text, &mut problems).and_then(|node| {
        let value = read(&node, &mut problems);
        place(&mut problems, 0, &node, "", node.span);
        value
    });
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(super::render(&problems, &sources, false)),
    }
}

/// What was found wrong so far, and so is kept from the next attempt. Nodes are known by their address.
#[derive(Default)]
pub(super) struct Recovery {
    /// Values that are left out, as if their key were not there.
    pub omitted: RefCell<HashSet<usize>>,
    /// Values that cannot be left out: something of the right type stands in for them.
    /// With how many things were tried before.
    pub invented: RefCell<HashMap<usize, usize>>,
    /// Keys that are missing from a mapping, which get something invented too.
    pub supplied: RefCell<HashMap<usize, Vec<&'static str>>>,
    /// Keys that a misspelt key was probably meant to be, by the address of their mapping.
    pub meant: RefCell<HashSet<(usize, &'static str)>>,
    /// Paths at which something else stands than was written, or would have been.
    pub unreliable: RefCell<Vec<String>>,
    /// Problems that did not stop the reader.
    pub noted: RefCell<Vec<Problem>>,
    /// Text that is a secret.
    pub private: RefCell<Vec<Span>>,
}

impl Recovery {
    /// Reports a fault and prepares the next attempt; false when there is no point in one.
    fn recover(&self, fault: Fault, problems: &mut Problems) -> bool {
        match fault.culprit {
            Culprit::Invented(what) => {
                let mut invented = self.invented.borrow_mut();
                let attempt = invented.entry(what).or_default();
                *attempt += 1;
                return Placeholder::attempt(*attempt).is_some();
            }
            Culprit::Missing { omitted: Some(value), .. } => {
                // Already reported as a bad value; it has no default either.
                self.omitted.borrow_mut().remove(&value);
                return self.invented.borrow_mut().insert(value, 0).is_none();
            }
            Culprit::Missing { mapping, field, omitted: None } => {
                self.supplied.borrow_mut().entry(mapping).or_default().push(field);
                self.distrust(join(fault.path.as_deref().unwrap_or_default(), field));
                if self.meant.borrow().contains(&(mapping, field)) {
                    return true;
                }
            }
            Culprit::Node(node) => {
                if self.invented.borrow().contains_key(&node) || !self.omitted.borrow_mut().insert(node) {
                    return false;
                }
                self.distrust(fault.path.clone().unwrap_or_default());
            }
            Culprit::Unknown => {}
        }
        let again = !matches!(fault.culprit, Culprit::Unknown);
        problems.push(fault.into_problem());
        again
    }

    /// An item that is left out moves those behind it, so that its whole list is unreliable.
    pub fn distrust(&self, path: String) {
        let list = path.strip_suffix(']').and_then(|path| path.rfind('['));
        self.unreliable.borrow_mut().push(list.map_or(path.as_str(), |at| &path[..at]).to_string());
    }
}

pub(super) fn join(outer: &str, inner: &str) -> String {
    match (outer, inner) {
        ("", path) | (path, "") => path.to_string(),
        (outer, inner) if inner.starts_with('[') => format!("{outer}{inner}"),
        (outer, inner) => format!("{outer}.{inner}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::super::Spanned;
    use super::*;
    use crate::secret::Secret;

    #[derive(Deserialize, Debug, Default, PartialEq)]
    #[serde(default)]
    struct Batch {
        events: u32,
        bytes: u64,
        last: bool,
    }

    #[derive(Deserialize, Debug, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Auth {
        None,
        Bearer { tokens: Vec<String> },
        Basic(Users),
    }

    #[derive(Deserialize, Debug, PartialEq)]
    struct Users {
        users: BTreeMap<String, Secret<String>>,
    }

    #[derive(Deserialize, Debug, PartialEq)]
    struct Config {
        url: String,
        address: std::net::SocketAddr,
        #[serde(default)]
        batch: Batch,
        auth: Option<Auth>,
        #[serde(default)]
        ports: Vec<u16>,
        password: Option<Secret<String>>,
        #[serde(rename = "where")]
        filter: Option<Spanned<String>>,
    }

    #[track_caller]
    fn fails(yaml: &str, expected: &str) {
        let found = from_yaml::<Config>(yaml).expect_err("the value is wrong");
        assert_eq!(found.trim(), expected.trim(), "\n{found}");
    }

    #[test]
    fn everything_that_fits_is_read() {
        let yaml = "url: 123\naddress: 127.0.0.1:80\nbatch:\nauth: {type: bearer, tokens: [a, '5']}\nports: [0x50]\n";
        let config: Config = from_yaml(yaml).expect("it fits");
        assert_eq!(config.url, "123");
        assert_eq!(config.batch, Batch::default());
        assert_eq!(config.auth, Some(Auth::Bearer { tokens: vec!["a".into(), "5".into()] }));
        assert_eq!(config.ports, [80]);
    }

    #[test]
    fn a_variant_is_a_word_a_type_or_a_key() {
        for yaml in ["basic: {users: {a: b}}", "{type: basic, users: {a: b}}"] {
            let auth: Auth = from_yaml(yaml).expect(yaml);
            assert!(matches!(auth, Auth::Basic(users) if users.users["a"].expose() == "b"));
        }
        for yaml in ["none", "type: none", "{none: }"] {
            assert_eq!(from_yaml::<Auth>(yaml).expect(yaml), Auth::None);
        }
    }

    #[test]
    fn all_problems_come_in_one_run() {
        fails(
            "adress: x\nurl: [a]\nbatch:\n  events: lots\n  byts: 3\n  last: yes\nports: [1, 70000, '3', x]\nauth: {type: baerer}\n",
            "
error: unknown key `adress`; did you mean `address`?
 --> yaml:1:1
1 | adress: x
  | ^^^^^^
  = hint: known keys: address, auth, batch, password, ports, url, where

error: url: expected a string, got a list
 --> yaml:2:6
2 | url: [a]
  |      ^^^

error: batch.events: expected a number, got string `lots`
 --> yaml:4:11
4 |   events: lots
  |           ^^^^

error: batch: unknown key `byts`; did you mean `bytes`?
 --> yaml:5:3
5 |   byts: 3
  |   ^^^^
  = hint: known keys: bytes, events, last

error: batch.last: expected true or false, got string `yes`
 --> yaml:6:9
6 |   last: yes
  |         ^^^
  = hint: YAML 1.2 has no yes, no, on and off; write `true`

error: ports[1]: expected a number from 0 to 65535, got number `70000`
 --> yaml:7:12
7 | ports: [1, 70000, '3', x]
  |            ^^^^^

error: ports[2]: expected a number, got string `3`
 --> yaml:7:19
7 | ports: [1, 70000, '3', x]
  |                   ^^^
  = hint: remove the quotes

error: ports[3]: expected a number, got string `x`
 --> yaml:7:24
7 | ports: [1, 70000, '3', x]
  |                        ^

error: auth: unknown type `baerer`; did you mean `bearer`?
 --> yaml:8:14
8 | auth: {type: baerer}
  |              ^^^^^^
  = hint: known types: basic, bearer, none
",
        );
    }

    #[test]
    fn what_is_missing_is_shown_at_the_key_above_it() {
        fails(
            "url: a\naddress: 127.0.0.1:1\nauth:\n  basic:\n",
            "
error: auth: missing key `users`
 --> yaml:3:1
3 | auth:
  | ^^^^
",
        );
    }

    #[test]
    fn a_private_value_is_never_shown() {
        let found = from_yaml::<Config>("{url: a, address: 127.0.0.1:1, password: {a: hunter2}, pasword: hunter3}");
        let found = found.expect_err("two keys are wrong");
        assert!(!found.contains("hunter"), "{found}");
        assert!(found.contains("password: ***, pasword: ***}"), "{found}");
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "it is read and thrown away")]
        struct User {
            password: Option<String>,
        }
        let found = from_yaml::<BTreeMap<String, User>>("{ada: hunter2}").expect_err("no mapping");
        assert!(!found.contains("hunter") && found.contains("known keys: password"), "{found}");
    }

    #[test]
    fn a_place_inside_a_text_is_a_place_in_the_file() {
        let mut sources = Sources::default();
        let text = "plain: abc def\nsingle: 'abc def'\nescaped: \"abc\\tdef\"\nblock: |\n  abc\n\n  x def\n";
        let file = sources.add("a.yaml", text);
        let mut problems = Problems::default();
        let node = super::super::yaml::parse(file, text, &mut problems).expect("it is YAML");
        let values: BTreeMap<String, Spanned<String>> = read(&node, &mut problems).expect("a mapping of texts");
        let under = |key: &str| {
            let value = &values[key];
            let at = value.find("def").expect("it is there");
            sources.text(value.within(at..at + 3))
        };
        assert_eq!(["plain", "single", "block"].map(under), ["def"; 3]);
        assert_eq!(under("escaped"), "\"abc\\tdef\"");
    }
}
