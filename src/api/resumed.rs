//! A live client whose gaps are filled from the place that the API reads, as far as that has what the journal lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::component::Reader;
use crate::delivery::fanout::{Client, Fanout, Live};
use crate::delivery::frames::FramePermit;
use crate::delivery::view::{LiveEvent, LiveId, View};
use crate::query::request::{Filter, Keyset, PageRequest, ReadError, Row, Sort, SortKey};

/// Events that are asked for at a time.
const ROWS: usize = 100;
/// How long one page of them may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One client's way through what was missed and what comes.
pub struct Resumed {
    client: Client,
    place: Option<Arc<Place>>,
    state: State,
    /// Memory of what was returned last; a client that asks for more has sent it.
    held: Option<FramePermit>,
}

/// Where to look for what the journal no longer has.
pub struct Place {
    pub reader: Arc<dyn Reader>,
    pub fanout: Arc<Fanout>,
    pub view: View,
    pub shutdown: CancellationToken,
}

enum State {
    /// The client is asked.
    Live,
    /// It has told of this gap.
    Told(Gap),
    /// Some of it is stored.
    Stored(Rest),
    /// A page of that is on its way.
    Reading(Rest, JoinHandle<Option<Step>>),
}

/// Frames, of which there may be none, their memory, and what is left.
type Step = (Bytes, FramePermit, Rest);

/// So many events between two numbers, the second not among them.
#[derive(Clone, Copy)]
struct Gap {
    events: u64,
    from: u64,
    to: u64,
}

impl Gap {
    fn live(self) -> Live {
        Live::Gap { events: self.events, from_seq: self.from, to_seq: self.to }
    }
}

/// What is stored and was not given yet, and what is told behind it.
#[derive(Clone, Copy)]
struct Rest {
    at: u64,
    to: u64,
    rows: usize,
    missing: Option<Gap>,
}

impl Resumed {
    pub fn new(client: Client, place: Option<Place>) -> Resumed {
        Resumed { client, place: place.map(Arc::new), state: State::Live, held: None }
    }

    /// Waits for more. `None` when the agent stops. May be given up and called again.
    pub async fn next(&mut self) -> Option<Live> {
        self.held = None;
        let Some(place) = &self.place else { return self.client.next().await };
        loop {
            match &mut self.state {
                State::Live => match self.client.next().await? {
                    Live::Gap { events, from_seq, to_seq } => {
                        self.state = State::Told(Gap { events, from: from_seq, to: to_seq });
                    }
                    frames => return Some(frames),
                },
                State::Told(gap) => {
                    let gap = *gap;
                    let (told, next) = place.look_up(gap).await;
                    self.state = next;
                    if told.is_some() {
                        return told;
                    }
                }
                State::Stored(rest) if rest.at >= rest.to => {
                    let missing = rest.missing;
                    self.state = State::Live;
                    if let Some(gap) = missing {
                        return Some(gap.live());
                    }
                }
                State::Stored(rest) => {
                    let (place, rest) = (place.clone(), *rest);
                    let read = async move {
                        tokio::select! {
                            read = place.read(rest) => read,
                            () = place.shutdown.cancelled() => None,
                        }
                    };
                    self.state = State::Reading(rest, tokio::spawn(read));
                }
                State::Reading(rest, step) => {
                    let (rest, step) = (*rest, step.await);
                    let Ok(read) = step else {
                        tracing::error!("a bug in weir: reading the store for a live client panicked");
                        self.state = State::Live;
                        return Some(Gap { events: rest.to - rest.at, from: rest.at, to: rest.to }.live());
                    };
                    let (frames, permit, next) = read?;
                    self.state = State::Stored(next);
                    if !frames.is_empty() {
                        self.held = Some(permit);
                        return Some(Live::Frames(frames));
                    }
                }
            }
        }
    }
}

impl Place {
    /// How much of a gap is stored. What is not lies before that, or is told behind it.
    async fn look_up(&self, gap: Gap) -> (Option<Live>, State) {
        let (first, count) = match self.reader.between(gap.from, gap.to).await {
            Ok(Some(found)) => found,
            Ok(None) => return (Some(gap.live()), State::Live),
            Err(error) => {
                tracing::warn!(%error, "a live client is told of a gap, since the store cannot be asked");
                return (Some(gap.live()), State::Live);
            }
        };
        let events = gap.events.saturating_sub(count);
        let missing = (events > 0).then_some(Gap { events, ..gap });
        let is_before = first > gap.from;
        let told = missing.filter(|_| is_before).map(|missing| Gap { to: first, ..missing }.live());
        (told, State::Stored(Rest { at: first, to: gap.to, rows: ROWS, missing: missing.filter(|_| !is_before) }))
    }

    /// The next frames of what is stored, which may be none. `None` when the agent stops.
    async fn read(&self, rest: Rest) -> Option<Step> {
        let (_turn, mut permit, most) = self.fanout.turn_to_read_stored().await?;
        let before = |seq: u64| Keyset { key: SortKey::None, time: 0, seq, row: None };
        let request = PageRequest {
            filter: Filter { query: self.view.query.clone(), ..Filter::default() },
            sort: Sort::Seq,
            is_descending: false,
            after: rest.at.checked_sub(1).map(before),
            offset: 0,
            limit: rest.rows,
            deadline: Instant::now() + PATIENCE,
            may_be_partial: false,
        };
        let mut frames = Vec::new();
        let next = match self.reader.page(request, self.view.visibility.clone()).await {
            Ok(page) => {
                let (mut at, mut is_cut) = (rest.at, page.has_more);
                for row in &page.rows {
                    if row.seq >= rest.to {
                        is_cut = false;
                        break;
                    }
                    if frames.len() >= most {
                        is_cut = true;
                        break;
                    }
                    self.push(&mut frames, row);
                    at = row.seq + 1;
                }
                Rest { at: if is_cut { at } else { rest.to }, ..rest }
            }
            Err(ReadError::TooLarge(_)) if rest.rows > 1 => Rest { rows: 1, ..rest },
            Err(error) => {
                tracing::warn!(%error, "a live client is told of a gap, since the store cannot be read");
                let left = self.reader.between(rest.at, rest.to).await.ok().flatten().map_or(1, |(_, count)| count);
                let missing = rest.missing.map_or(0, |gap| gap.events) + left;
                let gap = Gap { events: missing, from: rest.at, to: rest.to };
                Rest { at: rest.to, missing: Some(gap), ..rest }
            }
        };
        permit.shrink(frames.len());
        Some((Bytes::from(frames), permit, next))
    }

    fn push(&self, frames: &mut Vec<u8>, row: &Row) {
        let event = LiveEvent {
            seq: row.seq,
            received_at: row.received_at.unwrap_or(row.time),
            line: &row.line,
            id: LiveId::Known(&row.id),
        };
        (self.view.format.push)(frames, &event);
    }
}
