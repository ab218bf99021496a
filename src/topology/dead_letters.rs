//! Replays and drops dead letters on request.

use std::collections::BTreeSet;

use super::agent::{Agent, Running};
use super::retired::Retired;
use super::sinks::RunningSink;
use crate::config::API_SOURCE;
use crate::journal::dead_letters::{self, DeadLetter};
use crate::telemetry::ComponentKind;

impl Running {
    /// A sink that runs, also one that only finishes what it owes.
    fn sink(&self, name: &str) -> Option<&RunningSink> {
        let retired = || match self.retired.get(name) {
            Some(Retired::Finishing(sink)) => Some(&**sink),
            _ => None,
        };
        self.sinks.get(name).or_else(retired)
    }
}

/// What became of dead letters that were to be dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Dropped {
    pub dropped: u64,
    /// Parked ones that stay, because their batch is still on its way: after a crash they would come again.
    pub on_their_way: u64,
}

impl Agent {
    /// Lets go of dead letters, all in one step of the queue.
    pub async fn drop_dead_letters(&self, mut numbers: Vec<dead_letters::Number>) -> std::io::Result<Dropped> {
        let queue = &self.context.dead_letters;
        let mut parked = Vec::new();
        for number in &numbers {
            let dead_letter = queue.get(*number).await?.filter(|dead_letter| dead_letter.content.parked.is_some());
            parked.extend(dead_letter);
        }
        if !parked.is_empty() {
            let on_their_way = self.not_passed_on_disk(parked).await?;
            numbers.retain(|number| !on_their_way.contains(number));
            let running = self.running.lock().await;
            let removed = queue.remove(numbers).await?;
            for (sink, ends) in removed.parked {
                if let Some(sink) = running.sink(&sink) {
                    sink.dropped(ends);
                }
            }
            return Ok(Dropped { dropped: removed.dead_letters, on_their_way: on_their_way.len() as u64 });
        }
        let removed = queue.remove(numbers).await?;
        Ok(Dropped { dropped: removed.dead_letters, on_their_way: 0 })
    }

    /// Parked dead letters that the cursors on the disk have not passed, after these were brought up to date.
    async fn not_passed_on_disk(&self, parked: Vec<DeadLetter>) -> std::io::Result<BTreeSet<dead_letters::Number>> {
        let journal = self.context.journal.clone();
        let saved = tokio::task::spawn_blocking(move || journal.save_cursors()).await;
        saved.map_err(std::io::Error::other)??;
        let is_ahead = |dead_letter: &DeadLetter| {
            let position = self.context.journal.saved_position(&dead_letter.content.component);
            position.zip(dead_letter.content.seq).is_some_and(|(position, seq)| seq >= position)
        };
        Ok(parked.into_iter().filter(is_ahead).map(|dead_letter| dead_letter.number).collect())
    }

    /// Replays a dead letter; it leaves the queue only once it was taken.
    pub async fn replay(&self, number: dead_letters::Number) -> Result<(), String> {
        let queue = &self.context.dead_letters;
        let dead_letter = queue.get(number).await.map_err(|e| e.to_string())?.ok_or("there is no such dead letter")?;
        let running = self.running.lock().await;
        let component = dead_letter.content.component.clone();
        match dead_letter.content.kind {
            ComponentKind::Sink => {
                let sink = running.sink(&component);
                let sink = sink.ok_or_else(|| format!("there is no sink `{component}`"))?.handle();
                drop(running);
                let is_parked = dead_letter.content.parked.is_some();
                sink.replay(dead_letter).await?;
                if is_parked {
                    // Its sink has ended it in the queue.
                    return Ok(());
                }
            }
            ComponentKind::Source => {
                let intake = match running.sources.get(component.as_str()) {
                    Some(source) => source.intake.clone(),
                    None if component == API_SOURCE => self.api_intake.clone(),
                    None => return Err(format!("there is no source `{component}`")),
                };
                drop(running);
                intake.reenter(&dead_letter, None).await?;
            }
            ComponentKind::Transform => {
                let all = running.sources.values().map(|source| &source.intake).chain([&self.api_intake]);
                let intake = all.into_iter().find(|intake| intake.leads_to(&component)).cloned();
                drop(running);
                let intake = intake.ok_or_else(|| format!("there is no transform `{component}`"))?;
                intake.reenter(&dead_letter, Some(&component)).await?;
            }
        }
        queue.remove(vec![number]).await.map(drop).map_err(|error| error.to_string())
    }
}
