//! A value with the position where it was written, so that errors can point to it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::node;
use super::source::Span;

/// The newtype name by which the reader recognises a spanned value.
pub(super) const NAME: &str = "$weir::Spanned";

/// A value and its place. Queries, patterns and templates in a `Config` are `Spanned<String>`.
#[derive(Clone, Debug, Default)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
    lines: Vec<u32>,
}

impl<T> Spanned<T> {
    /// A value that was not read from a file.
    pub fn unplaced(value: T) -> Spanned<T> {
        Spanned { value, span: Span::NOWHERE, lines: Vec::new() }
    }
}

impl Spanned<String> {
    /// Whether the text stands in the file as it is. What does not may have come out of a variable, and be a secret.
    pub fn is_as_written(&self) -> bool {
        !self.lines.is_empty()
    }

    /// The place of a byte range of the text; the whole value where escapes or interpolation came between.
    pub fn within(&self, range: Range<usize>) -> Span {
        node::within(&self.value, &self.lines, self.span, range)
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Equal when the values are; where they stand is not part of it.
impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Spanned<T>) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Spanned<T>, D::Error> {
        deserializer.deserialize_newtype_struct(NAME, Parts(PhantomData))
    }
}

/// Reads what `de` hands over for `NAME`: the span, the line starts, the value.
struct Parts<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
    type Value = Spanned<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    /// Any other format: the value without a place.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Spanned<T>, D::Error> {
        T::deserialize(deserializer).map(Spanned::unplaced)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Spanned<T>, A::Error> {
        let missing = || A::Error::custom("a place has a span, lines and a value");
        let [file, start, end] = parts.next_element()?.ok_or_else(missing)?;
        let lines = parts.next_element()?.ok_or_else(missing)?;
        let value = parts.next_element()?.ok_or_else(missing)?;
        Ok(Spanned { value, span: Span { file, start, end }, lines })
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

impl<T: serde::Serialize> serde::Serialize for Spanned<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}
