//! What becomes of letters in the dead-letter queue: sent again, or let go.

use super::agent::Agent;
use crate::config::API_SOURCE;
use crate::journal::dead_letters;
use crate::telemetry::ComponentKind;

impl Agent {
    /// Lets go of a letter; tells whether it was there.
    pub async fn drop_letter(&self, number: dead_letters::Number) -> std::io::Result<bool> {
        let queue = &self.commons.dead_letters;
        let letter = queue.get(number).await?;
        let running = self.running.lock().await;
        let is_gone = queue.remove(vec![number]).await? > 0;
        if is_gone
            && let Some(letter) = letter.filter(|letter| letter.letter.parked.is_some())
            && let Some(sink) = running.sinks.get(letter.letter.component.as_str())
        {
            sink.dropped();
        }
        Ok(is_gone)
    }

    /// Sends a dead letter again; it leaves the queue only once it was taken.
    pub async fn replay(&self, number: dead_letters::Number) -> Result<(), String> {
        let queue = &self.commons.dead_letters;
        let letter = queue.get(number).await.map_err(|e| e.to_string())?.ok_or("there is no such letter")?;
        let running = self.running.lock().await;
        let component = letter.letter.component.clone();
        match letter.letter.kind {
            ComponentKind::Sink => {
                let sink = running.sinks.get(component.as_str());
                let sink = sink.ok_or_else(|| format!("there is no sink `{component}`"))?.handle();
                drop(running);
                sink.replay(letter).await?;
            }
            ComponentKind::Source => {
                let intake = match running.sources.get(component.as_str()) {
                    Some(source) => source.intake.clone(),
                    None if component == API_SOURCE => self.api_intake.clone(),
                    None => return Err(format!("there is no source `{component}`")),
                };
                drop(running);
                intake.reenter(&letter, None).await?;
            }
            ComponentKind::Transform => {
                let all = running.sources.values().map(|source| &source.intake).chain([&self.api_intake]);
                let intake = all.into_iter().find(|intake| intake.leads_to(&component)).cloned();
                drop(running);
                let intake = intake.ok_or_else(|| format!("there is no transform `{component}`"))?;
                intake.reenter(&letter, Some(&component)).await?;
            }
        }
        queue.remove(vec![number]).await.map(drop).map_err(|error| error.to_string())
    }
}
