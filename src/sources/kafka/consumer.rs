//! The consumer context: partition assignments and commit results while polling.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tracing::{debug, info, warn};

use super::lane::{Handed, Lane, Tenure};
use super::place::{self, GroupId, Place, Remembered};
use super::{Config, Start};
use crate::codec::Decoder;
use crate::component::{Chunk, Job, JobStatus, OnBad, Outcome, SourceContext, Wait};
use crate::event::{Provenance, Seed};
use crate::journal::{self, MemoryPermit};
use crate::net::kafka::{Common, log};
use crate::units::Timestamp;

/// How long revoked partitions wait for the journal, so that nothing in flight is read twice.
pub const DRAIN: Duration = Duration::from_secs(5);
/// How long one question to the brokers may take, and how long it is repeated.
const ASK: Duration = Duration::from_secs(5);
const ASK_FOR: Duration = Duration::from_secs(60);

pub type Reader = BaseConsumer<Context>;

pub struct Context {
    pub common: Common,
    pub cx: SourceContext,
    pub config: Config,
    pub decoder: Arc<dyn Decoder>,
    pub runtime: Handle,
    pub cluster: Mutex<String>,
    state: Mutex<State>,
}

/// What is ours.
#[derive(Default)]
pub struct State {
    pub lanes: BTreeMap<String, BTreeMap<i32, Lane>>,
    submissions: FuturesUnordered<Landing>,
    /// What was committed, on its way into the journal.
    statements: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
    assignments: u64,
}

type Landing = Pin<Box<dyn Future<Output = Landed> + Send>>;

struct Landed {
    topic: Arc<str>,
    partition: i32,
    tenure: Tenure,
    slot: u8,
    start: u64,
    outcome: Outcome,
}

impl State {
    pub fn lane(&mut self, topic: &str, partition: i32) -> Option<&mut Lane> {
        self.lanes.get_mut(topic)?.get_mut(&partition)
    }

    pub fn all(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.values().flat_map(BTreeMap::values)
    }

    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.values_mut().flat_map(BTreeMap::values_mut)
    }

    /// Enters the verdicts that have come.
    pub fn land(&mut self) {
        while let Some(Some(())) = self.statements.next().now_or_never() {}
        while let Some(Some(landed)) = self.submissions.next().now_or_never() {
            self.enter(landed);
        }
    }

    /// Waits for the next outcome and enters it; for ever if none is due.
    pub async fn next_landing(&mut self) {
        match self.submissions.next().await {
            Some(landed) => self.enter(landed),
            None => std::future::pending().await,
        }
    }

    fn enter(&mut self, landed: Landed) {
        let Landed { topic, partition, tenure, slot, start, outcome } = landed;
        let is_taken = match outcome.status {
            JobStatus::Failed(reason) => {
                warn!(%topic, partition, %reason, "submitting messages again");
                false
            }
            JobStatus::Full | JobStatus::TooLarge => false,
            _ => true,
        };
        // What was read in an earlier tenure no longer counts.
        if let Some(lane) = self.lane(&topic, partition).filter(|lane| lane.tenure() == tenure) {
            lane.settle(start, slot, is_taken, Instant::now());
        }
    }

    /// What may be committed and is not, of all partitions or of these.
    fn uncommitted(&self, of: Option<&TopicPartitionList>) -> TopicPartitionList {
        let mut offsets = TopicPartitionList::new();
        for lane in self.all() {
            let is_meant = of.is_none_or(|of| of.find_partition(&lane.topic, lane.partition).is_some());
            let Some(done) = lane.to_commit().filter(|_| is_meant) else { continue };
            let added = offsets.add_partition_offset(&lane.topic, lane.partition, Offset::Offset(done as i64));
            added.expect("an offset below 2^63 is one");
        }
        offsets
    }
}

impl Context {
    pub fn new(
        common: Common,
        cx: SourceContext,
        config: Config,
        decoder: Arc<dyn Decoder>,
        runtime: Handle,
    ) -> Context {
        Context { common, cx, config, decoder, runtime, cluster: Mutex::default(), state: Mutex::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cluster(&self) -> String {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Submits the next chunk of a partition, with the position that says so.
    pub fn hand_in(&self, state: &mut State, topic: &str, partition: i32, permit: MemoryPermit) {
        let Some(lane) = state.lane(topic, partition) else { return };
        let empty = std::mem::take(&mut lane.empty);
        if empty > 0 {
            self.cx.intake.refused(empty);
        }
        let Some(Handed { sealed, slot, start, stated }) = lane.hand() else { return };
        let (cx, tenure, topic) = (&self.cx, lane.tenure(), lane.topic.clone());
        cx.intake.received_bytes(sealed.chunk.bytes.len() as u64);
        let mark = journal::Position {
            source: cx.name.clone(),
            key: place::key(&self.cluster(), &topic, partition, slot),
            value: stated.encode(),
        };
        let decoder = sealed.ids.decoder(&self.decoder);
        let marks = if cx.durable { vec![mark] } else { Vec::new() };
        let job = self.job(vec![sealed.chunk], decoder, lane.seed, marks);
        let receipt = cx.intake.submit(Job { permit: Some(permit), origin: Some(lane.words.clone()), ..job });
        let landed = move |outcome| Landed { topic, partition, tenure, slot, start, outcome };
        state.submissions.push(Box::pin(receipt.map(landed)));
    }

    /// Commits what the journal has; `false` if that was refused.
    pub fn commit(&self, consumer: &Reader, of: Option<&TopicPartitionList>, mode: CommitMode) -> bool {
        let offsets = self.state().uncommitted(of);
        if offsets.count() == 0 {
            return true;
        }
        match consumer.commit(&offsets, mode) {
            Ok(()) if matches!(mode, CommitMode::Sync) => self.committed(&offsets),
            Ok(()) => {}
            // Whoever has the partition next reads these messages again; they keep their ids.
            Err(error) => {
                debug!(source = %self.cx.name, %error, "offsets are not committed");
                return false;
            }
        }
        true
    }

    /// Notes what was committed, in the journal too: a group that is below that when it is read again was set back.
    fn committed(&self, offsets: &TopicPartitionList) {
        let mut state = self.state();
        let mut marks = Vec::new();
        for element in offsets.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            if let (Some(lane), Ok(()), Offset::Offset(offset)) =
                (state.lane(topic, partition), element.error(), element.offset())
            {
                lane.committed = u64::try_from(offset).ok();
                marks.extend(lane.state_committed().map(|stated| journal::Position {
                    source: self.cx.name.clone(),
                    key: place::key(&self.cluster(), topic, partition, place::COMMITTED),
                    value: stated.encode(),
                }));
            }
        }
        if self.cx.durable && !marks.is_empty() {
            let receipt = self.cx.intake.submit(self.job(Vec::new(), self.decoder.clone(), Seed::default(), marks));
            state.statements.push(Box::pin(receipt.map(drop)));
        }
    }

    /// Waits a while until the journal has what was stated last.
    pub fn state_all(&self) {
        let mut statements = std::mem::take(&mut self.state().statements);
        let all = async { while statements.next().await.is_some() {} };
        // What is not stated costs that messages are read again.
        let _ = self.runtime.block_on(async { tokio::time::timeout(DRAIN, all).await });
    }

    fn job(&self, chunks: Vec<Chunk>, decoder: Arc<dyn Decoder>, seed: Seed, marks: Vec<journal::Position>) -> Job {
        let source = self.cx.name.clone();
        let provenance = Provenance { source, seed, received_at: Timestamp::now(), peer: None, stamp: None };
        Job {
            chunks,
            decoder,
            provenance: Arc::new(provenance),
            marks,
            on_bad: OnBad::DeadLetter,
            wait: Wait::Journal,
            key: None,
            permit: None,
            origin: None,
        }
    }

    /// Takes nothing more of these partitions and waits until the journal has answered for them, or for a while.
    pub fn settle(&self, of: &TopicPartitionList) {
        let mut state = self.state();
        let ours = names(of);
        for (topic, partition) in &ours {
            if let Some(lane) = state.lane(topic, *partition) {
                lane.let_go();
            }
        }
        let all_settled = |state: &mut State| {
            ours.iter().all(|(topic, partition)| state.lane(topic, *partition).is_none_or(|lane| lane.is_settled()))
        };
        let settling = async {
            while !all_settled(&mut state) {
                state.next_landing().await;
            }
        };
        let settled = self.runtime.block_on(async { tokio::time::timeout(DRAIN, settling).await });
        if settled.is_err() {
            warn!(source = %self.cx.name, "the journal did not answer in time: messages may be read twice, with their ids");
        }
    }

    /// Gives partitions back: what the journal has of them is committed.
    fn give_back(&self, consumer: &Reader, of: &TopicPartitionList) {
        self.settle(of);
        // Whoever gets them reads again what could not be committed.
        self.commit(consumer, Some(of), CommitMode::Sync);
        self.state_all();
        let mut state = self.state();
        for (topic, partition) in names(of) {
            if let Some(lanes) = state.lanes.get_mut(&topic) {
                lanes.remove(&partition);
            }
        }
    }

    /// Takes partitions: says in the list where reading begins.
    fn take(&self, consumer: &Reader, list: &mut TopicPartitionList) {
        let committed = self.ask_committed(consumer, list);
        let cluster = self.cluster();
        let group = GroupId::of(&self.config.group);
        let remembered = place::remembered(self.cx.intake.positions(), &cluster, group);
        for (topic, partition) in names(list) {
            let element = committed.as_ref().and_then(|committed| committed.find_partition(&topic, partition));
            let group_has = match element.map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => u64::try_from(offset).ok(),
                _ => None,
            };
            let known = remembered.get(&(topic.clone(), partition));
            let place = self
                .anew(consumer, &topic, partition, group_has.is_none() && committed.is_some(), known)
                .or_else(|| place::place(group_has, known))
                .or_else(|| committed.is_some().then(|| self.beginning(consumer, &topic, partition)).flatten());
            let mut state = self.state();
            state.assignments += 1;
            let mut lane = Lane::new(&cluster, group, &topic, partition, state.assignments, place);
            lane.committed = group_has;
            let next = lane.next();
            let offset = next.map_or(Offset::Stored, |next| Offset::Offset(next as i64));
            info!(source = %self.cx.name, topic, partition, offset = next, "partition assigned");
            list.set_partition_offset(&topic, partition, offset).expect("the partition is in the list");
            state.lanes.entry(topic).or_default().insert(partition, lane);
        }
    }

    /// The beginning of a topic that is another than the one that was read under its name.
    fn anew(
        &self,
        consumer: &Reader,
        topic: &str,
        partition: i32,
        has_forgotten: bool,
        known: Option<&Remembered>,
    ) -> Option<Place> {
        let known = known.filter(|_| has_forgotten)?;
        let (_, high) = self.insist(|| consumer.fetch_watermarks(topic, partition, ASK))?;
        if !known.is_of_another_topic(None, u64::try_from(high).ok()?) {
            return None;
        }
        warn!(source = %self.cx.name, topic, partition, end = high, "the topic was made anew since it was read: it is read from its beginning");
        self.beginning(consumer, topic, partition).map(|beginning| known.begin_anew(beginning))
    }

    /// Where a group begins that has read nothing; said in numbers, so that it holds after a restart.
    pub fn beginning(&self, consumer: &Reader, topic: &str, partition: i32) -> Option<Place> {
        let (low, high) = self.insist(|| consumer.fetch_watermarks(topic, partition, ASK))?;
        let offset = match self.config.start {
            Start::Oldest => low,
            Start::End => high,
        };
        Some(Place::starting_at(0, u64::try_from(offset).ok()?))
    }

    fn ask_committed(&self, consumer: &Reader, list: &TopicPartitionList) -> Option<TopicPartitionList> {
        self.insist(|| {
            let answer = consumer.committed_offsets(list.clone(), ASK)?;
            answer.elements().iter().try_for_each(|element| element.error())?;
            Ok(answer)
        })
    }

    /// Asks again until there is an answer: guessing would lose messages, or double them.
    fn insist<T>(&self, ask: impl Fn() -> KafkaResult<T>) -> Option<T> {
        let until = Instant::now() + ASK_FOR;
        loop {
            match ask() {
                Ok(answer) => return Some(answer),
                Err(error) if Instant::now() >= until || self.cx.shutdown.is_cancelled() => {
                    warn!(source = %self.cx.name, %error, "cannot get the offset to continue from");
                    return None;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

fn names(list: &TopicPartitionList) -> Vec<(String, i32)> {
    list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.common.note(&error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.common.generate_oauth_token(config)
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &Reader, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let is_cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.take(consumer, list);
            let assigned = if is_cooperative { consumer.incremental_assign(list) } else { consumer.assign(list) };
            // A partition that left while it was paused is paused still when it comes back.
            assigned.and_then(|()| consumer.resume(list))
        } else {
            info!(source = %self.cx.name, partitions = list.count(), "partitions revoked");
            self.give_back(consumer, list);
            if is_cooperative { consumer.incremental_unassign(list) } else { consumer.unassign() }
        };
        if let Err(error) = done {
            warn!(source = %self.cx.name, %error, "rebalancing failed");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        match result {
            Ok(()) => self.committed(offsets),
            Err(error) => debug!(source = %self.cx.name, %error, "offsets are not committed"),
        }
    }
}
