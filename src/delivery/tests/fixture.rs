//! A scripted sink with its feed and its accounting.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::fake_feed::FakeFeed;
use super::*;
use crate::component::{AnySink, BatchEvent, WriteBatch, Written};
use crate::event::{Id, Raw};
use crate::journal::dead_letters::NewDeadLetter;
use crate::toolkit::fake::sink_context;

pub use super::fake_feed::FIRST_SEQ;

/// Waits on the paused clock, but not for ever by the real one, which the threads of the journal and of the queue need.
pub async fn until(mut is_so: impl FnMut() -> bool) {
    let given_up = std::time::Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(std::time::Instant::now() < given_up, "it never came to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn few(events: usize) -> Batching {
    Batching { events: NonZeroUsize::new(events).unwrap(), ..Batching::default() }
}

pub fn dead_letter(component: &str, bytes: usize) -> NewDeadLetter {
    NewDeadLetter {
        component: component.to_owned(),
        kind: ComponentKind::Sink,
        body: Bytes::from(vec![b'x'; bytes]),
        event_id: None,
        seed: Seed::default(),
        ordinal: 0,
        seq: None,
        received_at: Timestamp(0),
        stamp: None,
        reason: String::new(),
        answer: String::new(),
        attempts: 0,
        origin: None,
        parked: None,
    }
}

pub enum Answer {
    Fail(Failure),
    Hang,
    Panic,
    Slow(Duration),
    /// These events of the write batch fail, as poison or for now; the others are written.
    Partial(Vec<(u8, bool)>),
}

/// What a sink does; by itself it writes everything at once.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<State>>, Arc<Notify>);

#[derive(Default)]
struct State {
    open: VecDeque<Failure>,
    next: VecDeque<Answer>,
    poison: BTreeSet<u64>,
    /// Events whose refusal looks like the target's own state; all are refused so if it says so.
    ambiguous: BTreeSet<u64>,
    all_ambiguous: bool,
    /// Events on which the target fails, as if it might pass.
    failing: BTreeSet<u64>,
    /// Events go to so many places in turn, if it is not 0; these refuse them for so many writes.
    places: u64,
    refusing: BTreeMap<u64, usize>,
    panics_on: Option<u64>,
    remembers: bool,
    opened: usize,
    memory_at_open: Vec<Option<(u64, u64)>>,
    sizes: Vec<usize>,
    written: Vec<u64>,
    last_id: Option<Id>,
}

impl Script {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn open_fails(&self, failures: impl IntoIterator<Item = Failure>) {
        self.state().open.extend(failures);
    }

    pub fn then(&self, answer: Answer) {
        self.state().next.push_back(answer);
    }

    pub fn poison(&self, events: impl IntoIterator<Item = u64>) {
        self.state().poison.extend(events);
    }

    pub fn ambiguous(&self, events: impl IntoIterator<Item = u64>) {
        self.state().ambiguous.extend(events);
    }

    pub fn refuses_all(&self, refuses: bool) {
        self.state().all_ambiguous = refuses;
    }

    pub fn fails_on(&self, events: impl IntoIterator<Item = u64>) {
        self.state().failing.extend(events);
    }

    /// The n-th event goes to the place `n % places`.
    pub fn has_places(&self, places: u64) {
        self.state().places = places;
    }

    /// A place refuses everything in the next so many writes.
    pub fn refuses(&self, place: u64, writes: usize) {
        let refusing = &mut self.state().refusing;
        refusing.insert(place, writes);
        refusing.retain(|_, left| *left > 0);
    }

    pub fn panics_on(&self, event: u64) {
        self.state().panics_on = Some(event);
    }

    pub fn remembers(&self) {
        self.state().remembers = true;
    }

    pub fn heal(&self) {
        self.state().poison.clear();
        self.state().failing.clear();
    }

    pub fn opened(&self) -> usize {
        self.state().opened
    }

    pub fn memory_at_open(&self) -> Vec<Option<(u64, u64)>> {
        self.state().memory_at_open.clone()
    }

    /// Events of each write that reached the sink.
    pub fn sizes(&self) -> Vec<usize> {
        self.state().sizes.clone()
    }

    pub fn written(&self) -> Vec<u64> {
        self.state().written.clone()
    }

    pub fn last_id(&self) -> Option<Id> {
        self.state().last_id
    }

    pub async fn wait_for(&self, events: usize) {
        while self.state().written.len() < events {
            self.1.notified().await;
        }
    }

    fn partly(&self, events: &[u64], failures: &[(u8, bool)]) -> Result<Written, Failure> {
        let mut state = self.state();
        let mut failed: std::collections::BTreeMap<usize, Failure> = failures
            .iter()
            .map(|(at, for_good)| match for_good {
                true => (*at as usize % events.len(), Failure::poison("no")),
                false => (*at as usize % events.len(), Failure::transient("busy")),
            })
            .collect();
        for (at, event) in events.iter().enumerate() {
            if state.poison.contains(event) {
                failed.insert(at, Failure::poison("out of range"));
            } else if !failed.contains_key(&at) {
                state.written.push(*event);
            }
        }
        Err(Failure::some(failed.into_iter().collect()))
    }

    /// What the places say of these events, if any of them refuses some.
    fn refused(&self, events: &[u64]) -> Option<Failure> {
        let mut state = self.state();
        if state.places == 0 {
            return None;
        }
        let places: BTreeSet<u64> = events.iter().map(|event| event % state.places).collect();
        let refusing: BTreeSet<u64> = places.into_iter().filter(|place| state.refusing.contains_key(place)).collect();
        if refusing.is_empty() {
            return None;
        }
        for place in &refusing {
            let left = state.refusing.get_mut(place).expect("it refuses");
            *left = left.saturating_sub(1);
        }
        state.refusing.retain(|_, left| *left > 0);
        let mut failures = Vec::new();
        for (at, event) in events.iter().enumerate() {
            if refusing.contains(&(event % state.places)) {
                failures.push((at, Failure::configuration(format!("no place p{}", event % state.places))));
            } else if state.poison.contains(event) {
                failures.push((at, Failure::poison(format!("{event} is out of range"))));
            } else {
                state.written.push(*event);
            }
        }
        Some(Failure::some(failures))
    }

    async fn answer(&self, events: &[u64], id: Option<Id>) -> Result<Written, Failure> {
        let answer = {
            let mut state = self.state();
            state.sizes.push(events.len());
            state.next.pop_front()
        };
        match answer {
            None => {}
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Panic) => panic!("as the script says"),
            Some(Answer::Slow(time)) => tokio::time::sleep(time).await,
            Some(Answer::Partial(failures)) => return self.partly(events, &failures),
            Some(Answer::Fail(failure)) => {
                if let Failure::Some(failures, _) = &failure {
                    let failed: Vec<usize> = failures.iter().map(|(at, _)| *at).collect();
                    let good = (0..events.len()).filter(|at| !failed.contains(at)).map(|at| events[at]);
                    // An answer about other events says nothing about these.
                    if !failed.is_empty() && failed.iter().all(|at| *at < events.len()) {
                        self.state().written.extend(good);
                    }
                }
                return Err(failure);
            }
        }
        if self.state().panics_on.is_some_and(|event| events.contains(&event)) {
            panic!("on this event");
        }
        if let Some(failure) = self.refused(events) {
            self.1.notify_one();
            return Err(failure);
        }
        let mut state = self.state();
        if state.all_ambiguous || events.iter().any(|event| state.ambiguous.contains(event)) {
            return Err(Failure::ambiguous("not allowed"));
        }
        if events.iter().any(|event| state.failing.contains(event)) {
            return Err(Failure::transient("out of order"));
        }
        if let Some(bad) = events.iter().find(|event| state.poison.contains(event)) {
            return Err(Failure::poison(format!("{bad} is out of range")));
        }
        state.written.extend(events);
        state.last_id = id;
        drop(state);
        self.1.notify_one();
        Ok(Written { bytes: events.len() as u64, ..Written::default() })
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

impl AnySinkConfig for Script {
    fn type_name(&self) -> &'static str {
        "scripted"
    }

    fn promise(&self) -> crate::component::Promise {
        crate::component::Promise::BestEffort
    }

    fn open<'a>(&'a self, cx: &'a SinkContext) -> Boxed<'a, Arc<dyn AnySink>> {
        Box::pin(async move {
            let mut state = self.state();
            if let Some(failure) = state.open.pop_front() {
                return Err(failure);
            }
            state.opened += 1;
            let memory =
                cx.memory.as_ref().map(|(seq, memory)| (*seq, u64::from_le_bytes(memory[..].try_into().unwrap())));
            state.memory_at_open.push(memory);
            drop(state);
            Ok(Arc::new(self.clone()) as Arc<dyn AnySink>)
        })
    }
}

impl AnySink for Script {
    fn encode(&self, write_batch: &WriteBatch) -> Result<Box<dyn std::any::Any + Send + Sync>, Failure> {
        let number = |line: &[u8]| Raw::valid(line).get("n").unwrap().as_i64().unwrap() as u64;
        Ok(Box::new(write_batch.events().map(|event| number(event.line())).collect::<Vec<u64>>()))
    }

    fn write<'a>(
        &'a self,
        write_batch: &'a WriteBatch,
        payload: &'a (dyn std::any::Any + Send + Sync),
    ) -> Boxed<'a, Written> {
        let events: &Vec<u64> = payload.downcast_ref().unwrap();
        Box::pin(self.answer(events, write_batch.events().last().map(|event| event.id())))
    }

    fn destination(&self, event: BatchEvent<'_>) -> Option<String> {
        let places = self.state().places;
        let number = event.json().get("n").unwrap().as_i64().unwrap() as u64;
        (places > 0).then(|| format!("p{}", number % places))
    }

    /// How many events were written.
    fn memory(&self) -> Option<Bytes> {
        let state = self.state();
        state.remembers.then(|| Bytes::copy_from_slice(&(state.written.len() as u64).to_le_bytes()))
    }
}

/// A feed, a sink and their accounting.
pub struct Setup {
    pub feed: FakeFeed,
    pub script: Script,
    pub metrics: Arc<ComponentMetrics>,
    pub dead_letters: DeadLetters,
    pub memory: DeliveryMemory,
    /// The queue counts as one that outlives the process.
    pub parks: bool,
    pub dropped: Arc<Notify>,
    pub stop: CancellationToken,
    pub kill: CancellationToken,
}

impl Setup {
    pub fn new(script: Script) -> Setup {
        Setup::with_dead_letters(script, DeadLetters::in_memory(10 << 20).unwrap())
    }

    pub fn with_dead_letters(script: Script, dead_letters: DeadLetters) -> Setup {
        let metrics = Arc::new(ComponentMetrics::new("out".into(), ComponentKind::Sink, "scripted"));
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let memory = DeliveryMemory::new(64 << 20);
        let dropped = Arc::default();
        Setup { feed: FakeFeed::new(), script, metrics, dead_letters, memory, parks: false, dropped, stop, kill }
    }

    /// The same after a restart of the process.
    pub fn again(&self) -> Setup {
        let Setup { feed, script, dead_letters, .. } = self;
        let parks = self.parks;
        Setup { feed: feed.clone(), parks, ..Setup::with_dead_letters(script.clone(), dead_letters.clone()) }
    }

    pub fn delivery(&self, policy: Policy) -> Delivery<FakeFeed> {
        let (_, replays) = mpsc::channel(1);
        let mut feed = self.feed.clone();
        feed.rewind();
        Delivery {
            feed,
            config: Arc::new(self.script.clone()),
            cx: SinkContext { timeout: policy.timeout.0, ..sink_context() },
            policy,
            filter: None,
            metrics: self.metrics.clone(),
            dead_letters: self.dead_letters.clone(),
            replays,
            memory: self.memory.clone(),
            parks: self.parks,
            dropped: self.dropped.clone(),
            stop: self.stop.clone(),
            kill: self.kill.clone(),
        }
    }

    pub async fn run(&self, policy: Policy) {
        self.delivery(policy).run().await;
    }

    #[expect(clippy::type_complexity, reason = "a function that asks for a replay has no shorter name")]
    pub fn start_with_replays(
        &self,
        policy: Policy,
    ) -> (impl Fn(DeadLetter) -> Pin<Box<dyn Future<Output = Result<(), String>>>>, JoinHandle<()>) {
        let (ask, replays) = mpsc::channel(MAX_REPLAYS);
        let running = tokio::spawn(Delivery { replays, ..self.delivery(policy) }.run());
        let ask = move |dead_letter| {
            let ask = ask.clone();
            Box::pin(async move {
                let (reply, answer) = oneshot::channel();
                ask.send(Replay { dead_letter, reply }).await.map_err(|_| "gone").unwrap();
                answer.await.unwrap()
            }) as Pin<Box<dyn Future<Output = _>>>
        };
        (ask, running)
    }

    pub async fn finish(&self, running: JoinHandle<()>) {
        self.stop.cancel();
        running.await.unwrap();
    }

    /// Waits until so many events were passed.
    pub async fn settled(&self, events: u64) {
        until(|| self.feed.position() >= FIRST_SEQ + events).await;
    }

    pub fn counts(&self) -> crate::telemetry::Counts {
        self.metrics.snapshot()
    }

    pub async fn dead_letters(&self) -> Vec<NewDeadLetter> {
        self.dead_letters.list(None, 10_000).await.unwrap().into_iter().map(|dead_letter| dead_letter.content).collect()
    }
}
