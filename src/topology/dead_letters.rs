//! What becomes of dead letters in the dead-letter queue: sent again, or let go.

use super::agent::{Agent, Running};
use super::retired::Retired;
use super::sinks::RunningSink;
use crate::config::API_SOURCE;
use crate::journal::dead_letters;
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

impl Agent {
    /// Lets go of dead letters, all in one step of the queue; tells how many were there.
    pub async fn drop_dead_letters(&self, numbers: Vec<dead_letters::Number>) -> std::io::Result<u64> {
        let queue = &self.context.dead_letters;
        let mut parked = Vec::new();
        for number in &numbers {
            let dead_letter = queue.get(*number).await?.filter(|dead_letter| dead_letter.content.parked.is_some());
            parked.extend(dead_letter.map(|dead_letter| dead_letter.content.component));
        }
        let running = self.running.lock().await;
        let removed = queue.remove(numbers).await?;
        if removed > 0 {
            parked.iter().filter_map(|sink| running.sink(sink)).for_each(RunningSink::dropped);
        }
        Ok(removed)
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
                sink.replay(dead_letter).await?;
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
