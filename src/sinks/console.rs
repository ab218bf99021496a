//! Writes lines to standard output: JSON, CSV or text.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::codec::encoding::{Encoder, Encoding};
use crate::component::sink;
use crate::component::{Check, Failure, Promise, Sink, SinkContext, WriteBatch, Written};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Format of each event.
    pub encoding: Encoding,
    /// Output stream.
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

/// A ready pipe accepts this much at once; more could block.
const PIPE_BYTES: usize = 4096;
/// How soon an abandoned write is noticed while the reader is stuck.
const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

pub struct Console {
    encoder: Encoder,
    target: Target,
}

/// Tells the writing thread that its write was abandoned.
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

    fn encode(&self, batch: &WriteBatch) -> Result<Vec<Bytes>, Failure> {
        if self.encoder.is_verbatim() {
            return Ok(batch.shared_chunks().collect());
        }
        let (mut out, mut failures) = (Vec::with_capacity(batch.bytes()), Vec::new());
        for (nth, event) in batch.events().enumerate() {
            if let Err(answer) = self.encoder.append(event.json(), &mut out) {
                failures.push((nth, Failure::poison(answer)));
            }
        }
        if failures.is_empty() { Ok(vec![out.into()]) } else { Err(Failure::some(failures)) }
    }

    fn preview(config: &Config, _: &SinkContext, batch: &WriteBatch) -> Option<Result<Vec<u8>, Failure>> {
        sink::preview(&config.encoding, batch)
    }

    async fn write(&self, _: &WriteBatch, payload: &Vec<Bytes>) -> Result<Written, Failure> {
        let (chunks, target) = (payload.clone(), self.target);
        let bytes = chunks.iter().map(Bytes::len).sum::<usize>() as u64;
        let abandoned = Abandon(Arc::default());
        let flag = abandoned.0.clone();
        let writing = tokio::task::spawn_blocking(move || {
            // The lock keeps other writers of this process out of the middle of a line.
            match target {
                Target::Stdout => write_lines(std::io::stdout().lock().as_fd(), &chunks, &TORN[0], &flag),
                Target::Stderr => write_lines(std::io::stderr().lock().as_fd(), &chunks, &TORN[1], &flag),
            }
        });
        match writing.await {
            Ok(Ok(())) => Ok(Written { bytes, ..Written::default() }),
            Ok(Err(Errno::PIPE)) => Err(Failure::configuration("the console was closed")),
            Ok(Err(error)) => Err(Failure::transient(format!("cannot write to the console: {error}"))),
            Err(error) => Err(Failure::transient(format!("cannot write to the console: {error}"))),
        }
    }
}

/// What is missing of a line that could not be written to its end, for each target. It belongs to the process as the
/// targets do: whoever writes next ends the line first.
static TORN: [Mutex<Vec<u8>>; 2] = [const { Mutex::new(Vec::new()) }; 2];

/// Writes whole lines; the rest of an interrupted one is kept in `torn`.
fn write_lines(
    fd: BorrowedFd<'_>,
    chunks: &[Bytes],
    torn: &Mutex<Vec<u8>>,
    abandoned: &AtomicBool,
) -> Result<(), Errno> {
    let mut torn = torn.lock().unwrap_or_else(PoisonError::into_inner);
    let rest = Bytes::from(std::mem::take(&mut *torn));
    for chunk in std::iter::once(&rest).chain(chunks) {
        let mut written = 0;
        if let Err(error) = write_all(fd, chunk, &mut written, abandoned) {
            let left = &chunk[written..];
            let ends_line = written == 0 && chunk.as_ptr() != rest.as_ptr() || chunk[..written].ends_with(b"\n");
            let end = memchr::memchr(b'\n', left).map_or(left.len(), |end| end + 1);
            *torn = if ends_line { Vec::new() } else { left[..end].to_vec() };
            return Err(error);
        }
    }
    Ok(())
}

/// Writes without blocking for long, so that a stuck reader costs no thread.
fn write_all(fd: BorrowedFd<'_>, bytes: &[u8], done: &mut usize, abandoned: &AtomicBool) -> Result<(), Errno> {
    while *done < bytes.len() {
        if abandoned.load(Ordering::Relaxed) {
            return Err(Errno::CANCELED);
        }
        let mut ready = [PollFd::new(&fd, PollFlags::OUT)];
        match poll(&mut ready, Some(&LOOK_UP)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        match rustix::io::write(fd, &bytes[*done..bytes.len().min(*done + PIPE_BYTES)]) {
            Ok(written) => *done += written,
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
        let thread = std::thread::spawn(move || write_all(writer.as_fd(), &[b'x'; 1 << 20], &mut 0, &flag));
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
            write_all(writer.as_fd(), &sent, &mut 0, &flag).unwrap();
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
        assert_eq!(write_all(writer.as_fd(), b"x", &mut 0, &AtomicBool::new(false)), Err(Errno::PIPE));
    }

    #[test]
    fn a_line_that_was_given_up_in_the_middle_is_ended_before_the_next() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (torn, flag) = (Mutex::new(Vec::new()), Arc::new(AtomicBool::new(false)));
        let line = |n: usize| format!("{{\"n\":{n},\"text\":\"{}\"}}\n", "x".repeat(5000));
        let sent: Bytes = (0..100).map(line).collect::<String>().into();
        let write = |flag: &AtomicBool| write_lines(writer.as_fd(), std::slice::from_ref(&sent), &torn, flag);
        // A pipe holds a part of it; nobody reads, and then nobody waits.
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| write(&flag));
            while rustix::io::ioctl_fionread(&reader).unwrap() < 60_000 {
                std::thread::yield_now();
            }
            flag.store(true, Ordering::Relaxed);
            assert_eq!(thread.join().unwrap(), Err(Errno::CANCELED));
        });
        assert!(!torn.lock().unwrap().is_empty());
        // Still nobody reads: what is missing stays missing.
        assert_eq!(write(&flag), Err(Errno::CANCELED));
        flag.store(false, Ordering::Relaxed);
        let mut read = Vec::new();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| write(&flag));
            let mut block = vec![0; 1 << 16];
            while !read.ends_with(line(99).as_bytes()) {
                let len = rustix::io::read(&reader, &mut block).unwrap();
                read.extend_from_slice(&block[..len]);
            }
            thread.join().unwrap().unwrap();
        });
        let text = String::from_utf8(read).unwrap();
        assert!(text.split_inclusive('\n').all(|read| (0..100).any(|n| read == line(n))), "each line is whole");
        assert!(text.ends_with(&*String::from_utf8(sent.to_vec()).unwrap()));
    }
}
