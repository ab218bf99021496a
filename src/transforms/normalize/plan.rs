//! The normalization plan of a shape: what its member names require, computed once.

use super::Unknown;
use crate::event::aliases::{aliases, canonical, is_canonical};
use crate::event::names::*;
use crate::event::{Batch, NameId};

/// Shapes remembered per batch; of more, the oldest is forgotten.
const PLANS: usize = 16;

/// A canonical name that needs a look: it has an alias here, or its value is checked.
pub struct Slot {
    pub canonical: NameId,
    /// The members that could fill it, by place, the preferred first.
    pub candidates: Vec<(usize, NameId)>,
}

/// The plan for events whose members have these names in this order.
#[derive(Default)]
pub struct Plan {
    shape: Vec<NameId>,
    pub slots: Vec<Slot>,
    /// Members that go to metadata whatever they hold, by place.
    pub unknown: Vec<usize>,
    pub status_code: Option<usize>,
    pub metadata: Option<usize>,
    /// What no member could fill of [`ADDED`].
    pub missing: Vec<NameId>,
}

/// Slots whose value is checked even if the name is canonical, in the order in which they are settled: `timestamp`
/// may need `received_at`, and `status` an error.
const CHECKED: &[NameId] = &[ID, RECEIVED_AT, TIMESTAMP, SOURCE, PEER_IP, ERROR_MESSAGE, STATUS];

/// What the normalizer adds where it is missing, in this order.
const ADDED: &[NameId] = &[ID, TIMESTAMP, RECEIVED_AT, SOURCE, PEER_IP, STATUS];

/// The plans of a batch.
pub struct Plans {
    unknown: Unknown,
    /// Whether the member `capture` is believed.
    may_say_capture: bool,
    plans: Vec<Plan>,
    last: usize,
    next: usize,
}

impl Plans {
    pub fn new(unknown: Unknown, may_say_capture: bool) -> Plans {
        Plans { unknown, may_say_capture, plans: Vec::new(), last: 0, next: 0 }
    }

    /// The plan for an event.
    pub fn of(&mut self, batch: &Batch, event: usize) -> &Plan {
        let fits = |plan: &Plan| {
            let names = batch.field_names(event);
            names.len() == plan.shape.len() && names.zip(&plan.shape).all(|(name, planned)| name == *planned)
        };
        if !self.plans.get(self.last).is_some_and(fits) {
            self.last = self.plans.iter().position(fits).unwrap_or_else(|| {
                let plan = Plan::new(batch.field_names(event).collect(), self.unknown, self.may_say_capture);
                if self.plans.len() < PLANS {
                    self.plans.push(plan);
                    return self.plans.len() - 1;
                }
                self.next = (self.next + 1) % PLANS;
                self.plans[self.next] = plan;
                self.next
            });
        }
        &self.plans[self.last]
    }
}

impl Plan {
    fn new(shape: Vec<NameId>, unknown: Unknown, may_say_capture: bool) -> Plan {
        let mut plan = Plan::default();
        for (nth, name) in shape.iter().enumerate() {
            match *name {
                METADATA => plan.metadata = Some(nth),
                CAPTURE if !may_say_capture => plan.unknown.push(nth),
                STATUS_CODE => plan.status_code = Some(nth),
                name if is_canonical(name) || canonical(name).is_some() => {}
                name if unknown == Unknown::Keep && name != SEQ => {}
                _ => plan.unknown.push(nth),
            }
        }
        let aliased = shape.iter().filter_map(|name| canonical(*name)).filter(|name| !CHECKED.contains(name));
        let mut names: Vec<NameId> = CHECKED.to_vec();
        for name in aliased {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for canonical in names {
            let at = |name: NameId| shape.iter().position(|other| *other == name).map(|nth| (nth, name));
            let candidates: Vec<_> = std::iter::once(canonical).chain(aliases(canonical)).filter_map(at).collect();
            if !candidates.is_empty() {
                plan.slots.push(Slot { canonical, candidates });
            }
        }
        let is_filled = |name: &&NameId| plan.slots.iter().any(|slot| slot.canonical == **name);
        plan.missing = ADDED.iter().filter(|name| !is_filled(name)).copied().collect();
        plan.shape = shape;
        plan
    }
}
