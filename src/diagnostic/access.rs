//! Mappings, lists, positions and variants as serde deserializes them.

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::de::{Link, NodeReader, Read, Step};
use super::fault::{Culprit, Fault, address};
use super::node::{Entry, Node};
use super::placeholder::Placeholder;

/// The keys of a mapping, without those that are somebody else's or were found wrong.
pub(super) struct Keys<'a> {
    pub reader: NodeReader<'a>,
    pub rest: std::slice::Iter<'a, Entry>,
    pub current: Option<&'a Entry>,
    /// Keys that are missing, with the number under which their value is invented.
    pub supplied: Vec<(&'static str, usize)>,
    pub supplied_key: Option<usize>,
}

impl<'de> MapAccess<'de> for Keys<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Read<Option<K::Value>> {
        let reader = self.reader;
        let omitted = |entry: &&Entry| reader.recovery.omitted.borrow().contains(&address(&entry.value));
        let entry = self.rest.find(|entry| !reader.aside.contains(&entry.name()) && !omitted(entry));
        let Some(entry) = entry else {
            let Some((field, what)) = self.supplied.pop() else { return Ok(None) };
            self.supplied_key = Some(what);
            return seed.deserialize(StrDeserializer::new(field)).map(Some);
        };
        self.current = Some(entry);
        let key = NodeReader { node: &entry.key, aside: &[], ..reader };
        seed.deserialize(key)
            .map(Some)
            .map_err(|fault| Fault { culprit: Culprit::Node(address(&entry.value)), ..fault })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Read<V::Value> {
        let Some(entry) = self.current.filter(|_| self.supplied_key.is_none()) else {
            return self.invent(self.supplied_key.unwrap_or_default(), seed);
        };
        if self.reader.recovery.invented.borrow().contains_key(&address(&entry.value)) {
            return self.invent(address(&entry.value), seed);
        }
        let link = Link { outer: self.reader.link, step: Step::Key(entry.name()) };
        let reader = NodeReader { node: &entry.value, aside: &[], link: Some(&link), ..self.reader };
        // What is missing from a value stands nowhere, so the key above it is shown.
        seed.deserialize(reader).map_err(|fault| {
            let fault = fault.at(&reader);
            if reader.is_private() && reader.node.scalar().is_some() {
                reader.hide();
            }
            Fault { span: fault.span.or(entry.key.span), ..fault }
        })
    }
}

impl Keys<'_> {
    fn invent<'de, V: DeserializeSeed<'de>>(&self, what: usize, seed: V) -> Read<V::Value> {
        let attempt = self.reader.recovery.invented.borrow().get(&what).copied().unwrap_or_default();
        let placeholder = Placeholder::attempt(attempt).ok_or_else(|| Fault::new("nothing fits").invented(what))?;
        seed.deserialize(placeholder).map_err(|fault| fault.invented(what))
    }
}

/// The items of a list, without those that were found wrong.
pub(super) struct Items<'a> {
    pub reader: NodeReader<'a>,
    pub items: &'a [Node],
    pub next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        while let Some(node) = self.items.get(self.next) {
            let link = Link { outer: self.reader.link, step: Step::Index(self.next) };
            self.next += 1;
            if self.reader.recovery.omitted.borrow().contains(&address(node)) {
                continue;
            }
            let reader = NodeReader { node, aside: &[], link: Some(&link), ..self.reader };
            let read = seed.deserialize(reader).map_err(|fault| {
                let fault = fault.at(&reader);
                if reader.is_private() && reader.node.scalar().is_some() {
                    reader.hide();
                }
                Fault { span: fault.span.or(node.span), ..fault }
            });
            return read.map(Some);
        }
        Ok(None)
    }
}

/// The parts of a `Spanned` value: its span, where its lines begin, itself.
pub(super) struct Place<'a> {
    pub reader: NodeReader<'a>,
    pub part: usize,
}

impl<'de> SeqAccess<'de> for Place<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        let Node { span, .. } = self.reader.node;
        self.part += 1;
        match self.part {
            1 => seed.deserialize(SeqDeserializer::new([span.file, span.start, span.end].into_iter())),
            2 => {
                let lines = self.reader.node.scalar().map_or(&[][..], |scalar| &scalar.lines);
                seed.deserialize(SeqDeserializer::new(lines.iter().copied()))
            }
            _ => seed.deserialize(self.reader),
        }
        .map(Some)
    }
}

/// The variant that a word, a `type` key or a single key chose.
pub(super) struct Variant<'a> {
    pub name: &'static str,
    pub content: NodeReader<'a>,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Read<(V::Value, Self)> {
        let name = seed.deserialize(StrDeserializer::<Fault>::new(self.name))?;
        Ok((name, self))
    }
}

impl<'a> Variant<'a> {
    /// What the variant is read from: nothing where only its name was written.
    fn read<T>(self, nothing: &Node, read: impl FnOnce(NodeReader<'_>) -> Read<T>) -> Read<T> {
        let is_bare = self.content.aside.is_empty() && self.content.node.text() == Some(self.name);
        let node = if is_bare { nothing } else { self.content.node };
        read(NodeReader { node, ..self.content })
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Read<()> {
        if self.content.node.entries().is_some() { self.content.note_unknown_keys(&[]) } else { Ok(()) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Read<T::Value> {
        let nothing = Node::null(self.content.node.span);
        self.read(&nothing, |reader| seed.deserialize(reader))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Read<V::Value> {
        self.content.sequence(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Read<V::Value> {
        let nothing = Node::null(self.content.node.span);
        self.read(&nothing, |reader| {
            reader.note_unknown_keys(fields)?;
            reader.mapping(visitor)
        })
    }
}
