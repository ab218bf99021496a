//! Builds messages from a batch: topic, key, id and value.

use std::collections::HashMap;
use std::ops::Range;

use crate::codec::encoding::Encoder;
use crate::codec::name::NameTemplate;
use crate::codec::template::Template;
use crate::component::{BatchEvent, Failure, WriteBatch};
use crate::event::raw::name_is;
use crate::event::{Id, Raw};

/// The messages of a batch, in its order; they hold nothing that the batch holds already.
#[derive(Debug, Default)]
pub struct Messages {
    topics: Vec<String>,
    /// Keys, ids and values that are not the event's line.
    text: Vec<u8>,
    messages: Vec<Placed>,
}

#[derive(Debug)]
struct Placed {
    topic: u32,
    key: Option<Range<usize>>,
    id: Range<usize>,
    /// Absent where it is the event's line.
    value: Option<Range<usize>>,
    received_at: i64,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub topic: &'a str,
    pub key: Option<&'a [u8]>,
    pub id: &'a [u8],
    pub value: &'a [u8],
    /// When the event was received, in milliseconds since 1970.
    pub received_at: i64,
}

impl Messages {
    pub fn encode(
        batch: &WriteBatch,
        topic: &NameTemplate,
        key: Option<&Template>,
        encoder: &Encoder,
    ) -> Result<Messages, Failure> {
        let count = batch.len();
        let mut messages = Messages {
            topics: topic.constant().map(str::to_owned).into_iter().collect(),
            text: Vec::with_capacity(count * 64),
            messages: Vec::with_capacity(count),
        };
        let mut known = HashMap::new();
        let mut failures = Vec::new();
        for (nth, event) in batch.events().enumerate() {
            if let Err(answer) = messages.add(event, topic, key, encoder, &mut known) {
                failures.push((nth, Failure::poison(answer)));
            }
        }
        if failures.is_empty() { Ok(messages) } else { Err(Failure::some(failures)) }
    }

    fn add(
        &mut self,
        event: BatchEvent<'_>,
        topic: &NameTemplate,
        key: Option<&Template>,
        encoder: &Encoder,
        known: &mut HashMap<String, u32>,
    ) -> Result<(), String> {
        let json = event.json();
        let members = Members::of(json);
        let topic = if topic.constant().is_some() {
            0
        } else {
            let values = event.values();
            let name = topic.render_with(|path| values.get(path))?;
            *known.entry(name).or_insert_with_key(|name| {
                self.topics.push(name.clone());
                self.topics.len() as u32 - 1
            })
        };
        let key = match key {
            Some(template) => {
                let values = event.values();
                let text = template.render(|path| values.get(path)).map_err(|missing| missing.to_string())?;
                self.push(|out| out.extend_from_slice(text.as_bytes()))
            }
            None => self.push(|out| members.push_key(out)),
        };
        let id = self.push(|out| match members.own_id() {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => out.extend_from_slice(event.record.lines.derived_id(event.index).to_string().as_bytes()),
        });
        let value = if encoder.is_verbatim() {
            None
        } else {
            let start = self.text.len();
            encoder.append(json, &mut self.text)?;
            // A message ends where it ends.
            self.text.pop();
            Some(start..self.text.len())
        };
        let received_at = event.record.received_at.0 / 1000;
        let key = (!key.is_empty()).then_some(key);
        self.messages.push(Placed { topic, key, id, value, received_at });
        Ok(())
    }

    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.text.len();
        write(&mut self.text);
        start..self.text.len()
    }

    /// The messages, for the batch that they were made of.
    pub fn of<'a>(&'a self, batch: &'a WriteBatch) -> impl Iterator<Item = Message<'a>> {
        batch.events().zip(&self.messages).map(|(event, placed)| Message {
            topic: &self.topics[placed.topic as usize],
            key: placed.key.clone().map(|key| &self.text[key]),
            id: &self.text[placed.id.clone()],
            value: placed.value.clone().map_or_else(|| event.line(), |value| &self.text[value]),
            received_at: placed.received_at,
        })
    }
}

/// The members that key and id come from, found in one pass over the event.
#[derive(Default)]
struct Members<'a> {
    id: Option<Raw<'a>>,
    session_id: Option<Raw<'a>>,
    user_id: Option<Raw<'a>>,
}

impl<'a> Members<'a> {
    fn of(event: Raw<'a>) -> Members<'a> {
        let mut found = Members::default();
        for (name, value) in event.members() {
            let place = match name {
                b"id" => &mut found.id,
                b"session_id" => &mut found.session_id,
                b"user_id" => &mut found.user_id,
                _ if memchr::memchr(b'\\', name).is_none() => continue,
                name if name_is(name, "id") => &mut found.id,
                name if name_is(name, "session_id") => &mut found.session_id,
                name if name_is(name, "user_id") => &mut found.user_id,
                _ => continue,
            };
            *place = Some(value);
        }
        found
    }

    /// The event's own id as it is spelled, if it is one.
    fn own_id(&self) -> Option<std::borrow::Cow<'a, str>> {
        self.id?.as_str().filter(|text| Id::parse(text).is_some())
    }

    fn push_key(&self, out: &mut Vec<u8>) {
        let texts = [self.session_id, self.user_id].into_iter().flatten().filter(|value| !value.is_null());
        if let Some(text) = texts.map(|value| value.display()).find(|text| !text.is_empty()) {
            out.extend_from_slice(text.as_bytes());
        }
    }
}
