//! Rewrites an object as text: existing members are copied, others added or replaced.

use std::collections::HashSet;
use std::ops::Range;

use super::escape;
use super::raw::{Kind, Raw, name_is};
use super::scan::MAX_DEPTH;

/// Up to so many members, names are compared one by one; above it they are hashed.
const LINEAR_MEMBERS: usize = 32;

/// Puts one object together at a time; its memory is reused from object to object.
#[derive(Default)]
pub struct Rewrite {
    out: Vec<u8>,
    members: Vec<Place>,
    /// The decoded names, once there are more than [`LINEAR_MEMBERS`].
    names: HashSet<Vec<u8>>,
}

/// Where a member stands in `out`: its name between the quotes, and its value.
struct Place {
    name: Range<usize>,
    value: Range<usize>,
}

impl Rewrite {
    /// Starts from the value that stands where the object is wanted: an object is copied, nothing and null are an
    /// empty object, and any other value becomes the member `own_name` of a new one.
    pub fn begin(&mut self, base: Option<Raw>, own_name: &str) {
        self.out.clear();
        self.members.clear();
        self.names.clear();
        let Some(base) = base.filter(|value| !value.is_null()) else { return self.out.push(b'{') };
        if base.kind() != Kind::Object {
            self.out.push(b'{');
            self.push(own_name, base);
            return;
        }
        let start = base.0.as_ptr() as usize;
        for (name, value) in base.members() {
            let (name_at, value_at) = (name.as_ptr() as usize - start, value.0.as_ptr() as usize - start);
            self.members.push(Place { name: name_at..name_at + name.len(), value: value_at..value_at + value.0.len() });
        }
        let end = self.members.last().map_or(1, |last| last.value.end);
        self.out.extend_from_slice(&base.0[..end]);
    }

    /// Whether the object has a member of this name.
    pub fn has(&mut self, name: &str) -> bool {
        if self.members.len() <= LINEAR_MEMBERS {
            return self.members.iter().any(|place| name_is(&self.out[place.name.clone()], name));
        }
        if self.names.is_empty() {
            self.names = self.members.iter().map(|place| decoded(&self.out[place.name.clone()])).collect();
        }
        self.names.contains(name.as_bytes())
    }

    /// Adds a member unless there is one of this name; tells whether it was added.
    pub fn add(&mut self, name: &str, value: Raw) -> bool {
        let free = !self.has(name);
        if free {
            self.push(name, value);
        }
        free
    }

    /// Gives a member this value, in its place if it is there (each of them, if a producer wrote it twice).
    pub fn set(&mut self, name: &str, value: Raw) {
        if !self.has(name) {
            return self.push(name, value);
        }
        for nth in 0..self.members.len() {
            if name_is(&self.out[self.members[nth].name.clone()], name) {
                self.replace(nth, value);
            }
        }
    }

    fn push(&mut self, name: &str, value: Raw) {
        if !self.members.is_empty() {
            self.out.push(b',');
        }
        let start = self.out.len() + 1;
        escape::push_string(&mut self.out, name);
        let end = self.out.len() - 1;
        self.out.push(b':');
        let from = self.out.len();
        self.out.extend_from_slice(value.0);
        self.members.push(Place { name: start..end, value: from..self.out.len() });
        if !self.names.is_empty() {
            self.names.insert(name.as_bytes().to_vec());
        }
    }

    fn replace(&mut self, nth: usize, value: Raw) {
        let old = self.members[nth].value.clone();
        self.out.splice(old.clone(), value.0.iter().copied());
        self.members[nth].value.end = old.start + value.0.len();
        for place in &mut self.members[nth + 1..] {
            for end in [&mut place.name.start, &mut place.name.end, &mut place.value.start, &mut place.value.end] {
                *end = *end + value.0.len() - old.len();
            }
        }
    }

    /// The object.
    pub fn finish(&mut self) -> &[u8] {
        self.out.push(b'}');
        &self.out
    }
}

fn decoded(name: &[u8]) -> Vec<u8> {
    escape::unescape(name).into_owned().into_bytes()
}

/// The object `base` (made as [`Rewrite::begin`] says) with the value at the end of a path of names set.
pub fn with_path(base: Option<Raw>, own_name: &str, path: &[String], value: Raw) -> Vec<u8> {
    let mut object = Rewrite::default();
    let Some((name, rest)) = path.split_first() else { return value.0.to_vec() };
    object.begin(base, own_name);
    if rest.is_empty() {
        object.set(name, value);
    } else {
        let below = base.and_then(|base| base.get(name));
        object.set(name, Raw(&with_path(below, name, rest, value)));
    }
    object.finish().to_vec()
}

/// Whether the value may stand one object deeper than now without leaving [`MAX_DEPTH`], if it stands in an object
/// at the top of an event.
pub fn may_sink(value: Raw) -> bool {
    // One byte opens a level and one closes it.
    value.0.len() < 2 * (MAX_DEPTH - 2) || depth(value) <= MAX_DEPTH - 2
}

/// Appends a value, or its JSON text as a string where it may not stand one object deeper.
pub fn push_sunk(out: &mut Vec<u8>, value: Raw) {
    if may_sink(value) { out.extend_from_slice(value.0) } else { escape::push_string(out, value.text()) }
}

/// How many containers the deepest part of a value stands in, itself included if it is one.
fn depth(value: Raw) -> usize {
    let (mut open, mut deepest, mut at) = (0usize, 0, 0);
    while let Some(byte) = value.0.get(at) {
        match byte {
            b'"' => at += super::raw::value_end(&value.0[at..]) - 1,
            b'{' | b'[' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' => open -= 1,
            _ => {}
        }
        at += 1;
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(base: Option<&str>, change: impl FnOnce(&mut Rewrite)) -> String {
        let mut object = Rewrite::default();
        object.begin(base.map(|text| Raw(text.as_bytes())), "own");
        change(&mut object);
        String::from_utf8(object.finish().to_vec()).expect("text")
    }

    #[test]
    fn what_is_there_is_copied_with_its_spaces_and_wins() {
        let text = rewritten(Some(r#"{ "a" : 1.50 ,"b":{} }"#), |object| {
            assert!(!object.add("a", Raw(b"2")));
            assert!(object.add("c", Raw(b"3")));
        });
        assert_eq!(text, r#"{ "a" : 1.50 ,"b":{},"c":3}"#);
    }

    #[test]
    fn names_are_the_same_however_they_are_escaped() {
        let text = rewritten(Some(r#"{"\u0061":1}"#), |object| assert!(!object.add("a", Raw(b"2"))));
        assert_eq!(text, r#"{"\u0061":1}"#);
    }

    #[test]
    fn a_value_that_is_no_object_becomes_a_member_under_its_own_name() {
        assert_eq!(rewritten(Some("[1]"), |object| object.set("b", Raw(b"2"))), r#"{"own":[1],"b":2}"#);
        assert_eq!(rewritten(Some("null"), |_| {}), "{}");
        assert_eq!(rewritten(None, |object| object.set("b", Raw(b"2"))), r#"{"b":2}"#);
        assert_eq!(rewritten(Some("{ }"), |object| object.set("b", Raw(b"2"))), r#"{"b":2}"#);
    }

    #[test]
    fn setting_replaces_every_member_of_the_name_in_its_place() {
        let text = rewritten(Some(r#"{"a":1,"b":"x","a":22,"c":0}"#), |object| {
            object.set("a", Raw(b"[333]"));
            object.set("c", Raw(b"9"));
        });
        assert_eq!(text, r#"{"a":[333],"b":"x","a":[333],"c":9}"#);
    }

    #[test]
    fn many_members_are_found_as_few_are() {
        let base: Vec<String> = (0..100).map(|n| format!(r#""k{n}":{n}"#)).collect();
        let text = rewritten(Some(&format!("{{{}}}", base.join(","))), |object| {
            assert!(!object.add("k77", Raw(b"0")));
            assert!(object.add("new", Raw(b"1")));
            assert!(!object.add("new", Raw(b"2")));
            object.set("k99", Raw(b"100"));
        });
        assert!(text.ends_with(r#""k98":98,"k99":100,"new":1}"#), "{text}");
    }

    #[test]
    fn a_path_makes_the_objects_it_needs() {
        let path = ["b".to_string(), "c".to_string()];
        let set = |base: Option<&str>| {
            let base = base.map(|text| Raw(text.as_bytes()));
            String::from_utf8(with_path(base, "m", &path, Raw(b"1"))).expect("text")
        };
        assert_eq!(set(None), r#"{"b":{"c":1}}"#);
        assert_eq!(set(Some(r#"{"a":0,"b":{"c":0,"d":2}}"#)), r#"{"a":0,"b":{"c":1,"d":2}}"#);
        assert_eq!(set(Some(r#"{"b":5}"#)), r#"{"b":{"b":5,"c":1}}"#);
    }

    #[test]
    fn a_value_sinks_only_as_far_as_events_may_be_deep() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(may_sink(Raw(nested(MAX_DEPTH - 2).as_bytes())));
        assert!(!may_sink(Raw(nested(MAX_DEPTH - 1).as_bytes())));
        assert!(may_sink(Raw(format!("{:?}", "[".repeat(200)).as_bytes())));
    }
}
