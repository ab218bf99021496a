//! Reads a live stream of the agent: parses its frames and reconnects where it stopped.

use std::time::Duration;

use super::client::{Broken, Connection};

/// How long to wait before the agent is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// A frame is one event, which is never as long.
const MAX_FRAME: usize = 64 * 1024 * 1024;

/// One frame of server-sent events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub id: Option<u64>,
    pub event: String,
    pub data: String,
}

/// Follows a stream for ever, over restarts of the agent, until `each` fails or the agent refuses. `after` is the number
/// of the last event that is known.
pub fn follow(
    connection: &Connection,
    path: &str,
    mut after: Option<u64>,
    mut each: impl FnMut(Frame) -> Result<(), String>,
) -> Result<(), String> {
    let mut was_connected = false;
    loop {
        let mut lines = Lines::default();
        let broken = connection.read(path, after, |bytes| {
            was_connected = true;
            lines.push(bytes, |frame| {
                after = frame.id.or(after);
                each(frame)
            })
        });
        match broken {
            Err(Broken::Refused(reason)) => return Err(reason),
            Err(Broken::Unreachable(reason)) if !was_connected => return Err(reason),
            Err(Broken::Unreachable(_)) | Ok(_) => {}
        }
        std::thread::sleep(PAUSE);
    }
}

/// Puts frames together from the bytes of a stream.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    frame: Frame,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Frame) -> Result<(), String>) -> Result<(), String> {
        self.rest.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(len) = memchr::memchr(b'\n', &self.rest[start..]) {
            let line = String::from_utf8_lossy(&self.rest[start..start + len]).into_owned();
            start += len + 1;
            if let Some(frame) = self.line(line.strip_suffix('\r').unwrap_or(&line)) {
                each(frame)?;
            }
        }
        self.rest.drain(..start);
        if self.rest.len() > MAX_FRAME { Err("the agent sent a line that is too long".into()) } else { Ok(()) }
    }

    /// Takes a line; an empty one ends a frame.
    fn line(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            return (!frame.data.is_empty()).then_some(frame);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.frame.id = value.parse().ok(),
            "event" => value.clone_into(&mut self.frame.event),
            "data" if self.frame.data.is_empty() => value.clone_into(&mut self.frame.data),
            "data" => self.frame.data.extend(["\n", value]),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut() {
        let text = ": heartbeat\n\nretry: 3000\n\nid: 7\nevent: log\ndata: {\"a\":1}\n\nevent: gap\r\ndata: x\r\ndata: y\r\n\r\n";
        let frame = |id, event: &str, data: &str| Frame { id, event: event.into(), data: data.into() };
        let expected = [frame(Some(7), "log", "{\"a\":1}"), frame(None, "gap", "x\ny")];
        for size in 1..text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for bytes in text.as_bytes().chunks(size) {
                lines
                    .push(bytes, |frame| {
                        found.push(frame);
                        Ok(())
                    })
                    .expect("it goes on");
            }
            assert_eq!(found, expected, "{size}");
        }
    }
}
