//! A serde deserializer over the tree: every error carries the position and path of its value.

use serde::de::{Deserializer, Visitor};

use super::access::{Items, Keys, Place, Variant};
use super::core_schema::{self, Plain};
use super::fault::{Culprit, Fault, address, unknown};
use super::node::{Entry, Kind, Node};
use super::private::{is_private_name, is_reference};
use super::problem::Problems;
use super::read::{Recovery, join};
use super::{SECRET, known, nearest, spanned};

/// The key that says which variant of an enum, or which component, a mapping is.
const TYPE: &str = "type";

/// One step of the way from the outermost value to the one being read.
pub(super) struct Link<'a> {
    pub outer: Option<&'a Link<'a>>,
    pub step: Step<'a>,
}

pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// A node, about to be read as whatever type is asked for.
#[derive(Clone, Copy)]
pub(super) struct NodeReader<'a> {
    pub node: &'a Node,
    pub aside: &'a [&'static str],
    pub link: Option<&'a Link<'a>>,
    pub recovery: &'a Recovery,
}

pub(super) type Read<T> = Result<T, Fault>;

impl<'a> NodeReader<'a> {
    pub fn new(node: &'a Node, recovery: &'a Recovery) -> NodeReader<'a> {
        NodeReader { node, aside: node.aside, link: None, recovery }
    }

    pub fn path(&self) -> String {
        let mut path = String::new();
        let mut link = self.link;
        while let Some(Link { outer, step }) = link {
            path = match step {
                Step::Key(key) => join(key, &path),
                Step::Index(index) => join(&format!("[{index}]"), &path),
            };
            link = *outer;
        }
        path
    }

    /// Whether the key of this value, or of the list it stands in, sounds like a secret.
    pub fn is_private(&self) -> bool {
        let mut link = self.link;
        while let Some(Link { outer, step: Step::Index(_) }) = link {
            link = *outer;
        }
        matches!(link, Some(Link { step: Step::Key(key), .. }) if is_private_name(key))
    }

    /// Keeps the text out of every report, unless it only names where the secret comes from.
    pub fn hide(&self) {
        let written = self.node.scalar().map(|scalar| scalar.written.as_deref().unwrap_or(&scalar.text));
        if !written.is_some_and(is_reference) {
            self.recovery.private.borrow_mut().push(self.node.span);
        }
    }

    fn expected(&self, what: &str) -> Fault {
        Fault::new(format!("expected {what}, got {}", self.node.describe())).at(self)
    }

    /// The text, if this is a scalar that may be something other than text.
    fn unquoted(&self) -> Option<&'a str> {
        let scalar = self.node.scalar()?;
        (!scalar.quoted || scalar.written.is_some()).then_some(scalar.text.as_str())
    }

    fn string(&self) -> Read<&'a str> {
        match self.node.scalar() {
            Some(scalar) if scalar.quoted || scalar.written.is_some() || !self.node.is_null() => Ok(&scalar.text),
            _ => Err(self.expected("a string")),
        }
    }

    fn boolean(&self) -> Read<bool> {
        let fault = || self.expected("true or false");
        let Some(text) = self.unquoted() else {
            let quoted = self.node.text().filter(|text| ["true", "false"].contains(text));
            return Err(fault().hint(quoted.map(|_| "remove the quotes".to_string())));
        };
        match (core_schema::plain(text), core_schema::old_bool(text)) {
            (Plain::Bool(value), _) => Ok(value),
            (_, Some(value)) => {
                Err(fault().hint(Some(format!("YAML 1.2 has no yes, no, on and off; write `{value}`"))))
            }
            _ => Err(fault()),
        }
    }

    fn integer(&self, least: i128, most: i128) -> Read<i128> {
        let what = if least < 0 { "a whole number" } else { "a number" };
        let Some(text) = self.unquoted() else { return Err(self.number_expected(what)) };
        let Some(number) = core_schema::integer(text) else {
            let what = if core_schema::float(text).is_some() { "a whole number" } else { what };
            return Err(self.number_expected(what));
        };
        if (least..=most).contains(&number) {
            return Ok(number);
        }
        let what = match (least, most) {
            (0, most) if most >= i128::from(i64::MAX) => "a number that is not negative".to_string(),
            _ => format!("a number from {least} to {most}"),
        };
        Err(self.expected(&what))
    }

    fn float(&self) -> Read<f64> {
        let number = self.unquoted().and_then(|text| match core_schema::plain(text) {
            Plain::Int(number) => Some(number as f64),
            Plain::Float(number) => Some(number),
            _ => None,
        });
        number.ok_or_else(|| self.number_expected("a number"))
    }

    fn number_expected(&self, what: &str) -> Fault {
        let is_quoted_number =
            self.node.text().is_some_and(|text| core_schema::float(text).is_some()) && self.unquoted().is_none();
        self.expected(what).hint(is_quoted_number.then(|| "remove the quotes".to_string()))
    }

    fn entries(&self) -> Read<&'a [Entry]> {
        self.node.entries().ok_or_else(|| self.expected("a mapping"))
    }

    /// A mapping, read by a visitor that knows its keys by heart or takes any.
    pub fn mapping<'de, V: Visitor<'de>>(&self, visitor: V) -> Read<V::Value> {
        let supplied = self.recovery.supplied.borrow().get(&address(self.node)).cloned().unwrap_or_default();
        let number = |field: &'static str| (field, address(self.node) ^ field.as_ptr().addr());
        let supplied = supplied.into_iter().map(number).collect();
        let entries = self.entries()?;
        let keys = Keys { reader: *self, rest: entries.iter(), current: None, supplied, supplied_key: None };
        visitor.visit_map(keys).map_err(|mut fault| {
            if let Culprit::Missing { mapping, field, omitted } = &mut fault.culprit
                && *mapping == 0
            {
                *mapping = address(self.node);
                *omitted = entries.iter().find(|entry| entry.name() == *field).map(|entry| address(&entry.value));
            }
            fault.at(self)
        })
    }

    /// Notes every key that a struct does not know, and goes on without it.
    pub fn note_unknown_keys(&self, fields: &'static [&'static str]) -> Read<()> {
        for entry in self.entries()? {
            let name = entry.name();
            let is_known = fields.contains(&name) || self.aside.contains(&name);
            if is_known || !self.recovery.omitted.borrow_mut().insert(address(&entry.value)) {
                continue;
            }
            let names: Vec<&str> = fields.iter().chain(self.aside).copied().collect();
            let fault = unknown("key", name, &names);
            let meant =
                nearest(name, names.iter().copied()).and_then(|meant| fields.iter().find(|field| **field == meant));
            if let Some(meant) = meant {
                self.recovery.meant.borrow_mut().insert((address(self.node), meant));
                self.recovery.distrust(join(&self.path(), meant));
            }
            if is_private_name(name) || meant.is_some_and(|meant| is_private_name(meant)) {
                NodeReader { node: &entry.value, ..*self }.hide();
            }
            let fault = Fault { span: entry.key.span, path: Some(self.path()), ..fault };
            self.recovery.noted.borrow_mut().push(fault.into_problem());
        }
        Ok(())
    }

    pub fn sequence<'de, V: Visitor<'de>>(&self, visitor: V) -> Read<V::Value> {
        let Kind::Sequence(items) = &self.node.kind else {
            let hint = self.node.scalar().filter(|_| !self.node.is_null() && !self.is_private());
            let hint = hint.map(|scalar| format!("write `[{}]`", scalar.written.as_ref().unwrap_or(&scalar.text)));
            return Err(self.expected("a list").hint(hint.filter(|hint| hint.len() < 60)));
        };
        visitor.visit_seq(Items { reader: *self, items, next: 0 }).map_err(|fault| fault.at(self))
    }

    fn variant<'s>(&'s self, variants: &'static [&'static str]) -> Read<Variant<'s>> {
        let choose = |what: &str, tag: &Node, content: NodeReader<'s>| {
            let text = tag.text().unwrap_or("");
            match variants.iter().find(|variant| **variant == text) {
                Some(name) => Ok(Variant { name, content }),
                None => {
                    let word = tag.scalar().and_then(|scalar| scalar.written.as_deref()).unwrap_or(text);
                    Err(Fault { span: tag.span, ..unknown(what, word, variants) }.at(self))
                }
            }
        };
        match &self.node.kind {
            Kind::Scalar(_) if !self.node.is_null() => choose("value", self.node, NodeReader { aside: &[], ..*self }),
            Kind::Mapping(entries) => match entries.iter().find(|entry| entry.name() == TYPE) {
                Some(entry) if entry.value.text().is_none() => {
                    Err(NodeReader { node: &entry.value, ..*self }.expected("a type"))
                }
                Some(entry) => choose("type", &entry.value, NodeReader { aside: &[TYPE], ..*self }),
                None => match entries.as_slice() {
                    [only] if variants.contains(&only.name()) => {
                        choose("key", &only.key, NodeReader { node: &only.value, aside: &[], ..*self })
                    }
                    _ => {
                        let hint = known("types", variants.iter().copied());
                        Err(Fault::new(format!("missing key `{TYPE}`")).hint(hint).at(self))
                    }
                },
            },
            _ => Err(self.expected(&format!("one of {}", variants.join(", ")))),
        }
    }
}

/// Further names of keys whose values are private in some component.
const PRIVATE_SOMEWHERE: [&str; 3] = ["key", "headers", "proxy"];

/// Keeps out of every report what sounds private in values that nobody reads, so that nobody says what they are.
pub fn hide_unread(node: &Node, problems: &mut Problems) {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.text.contains("://") && scalar.text.contains('@') => problems.hide(node.span),
        Kind::Scalar(_) => {}
        Kind::Sequence(items) => items.iter().for_each(|item| hide_unread(item, problems)),
        Kind::Mapping(entries) => {
            for entry in entries {
                let name = entry.name();
                if is_private_name(name) || PRIVATE_SOMEWHERE.contains(&name) {
                    problems.hide(entry.value.span);
                } else {
                    hide_unread(&entry.value, problems);
                }
            }
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $kind:ty as $wide:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
            let number = self.integer(<$kind>::MIN.into(), <$kind>::MAX.into())?;
            visitor.$visit(number as $wide).map_err(|fault: Fault| fault.at(&self))
        }
    )*};
}

impl<'de> Deserializer<'de> for NodeReader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let scalar = match &self.node.kind {
            Kind::Mapping(_) => return self.mapping(visitor),
            Kind::Sequence(_) => return self.sequence(visitor),
            Kind::Scalar(scalar) => scalar,
        };
        let meaning = if scalar.quoted { Plain::Text } else { core_schema::plain(&scalar.text) };
        let read = match meaning {
            Plain::Null => visitor.visit_unit(),
            Plain::Bool(value) => visitor.visit_bool(value),
            Plain::Int(number) => match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => visitor.visit_f64(number as f64),
            },
            Plain::Float(number) => visitor.visit_f64(number),
            Plain::Text => visitor.visit_str(&scalar.text),
        };
        read.map_err(|fault: Fault| fault.at(&self))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_bool(self.boolean()?).map_err(|fault: Fault| fault.at(&self))
    }

    integers! {
        deserialize_i8 visit_i64 i8 as i64;
        deserialize_i16 visit_i64 i16 as i64;
        deserialize_i32 visit_i64 i32 as i64;
        deserialize_i64 visit_i64 i64 as i64;
        deserialize_u8 visit_u64 u8 as u64;
        deserialize_u16 visit_u64 u16 as u64;
        deserialize_u32 visit_u64 u32 as u64;
        deserialize_u64 visit_u64 u64 as u64;
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_f64(self.float()?).map_err(|fault: Fault| fault.at(&self))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_str(self.string()?).map_err(|fault: Fault| fault.at(&self))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_bytes(self.string()?.as_bytes()).map_err(|fault: Fault| fault.at(&self))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        if self.node.is_null() { visitor.visit_unit() } else { Err(self.expected("nothing")) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Read<V::Value> {
        self.note_unknown_keys(&[])?;
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Read<V::Value> {
        match name {
            spanned::NAME => visitor.visit_seq(Place { reader: self, part: 0 }),
            SECRET => {
                self.hide();
                visitor.visit_newtype_struct(self).map_err(|mut fault: Fault| {
                    fault.hide(self.node);
                    fault
                })
            }
            _ => visitor.visit_newtype_struct(self),
        }
        .map_err(|fault| fault.at(&self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.sequence(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Read<V::Value> {
        self.sequence(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, _: usize, visitor: V) -> Read<V::Value> {
        self.sequence(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.mapping(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        // A text in the place of a mapping with a password in it is most likely that password.
        let is_slip = self.node.scalar().is_some() && fields.iter().any(|field| is_private_name(field));
        if is_slip {
            self.hide();
        }
        self.note_unknown_keys(fields).and_then(|()| self.mapping(visitor)).map_err(|mut fault| {
            if is_slip {
                let known = known("keys", fields.iter().copied());
                fault = fault.hint(known);
                fault.hide(self.node);
            }
            fault
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        let variant = self.variant(variants)?;
        visitor.visit_enum(variant).map_err(|fault| fault.at(&self))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_unit()
    }
}
