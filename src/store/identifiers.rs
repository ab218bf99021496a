//! Random identifiers of a chunk of the tail, as their texts: there are fewer of them than of their substrings.

/// Stands between two: no substring of an identifier has it.
const END: u8 = b'\n';

/// Identifiers in lower case, one behind the other.
#[derive(Clone, Debug, Default)]
pub struct Identifiers(Vec<u8>);

impl Identifiers {
    /// Adds one, of ASCII characters.
    pub fn add(&mut self, text: &[u8]) {
        self.0.extend(text.iter().map(u8::to_ascii_lowercase));
        self.0.push(END);
    }

    /// Whether one of them has this substring, in lower case.
    pub fn contains(&self, substring: &[u8]) -> bool {
        memchr::memmem::find(&self.0, substring).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == END).filter(|text| !text.is_empty())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn weight(&self) -> usize {
        self.0.len()
    }

    /// The same without room for more; empty afterwards.
    pub fn take(&mut self) -> Identifiers {
        let taken = Identifiers(self.0.as_slice().into());
        self.0.clear();
        taken
    }
}
