//! Tables that transforms refresh: loaded before the plan runs, then at their interval.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::agent::{Agent, Running};
use super::wiring::Step;
use crate::component::refresh::Refresh;
use crate::telemetry::{ComponentKind, ComponentState};

/// How long a start or a reload waits for the first reading; the pipeline runs without it if need be.
const FIRST: Duration = Duration::from_secs(5);
/// The longest that one reading may take.
const LONGEST: Duration = Duration::from_secs(60);
/// When it is tried again after a failure, unless the interval is shorter.
const AGAIN: Duration = Duration::from_secs(10);

/// Reads what a transform needs before its first event.
pub(super) async fn first(step: &Step) {
    let Some(refresh) = step.transform.refresh() else { return };
    let read = tokio::time::timeout(FIRST, (refresh.read)()).await;
    let read = read.unwrap_or_else(|_| Err(format!("no answer within {FIRST:?}")));
    if let Err(error) = read {
        tracing::warn!(transform = %step.name, error, "lookup data cannot be read yet; events pass without it");
    }
}

impl Agent {
    /// Keeps the tables of the running plan fresh, and those of no other.
    pub(super) fn change_refreshers(&self, running: &mut Running, touches: impl Fn(&Arc<str>) -> bool) {
        let steps = running.steps.clone();
        let is_same = |name: &Arc<str>| !touches(name) && steps.iter().any(|step| step.name == *name);
        running.refreshers.retain(|name, stop| {
            let same = is_same(name);
            if !same {
                stop.cancel();
            }
            same
        });
        for step in &steps {
            let Some(refresh) = step.transform.refresh().filter(|_| !running.refreshers.contains_key(&step.name))
            else {
                continue;
            };
            let stop = self.stopped.child_token();
            running.refreshers.insert(step.name.clone(), stop.clone());
            tokio::spawn(keep_fresh(self.accounting.clone(), step.clone(), refresh, stop));
        }
    }
}

async fn keep_fresh(accounting: crate::telemetry::Accounting, step: Step, refresh: Refresh, stop: CancellationToken) {
    let metrics = accounting.open(&step.name, ComponentKind::Transform, step.type_name);
    let mut wait = refresh.every;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let read = tokio::select! {
            () = stop.cancelled() => return,
            read = tokio::time::timeout(LONGEST, (refresh.read)()) => read,
        };
        match read.unwrap_or_else(|_| Err(format!("no answer within {LONGEST:?}"))) {
            Ok(()) => {
                wait = refresh.every;
                if metrics.enter(ComponentState::Running) {
                    tracing::info!(transform = %step.name, "lookup data can be read again");
                }
            }
            Err(error) => {
                wait = refresh.every.min(AGAIN);
                if metrics.enter(ComponentState::Retrying) {
                    tracing::warn!(transform = %step.name, error, "lookup data cannot be read; using the previous data");
                }
                metrics.error(error);
            }
        }
    }
}
