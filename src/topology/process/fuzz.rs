//! Mutated inputs of every codec through decoders, transforms, redaction and encoders: nothing panics.
//!
//! Panics are contained where they happen, so these tests call what is inside the containment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::*;
use crate::codec::framing::{Framer, Framing};
use crate::codec::redaction::Engine;
use crate::codec::{Codec, csv};
use crate::component::{AnyTransform, Wait};
use crate::event::{Provenance, Raw, Seed, Stamp};
use crate::journal::StreamId;
use crate::query::Query;
use crate::telemetry::{ComponentKind, ComponentMetrics};
use crate::topology::flow::{Beyond, Node, Port};
use crate::transforms::{normalize, redact, testing, truncate};

/// Inputs from the seed that is the same in every run.
const FIXED_INPUTS: u64 = 1_500;
/// Inputs from a new seed, and how long they may take.
const MOST_NEW_INPUTS: u64 = 20_000;
const NEW_INPUTS_TIME: Duration = Duration::from_secs(4);
const LIMITS: Limits = Limits { event_bytes: 4096, values: 1000 };

/// One good input of each codec at least.
const GOOD: &[&[u8]] = &[
    br#"{"code":"import os\nprint(\"x\")","user":"ali","n":12345678901234567890,"details":{"a":[1,{"b":null}]}}"#,
    b"{\"a\":1}\n{\"password\":\"hunter2hunter2\",\"t\":\"2025-06-01T12:00:00Z\"}\n[{\"b\":2},{\"c\":\"\\u0628\\ud83d\\ude00\"}]",
    b"{\"a\":\n {\"b\":[true,false,-1.5e-7]} }\r\n[[1],\"x\"]",
    b"level=info msg=\"stopping at \\\"x\\\"\" err= token=abcdef0123456789 dur=1.5ms",
    b"<165>1 2003-08-24T05:14:15.000003-07:00 h app 123 ID47 [ex@32473 iut=\"3\" e=\"a\\]b\"] \xEF\xBB\xBFtext",
    b"<34>Oct 11 22:14:15 mymachine su[12]: 'su root' failed for lonvick on /dev/pts/8",
    b"a,b\r\n\"x \"\"y\"\"\nz\",2\n3,4\n",
    b"\x82\xA1a\x01\xA1b\x93\xC0\xC3\xCB\x40\x09\x21\xFB\x54\x44\x2D\x18\x81\xA1t\xD7\xFF\x00\x00\x00\x00\x68\x3C\x40\x40",
    b"10 <34>1 a - -5 hello\x00\x00\x00\x03{}\n",
    "Vérifié: ключ пароль \u{200B}pass\u{200D}word=сек\u{301}рет \x1b[31mred\x1b[0m ｐａｓｓ".as_bytes(),
    b"postgres://u:p@db:5432/x 4111 1111 1111 1111 DE89370400440532013000 a@b.example &#112;ass %70ass \\u0070ass",
    b"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
    b"",
];

/// Words that something looks for.
const WORDS: &[&str] = &[
    "bearer ",
    "authorization: basic ",
    "password=",
    "passphrase",
    "pwd:",
    "client_secret",
    "token\":\"",
    "api-key ",
    "x-api-key",
    "cookie: ",
    "credential",
    "-----BEGIN RSA PRIVATE KEY-----",
    "AKIA",
    "ghp_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "sk-ant-",
    "sk-proj-",
    "eyJhbGciOi",
    "AIza",
    "ya29.",
    "SG.",
    "hooks.slack.com/services/T",
    "://u:p@",
    "postgres://",
    "\\u0070",
    "\\ud83d\\ude00",
    "&#112;",
    "&amp;",
    "%70%61",
    "\u{200B}",
    "\u{AD}",
    "\u{FEFF}",
    "\\\"",
    "\\",
    "\"",
    "[",
    "{\"",
    "},",
    "null",
    "true",
    "false",
    "1e309",
    "-0",
    "\\u001b[31m",
    "2025-06-01T12:00:00Z",
    "<34>1 ",
    "\r\n",
    "\0",
    "a@b.example",
    "4111111111111111",
    "DE89370400440532013000",
    "--token ",
    "\u{1D41A}",
    "ｐ",
    "}{",
    "]",
];

/// A small generator: the same inputs for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// Whole or in part, in any case.
    fn word(&mut self) -> Vec<u8> {
        let word = self.pick(WORDS).as_bytes();
        let end = if self.below(2) == 0 { word.len() } else { self.below(word.len() + 1) };
        match self.below(3) {
            0 => word[..end].to_ascii_uppercase(),
            _ => word[..end].to_vec(),
        }
    }

    fn input(&mut self) -> Vec<u8> {
        let mut text = self.pick(GOOD).to_vec();
        for _ in 0..self.below(6) {
            let (at, len) = (self.below(text.len() + 1), self.below(12));
            let end = text.len().min(at + len);
            match self.below(6) {
                0 => text.truncate(at),
                1 => drop(text.drain(at..end)),
                2 => drop(text.splice(at..at, self.word())),
                3 => drop(text.splice(at..end, [self.below(256) as u8])),
                4 => drop(text.splice(at..at, text[at..end].to_vec())),
                _ => text.extend_from_slice(self.pick(GOOD)),
            }
        }
        if self.below(2) == 0 {
            text.extend(self.word());
        }
        text
    }
}

/// Everything that looks at the bytes of a source.
struct Subject {
    flow: Flow,
    engine: Engine,
    codecs: Vec<Arc<dyn Decoder>>,
    encoders: Vec<crate::codec::encoding::Encoder>,
    query: Query,
    stamp: bool,
}

impl Subject {
    fn new() -> Subject {
        let redact: redact::Redact = testing::build("{}");
        let normalize: normalize::Normalize = testing::build("{}");
        let truncate: truncate::Truncate = testing::build("{ fields: [code, message], max_chars: 10 }");
        let transforms: [Arc<dyn AnyTransform>; 3] = [Arc::new(redact), Arc::new(normalize), Arc::new(truncate)];
        let count = transforms.len();
        let nodes = transforms.into_iter().enumerate().map(|(nth, transform)| Node {
            name: transform.type_name().into(),
            metrics: Arc::new(ComponentMetrics::new("t".into(), ComponentKind::Transform, "t")),
            transform,
            ports: vec![Port {
                stream: Some(StreamId(2)),
                next: (nth + 1..(nth + 2).min(count)).collect(),
                ..Port::default()
            }],
            input: None,
        });
        let flow = Flow::new(
            nodes.collect(),
            vec![Port { stream: Some(StreamId(1)), next: vec![0], ..Port::default() }],
            Beyond::default(),
        );
        let columns = csv::Config { columns: vec!["a".into(), "b".into()], ..csv::Config::default() };
        let codecs = [
            Codec::Json,
            Codec::Text,
            Codec::Logfmt,
            Codec::Syslog(Default::default()),
            Codec::Msgpack,
            Codec::Csv(columns),
            Codec::Csv(csv::Config::default()),
        ];
        let encoding = |name: &str| -> crate::codec::encoding::Encoding {
            crate::diagnostic::from_yaml(name).unwrap_or_else(|report| panic!("{report}"))
        };
        Subject {
            flow,
            engine: Engine::builtin(),
            codecs: codecs.iter().map(|codec| codec.decoder().into()).collect(),
            encoders: ["csv", "text", "ecs"].map(|name| encoding(name).encoder().expect("an encoder")).into(),
            query: Query::parse("status:error user:ali \"import os\" n:>3 has:message ~\"p.ss\" metadata.a:x*")
                .unwrap(),
            stamp: false,
        }
    }

    /// Panics if anything does.
    fn face(&mut self, text: &[u8]) {
        self.stamp = !self.stamp;
        drop(self.engine.redact_text(text));
        self.frame(text);
        let whole = std::iter::once(0..text.len()).collect();
        for codec in self.codecs.clone() {
            for frames in [Frames::Lines, Frames::Document, Frames::At(Vec::clone(&whole))] {
                let work = run(&self.flow, &self.job(codec.clone(), text, frames), &LIMITS);
                let work = work.unwrap_or_else(|Broken| panic!("a transform failed or panicked"));
                let work = work.unwrap_or_else(|_| panic!("bad items are refused one by one"));
                for refusal in &work.refused {
                    drop(self.flow.redact_text(self.engine.redact_text(&refusal.text).0));
                }
                self.encode(&work);
            }
        }
    }

    fn encode(&self, work: &Work) {
        for (_, lines) in &work.result.entries {
            for line in (0..lines.len()).map(|n| lines.line(n)) {
                let event = Raw::valid(line);
                self.query.matches_line(event);
                for encoder in &self.encoders {
                    drop(encoder.append(event, &mut Vec::new()));
                }
            }
        }
    }

    fn frame(&self, text: &[u8]) {
        for framing in [Framing::Newline, Framing::Length, Framing::Octet] {
            let mut framer = Framer::new(framing, 64, 256);
            let mut buffer = BytesMut::from(text);
            while let Ok(Some(_)) = framer.next(&mut buffer, true) {}
        }
    }

    fn job(&self, decoder: Arc<dyn Decoder>, text: &[u8], frames: Frames) -> Job {
        let provenance = Provenance {
            source: "s".into(),
            seed: Seed::default(),
            received_at: Timestamp(1_748_779_200_250_000),
            peer: None,
            stamp: self.stamp.then(|| Arc::new(Stamp::user("ali"))),
        };
        Job {
            chunks: vec![Chunk { bytes: Bytes::copy_from_slice(text), frames, ordinals: Ordinals::Count(0) }],
            decoder,
            provenance: Arc::new(provenance),
            marks: Vec::new(),
            on_bad: OnBad::DeadLetter,
            wait: Wait::Journal,
            key: None,
            permit: None,
            origin: None,
        }
    }
}

fn face(subject: &mut Subject, text: &[u8], which: &str) {
    if let Err(panic) = panics::contain(|| subject.face(text)) {
        panic!("{which}: {panic}, over b\"{}\"", text.escape_ascii());
    }
}

#[test]
fn no_text_that_ends_within_a_word_panics() {
    let mut subject = Subject::new();
    for word in WORDS {
        for end in 1..=word.len() {
            let part = &word.as_bytes()[..end];
            for before in [&b""[..], b"x ", b"{\"a\":\"", b"[\""] {
                face(&mut subject, &[before, part].concat(), word);
            }
            drop(subject.engine.redact_text(&part.to_ascii_uppercase()));
        }
    }
}

#[test]
fn no_mutated_input_panics() {
    let mut subject = Subject::new();
    let mut random = Random(1);
    for nth in 0..FIXED_INPUTS {
        face(&mut subject, &random.input(), &format!("input {nth} of seed 1"));
    }
}

#[test]
fn no_input_of_a_new_seed_panics() {
    let seed = std::env::var("WEIR_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from_le_bytes(Seed::random().0[..8].try_into().expect("eight bytes")));
    println!("WEIR_FUZZ_SEED={seed}");
    let (mut subject, mut random, began) = (Subject::new(), Random(seed), Instant::now());
    for nth in 0..MOST_NEW_INPUTS {
        if began.elapsed() > NEW_INPUTS_TIME {
            break;
        }
        face(&mut subject, &random.input(), &format!("input {nth} of WEIR_FUZZ_SEED={seed}"));
    }
}
