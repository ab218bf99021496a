//! The consumer loop: reads messages, submits them and commits offsets.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tracing::{debug, info, warn};

use super::consumer::{Context, Reader, State};
use super::lane::{Answer, Held, Message, Tenure};
use super::{Config, OutOfRange, SETTINGS};
use crate::codec::Decoder;
use crate::component::SourceContext;
use crate::journal::ReserveError;
use crate::net::kafka::{Common, ID_HEADER};

/// How long messages wait to be submitted together.
const LINGER: Duration = Duration::from_millis(5);
/// Bytes that wait for others, over all partitions.
const MOST_GATHERED: usize = 4 << 20;
/// Messages that are taken before anything else is looked after.
const BURST: usize = 1000;
/// How long the consumer is polled for, at most.
const POLL: Duration = Duration::from_millis(100);
/// How long what happens in the group is looked at while reading is paused.
const NOTICE: Duration = Duration::from_millis(10);
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How often the brokers are asked while something is wrong.
const CHECK_EVERY: Duration = Duration::from_secs(3);
/// How long one question to the brokers may take.
const ASK: Duration = Duration::from_secs(1);
/// How long brokers may be silent before it is an error.
const SILENCE: Duration = Duration::from_secs(5);
/// How long reading waits for memory before it tells the brokers that it waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long committing is tried before the group is left.
const LEAVE: Duration = Duration::from_secs(2);
/// How long a consumer rests that has to be made afresh.
const REST: Duration = Duration::from_secs(1);

/// Reads until the source stops.
pub fn run(config: &Config, decoder: &Arc<dyn Decoder>, cx: &SourceContext, runtime: &Handle) {
    while !cx.shutdown.is_cancelled() {
        let Err(reason) = session(config, decoder, cx, runtime) else { return };
        warn!(source = %cx.name, reason, "reconnecting");
        cx.intake.trouble(Some(reason));
        runtime.block_on(async {
            tokio::select! {
                () = cx.shutdown.cancelled() => {}
                () = tokio::time::sleep(REST) => {}
            }
        });
    }
}

/// One consumer's life; fails where another one has to take over.
fn session(config: &Config, decoder: &Arc<dyn Decoder>, cx: &SourceContext, runtime: &Handle) -> Result<(), String> {
    let access = config.access();
    let common = {
        // Tokens are fetched on the runtime.
        let _guard = runtime.enter();
        Common::new(&access)?
    };
    let mut settings = access.settings(&cx.name, SETTINGS)?;
    settings.set("group.id", &config.group);
    let context = Context::new(common, cx.clone(), config.clone(), decoder.clone(), runtime.clone());
    let consumer: Reader =
        settings.create_with_context(context).map_err(|error| format!("librdkafka refuses these options: {error}"))?;
    let mut reading = Reading {
        context: consumer.context().clone(),
        consumer,
        said: None,
        problem: None,
        suspects: Cell::new(false),
    };
    if !reading.meet() {
        return Ok(());
    }
    let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
    reading.consumer.subscribe(&topics).map_err(|error| format!("cannot read these topics: {error}"))?;
    let ended = reading.read();
    reading.leave();
    ended
}

struct Reading {
    consumer: Reader,
    context: Arc<Context>,
    /// The state for health.
    said: Option<String>,
    /// What is wrong with the topics.
    problem: Option<String>,
    /// Whether there was an error of unknown cause.
    suspects: Cell<bool>,
}

/// What has to happen before more is read.
enum Need {
    Nothing,
    MemoryPermit(usize),
    JobStatus,
}

impl Need {
    fn reason(&self) -> &'static str {
        match self {
            Need::MemoryPermit(_) => "the journal is full",
            Need::Nothing | Need::JobStatus => "the journal has not answered yet",
        }
    }
}

impl Reading {
    /// Learns the cluster's id, which ids and positions need; `false` when the source stops before.
    fn meet(&mut self) -> bool {
        let began = Instant::now();
        let first = self.context.config.topics.first().filter(|topic| !topic.starts_with('^')).cloned();
        while !self.stops() {
            // To ask for anything makes the client connect at once; the id comes with the answer.
            let answer = self.consumer.fetch_metadata(first.as_deref(), ASK);
            if answer.is_ok()
                && let Some(id) = self.consumer.client().fetch_cluster_id(ASK)
            {
                *self.context.cluster.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = id;
                return true;
            }
            drop(self.consumer.poll(Duration::ZERO));
            let fault = self.context.common.fault().map(|fault| fault.reason().to_owned());
            let silence = || (began.elapsed() >= SILENCE).then(|| self.context.common.silence(SILENCE));
            if let Some(reason) = fault.or_else(silence) {
                self.say(Some(reason));
            }
        }
        false
    }

    fn stops(&self) -> bool {
        self.context.cx.shutdown.is_cancelled()
    }

    fn read(&mut self) -> Result<(), String> {
        let mut held: VecDeque<Held> = VecDeque::new();
        let (mut is_paused, mut gathered_since) = (false, None::<Instant>);
        let (mut commit_at, mut check_at) = (Instant::now(), Instant::now());
        while !self.stops() {
            let now = Instant::now();
            if now >= commit_at {
                // What is refused now is committed next time.
                self.context.commit(&self.consumer, None, CommitMode::Async);
                commit_at = now + COMMIT_EVERY;
            }
            if now >= check_at {
                self.check();
                check_at = Instant::now() + CHECK_EVERY;
            }
            if gathered_since.is_some_and(|since| now >= since + LINGER) || self.gathered() > MOST_GATHERED {
                self.context.state().all_mut().for_each(|lane| lane.seal());
                gathered_since = None;
            }
            match self.drive()? {
                Need::Nothing => {}
                need if self.wait(&need) => continue,
                need => {
                    // To poll is to stay a member; paused partitions give nothing.
                    if !is_paused {
                        info!(source = %self.context.cx.name, "reading is paused: {}", need.reason());
                    }
                    is_paused = true;
                    self.pause();
                    held.extend(self.poll(NOTICE)?.and_then(|message| self.hold(&message)));
                    continue;
                }
            }
            if is_paused {
                is_paused = !self.resume();
                if !is_paused {
                    info!(source = %self.context.cx.name, "reading goes on");
                }
            }
            while let Some(message) = held.front() {
                match self.accept(&message.topic, message.partition, Some(message.tenure), message.message()) {
                    Answer::Later => break,
                    Answer::Taken => {
                        // It may be the last one, so that no other begins the wait for company.
                        gathered_since.get_or_insert_with(Instant::now);
                        held.pop_front();
                    }
                }
            }
            if !held.is_empty() {
                continue;
            }
            let patience = gathered_since.map_or(POLL, |since| LINGER.saturating_sub(since.elapsed()));
            let first = self.poll(patience)?.map(|message| self.take(&message, &mut held));
            let mut more = first.is_some();
            let mut taken = 1;
            while more && held.is_empty() && taken < BURST {
                let next = self.poll(Duration::ZERO)?.map(|message| self.take(&message, &mut held));
                (more, taken) = (next.is_some(), taken + 1);
            }
            if first.is_some() {
                self.context.common.works();
                gathered_since.get_or_insert_with(Instant::now);
            }
        }
        Ok(())
    }

    /// Takes a message now, or holds it.
    fn take(&self, message: &BorrowedMessage<'_>, held: &mut VecDeque<Held>) {
        let Ok(offset) = u64::try_from(message.offset()) else { return };
        let told = Message { offset, value: message.payload(), id: id_of(message) };
        if self.accept(message.topic(), message.partition(), None, told) == Answer::Later {
            held.extend(self.hold(message));
        }
    }

    /// Takes a message that comes now, or one that was held in a tenure.
    fn accept(&self, topic: &str, partition: i32, since: Option<Tenure>, message: Message<'_>) -> Answer {
        let mut state = self.context.state();
        // Whoever has the partition now reads it, from where it was committed: this may be us again.
        let lane = state.lane(topic, partition).filter(|lane| since.is_none_or(|since| since == lane.tenure()));
        let Some(lane) = lane else { return Answer::Taken };
        if lane.is_waiting() { Answer::Later } else { lane.accept(message, self.context.cx.event_bytes) }
    }

    /// Keeps a message until its partition takes it; nothing where the partition is no longer ours.
    fn hold(&self, message: &BorrowedMessage<'_>) -> Option<Held> {
        let tenure = self.context.state().lane(message.topic(), message.partition())?.tenure();
        Some(Held {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            tenure,
            offset: u64::try_from(message.offset()).ok()?,
            value: message.payload().map(Bytes::copy_from_slice),
            id: id_of(message).map(Bytes::copy_from_slice),
        })
    }

    fn gathered(&self) -> usize {
        self.context.state().all().map(|lane| lane.gathered_bytes()).sum()
    }

    /// Enters outcomes and submits what waits, as far as there is memory.
    fn drive(&self) -> Result<Need, String> {
        let mut state = self.context.state();
        state.land();
        let now = Instant::now();
        loop {
            let wanting = state.all().find_map(|lane| Some((lane.topic.clone(), lane.partition, lane.wants(now)?)));
            let Some((topic, partition, bytes)) = wanting else { break };
            match self.context.cx.intake.try_reserve(bytes) {
                Ok(permit) => self.context.hand_in(&mut state, &topic, partition, permit),
                Err(ReserveError::Full(_)) => return Ok(Need::MemoryPermit(bytes)),
                // The agent is stopping; this loop ends soon.
                Err(ReserveError::Closed) => return Ok(Need::JobStatus),
            }
        }
        Ok(if state.all().any(|lane| lane.is_waiting()) { Need::JobStatus } else { Need::Nothing })
    }

    /// Waits a moment for memory; returns whether to try again.
    fn wait(&self, need: &Need) -> bool {
        let (mut state, cx) = (self.context.state(), &self.context.cx);
        let state: &mut State = &mut state;
        let permit = async {
            match need {
                // What was granted is given back: it is taken where it is used.
                Need::MemoryPermit(bytes) => drop(cx.intake.reserve(*bytes).await),
                _ => std::future::pending().await,
            }
        };
        let pause = if matches!(need, Need::JobStatus) { PATIENCE / 10 } else { PATIENCE };
        self.context.runtime.block_on(async {
            tokio::select! {
                () = permit => true,
                () = state.next_landing() => true,
                () = cx.shutdown.cancelled() => true,
                () = tokio::time::sleep(pause) => false,
            }
        })
    }

    /// Pauses all partitions; where that fails their messages are held until it succeeds.
    fn pause(&self) {
        let done = self.consumer.assignment().and_then(|assignment| self.consumer.pause(&assignment));
        if let Err(error) = done {
            debug!(source = %self.context.cx.name, %error, "partitions could not be paused");
        }
    }

    /// Lets all partitions go on; says whether they do.
    fn resume(&self) -> bool {
        let done = self.consumer.assignment().and_then(|assignment| self.consumer.resume(&assignment));
        if let Err(error) = &done {
            warn!(source = %self.context.cx.name, %error, "partitions could not be resumed; trying again");
        }
        done.is_ok()
    }

    fn poll(&self, patience: Duration) -> Result<Option<BorrowedMessage<'_>>, String> {
        match self.consumer.poll(patience) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(message)),
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => Err(format!("the consumer cannot go on: {code}")),
            Some(Err(KafkaError::MessageConsumption(Code::AutoOffsetReset))) => {
                self.find_lost();
                Ok(None)
            }
            Some(Err(error)) => {
                // What lasts shows when the brokers are asked.
                self.suspects.set(true);
                debug!(source = %self.context.cx.name, %error, "librdkafka reports an error");
                Ok(None)
            }
        }
    }

    /// Finds the partitions whose next message is gone, and does with them what the operator wants.
    fn find_lost(&self) {
        let (context, config) = (&self.context, &self.context.config);
        let lanes: Vec<(Arc<str>, i32, Option<u64>)> = {
            let state = context.state();
            let lanes = state.all().filter(|lane| lane.stopped.is_none());
            lanes.map(|lane| (lane.topic.clone(), lane.partition, lane.next())).collect()
        };
        let mut moved = TopicPartitionList::new();
        for (topic, partition, next) in lanes {
            let Ok((low, high)) = self.consumer.fetch_watermarks(&topic, partition, ASK) else { continue };
            let (low, high) = (low.max(0) as u64, high.max(0) as u64);
            if next.is_some_and(|next| (low..=high).contains(&next)) {
                continue;
            }
            let to = match (next, config.out_of_range) {
                // It was not known where to begin.
                (None, _) => context.beginning(&self.consumer, &topic, partition).map(|place| place.ranges.cursor()),
                (Some(_), OutOfRange::Stop) => None,
                (Some(_), OutOfRange::Oldest) => Some(low),
                (Some(_), OutOfRange::End) => Some(high),
            };
            let mut state = context.state();
            let Some(lane) = state.lane(&topic, partition) else { continue };
            let next = next.unwrap_or(low);
            match to {
                Some(to) => {
                    warn!(source = %context.cx.name, %topic, partition, next, oldest = low, end = high, to,
                        "the next message was removed by retention; continuing at another offset");
                    lane.jump(to);
                    moved.add_partition(&topic, partition);
                }
                None => {
                    lane.stopped = Some(format!(
                        "partition {partition} of `{topic}` is stopped: offset {next} is gone, {low} to {high} exist; set `out_of_range` to `oldest` or `end`, or set the group `{}` to another offset",
                        config.group
                    ));
                }
            }
        }
        if moved.count() > 0
            && let Err(error) = self.reassign(&moved)
        {
            warn!(source = %context.cx.name, %error, "cannot seek to the next offset");
        }
    }

    /// Reads these partitions where their lanes want to go on: a partition without an offset cannot be sought.
    fn reassign(&self, moved: &TopicPartitionList) -> KafkaResult<()> {
        let is_cooperative = matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let mut list = TopicPartitionList::new();
        for lane in self.context.state().all().filter(|lane| lane.stopped.is_none()) {
            let is_moved = moved.find_partition(&lane.topic, lane.partition).is_some();
            if let Some(next) = lane.next().filter(|_| is_moved || !is_cooperative) {
                list.add_partition_offset(&lane.topic, lane.partition, Offset::Offset(next as i64))?;
            }
        }
        if is_cooperative {
            self.consumer.incremental_unassign(moved)?;
            return self.consumer.incremental_assign(&list);
        }
        self.consumer.assign(&list)
    }

    /// Checks whether the problem persists, and updates health.
    fn check(&mut self) {
        let stopped = self.context.state().all().find_map(|lane| lane.stopped.clone());
        let fault = self.context.common.fault();
        let has_lanes = self.context.state().all().next().is_some();
        if fault.is_some() || self.problem.is_some() || !has_lanes || self.suspects.replace(false) {
            self.ask();
        }
        let fault = self.context.common.fault().map(|fault| fault.reason().to_owned());
        self.say(stopped.or(fault).or(self.problem.clone()));
    }

    fn ask(&mut self) {
        for topic in &self.context.config.topics {
            if topic.starts_with('^') {
                continue;
            }
            let Ok(metadata) = self.consumer.fetch_metadata(Some(topic), ASK) else { return };
            let error = metadata.topics().first().and_then(|topic| topic.error());
            self.problem = match error.map(Code::from) {
                None | Some(Code::LeaderNotAvailable) => None,
                Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                    Some(format!("there is no topic `{topic}`"))
                }
                Some(Code::TopicAuthorizationFailed) => Some(format!("no permission to read the topic `{topic}`")),
                Some(code) => Some(format!("the topic `{topic}` cannot be read: {code}")),
            };
            if self.problem.is_some() {
                break;
            }
        }
        self.context.common.works();
    }

    fn say(&mut self, what: Option<String>) {
        if self.said == what {
            return;
        }
        let source = &self.context.cx.name;
        match &what {
            Some(what) => warn!(%source, reason = what, "cannot read"),
            None => info!(%source, "reads"),
        }
        self.context.cx.intake.trouble(what.clone());
        self.said = what;
    }

    /// Waits for what is on its way, commits, and leaves the group.
    fn leave(self) {
        let Ok(assignment) = self.consumer.assignment() else { return };
        self.context.settle(&assignment);
        let began = Instant::now();
        // While partitions are exchanged nothing may be committed, and exchanging them needs us to poll.
        while !self.context.commit(&self.consumer, None, CommitMode::Sync) && began.elapsed() < LEAVE {
            drop(self.consumer.poll(POLL));
        }
        self.context.state_all();
    }
}

fn id_of<'m>(message: &'m BorrowedMessage<'_>) -> Option<&'m [u8]> {
    message.headers()?.iter().find(|header| header.key == ID_HEADER)?.value
}
