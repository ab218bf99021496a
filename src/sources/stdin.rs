//! `stdin`: reads events from standard input until it ends.

use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::codec::framing::{Framed, Framer, Framing, OutOfFrame};
use crate::codec::{Codec, Decoder, Ordinals};
use crate::component::source::{CHUNK_BYTES, Chunk};
use crate::component::{Check, Fatal, Source, SourceContext};
use crate::net::Sockets;
use crate::toolkit::Lane;
use crate::toolkit::lane::{Closed, Origin};

/// Buffers that were read and are not submitted yet; reading waits for their place.
const MOST_READ: usize = 2;

/// Reads events from standard input. At end of input an agent without other sources drains and exits.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Format of an event.
    pub codec: Codec,
    /// How events are separated.
    pub framing: Framing,
}

pub struct Stdin {
    decoder: Arc<dyn Decoder>,
    framing: Framing,
    /// Why nothing more can be read: what follows is in the middle of something.
    broken: OnceLock<String>,
}

impl Source for Stdin {
    const TYPE: &'static str = "stdin";
    type Config = Config;
    type Prepared = ();

    fn build(config: Config, check: &mut Check) -> Option<Stdin> {
        super::check_codec(&config.codec, config.framing, check)?;
        let decoder = Arc::from(config.codec.decoder());
        Some(Stdin { decoder, framing: config.framing, broken: OnceLock::new() })
    }

    async fn prepare(&self, _: &Sockets) -> Result<(), Fatal> {
        Ok(())
    }

    async fn run(self: Arc<Stdin>, (): (), cx: SourceContext) -> Result<(), Fatal> {
        if let Some(reason) = self.broken.get() {
            return Err(Fatal(reason.clone()));
        }
        let input = read(std::io::stdin()).map_err(|error| Fatal(format!("cannot start a thread: {error}")))?;
        self.take_in(input, cx).await
    }
}

type Input = mpsc::Receiver<std::io::Result<BytesMut>>;

/// Reads on a thread that nobody waits for at the end: a read that blocks must not hold up a stop.
fn read(mut input: impl std::io::Read + Send + 'static) -> std::io::Result<Input> {
    let (filled, buffers) = mpsc::channel(MOST_READ);
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let item = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(len) => Ok(BytesMut::from(&buffer[..len])),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let is_over = item.is_err();
            if filled.blocking_send(item).is_err() || is_over {
                return;
            }
        }
    })?;
    Ok(buffers)
}

impl Stdin {
    async fn take_in(&self, mut input: Input, cx: SourceContext) -> Result<(), Fatal> {
        let mut lane = Lane::new(cx.clone(), self.decoder.clone(), Origin::passing(None, "stdin"));
        let mut framer = Framer::new(self.framing, cx.event_bytes, CHUNK_BYTES);
        let (mut buffer, mut ordinal) = (BytesMut::new(), 0);
        cx.ready();
        loop {
            let read = tokio::select! {
                () = cx.shutdown.cancelled() => return Ok(()),
                read = input.recv() => read,
                Err(Closed) = lane.settled() => return Ok(()),
            };
            let is_over = read.is_none();
            if let Some(bytes) = read {
                let bytes = bytes.map_err(|error| Fatal(format!("cannot read standard input: {error}")))?;
                cx.intake.received_bytes(bytes.len() as u64);
                if buffer.is_empty() { buffer = bytes } else { buffer.extend_from_slice(&bytes) }
            }
            loop {
                match framer.next(&mut buffer, is_over) {
                    Ok(Some(Framed { bytes, frames })) => {
                        let Ok(permit) = lane.reserve(bytes.len()).await else { return Ok(()) };
                        let (base, len) = (ordinal, bytes.len() as u64);
                        // A frame has a byte at least, so this is as good as counting them, and free.
                        ordinal += len;
                        lane.submit(Chunk { bytes, frames, ordinals: Ordinals::Count(base) }, permit);
                    }
                    Ok(None) => break,
                    Err(OutOfFrame(reason)) => {
                        cx.intake.refused(1);
                        let reason =
                            self.broken.get_or_init(|| format!("cannot read standard input any further: {reason}"));
                        return Err(Fatal(reason.clone()));
                    }
                }
            }
            if is_over {
                // A stop ends the wait; submitted jobs belong to the intake.
                let _ = lane.drain().await;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::JobStatus;
    use crate::toolkit::fake::{FakeIntake, NoDecoder};

    fn stdin() -> Stdin {
        Stdin { decoder: Arc::new(NoDecoder), framing: Framing::Newline, broken: OnceLock::new() }
    }

    #[tokio::test]
    async fn everything_up_to_the_end_is_taken_and_then_the_source_is_finished() {
        let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect::<String>() + "the last";
        let intake = FakeIntake::new();
        let input = read(std::io::Cursor::new(text.clone())).unwrap();
        stdin().take_in(input, intake.context()).await.unwrap();
        assert_eq!(intake.texts(), text.lines().collect::<Vec<_>>());
        let ids: std::collections::HashSet<_> = intake.entries().iter().map(|entry| entry.id).collect();
        assert_eq!(ids.len(), 100_001);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_journal_could_not_take_is_handed_in_again() {
        let intake = FakeIntake::new();
        intake.script([JobStatus::Full, JobStatus::Failed("no sync".into())]);
        let (filled, input) = mpsc::channel(MOST_READ);
        filled.send(Ok(BytesMut::from("one\ntwo\n"))).await.unwrap();
        drop(filled);
        stdin().take_in(input, intake.context()).await.unwrap();
        assert_eq!(intake.texts(), ["one", "two"]);
    }
}
