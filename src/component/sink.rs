//! Sinks encode and write a batch. Batching, retries, bisection and settling belong to `delivery`.

use std::any::Any;
use std::cell::OnceCell;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::check::Check;
use super::failure::Failure;
use super::reader::{ReadOptions, Reader};
use crate::codec::encoding::{Encoder, Encoding};
use crate::event::{Id, Raw};
use crate::journal::Record;
use crate::net::client::Client;
use crate::net::tls::Trust;
use crate::secret::Secret;
use crate::store::Stores;
use crate::units::Timestamp;

/// What a sink promises about an event that is sent again after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The target knows the id, or what was committed: once.
    EffectivelyOnce,
    /// It may arrive twice, with the same id.
    AtLeastOnce,
    /// Nothing is kept for it.
    BestEffort,
}

/// Whether the API can read what a sink has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    Never,
    /// Where `api.read` names the sink.
    WhenNamed,
    /// Also where nothing is named, if it is the only one.
    ByDefault,
}

pub trait Sink: Send + Sync + Sized + 'static {
    /// The word for `type:`.
    const TYPE: &'static str;
    const PROMISE: Promise;
    /// Whether it names what live streams show.
    const IS_LIVE: bool = false;
    /// Whether the API reads what it has written.
    const READ: Readable = Readable::Never;
    type Config: DeserializeOwned + JsonSchema + Send + Sync + 'static;
    /// What one write sends; kept for the retry.
    type Payload: Send + Sync + 'static;

    /// Checks what can be checked without touching anything.
    fn check(_config: &Self::Config, _check: &mut Check) {}

    /// Connects or opens; called again, with backoff, after a failure. `validate` uses it too.
    fn open(config: &Self::Config, cx: &SinkContext) -> impl Future<Output = Result<Self, Failure>> + Send;

    /// The bytes or rows for a write batch: pure, so that tests can assert them.
    fn encode(&self, cut: &WriteBatch) -> Result<Self::Payload, Failure>;

    /// What these events would be sent as, uncompressed and without anything being opened, where it does not depend on
    /// what the target says.
    fn preview(_config: &Self::Config, _cx: &SinkContext, _cut: &WriteBatch) -> Option<Result<Vec<u8>, Failure>> {
        None
    }

    /// Writes it and returns when the target has it for good.
    fn write(&self, cut: &WriteBatch, payload: &Self::Payload)
    -> impl Future<Output = Result<Written, Failure>> + Send;

    /// Where an event goes, if the sink has several places for events, such as topics: what one of them refuses
    /// until an operator acts (`Failure::Configuration` within `Failure::Some`) is parked while others take theirs.
    fn destination(&self, _event: BatchEvent<'_>) -> Option<String> {
        None
    }

    /// What the sink must find again after a restart; saved before the cursor passes the last write.
    fn memory(&self) -> Option<Bytes> {
        None
    }

    /// What the sink hands on to the one that is opened after it.
    fn leaves(&self) -> Option<Left> {
        None
    }

    /// The `seq` of the first event that the target may have had and lost, if it has found that out since it was opened.
    /// The delivery goes back to it as far as the journal reaches; what is there still is a repeat.
    fn lost_from(_config: &Self::Config, _cx: &SinkContext) -> impl Future<Output = Option<u64>> + Send {
        std::future::ready(None)
    }

    /// The promise of this configuration, where it differs.
    fn promise(_config: &Self::Config) -> Promise {
        Self::PROMISE
    }

    /// Bytes of one write while more than a batch waits, if larger writes cost this sink less; 0 where a batch is the most.
    fn catch_up_bytes(_config: &Self::Config) -> usize {
        0
    }

    /// What opening found out about the target; `validate` prints it.
    fn findings(&self) -> Findings {
        Findings::default()
    }

    /// A reader of what the sink has written, for a sink whose target can be asked.
    fn reader(_config: &Self::Config, _cx: &SinkContext, _options: &ReadOptions) -> Option<Arc<dyn Reader>> {
        None
    }

    /// The folder of a sink whose events nobody else reads or removes.
    fn folder(_config: &Self::Config, _cx: &SinkContext) -> Option<PathBuf> {
        None
    }
}

/// What a sink hands on to the one that is opened after it in the same process.
pub type Left = Arc<dyn Any + Send + Sync>;

/// What a sink knows about its target once it is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The promise for this target, where it is weaker than the configuration's.
    pub promise: Option<Promise>,
    /// Sentences for the operator, such as what goes where and what has no place.
    pub notes: Vec<String>,
}

/// What a sink may use.
#[derive(Clone)]
pub struct SinkContext {
    /// Name of the component.
    pub name: Arc<str>,
    pub agent: Arc<str>,
    pub data_dir: PathBuf,
    /// The whole of `timeout`, for one write.
    pub timeout: Duration,
    /// The frame's `tls`.
    pub tls: Trust,
    /// Whether the frame has one, for targets whose address does not say so.
    pub encrypted: bool,
    /// The frame's `proxy`.
    pub proxy: Option<Secret<String>>,
    /// What `memory` gave last, with the `seq` behind the last event that it covers.
    pub memory: Option<(u64, Bytes)>,
    /// What the one that was open before has handed on.
    pub left: Option<Left>,
    /// The first `seq` that may come; a crash may have made it come before.
    pub position: u64,
    /// Whether this is `validate`: nothing may be created or changed.
    pub dry: bool,
    /// The embedded stores of this agent.
    pub stores: Stores,
}

impl SinkContext {
    /// An HTTP client with the frame's `tls` and `proxy`.
    pub fn http_client(&self) -> Result<Client, Failure> {
        let proxy = self.proxy.as_ref().map(|proxy| proxy.expose().as_str());
        Client::new(&self.tls, proxy).map_err(Failure::configuration)
    }
}

/// What events come to in an encoding that needs nothing of the target.
pub fn preview(encoding: &Encoding, batch: &WriteBatch) -> Option<Result<Vec<u8>, Failure>> {
    let encoder = encoding.encoder().map_err(|wrong| Failure::configuration(wrong.message));
    Some(encoder.and_then(|encoder| batch.encoded(&encoder)))
}

/// What a write came to that brought all of its events to the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Written {
    pub bytes: u64,
    /// Events the target had already.
    pub duplicates: u64,
    /// Events that the target took and did not keep, by a rule of its own.
    pub discarded: u64,
    /// Of these, events whose id the target has with other content.
    pub conflicts: u64,
    /// Values that were changed to fit, such as texts cut to what a column holds.
    pub altered: u64,
}

/// Events that are written together: parts of records, in `seq` order.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    pub slices: Vec<RecordSlice>,
}

#[derive(Clone, Debug)]
pub struct RecordSlice {
    pub record: Arc<Record>,
    /// Indices of events in the record.
    pub events: Range<usize>,
}

/// One event of a write batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchEvent<'a> {
    pub record: &'a Record,
    pub index: usize,
}

impl WriteBatch {
    pub fn len(&self) -> usize {
        self.slices.iter().map(|slice| slice.events.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.slices.iter().all(|slice| slice.events.is_empty())
    }

    /// Bytes of all lines, line breaks included.
    pub fn bytes(&self) -> usize {
        self.chunks().map(<[u8]>::len).sum()
    }

    /// The lines as they lie in memory, a chunk per slice, each line ended by `\n`.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.slices.iter().map(RecordSlice::chunk)
    }

    /// The same chunks, each sharing its record's memory.
    pub fn shared_chunks(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.slices.iter().map(|slice| slice.record.lines.bytes.slice(slice.byte_range()))
    }

    pub fn events(&self) -> impl Iterator<Item = BatchEvent<'_>> {
        self.slices
            .iter()
            .flat_map(|slice| slice.events.clone().map(|index| BatchEvent { record: &slice.record, index }))
    }

    /// The events one after another in an encoding, with its header if it has one.
    pub fn encoded(&self, encoder: &Encoder) -> Result<Vec<u8>, Failure> {
        let (mut out, mut failures) = (encoder.header().unwrap_or_default(), Vec::new());
        for (nth, event) in self.events().enumerate() {
            if let Err(answer) = encoder.append(event.json(), &mut out) {
                failures.push((nth, Failure::poison(answer)));
            }
        }
        if failures.is_empty() { Ok(out) } else { Err(Failure::some(failures)) }
    }

    /// The n-th event.
    pub fn event(&self, n: usize) -> BatchEvent<'_> {
        self.events().nth(n).expect("the index is within the batch")
    }

    /// Splits behind the first `n` events.
    pub fn split(&self, n: usize) -> (WriteBatch, WriteBatch) {
        let (mut head, mut tail, mut left) = (WriteBatch::default(), WriteBatch::default(), n);
        for slice in &self.slices {
            let taken = left.min(slice.events.len());
            left -= taken;
            let middle = slice.events.start + taken;
            if taken > 0 {
                head.slices.push(RecordSlice { record: slice.record.clone(), events: slice.events.start..middle });
            }
            if middle < slice.events.end {
                tail.slices.push(RecordSlice { record: slice.record.clone(), events: middle..slice.events.end });
            }
        }
        (head, tail)
    }

    /// The `seq` behind the last event.
    pub fn seq_end(&self) -> Option<u64> {
        self.slices
            .iter()
            .rfind(|slice| !slice.events.is_empty())
            .map(|slice| slice.record.first_seq + slice.events.end as u64)
    }
}

impl RecordSlice {
    pub fn chunk(&self) -> &[u8] {
        &self.record.lines.bytes[self.byte_range()]
    }

    /// Where the lines lie in the record.
    pub fn byte_range(&self) -> Range<usize> {
        self.record.lines.start(self.events.start)..self.record.lines.start(self.events.end)
    }
}

impl<'a> BatchEvent<'a> {
    pub fn seq(&self) -> u64 {
        self.record.first_seq + self.index as u64
    }

    /// The event as a JSON object, without the line break.
    pub fn line(&self) -> &'a [u8] {
        self.record.lines.line(self.index)
    }

    pub fn json(&self) -> Raw<'a> {
        Raw::valid(self.line())
    }

    pub fn values(&self) -> Values<'a> {
        Values { event: self.json(), received_at: self.record.received_at, text: OnceCell::new() }
    }

    /// The id: the event's own member if it is a UUID or ULID, else the one that follows from its origin.
    pub fn id(&self) -> Id {
        self.id_from(self.json().get("id"))
    }

    /// The same for those who have found the member `id` already.
    pub fn id_from(&self, own: Option<Raw<'_>>) -> Id {
        let own = own.and_then(|value| value.as_str()).and_then(|text| Id::parse(&text));
        own.unwrap_or_else(|| self.record.lines.derived_id(self.index))
    }
}

/// What templates find of an event: its members, and the time of receipt where it has no `timestamp`.
pub struct Values<'a> {
    event: Raw<'a>,
    received_at: Timestamp,
    /// The time of receipt as JSON, once somebody has asked for it.
    text: OnceCell<String>,
}

impl<'a> Values<'a> {
    pub fn get(&self, path: &[String]) -> Option<Raw<'_>> {
        match self.event.path(path).filter(|value| !value.is_null()) {
            None if path.len() == 1 && path[0] == "timestamp" => {
                let text = self.text.get_or_init(|| format!("\"{}\"", self.received_at));
                Some(Raw::valid(text.as_bytes()))
            }
            value => value,
        }
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// The boxed form: a configuration that can be opened.
pub trait AnySinkConfig: Send + Sync {
    fn type_name(&self) -> &'static str;
    fn promise(&self) -> Promise;

    fn is_live(&self) -> bool {
        false
    }

    fn catch_up_bytes(&self) -> usize {
        0
    }

    fn readable(&self) -> Readable {
        Readable::Never
    }

    fn reader(&self, _cx: &SinkContext, _options: &ReadOptions) -> Option<Arc<dyn Reader>> {
        None
    }

    fn folder(&self, _cx: &SinkContext) -> Option<PathBuf> {
        None
    }

    fn preview(&self, _cx: &SinkContext, _cut: &WriteBatch) -> Option<Result<Vec<u8>, Failure>> {
        None
    }

    fn open<'a>(&'a self, cx: &'a SinkContext) -> Answer<'a, Arc<dyn AnySink>>;

    fn lost_from<'a>(&'a self, cx: &'a SinkContext) -> Pin<Box<dyn Future<Output = Option<u64>> + Send + 'a>> {
        let _ = cx;
        Box::pin(std::future::ready(None))
    }
}

/// The boxed form: an open sink.
pub trait AnySink: Send + Sync {
    fn encode(&self, cut: &WriteBatch) -> Result<Box<dyn Any + Send + Sync>, Failure>;
    fn write<'a>(&'a self, cut: &'a WriteBatch, payload: &'a (dyn Any + Send + Sync)) -> Answer<'a, Written>;
    fn memory(&self) -> Option<Bytes>;

    fn leaves(&self) -> Option<Left> {
        None
    }

    fn destination(&self, _event: BatchEvent<'_>) -> Option<String> {
        None
    }

    fn findings(&self) -> Findings {
        Findings::default()
    }
}

/// A checked configuration of a sink of type `S`.
pub struct Configured<S: Sink>(pub S::Config);

impl<S: Sink> AnySinkConfig for Configured<S> {
    fn type_name(&self) -> &'static str {
        S::TYPE
    }

    fn promise(&self) -> Promise {
        S::promise(&self.0)
    }

    fn is_live(&self) -> bool {
        S::IS_LIVE
    }

    fn catch_up_bytes(&self) -> usize {
        S::catch_up_bytes(&self.0)
    }

    fn readable(&self) -> Readable {
        S::READ
    }

    fn reader(&self, cx: &SinkContext, options: &ReadOptions) -> Option<Arc<dyn Reader>> {
        S::reader(&self.0, cx, options)
    }

    fn folder(&self, cx: &SinkContext) -> Option<PathBuf> {
        S::folder(&self.0, cx)
    }

    fn preview(&self, cx: &SinkContext, cut: &WriteBatch) -> Option<Result<Vec<u8>, Failure>> {
        S::preview(&self.0, cx, cut)
    }

    fn open<'a>(&'a self, cx: &'a SinkContext) -> Answer<'a, Arc<dyn AnySink>> {
        Box::pin(async move { S::open(&self.0, cx).await.map(|sink| Arc::new(sink) as Arc<dyn AnySink>) })
    }

    fn lost_from<'a>(&'a self, cx: &'a SinkContext) -> Pin<Box<dyn Future<Output = Option<u64>> + Send + 'a>> {
        Box::pin(S::lost_from(&self.0, cx))
    }
}

impl<S: Sink> AnySink for S {
    fn encode(&self, cut: &WriteBatch) -> Result<Box<dyn Any + Send + Sync>, Failure> {
        Sink::encode(self, cut).map(|payload| Box::new(payload) as Box<dyn Any + Send + Sync>)
    }

    fn write<'a>(&'a self, cut: &'a WriteBatch, payload: &'a (dyn Any + Send + Sync)) -> Answer<'a, Written> {
        let payload = payload.downcast_ref::<S::Payload>().expect("the payload came from this sink's encode");
        Box::pin(Sink::write(self, cut, payload))
    }

    fn memory(&self) -> Option<Bytes> {
        Sink::memory(self)
    }

    fn leaves(&self) -> Option<Left> {
        Sink::leaves(self)
    }

    fn destination(&self, event: BatchEvent<'_>) -> Option<String> {
        Sink::destination(self, event)
    }

    fn findings(&self) -> Findings {
        Sink::findings(self)
    }
}
