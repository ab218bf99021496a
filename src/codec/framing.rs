//! Framing: splits a stream of bytes into frames.

use bytes::{Bytes, BytesMut};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Frames, msgpack};

/// How frames follow each other on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Each frame ends with a line feed.
    #[default]
    Newline,
    /// Four bytes, the most significant first, say how long the frame is that follows.
    Length,
    /// A decimal number and a space say how long the frame is that follows (RFC 6587).
    Octet,
    /// For syslog as it is sent: each message with its length before it as in `octet`, or ended by a line feed or a NUL,
    /// told apart message by message.
    Auto,
    /// MessagePack: one value after another, each of which says where it ends. The default for `codec: msgpack`.
    Value,
}

/// Cuts whole frames off the front of a buffer. A frame longer than allowed is cut short and says so at its end,
/// and what is left of it is skipped.
#[derive(Debug)]
pub struct Framer {
    framing: Framing,
    frame_bytes: usize,
    chunk_bytes: usize,
    skip: Skip,
}

#[derive(Debug, PartialEq, Eq)]
enum Skip {
    Nothing,
    ToLineEnd,
    Bytes(usize),
}

/// Whole frames.
#[derive(Debug, PartialEq, Eq)]
pub struct Framed {
    pub bytes: Bytes,
    pub frames: Frames,
}

/// The stream does not follow its framing: nothing behind this can be read.
#[derive(Debug, PartialEq, Eq)]
pub struct OutOfFrame(pub String);

/// Digits that the length of an octet-counted frame may have.
const MOST_DIGITS: usize = 10;

/// What stands at the end of a frame that was cut short, so that nobody takes it for whole.
pub fn cut_mark(limit: usize) -> String {
    format!(" [cut: longer than {limit} bytes]")
}

/// The mark that a frame ends with, if it was cut.
pub fn mark_of_cut(frame: &[u8]) -> Option<&[u8]> {
    const BEGIN: &[u8] = b" [cut: longer than ";
    let begin = frame.iter().rposition(|byte| *byte == b'[')?.checked_sub(1)?;
    let number = frame[begin..].strip_prefix(BEGIN)?.strip_suffix(b" bytes]")?;
    (!number.is_empty() && number.iter().all(u8::is_ascii_digit)).then_some(&frame[begin..])
}

impl Framer {
    /// Chunks hold up to `chunk_bytes`, or one larger frame of up to `frame_bytes` and its mark.
    pub fn new(framing: Framing, frame_bytes: usize, chunk_bytes: usize) -> Framer {
        Framer { framing, frame_bytes: frame_bytes.max(1), chunk_bytes, skip: Skip::Nothing }
    }

    /// The next chunk, or nothing if the buffer holds no whole frame. Call until there is nothing.
    /// `closed` says that no more bytes will come: the rest is the last frame.
    pub fn next(&mut self, buffer: &mut BytesMut, closed: bool) -> Result<Option<Framed>, OutOfFrame> {
        if !self.skipped(buffer) {
            return Ok(None);
        }
        match self.framing {
            Framing::Newline => Ok(self.lines(buffer, closed)),
            Framing::Length | Framing::Octet => self.counted(buffer, closed),
            Framing::Auto => Ok(self.told_apart(buffer, closed)),
            Framing::Value => self.values(buffer, closed),
        }
    }

    /// Whether what had to be skipped is skipped.
    fn skipped(&mut self, buffer: &mut BytesMut) -> bool {
        match self.skip {
            Skip::Nothing => return true,
            Skip::ToLineEnd => match self.end_of_line(buffer) {
                Some(end) => drop(buffer.split_to(end + 1)),
                None => {
                    buffer.clear();
                    return false;
                }
            },
            Skip::Bytes(left) => {
                let now = left.min(buffer.len());
                drop(buffer.split_to(now));
                if now < left {
                    self.skip = Skip::Bytes(left - now);
                    return false;
                }
            }
        }
        self.skip = Skip::Nothing;
        true
    }

    fn lines(&mut self, buffer: &mut BytesMut, closed: bool) -> Option<Framed> {
        let window = &buffer[..buffer.len().min(self.chunk_bytes)];
        let end = memchr::memrchr(b'\n', window).or_else(|| memchr::memchr(b'\n', buffer)).map(|at| at + 1);
        let bytes = match end {
            Some(end) => buffer.split_to(end).freeze(),
            None if buffer.len() > self.frame_bytes => {
                self.skip = Skip::ToLineEnd;
                let mut head = buffer.split_to(self.frame_bytes);
                buffer.clear();
                head.extend_from_slice(cut_mark(self.frame_bytes).as_bytes());
                head.extend_from_slice(b"\n");
                head.freeze()
            }
            None if closed && !buffer.is_empty() => {
                let mut rest = buffer.split();
                rest.extend_from_slice(b"\n");
                rest.freeze()
            }
            None => return None,
        };
        Some(Framed { bytes, frames: Frames::Lines })
    }

    fn end_of_line(&self, bytes: &[u8]) -> Option<usize> {
        match self.framing {
            Framing::Auto => memchr::memchr2(b'\n', 0, bytes),
            _ => memchr::memchr(b'\n', bytes),
        }
    }

    /// Messages of syslog, each in the framing that it shows.
    fn told_apart(&mut self, buffer: &mut BytesMut, closed: bool) -> Option<Framed> {
        let (mut at, mut frames) = (0, Vec::new());
        loop {
            at += buffer[at..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r' | 0)).count();
            let rest = &buffer[at..];
            if rest.is_empty() || (at > self.chunk_bytes && !frames.is_empty()) {
                break;
            }
            let (start, end, next) = match message_length(rest) {
                // A length that has not come whole yet.
                None if !closed => break,
                Some(Some((header, len))) => {
                    let (start, end) = (at + header, at + header + len);
                    if len > self.frame_bytes {
                        if frames.is_empty() && (buffer.len() - start >= self.frame_bytes || closed) {
                            return Some(self.cut_short(buffer, start, len));
                        }
                        break;
                    }
                    if end > buffer.len() && !closed {
                        break;
                    }
                    let end = end.min(buffer.len());
                    (start, end, end)
                }
                None | Some(None) => match self.end_of_line(rest) {
                    Some(len) => (at, at + len, at + len + 1),
                    None if rest.len() > self.frame_bytes && frames.is_empty() => {
                        let framed = self.cut_short(buffer, at, self.frame_bytes);
                        self.skip = Skip::ToLineEnd;
                        return Some(framed);
                    }
                    None if closed => (at, buffer.len(), buffer.len()),
                    None => break,
                },
            };
            if end > self.chunk_bytes && !frames.is_empty() {
                break;
            }
            if start < end {
                frames.push(start..end);
            }
            at = next;
        }
        let bytes = buffer.split_to(at).freeze();
        (!frames.is_empty()).then_some(Framed { bytes, frames: Frames::At(frames) })
    }

    fn counted(&mut self, buffer: &mut BytesMut, closed: bool) -> Result<Option<Framed>, OutOfFrame> {
        let (mut at, mut frames) = (0, Vec::new());
        loop {
            // Some senders end a counted message with a line feed all the same.
            if self.framing == Framing::Octet {
                at += buffer[at..].iter().take_while(|byte| **byte == b'\n').count();
            }
            let (header, len) = match self.header(&buffer[at..]) {
                Ok(Some(found)) => found,
                // What came before the fault is whole.
                Err(fault) if frames.is_empty() => return Err(fault),
                Ok(None) | Err(_) => break,
            };
            let start = at + header;
            if len > self.frame_bytes {
                if frames.is_empty() && (buffer.len() - start >= self.frame_bytes || closed) {
                    return Ok(Some(self.cut_short(buffer, start, len)));
                }
                break;
            }
            let end = start + len;
            if end > buffer.len() || (end > self.chunk_bytes && !frames.is_empty()) {
                break;
            }
            if len > 0 {
                frames.push(start..end);
            }
            at = end;
        }
        if frames.is_empty() && closed && at < buffer.len() {
            let missing = format!("the stream ends {} bytes into a frame", buffer.len() - at);
            buffer.clear();
            return Err(OutOfFrame(missing));
        }
        let bytes = buffer.split_to(at).freeze();
        Ok((!frames.is_empty()).then_some(Framed { bytes, frames: Frames::At(frames) }))
    }

    /// Whole values of MessagePack; the decoder finds them again.
    fn values(&mut self, buffer: &mut BytesMut, closed: bool) -> Result<Option<Framed>, OutOfFrame> {
        let mut at = 0;
        while at < buffer.len().min(self.chunk_bytes) {
            match msgpack::value_length(&buffer[at..]) {
                Ok(Some(len)) if len <= self.frame_bytes => {
                    if at > 0 && at + len > self.chunk_bytes {
                        break;
                    }
                    at += len;
                }
                Ok(None) if buffer.len() - at <= self.frame_bytes => break,
                // What came before the fault is whole.
                _ if at > 0 => break,
                Err(reason) => return Err(OutOfFrame(reason)),
                Ok(_) => return Err(OutOfFrame(format!("a value is longer than {} bytes", self.frame_bytes))),
            }
        }
        if at > 0 {
            return Ok(Some(Framed { bytes: buffer.split_to(at).freeze(), frames: Frames::Lines }));
        }
        if closed && !buffer.is_empty() {
            let missing = format!("the stream ends {} bytes into a value", buffer.len());
            buffer.clear();
            return Err(OutOfFrame(missing));
        }
        Ok(None)
    }

    fn cut_short(&mut self, buffer: &mut BytesMut, start: usize, len: usize) -> Framed {
        let have = (buffer.len() - start).min(self.frame_bytes);
        let mut head = buffer.split_to(start + have);
        self.skip = Skip::Bytes(len - have);
        self.skipped(buffer);
        head.extend_from_slice(cut_mark(self.frame_bytes).as_bytes());
        let frames = Frames::At(std::iter::once(start..head.len()).collect());
        Framed { bytes: head.freeze(), frames }
    }

    /// Bytes of the header and of the frame behind it, if the header is whole.
    fn header(&self, bytes: &[u8]) -> Result<Option<(usize, usize)>, OutOfFrame> {
        if self.framing == Framing::Length {
            return Ok(bytes.first_chunk().map(|four| (4, u32::from_be_bytes(*four) as usize)));
        }
        let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits > MOST_DIGITS || (digits == 0 && !bytes.is_empty()) {
            return Err(OutOfFrame("the frame does not start with its length".into()));
        }
        match bytes.get(digits) {
            None => Ok(None),
            Some(b' ') => {
                let text = std::str::from_utf8(&bytes[..digits]).expect("digits are ASCII");
                Ok(Some((digits + 1, text.parse().expect("ten digits fit"))))
            }
            Some(_) => Err(OutOfFrame("no space follows the length of a frame".into())),
        }
    }
}

/// The length that stands before a message of syslog, which begins with `<`: bytes of the header, and of the message.
/// `Some(None)` if there is none, `None` if that cannot be known yet.
fn message_length(bytes: &[u8]) -> Option<Option<(usize, usize)>> {
    let digits = bytes.iter().take(MOST_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > MOST_DIGITS || bytes[0] == b'0' {
        return Some(None);
    }
    match bytes.get(digits..digits + 2) {
        Some(b" <") => {
            let text = std::str::from_utf8(&bytes[..digits]).expect("digits are ASCII");
            Some(Some((digits + 1, text.parse().expect("ten digits fit"))))
        }
        Some(_) => Some(None),
        None if bytes[digits..].iter().all(|byte| *byte == b' ') => None,
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All frames that come out when the stream arrives in chunks of these sizes.
    fn frames(framing: Framing, limits: (usize, usize), stream: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
        let mut framer = Framer::new(framing, limits.0, limits.1);
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        let mut rest = stream;
        let mut sizes = sizes.iter().cycle();
        loop {
            let now = sizes.next().map_or(rest.len(), |size| *size).min(rest.len());
            buffer.extend_from_slice(&rest[..now]);
            rest = &rest[now..];
            while let Ok(Some(framed)) = framer.next(&mut buffer, rest.is_empty()) {
                match framed.frames {
                    Frames::At(ranges) => found.extend(ranges.into_iter().map(|r| framed.bytes[r].to_vec())),
                    _ => {
                        let whole = framed.bytes.strip_suffix(b"\n").expect("lines are ended");
                        found.extend(whole.split(|b| *b == b'\n').map(<[u8]>::to_vec));
                    }
                }
            }
            if rest.is_empty() {
                return found;
            }
        }
    }

    fn join(framing: Framing, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for frame in frames {
            match framing {
                Framing::Value => unreachable!("it is tested by itself"),
                Framing::Length => stream.extend_from_slice(&(frame.len() as u32).to_be_bytes()),
                Framing::Octet => stream.extend_from_slice(format!("{} ", frame.len()).as_bytes()),
                Framing::Newline | Framing::Auto => {}
            }
            stream.extend_from_slice(frame);
            if framing == Framing::Newline {
                stream.push(b'\n');
            }
        }
        stream
    }

    fn any_framing() -> impl Strategy<Value = Framing> {
        prop_oneof![Just(Framing::Newline), Just(Framing::Length), Just(Framing::Octet)]
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_chopped(
            framing in any_framing(),
            mut given in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..40),
            sizes in prop::collection::vec(1usize..50, 1..20),
            chunk in 1usize..200,
        ) {
            if framing == Framing::Newline {
                given.iter_mut().flatten().filter(|b| **b == b'\n').for_each(|b| *b = b' ');
            }
            prop_assert_eq!(frames(framing, (64, chunk), &join(framing, &given), &sizes), given);
        }

        #[test]
        fn arbitrary_bytes_neither_panic_nor_grow(
            framing in any_framing(),
            stream in prop::collection::vec(any::<u8>(), 0..600),
            sizes in prop::collection::vec(1usize..50, 1..20),
        ) {
            for frame in frames(framing, (32, 64), &stream, &sizes) {
                prop_assert!(framing == Framing::Newline || frame.len() <= 32 + cut_mark(32).len());
            }
        }
    }

    #[test]
    fn values_of_msgpack_come_out_whole_however_they_arrive() {
        // {"a":1}, [{"a":2}], {"a":"xxx…"}
        let long = [b"\x81\xA1a\xD9\x64".as_slice(), &[b'x'; 100]].concat();
        let stream = [b"\x81\xA1a\x01".as_slice(), b"\x91\x81\xA1a\x02", &long].concat();
        for step in 1..stream.len() {
            let (mut framer, mut buffer, mut out) = (Framer::new(Framing::Value, 200, 64), BytesMut::new(), Vec::new());
            for part in stream.chunks(step) {
                buffer.extend_from_slice(part);
                while let Some(framed) = framer.next(&mut buffer, false).unwrap() {
                    assert_eq!(msgpack::value_length(&framed.bytes).map(|len| len.is_some()), Ok(true));
                    out.extend_from_slice(&framed.bytes);
                }
            }
            assert_eq!((&out, buffer.len()), (&stream, 0), "{step}");
        }
        let mut framer = Framer::new(Framing::Value, 50, 64);
        assert!(framer.next(&mut BytesMut::from(&long[..]), false).is_err(), "it is too long");
        assert!(framer.next(&mut BytesMut::from(&long[..20]), true).is_err(), "it ends in the middle");
        assert!(framer.next(&mut BytesMut::from(&b"\xC1"[..]), false).is_err(), "it is no MessagePack");
    }

    #[test]
    fn a_frame_that_is_too_long_is_cut_marked_and_skipped() {
        let long = vec![b'x'; 100];
        let cut = [&long[..32], cut_mark(32).as_bytes()].concat();
        for framing in [Framing::Newline, Framing::Length, Framing::Octet] {
            let stream = join(framing, &[b"before".to_vec(), long.clone(), b"after".to_vec()]);
            // The end of a line that is there can be seen; only an unending one has to be cut here.
            let found = frames(framing, (32, 16), &stream, &[7]);
            assert_eq!(found, [b"before".to_vec(), cut.clone(), b"after".to_vec()], "{framing:?}");
        }
    }

    #[test]
    fn the_last_line_needs_no_line_feed() {
        assert_eq!(frames(Framing::Newline, (32, 16), b"one\ntwo", &[3]), [b"one".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn a_stream_without_lengths_is_out_of_frame() {
        let mut framer = Framer::new(Framing::Octet, 32, 64);
        assert!(framer.next(&mut BytesMut::from(&b"hello"[..]), false).is_err());
        assert!(framer.next(&mut BytesMut::from(&b"5x"[..]), false).is_err());
        assert!(framer.next(&mut BytesMut::from(&b"12345678901 "[..]), false).is_err());
        assert_eq!(framer.next(&mut BytesMut::from(&b"12"[..]), false), Ok(None));
    }

    #[test]
    fn a_counted_frame_that_never_ends_is_said() {
        let mut framer = Framer::new(Framing::Length, 32, 64);
        assert!(framer.next(&mut BytesMut::from(&b"\0\0\0\x09abc"[..]), true).is_err());
    }

    #[test]
    fn messages_of_syslog_are_told_apart_one_by_one() {
        let stream = b"<13>one\n11 <13>two\nlin<13>three\x0015 <13>four 4 <5>x\n\n<13>five\r\n7 dwarfs\n12 <13>six 6 si\n<13>last";
        let expected: [&[u8]; 9] = [
            b"<13>one",
            b"<13>two\nlin",
            b"<13>three",
            b"<13>four 4 <5>x",
            b"<13>five\r",
            b"7 dwarfs",
            b"<13>six 6 si",
            b"<13>last",
            b"",
        ];
        for size in 1..stream.len() {
            let found = frames(Framing::Auto, (64, 1024), stream, &[size]);
            assert_eq!(found, expected[..8], "{size}");
        }
        let long = [b"<13>".as_slice(), &[b'x'; 100], b"\n<13>next\0"].concat();
        let found = frames(Framing::Auto, (16, 64), &long, &[7]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].ends_with(cut_mark(16).as_bytes()) && found[1] == b"<13>next");
    }

    #[test]
    fn a_line_feed_behind_a_counted_message_is_none_of_it() {
        for size in 1..10 {
            assert_eq!(frames(Framing::Octet, (64, 1024), b"3 abc\n2 de\n\n1 f", &[size]), [&b"abc"[..], b"de", b"f"]);
        }
    }
}
