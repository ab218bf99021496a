//! Lines on standard output: JSON, CSV or text.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::codec::encoding::{Encoder, Encoding};
use crate::component::{Check, Failure, Promise, Sink, SinkContext, WriteBatch, Written};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How each event is written.
    pub encoding: Encoding,
    /// Where to.
    pub target: Target,
}

/// Where the console's lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    #[default]
    Stdout,
    Stderr,
}

/// A pipe that is ready takes so much at once; more could block.
const PIPE_BYTES: usize = 4096;
/// How soon a write that nobody waits for any more is noticed while the reader stands still.
const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

pub struct Console {
    encoder: Encoder,
    target: Target,
}

/// Tells the thread that writes when nobody waits any more.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Sink for Console {
    const TYPE: &'static str = "console";
    const PROMISE: Promise = Promise::AtLeastOnce;
    type Config = Config;
    type Payload = Vec<Bytes>;

    fn check(config: &Config, check: &mut Check) {
        if let Err(wrong) = config.encoding.encoder() {
            check.problem_within("encoding.template", wrong.range, wrong.message);
        }
    }

    async fn open(config: &Config, _: &SinkContext) -> Result<Console, Failure> {
        Ok(Console {
            encoder: config.encoding.encoder().map_err(|wrong| Failure::configuration(wrong.message))?,
            target: config.target,
        })
    }

    fn encode(&self, cut: &WriteBatch) -> Result<Vec<Bytes>, Failure> {
        if self.encoder.is_verbatim() {
            return Ok(cut.shared_chunks().collect());
        }
        let (mut out, mut failures) = (Vec::with_capacity(cut.bytes()), Vec::new());
        for (nth, event) in cut.events().enumerate() {
            if let Err(answer) = self.encoder.append(event.json(), &mut out) {
                failures.push((nth, Failure::poison(answer)));
            }
        }
        if failures.is_empty() { Ok(vec![out.into()]) } else { Err(Failure::Some(failures)) }
    }

    async fn write(&self, _: &WriteBatch, payload: &Vec<Bytes>) -> Result<Written, Failure> {
        let (chunks, target) = (payload.clone(), self.target);
        let bytes = chunks.iter().map(Bytes::len).sum::<usize>() as u64;
        let abandoned = Abandon(Arc::default());
        let flag = abandoned.0.clone();
        let writing = tokio::task::spawn_blocking(move || {
            // The lock keeps other writers of this process out of the middle of a line.
            let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
            let (out, err);
            let fd = match target {
                Target::Stdout => {
                    out = stdout.lock();
                    out.as_fd()
                }
                Target::Stderr => {
                    err = stderr.lock();
                    err.as_fd()
                }
            };
            chunks.iter().try_for_each(|chunk| write_all(fd, chunk, &flag))
        });
        match writing.await {
            Ok(Ok(())) => Ok(Written { bytes, ..Written::default() }),
            Ok(Err(Errno::PIPE)) => Err(Failure::configuration("nobody reads the console any more")),
            Ok(Err(error)) => Err(Failure::transient(format!("cannot write to the console: {error}"))),
            Err(error) => Err(Failure::transient(format!("cannot write to the console: {error}"))),
        }
    }
}

/// Writes without ever blocking for long, so that a reader who stands still costs no thread.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8], abandoned: &AtomicBool) -> Result<(), Errno> {
    while !bytes.is_empty() {
        if abandoned.load(Ordering::Relaxed) {
            return Err(Errno::CANCELED);
        }
        let mut ready = [PollFd::new(&fd, PollFlags::OUT)];
        match poll(&mut ready, Some(&LOOK_UP)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        match rustix::io::write(fd, &bytes[..bytes.len().min(PIPE_BYTES)]) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_who_stands_still_does_not_keep_the_thread() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let flag = Arc::new(AtomicBool::new(false));
        let abandoned = Abandon(flag.clone());
        let thread = std::thread::spawn(move || write_all(writer.as_fd(), &[b'x'; 1 << 20], &flag));
        let mut first = [0; 1];
        rustix::io::read(&reader, &mut first).unwrap();
        drop(abandoned);
        assert_eq!(thread.join().unwrap(), Err(Errno::CANCELED));
    }

    #[test]
    fn everything_arrives_in_pieces_and_a_closed_pipe_is_noticed() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let sent: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let thread = std::thread::spawn(move || {
            let flag = AtomicBool::new(false);
            write_all(writer.as_fd(), &sent, &flag).unwrap();
            writer
        });
        let mut got = vec![0; expected.len()];
        let mut at = 0;
        while at < got.len() {
            at += rustix::io::read(&reader, &mut got[at..]).unwrap();
        }
        assert_eq!(got, expected);
        let writer = thread.join().unwrap();
        drop(reader);
        assert_eq!(write_all(writer.as_fd(), b"x", &AtomicBool::new(false)), Err(Errno::PIPE));
    }
}
