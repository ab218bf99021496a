//! Event accounting: what each component received, sent and lost; every event ends in exactly one column.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::histogram::Histogram;
use super::measured::Measured;
use super::parked::ParkedEnds;
use crate::units::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ComponentKind {
    Source,
    Transform,
    Sink,
}

impl ComponentKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ComponentKind::Source => "source",
            ComponentKind::Transform => "transform",
            ComponentKind::Sink => "sink",
        }
    }
}

/// The totals of one component. Which columns are used depends on its kind:
/// source: received = refused + dead_lettered + entered;
/// transform: entered + made = left + filtered + dead_lettered;
/// sink: addressed = delivered + filtered + dead_lettered + dropped + waiting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub received: u64,
    pub refused: u64,
    pub entered: u64,
    pub made: u64,
    pub left: u64,
    /// By reason.
    pub filtered: BTreeMap<&'static str, u64>,
    pub delivered: u64,
    pub dead_lettered: u64,
    /// By cause.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Events that a sink has still to end; read from its cursor at each look.
    pub waiting: u64,
    /// Those of them that are parked, behind the cursor.
    pub parked: u64,
    /// How parked events have ended, as far as it is entered in the other columns.
    pub parked_ends: ParkedEnds,
    /// Events counted as dropped that the cursor has not passed, because older ones are still on their way.
    pub skipped: u64,
    pub duplicates: u64,
    /// Values that a sink changed to make them fit.
    pub altered: u64,
    pub bytes_received: u64,
    pub bytes_delivered: u64,
    /// Files that were cut back, and bytes that were gone before a source could read them.
    pub truncations: u64,
    pub bytes_lost: u64,
    /// Files that a source does not read because of what they hold, by reason.
    pub files_skipped: BTreeMap<&'static str, u64>,
    /// By class.
    pub errors: BTreeMap<&'static str, u64>,
    pub retries: u64,
    /// By rule.
    pub redactions: BTreeMap<String, u64>,
    pub auth_failures: u64,
    /// Requests that were refused as a whole, by reason.
    pub requests_refused: BTreeMap<&'static str, u64>,
    /// Entries that a transform which remembers has given up at the bound of its state.
    pub evicted: u64,
    /// Entries and bytes of its state now.
    pub state: Option<(u64, u64)>,
    /// The operator's own metrics.
    pub measured: Measured,
    pub last_event: Option<Timestamp>,
    /// Events and time between the newest event and a sink's cursor.
    pub lag_events: u64,
    pub lag_seconds: f64,
}

impl Counts {
    /// Everything addressed to a sink.
    pub fn addressed(&self) -> u64 {
        self.delivered
            + self.filtered.values().sum::<u64>()
            + self.dead_lettered
            + self.dropped.values().sum::<u64>()
            + self.waiting
    }

    #[cfg(test)]
    pub fn filtered_total(&self) -> u64 {
        self.filtered.values().sum()
    }

    /// Adds what another count has on top; gauges (waiting, lag) are left alone.
    pub fn add(&mut self, more: &Counts) {
        self.received += more.received;
        self.refused += more.refused;
        self.entered += more.entered;
        self.made += more.made;
        self.left += more.left;
        self.delivered += more.delivered;
        self.dead_lettered += more.dead_lettered;
        self.duplicates += more.duplicates;
        self.altered += more.altered;
        self.bytes_received += more.bytes_received;
        self.bytes_delivered += more.bytes_delivered;
        self.truncations += more.truncations;
        self.bytes_lost += more.bytes_lost;
        self.retries += more.retries;
        self.auth_failures += more.auth_failures;
        self.evicted += more.evicted;
        self.measured.add(&more.measured);
        for (mine, theirs) in [
            (&mut self.filtered, &more.filtered),
            (&mut self.dropped, &more.dropped),
            (&mut self.errors, &more.errors),
            (&mut self.files_skipped, &more.files_skipped),
        ] {
            for (reason, count) in theirs {
                *mine.entry(reason).or_default() += count;
            }
        }
        for (rule, count) in &more.redactions {
            match self.redactions.get_mut(rule) {
                Some(total) => *total += count,
                None => drop(self.redactions.insert(rule.clone(), *count)),
            }
        }
        self.last_event = self.last_event.max(more.last_event);
    }
}

/// The state of a component, as health reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ComponentState {
    Starting,
    Running,
    /// It delivers, but not everywhere: events for some destinations are parked.
    Degraded,
    /// A write failed and is tried again.
    Retrying,
    /// Nothing moves until an operator acts; the data is kept.
    Held,
    Stopped,
}

impl ComponentState {
    pub const ALL: [ComponentState; 6] = [
        ComponentState::Starting,
        ComponentState::Running,
        ComponentState::Degraded,
        ComponentState::Retrying,
        ComponentState::Held,
        ComponentState::Stopped,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ComponentState::Starting => "starting",
            ComponentState::Running => "running",
            ComponentState::Degraded => "degraded",
            ComponentState::Retrying => "retrying",
            ComponentState::Held => "held",
            ComponentState::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Health {
    pub state: ComponentState,
    pub since: Timestamp,
    /// Free of secrets; shown to administrators only.
    pub last_error: Option<(Timestamp, String)>,
}

/// The account of one component.
#[derive(Debug)]
pub struct ComponentMetrics {
    pub name: Arc<str>,
    pub kind: ComponentKind,
    pub type_name: &'static str,
    counts: Mutex<Counts>,
    health: Mutex<Health>,
    delivery_times: Mutex<Histogram>,
}

impl ComponentMetrics {
    pub fn new(name: Arc<str>, kind: ComponentKind, type_name: &'static str) -> ComponentMetrics {
        ComponentMetrics {
            name,
            kind,
            type_name,
            counts: Mutex::default(),
            health: Mutex::new(Health { state: ComponentState::Starting, since: Timestamp::now(), last_error: None }),
            delivery_times: Mutex::default(),
        }
    }

    /// Changes the counts in one step, so that no reader sees half of it.
    pub fn update(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut lock(&self.counts));
    }

    /// One consistent look.
    pub fn snapshot(&self) -> Counts {
        lock(&self.counts).clone()
    }

    /// Sets the state; returns whether it changed.
    pub fn enter(&self, state: ComponentState) -> bool {
        let mut health = lock(&self.health);
        if health.state == state {
            return false;
        }
        (health.state, health.since) = (state, Timestamp::now());
        true
    }

    /// Remembers the newest error.
    pub fn error(&self, message: impl Into<String>) {
        lock(&self.health).last_error = Some((Timestamp::now(), message.into()));
    }

    pub fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    /// Notes how long a write took.
    pub fn observe_delivery(&self, took: Duration) {
        lock(&self.delivery_times).observe(took);
    }

    /// How long writes took since the start of the agent.
    pub fn delivery_times(&self) -> Histogram {
        lock(&self.delivery_times).clone()
    }
}

/// All components of the agent.
#[derive(Clone, Debug, Default)]
pub struct Accounting {
    components: Arc<Mutex<Vec<Arc<ComponentMetrics>>>>,
}

impl Accounting {
    /// The metrics of a component, the old one if it has been here before with the same type.
    pub fn open(&self, name: &Arc<str>, kind: ComponentKind, type_name: &'static str) -> Arc<ComponentMetrics> {
        let mut components = lock(&self.components);
        if let Some(old) = components.iter().find(|l| l.name == *name && l.kind == kind && l.type_name == type_name) {
            return old.clone();
        }
        components.retain(|l| l.name != *name || l.kind != kind);
        let metrics = Arc::new(ComponentMetrics::new(name.clone(), kind, type_name));
        components.push(metrics.clone());
        metrics
    }

    /// Forgets a component that a reload has removed.
    pub fn close(&self, name: &str, kind: ComponentKind) {
        lock(&self.components).retain(|l| *l.name != *name || l.kind != kind);
    }

    pub fn all(&self) -> Vec<Arc<ComponentMetrics>> {
        lock(&self.components).clone()
    }
}

/// Counts are plain numbers: a panic elsewhere leaves them usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn component_metrics_opened_again_keep_their_counts() {
        let accounting = Accounting::default();
        let name: Arc<str> = "web".into();
        accounting.open(&name, ComponentKind::Source, "http").update(|c| c.received = 3);
        assert_eq!(accounting.open(&name, ComponentKind::Source, "http").snapshot().received, 3);
        assert_eq!(accounting.open(&name, ComponentKind::Source, "file").snapshot().received, 0);
        assert_eq!(accounting.all().len(), 1);
    }

    #[test]
    fn adding_counts_keeps_reasons_apart() {
        let mut total = Counts::default();
        let more = Counts { filtered: [("where", 2), ("sample", 1)].into(), delivered: 4, ..Counts::default() };
        total.add(&more);
        total.add(&more);
        assert_eq!(total.filtered, [("where", 4), ("sample", 2)].into());
        assert_eq!(total.addressed(), 14);
    }
}
