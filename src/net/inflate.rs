//! Decompresses gzip, zstd and deflate as it arrives, within a bound on the output.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// The widest zstd window (RFC 9659): 8 MiB.
const MAX_WINDOW_LOG: u32 = 23;
const MIN_WINDOW_LOG: u32 = 10;
/// What a zstd decoder needs beside its window: two blocks and its tables.
const ZSTD_STATE_BYTES: usize = 448 * 1024;
const ZLIB_STATE_BYTES: usize = 48 * 1024;
/// The first size of the output buffer, and the least by which it grows.
const STEP_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Gzip,
    Zstd,
    /// With or without the zlib header: senders disagree about the name.
    Deflate,
}

impl Encoding {
    /// The value of a Content-Encoding header, if it is one that we know.
    pub fn parse(value: &[u8]) -> Option<Encoding> {
        const KNOWN: [(&[u8], Encoding); 4] = [
            (b"gzip", Encoding::Gzip),
            (b"x-gzip", Encoding::Gzip),
            (b"zstd", Encoding::Zstd),
            (b"deflate", Encoding::Deflate),
        ];
        KNOWN.iter().find(|(name, _)| value.trim_ascii().eq_ignore_ascii_case(name)).map(|(_, encoding)| *encoding)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// More comes out than is allowed.
    TooLarge,
    Malformed,
    /// The text ends before its end.
    Truncated,
    /// The bound is reached.
    NoMemory(E),
}

/// What memory the output may take.
pub struct Bound<F> {
    /// The most bytes that may come out.
    pub max_bytes: usize,
    /// Asked with the bytes that are needed in all, before they are taken.
    pub grow: F,
}

/// A running expansion.
pub struct Inflate {
    state: State,
    /// Memory of the decoder itself.
    own_bytes: usize,
}

enum State {
    /// Nothing has arrived yet, or (gzip, zstd) the last member is complete.
    Between(Encoding),
    /// The first byte of a deflate text, which alone does not tell the two forms apart.
    Deflate(u8),
    Zlib(Decompress, Encoding),
    Zstd {
        decoder: Decoder<'static>,
        mid_frame: bool,
    },
    /// A deflate text is complete; nothing may follow.
    Done,
}

impl Inflate {
    pub fn new(encoding: Encoding) -> Inflate {
        Inflate { state: State::Between(encoding), own_bytes: 0 }
    }

    /// Expands what has arrived, behind what `out` holds.
    pub fn push<E, F>(&mut self, mut input: &[u8], out: &mut Vec<u8>, bound: &mut Bound<F>) -> Result<(), Error<E>>
    where
        F: FnMut(usize) -> Result<(), E>,
    {
        while !input.is_empty() {
            match &mut self.state {
                State::Between(encoding) => {
                    let encoding = *encoding;
                    let (state, own_bytes) = begin(encoding, input)?;
                    if matches!(state, State::Deflate(_)) {
                        input = &input[1..];
                    }
                    self.state = state;
                    self.own_bytes = own_bytes;
                    (bound.grow)(self.own_bytes + out.capacity()).map_err(Error::NoMemory)?;
                }
                State::Deflate(first) => {
                    let first = *first;
                    let zlib = first & 0x0F == 8 && (u16::from(first) << 8 | u16::from(input[0])).is_multiple_of(31);
                    self.state = State::Zlib(Decompress::new(zlib), Encoding::Deflate);
                    self.inflate(&[first], out, bound)?;
                }
                State::Zlib(..) => input = self.inflate(input, out, bound)?,
                State::Zstd { .. } => input = self.unzstd(input, out, bound)?,
                State::Done => return Err(Error::Malformed),
            }
        }
        Ok(())
    }

    /// The end of the input: an error unless the text is complete.
    pub fn finish<E>(self) -> Result<(), Error<E>> {
        match self.state {
            State::Done | State::Zstd { mid_frame: false, .. } => Ok(()),
            State::Between(Encoding::Gzip) if self.own_bytes > 0 => Ok(()),
            _ => Err(Error::Truncated),
        }
    }

    /// Gives what is left of the input when a member ends before it.
    fn inflate<'i, E, F>(
        &mut self,
        mut input: &'i [u8],
        out: &mut Vec<u8>,
        bound: &mut Bound<F>,
    ) -> Result<&'i [u8], Error<E>>
    where
        F: FnMut(usize) -> Result<(), E>,
    {
        let State::Zlib(decoder, encoding) = &mut self.state else { unreachable!("the caller has looked") };
        loop {
            make_space(out, self.own_bytes, bound)?;
            let before = (decoder.total_in(), out.len());
            let status = decoder.decompress_vec(input, out, FlushDecompress::None).map_err(|_| Error::Malformed)?;
            input = &input[(decoder.total_in() - before.0) as usize..];
            check_size(out, bound)?;
            match status {
                Status::StreamEnd => {
                    self.state = match encoding {
                        Encoding::Gzip => State::Between(Encoding::Gzip),
                        _ => State::Done,
                    };
                    return Ok(input);
                }
                // Space left over means that everything which can come out has come out.
                _ if input.is_empty() && out.len() < out.capacity() => return Ok(input),
                _ if out.len() == before.1 && decoder.total_in() == before.0 && out.len() < out.capacity() => {
                    return Err(Error::Malformed);
                }
                _ => {}
            }
        }
    }

    fn unzstd<'i, E, F>(
        &mut self,
        input: &'i [u8],
        out: &mut Vec<u8>,
        bound: &mut Bound<F>,
    ) -> Result<&'i [u8], Error<E>>
    where
        F: FnMut(usize) -> Result<(), E>,
    {
        let State::Zstd { decoder, mid_frame } = &mut self.state else { unreachable!("the caller has looked") };
        let mut source = InBuffer::around(input);
        loop {
            make_space(out, self.own_bytes, bound)?;
            let written = out.len();
            let mut target = OutBuffer::around_pos(out, written);
            let hint = decoder.run(&mut source, &mut target).map_err(|_| Error::Malformed)?;
            *mid_frame = hint != 0;
            check_size(out, bound)?;
            if source.pos() == input.len() && out.len() < out.capacity() {
                return Ok(&[]);
            }
        }
    }
}

/// The decoder for a member that begins with `input`, and the memory it needs.
fn begin<E>(encoding: Encoding, input: &[u8]) -> Result<(State, usize), Error<E>> {
    Ok(match encoding {
        Encoding::Gzip => (State::Zlib(Decompress::new_gzip(15), Encoding::Gzip), ZLIB_STATE_BYTES),
        Encoding::Deflate => (State::Deflate(input[0]), ZLIB_STATE_BYTES),
        Encoding::Zstd => {
            let log = window_log(input).unwrap_or(MAX_WINDOW_LOG);
            let decoder = Decoder::new().and_then(|mut decoder| {
                decoder.set_parameter(DParameter::WindowLogMax(log))?;
                Ok(decoder)
            });
            let decoder = decoder.map_err(|_| Error::Malformed)?;
            (State::Zstd { decoder, mid_frame: true }, (1 << log) + ZSTD_STATE_BYTES)
        }
    })
}

/// The window that a zstd frame asks for (RFC 8878, 3.1.1.1), as a power of two: at most [`MAX_WINDOW_LOG`].
/// `None` if the header is not whole or no frame's.
fn window_log(frame: &[u8]) -> Option<u32> {
    let rest = frame.strip_prefix(&0xFD2F_B528_u32.to_le_bytes())?;
    let (&descriptor, rest) = rest.split_first()?;
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let window = *rest.first()?;
        let (log, eighths) = (10 + u32::from(window >> 3), window & 7);
        return Some((log + u32::from(eighths > 0)).min(MAX_WINDOW_LOG));
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_bytes = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let mut size = [0; 8];
    size[..size_bytes].copy_from_slice(rest.get(dictionary..dictionary + size_bytes)?);
    let size = u64::from_le_bytes(size).saturating_add(if size_bytes == 2 { 256 } else { 0 });
    let log = size.checked_next_power_of_two().map_or(64, u64::trailing_zeros);
    Some(log.clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG))
}

/// MemoryPermit for at least one more byte: one beyond the bound, so that exceeding it can be seen.
fn make_space<E, F>(out: &mut Vec<u8>, own_bytes: usize, bound: &mut Bound<F>) -> Result<(), Error<E>>
where
    F: FnMut(usize) -> Result<(), E>,
{
    if out.len() < out.capacity() {
        return Ok(());
    }
    let wanted = out.capacity() + (out.capacity() / 2).max(STEP_BYTES);
    let capacity = wanted.min(bound.max_bytes + 1);
    (bound.grow)(own_bytes + capacity).map_err(Error::NoMemory)?;
    out.reserve_exact(capacity - out.len());
    Ok(())
}

fn check_size<E, F>(out: &[u8], bound: &Bound<F>) -> Result<(), Error<E>> {
    if out.len() > bound.max_bytes { Err(Error::TooLarge) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    fn pack(encoding: &str, text: &[u8]) -> Vec<u8> {
        match encoding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory does not fail")
            }
            "zlib" => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory does not fail")
            }
            "raw" => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory does not fail")
            }
            _ => zstd::stream::encode_all(text, 3).expect("memory does not fail"),
        }
    }

    fn expand(encoding: Encoding, packed: &[u8], step: usize, max_bytes: usize) -> Result<Vec<u8>, Error<()>> {
        let mut inflate = Inflate::new(encoding);
        let mut out = Vec::new();
        let mut bound = Bound { max_bytes, grow: |_| Ok(()) };
        for part in packed.chunks(step.max(1)) {
            inflate.push(part, &mut out, &mut bound)?;
        }
        inflate.finish().map(|()| out)
    }

    const ALL: [(&str, Encoding); 4] =
        [("gzip", Encoding::Gzip), ("zlib", Encoding::Deflate), ("raw", Encoding::Deflate), ("zstd", Encoding::Zstd)];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_packed_comes_out_whole_however_it_is_cut(
            text in proptest::collection::vec(any::<u8>(), 0..5000), repeat in 1_usize..40, step in 1_usize..700,
        ) {
            let text = text.repeat(repeat);
            for (name, encoding) in ALL {
                prop_assert_eq!(expand(encoding, &pack(name, &text), step, 1 << 20), Ok(text.clone()), "{}", name);
            }
        }

        #[test]
        fn garbage_never_panics_and_never_exceeds_the_bound(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1_usize..300, cut in 0_usize..300,
        ) {
            for (name, encoding) in ALL {
                let mut packed = pack(name, &bytes.repeat(20));
                let at = cut % packed.len();
                packed[at] ^= 0x55;
                for input in [&packed[..], &bytes[..]] {
                    if let Ok(out) = expand(encoding, input, step, 1000) {
                        prop_assert!(out.len() <= 1000);
                    }
                }
            }
        }
    }

    #[test]
    fn a_bomb_ends_at_the_bound() {
        let zeroes = vec![0; 8 << 20];
        for (name, encoding) in ALL {
            let packed = pack(name, &zeroes);
            assert_eq!(expand(encoding, &packed, 4096, (8 << 20) - 1), Err(Error::TooLarge), "{name}");
            assert_eq!(expand(encoding, &packed, 4096, 8 << 20).map(|out| out.len()), Ok(8 << 20), "{name}");
        }
    }

    #[test]
    fn no_memory_is_taken_that_was_not_granted() {
        for (name, encoding) in ALL {
            let packed = pack(name, &vec![7; 1 << 20]);
            let mut granted = 0;
            let mut grow = |total: usize| {
                granted = granted.max(total);
                if total > 900 * 1024 { Err("full") } else { Ok(()) }
            };
            let mut out = Vec::new();
            let mut bound = Bound { max_bytes: 1 << 20, grow: &mut grow };
            let result = Inflate::new(encoding).push(&packed, &mut out, &mut bound);
            assert_eq!(result, Err(Error::NoMemory("full")), "{name}");
            assert!(out.capacity() <= 900 * 1024, "{name}");
        }
    }

    #[test]
    fn members_follow_one_another_and_a_cut_off_text_is_noticed() {
        for (name, encoding) in [ALL[0], ALL[3]] {
            let two = [pack(name, b"one "), pack(name, b"two")].concat();
            assert_eq!(expand(encoding, &two, 1, 100), Ok(b"one two".to_vec()), "{name}");
        }
        for (name, encoding) in ALL {
            let packed = pack(name, b"some text that is packed");
            let cut = expand(encoding, &packed[..packed.len() - 1], 7, 100);
            assert_eq!(cut, Err(Error::Truncated), "{name}");
            assert_eq!(expand(encoding, b"", 7, 100), Err(Error::Truncated), "{name}");
        }
        let trailing = [pack("zlib", b"text"), b"more".to_vec()].concat();
        assert_eq!(expand(Encoding::Deflate, &trailing, 100, 100), Err(Error::Malformed));
    }

    #[test]
    fn a_zstd_window_beyond_8_mib_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("memory does not fail");
        encoder.window_log(24).expect("a known setting");
        encoder.write_all(&vec![1; 1 << 20]).expect("memory does not fail");
        let packed = encoder.finish().expect("memory does not fail");
        assert_eq!(expand(Encoding::Zstd, &packed, 1000, 1 << 21), Err(Error::Malformed));
        assert_eq!(window_log(&packed), Some(MAX_WINDOW_LOG));
        assert_eq!(window_log(&pack("zstd", b"small")), window_log(&pack("zstd", b"other")));
    }
}
