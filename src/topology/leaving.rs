//! Stages that are in no plan any more: what waits for them and what they hold goes the way `on_remove` says.

use std::sync::Arc;

use super::agent::{Agent, Running};
use super::stages::{self, RunningStage};
use crate::config::settings::OnRemove;
use crate::stages::{catch_up, held, input_name};
use crate::telemetry::{ComponentKind, ComponentState};

/// What a state without a stage is called where components are listed.
const ORPHAN_TYPE: &str = "removed";

impl Agent {
    /// Lets removed stages go on to their end.
    pub(super) fn look_after_leaving_stages(&self, running: &mut Running) {
        let expected = running.sources.len() + 1 + running.stages.len() + running.leaving_stages.len();
        let may_come = running.flows.iter().filter(|flow| flow.strong_count() > 0).count() > expected;
        let journal = &self.context.journal;
        for stage in running.leaving_stages.values() {
            match stage.on_remove {
                Some(OnRemove::Drop) => stage.close(),
                // What was handed in before the change may still come for it.
                _ if !may_come && stage.waiting(journal) == 0 => stage.release(),
                _ => {}
            }
        }
        let ended: Vec<Arc<str>> = running
            .leaving_stages
            .iter()
            .filter(|(_, stage)| stage.is_finished())
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            if let Some(stage) = running.leaving_stages.remove(&name) {
                self.forget_stage(&stage);
            }
        }
    }

    fn forget_stage(&self, stage: &RunningStage) {
        let (journal, name, cursor) = (&self.context.journal, &stage.name, input_name(&stage.name));
        let owed = stage.owed(journal);
        if owed > 0 && stage.on_remove == Some(OnRemove::Drop) {
            tracing::warn!(transform = %name, events = owed, "the transform was removed; what waited for it was dropped");
            journal.discard_all_but(&cursor, &[]);
        } else if owed > 0 {
            return self.hold_orphan_stage(name, owed);
        }
        match journal.drop_cursor(&cursor) {
            Ok(_) => {
                self.accounting.close(name, ComponentKind::Transform);
                tracing::info!(transform = %name, "the transform was removed");
            }
            Err(error) => {
                tracing::error!(transform = %name, %error, "the cursor of a removed transform could not be removed");
            }
        }
    }

    /// A cursor that no stage of the plan moves: with nothing owed it goes, otherwise it is held where everybody sees it.
    pub(super) fn settle_orphan_stage(&self, name: &str) {
        let journal = &self.context.journal;
        if let Err(error) = catch_up(journal, name) {
            tracing::warn!(transform = name, error, "what waits for a transform that is gone cannot be read");
        }
        let owed = stages::waiting(journal, name) + held(journal, name, None);
        if owed > 0 {
            return self.hold_orphan_stage(&name.into(), owed);
        }
        match journal.drop_cursor(&input_name(name)) {
            Ok(_) => tracing::info!(transform = name, "the transform is not configured any more and was forgotten"),
            Err(error) => tracing::warn!(transform = name, %error, "an old cursor could not be removed"),
        }
    }

    fn hold_orphan_stage(&self, name: &Arc<str>, owed: u64) {
        let cursor = input_name(name);
        let message = format!(
            "{owed} events wait for this transform or are held by it, and it is not configured any more: bring it back, \
             with `on_remove: drain` or `on_remove: drop` if it shall go, or stop the agent and let them go with `weir \
             journal cursors drop {cursor}`"
        );
        tracing::warn!(transform = %name, owed, "{message}");
        let metrics = self.accounting.open(name, ComponentKind::Transform, ORPHAN_TYPE);
        metrics.enter(ComponentState::Held);
        metrics.error(message);
    }
}
