//! One dead letter: an event or raw text that could not go on, and the reason.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use crate::event::{Capture, Id, Seed, Sender, Stamp};
use crate::telemetry::ComponentKind;
use crate::units::Timestamp;

/// A dead letter's number: ascending in time, never given twice. Written as ten digits of base 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Number(pub u64);

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in (0..10).rev() {
            write!(f, "{}", DIGITS[(self.0 >> (5 * place)) as usize & 31] as char)?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Number, String> {
        let wrong = || format!("`{text}` is not the id of a dead letter");
        if text.len() != 10 {
            return Err(wrong());
        }
        text.bytes()
            .try_fold(0, |number, byte| {
                let digit = DIGITS.iter().position(|d| *d == byte.to_ascii_lowercase())?;
                Some(number << 5 | digit as u64)
            })
            .map(Number)
            .ok_or_else(wrong)
    }
}

/// A dead letter to be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDeadLetter {
    /// Name of the component that could not go on.
    pub component: String,
    pub kind: ComponentKind,
    /// The event as a JSON line without its line break, or the raw text; redacted already.
    pub body: Bytes,
    pub event_id: Option<Id>,
    /// What the event's id derives from, so that a replay has the same.
    pub seed: Seed,
    pub ordinal: u64,
    /// The event's number in the journal, if it got that far.
    pub seq: Option<u64>,
    pub received_at: Timestamp,
    /// Who sent it, as authentication has found.
    pub stamp: Option<Stamp>,
    /// Why it is here, in our words.
    pub reason: String,
    /// What the other side said.
    pub answer: String,
    /// Writes that were tried.
    pub attempts: u32,
    /// Where a source read it, such as a file and an offset.
    pub origin: Option<String>,
    /// The destination that it waits for, such as a topic: the dead letter is parked, not dead.
    pub parked: Option<String>,
}

/// A dead letter as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub number: Number,
    /// When it became a dead letter.
    pub time: Timestamp,
    pub content: NewDeadLetter,
}

/// What is stored in front of the body. Fields may be added; unknown ones are skipped.
#[derive(Serialize, Deserialize)]
struct Head {
    time: i64,
    component: String,
    kind: String,
    event_id: Option<String>,
    seed: String,
    ordinal: u64,
    seq: Option<u64>,
    received_at: i64,
    user: Option<String>,
    service: Option<String>,
    #[serde(default)]
    capture: Option<Capture>,
    reason: String,
    answer: String,
    attempts: u32,
    origin: Option<String>,
    #[serde(default)]
    parked: Option<String>,
}

/// The longest reason, answer or origin that is kept.
const MAX_TEXT: usize = 4096;

impl DeadLetter {
    /// The stored form: length of the head, head as JSON, body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let dead_letter = &self.content;
        let (user, service) = match dead_letter.stamp.as_ref().and_then(|stamp| stamp.sender.as_ref()) {
            Some(Sender::User(name)) => (Some(name.clone()), None),
            Some(Sender::Service(name)) => (None, Some(name.clone())),
            None => (None, None),
        };
        let head = Head {
            time: self.time.0,
            component: dead_letter.component.clone(),
            kind: dead_letter.kind.as_str().to_owned(),
            event_id: dead_letter.event_id.map(|id| id.to_string()),
            seed: Id(u128::from_be_bytes(dead_letter.seed.0)).to_string(),
            ordinal: dead_letter.ordinal,
            seq: dead_letter.seq,
            received_at: dead_letter.received_at.0,
            user,
            service,
            capture: dead_letter.stamp.as_ref().and_then(|stamp| stamp.capture),
            reason: shortened(&dead_letter.reason).to_owned(),
            answer: shortened(&dead_letter.answer).to_owned(),
            attempts: dead_letter.attempts,
            origin: dead_letter.origin.as_deref().map(|origin| shortened(origin).to_owned()),
            parked: dead_letter.parked.clone(),
        };
        let head = serde_json::to_vec(&head).expect("strings and numbers are JSON");
        out.extend_from_slice(&(head.len() as u32).to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&dead_letter.body);
    }

    /// The component of a dead letter in its stored form, with nothing else of it read.
    pub fn component_of(stored: &[u8]) -> Option<Cow<'_, str>> {
        #[derive(Deserialize)]
        struct Component<'a> {
            #[serde(borrow)]
            component: Cow<'a, str>,
        }
        let (len, rest) = stored.split_first_chunk::<4>()?;
        let head = rest.get(..u32::from_le_bytes(*len) as usize)?;
        serde_json::from_slice::<Component<'_>>(head).ok().map(|head| head.component)
    }

    /// Reads the stored form.
    pub fn decode(number: Number, stored: &[u8]) -> Result<DeadLetter, String> {
        let wrong = || format!("dead letter {number} has an unreadable header");
        let (len, rest) = stored.split_first_chunk::<4>().ok_or_else(wrong)?;
        let (head, body) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(wrong)?;
        let head: Head = serde_json::from_slice(head).map_err(|error| format!("{}: {error}", wrong()))?;
        let kind = [ComponentKind::Source, ComponentKind::Transform, ComponentKind::Sink]
            .into_iter()
            .find(|kind| kind.as_str() == head.kind)
            .ok_or_else(wrong)?;
        let sender = head.user.map(Sender::User).or(head.service.map(Sender::Service));
        let is_stamped = sender.is_some() || head.capture.is_some();
        let stamp = is_stamped.then_some(Stamp { sender, capture: head.capture });
        Ok(DeadLetter {
            number,
            time: Timestamp(head.time),
            content: NewDeadLetter {
                component: head.component,
                kind,
                body: Bytes::copy_from_slice(body),
                event_id: head.event_id.as_deref().and_then(Id::parse),
                seed: Seed(Id::parse(&head.seed).ok_or_else(wrong)?.0.to_be_bytes()),
                ordinal: head.ordinal,
                seq: head.seq,
                received_at: Timestamp(head.received_at),
                stamp,
                reason: head.reason,
                answer: head.answer,
                attempts: head.attempts,
                origin: head.origin,
                parked: head.parked,
            },
        })
    }
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// What the API and the commands show; the body as text.
impl Serialize for DeadLetter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let dead_letter = &self.content;
        let mut out = serializer.serialize_struct("DeadLetter", 13)?;
        out.serialize_field("id", &self.number.to_string())?;
        out.serialize_field("time", &self.time.to_string())?;
        out.serialize_field("component", &dead_letter.component)?;
        out.serialize_field("kind", dead_letter.kind.as_str())?;
        out.serialize_field("event_id", &dead_letter.event_id.map(|id| id.to_string()))?;
        out.serialize_field("seq", &dead_letter.seq)?;
        out.serialize_field("reason", &dead_letter.reason)?;
        out.serialize_field("answer", &dead_letter.answer)?;
        out.serialize_field("attempts", &dead_letter.attempts)?;
        out.serialize_field("origin", &dead_letter.origin)?;
        out.serialize_field("parked", &dead_letter.parked.is_some())?;
        out.serialize_field("destination", &dead_letter.parked)?;
        out.serialize_field("event", &String::from_utf8_lossy(&dead_letter.body))?;
        out.end()
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn dead_letter(component: &str, ordinal: u64) -> NewDeadLetter {
        let seed = Seed::derive(&[component.as_bytes()]);
        NewDeadLetter {
            component: component.to_owned(),
            kind: ComponentKind::Sink,
            body: Bytes::from(format!(r#"{{"n":{ordinal}}}"#)),
            event_id: Some(seed.id(ordinal)),
            seed,
            ordinal,
            seq: Some(ordinal + 1000),
            received_at: Timestamp(5),
            stamp: None,
            reason: "refused by the target".into(),
            answer: "value out of range".into(),
            attempts: 3,
            origin: None,
            parked: None,
        }
    }

    pub fn parked(component: &str, destination: &str, ordinal: u64) -> NewDeadLetter {
        NewDeadLetter { parked: Some(destination.to_owned()), ..dead_letter(component, ordinal) }
    }

    proptest! {
        #[test]
        fn a_dead_letter_reads_as_it_was_written(body: Vec<u8>, answer: String, number in 0u64..1 << 50, user: Option<String>, parked: Option<String>) {
            let mut new = dead_letter("out", 7);
            (new.body, new.answer) = (Bytes::from(body), answer);
            (new.stamp, new.parked) = (user.map(|name| Stamp { capture: Some(Capture::Server), ..Stamp::user(name) }), parked);
            let dead_letter = DeadLetter { number: Number(number), time: Timestamp(9), content: new };
            let mut stored = Vec::new();
            dead_letter.encode(&mut stored);
            prop_assert_eq!(&DeadLetter::decode(dead_letter.number, &stored).unwrap(), &dead_letter);
            prop_assert_eq!(dead_letter.number.to_string().parse::<Number>().unwrap(), dead_letter.number);
        }

        #[test]
        fn ids_sort_like_their_numbers(a in 0u64..1 << 50, b in 0u64..1 << 50) {
            prop_assert_eq!(a.cmp(&b), Number(a).to_string().cmp(&Number(b).to_string()));
        }
    }

    #[test]
    fn a_long_answer_is_cut_on_a_character_boundary() {
        let mut new = dead_letter("out", 1);
        new.answer = "é".repeat(MAX_TEXT);
        let mut stored = Vec::new();
        DeadLetter { number: Number(1), time: Timestamp(1), content: new }.encode(&mut stored);
        let read = DeadLetter::decode(Number(1), &stored).unwrap();
        assert_eq!(read.content.answer.len(), MAX_TEXT);
    }
}
