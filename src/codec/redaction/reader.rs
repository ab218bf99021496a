//! The text being searched, and the work already spent on it.

use super::byte_set::ByteSet;
use crate::codec::redaction::literals::Literals as _;
use std::cell::{Cell, RefCell};

use super::assign::Found;
use super::connection::ends_word;
use super::context::{Kind, Lexer, LineContext};
use super::filter::Hit;
use super::flags::{Commands, MAX_BACK};
use super::marks::{self, Mark, Marks};
use super::names::{self, Classes};
use super::near::Masked;
use super::repeats::Repeated;
use super::search::Span;
use super::shape::{self, CLASSES};

/// Every rule reads the text through this, so that no byte is read more than a few times, whatever the text is.
pub struct Reader<'a> {
    pub text: &'a [u8],
    known: Box<Known>,
    /// Whether so much is asked of the text that it pays to read where bytes of each kind stand.
    is_marked: bool,
}

/// What a reader knows of its text.
pub struct Known {
    spent: Cell<usize>,
    /// The last run of each class that was measured: where it begins and where it ends.
    runs: [Cell<(u32, u32)>; CLASSES.len()],
    /// The last end of each kind that was searched: where from, and where it is.
    ends: [Cell<(u32, u32)>; ENDS],
    /// Which kinds of ends were searched at all, one bit each: the others need not be forgotten.
    searched: Cell<u64>,
    /// How far schemes were searched, and the last one of the word there.
    scheme: Cell<(usize, Option<usize>)>,
    /// Where the last word began that was read for a login, and how far it was read.
    login: Cell<(usize, usize)>,
    lexer: RefCell<Lexer>,
    /// Where the last name ended that was looked at.
    pub last_name: Cell<usize>,
    /// Where the last word ended that was looked at for a name.
    pub last_word: Cell<usize>,
    /// The last long word without quotes that was examined.
    pub long_word: Cell<(usize, usize)>,
    /// Where the last list of cookies ended that was read.
    pub cookies_end: Cell<usize>,
    /// Where the last list in brackets ended that was read, and the last list of lines.
    pub bracketed_to: Cell<usize>,
    pub items_to: Cell<usize>,
    /// How far lists of names were searched, and the last byte there that belongs to none.
    list: Cell<(usize, Option<usize>)>,
    /// Where the last list of columns began, and where its rows ended.
    pub rows: Cell<(usize, usize)>,
    /// Where the last rows of comma-separated values ended.
    pub csv_end: Cell<usize>,
    /// Where the last manifest ended that was read.
    pub manifest_end: Cell<usize>,
    /// The commands of the line, as far as it was read.
    commands: Cell<Commands>,
    /// Where a command was seen last, and how many stood close together there.
    close_commands: Cell<(usize, usize)>,
    /// Whether annotations give values to fields anywhere.
    annotated: Cell<Option<bool>>,
    /// Whether there is a bracket anywhere, as masks begin with.
    brackets: Cell<Option<bool>>,
    classes: Classes,
    marks: Marks,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            spent: Cell::new(0),
            runs: Default::default(),
            ends: [const { Cell::new((0, 0)) }; ENDS],
            searched: Cell::new(0),
            scheme: Default::default(),
            login: Cell::default(),
            lexer: Default::default(),
            last_name: Cell::new(usize::MAX),
            last_word: Cell::new(usize::MAX),
            long_word: Cell::default(),
            cookies_end: Cell::new(0),
            bracketed_to: Cell::new(0),
            items_to: Cell::new(0),
            list: Cell::default(),
            rows: Cell::new((usize::MAX, 0)),
            csv_end: Cell::new(0),
            manifest_end: Cell::new(0),
            commands: Cell::default(),
            close_commands: Cell::default(),
            annotated: Cell::new(None),
            brackets: Cell::new(None),
            classes: Classes::default(),
            marks: Marks::default(),
        }
    }
}

impl Known {
    /// Forgets everything that was true of one text only.
    fn forget(&mut self) {
        // Each by its name: the compiler refuses one that is left out.
        let Known {
            spent,
            runs,
            ends,
            searched,
            scheme,
            login,
            lexer,
            last_name,
            last_word,
            long_word,
            cookies_end,
            bracketed_to,
            items_to,
            list,
            rows,
            csv_end,
            manifest_end,
            commands,
            close_commands,
            annotated,
            brackets,
            // A name announces the same in every text.
            classes: _,
            marks,
        } = self;
        marks.forget();
        let mut searched = searched.take();
        while searched != 0 {
            ends[searched.trailing_zeros() as usize].set((0, 0));
            searched &= searched - 1;
        }
        lexer.get_mut().forget();
        *runs = Default::default();
        last_name.set(usize::MAX);
        last_word.set(usize::MAX);
        rows.set((usize::MAX, 0));
        for at in [spent, cookies_end, bracketed_to, items_to, csv_end, manifest_end] {
            at.take();
        }
        for once in [annotated, brackets] {
            once.take();
        }
        for pair in [login, long_word, close_commands] {
            pair.take();
        }
        for searched in [scheme, list] {
            searched.take();
        }
        commands.take();
    }
}

/// How far back a word is read when it is asked for again.
const MAX_WORD: usize = 256;
/// How far back a list of names is read when it is asked for again.
const MAX_LIST: usize = 512;
/// Commands closer than this stand close together, and so many of them are read.
const CLOSE: usize = 24;
const MOST_CLOSE: usize = 8;
/// How many kinds of ends a reader remembers.
pub const ENDS: usize = 48;
/// The kind of end that a line has; other files take the numbers behind it.
const LINE_END: usize = 0;

impl std::ops::Deref for Reader<'_> {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.known
    }
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a [u8]) -> Reader<'a> {
        Reader { text, known: Box::default(), is_marked: false }
    }

    /// The reader for another text: what it knew is forgotten.
    pub fn turn_to<'b>(mut self, text: &'b [u8]) -> Reader<'b> {
        self.known.forget();
        Reader { text, known: self.known, is_marked: self.is_marked }
    }

    /// Where the run of a kind ends that goes on at `at`, at most so many bytes on.
    #[inline]
    pub fn end_of(&self, mark: Mark, at: usize, most: usize) -> usize {
        if !self.is_marked {
            let rest = self.text.get(at..).unwrap_or_default();
            return at + rest.iter().take(most).take_while(|byte| mark.has(**byte)).count();
        }
        self.marks.end_within(self.text, mark, at, most)
    }

    /// Where the run of a kind begins that ends at `at`, at most so many bytes in front.
    #[inline]
    pub fn start_of(&self, mark: Mark, at: usize, most: usize) -> usize {
        if !self.is_marked {
            return at - self.text[..at].iter().rev().take(most).take_while(|byte| mark.has(**byte)).count();
        }
        self.marks.start_within(self.text, mark, at, most)
    }

    /// The first byte of a kind at `at` or behind it, or the end of the text.
    #[inline]
    pub fn next(&self, mark: Mark, at: usize) -> usize {
        if !self.is_marked {
            let rest = self.text.get(at..).unwrap_or_default();
            return at + rest.iter().position(|byte| mark.has(*byte)).unwrap_or(rest.len());
        }
        self.marks.next(self.text, mark, at)
    }

    /// Notes that so many bytes were looked at.
    #[inline]
    pub fn charge(&self, bytes: usize) {
        self.spent.set(self.spent.get() + bytes);
    }

    /// How many bytes were looked at.
    pub fn spent(&self) -> usize {
        self.spent.get()
    }

    /// Where something ends that goes on at `at`, such as a line: `find` searches for it, once for all places before
    /// it. The kind tells different searches apart.
    #[inline]
    pub fn end(&self, kind: usize, at: usize, find: impl FnOnce() -> usize) -> usize {
        let (from, to) = self.ends[kind].get();
        if (from as usize..to as usize).contains(&at) {
            return to as usize;
        }
        let to = find();
        self.charge(to - at + 1);
        self.ends[kind].set((place(at), place(to)));
        self.searched.set(self.searched.get() | 1 << kind);
        to
    }

    /// The context of a place. Asked from left to right, it reads once.
    pub fn context(&self, at: usize) -> LineContext {
        let (context, read) = self.lexer.borrow_mut().at(self.text, &self.marks, at);
        self.charge(read + 1);
        context
    }

    /// The kind of text around the line that begins here.
    pub fn kind(&self, line_start: usize) -> Kind {
        let (kind, read) = self.lexer.borrow_mut().kind(self.text, line_start);
        self.charge(read);
        kind
    }

    /// Where the line ends that holds `at`.
    #[inline]
    pub fn line_end(&self, at: usize) -> usize {
        self.end(LINE_END, at, || self.next(marks::LINE, at))
    }

    /// Where the last `://` stands in front of `at` within the same word. Asked from left to right, it reads once.
    pub fn scheme_before(&self, at: usize) -> Option<usize> {
        let (mut to, mut scheme) = self.scheme.get();
        if at < to {
            (to, scheme) = (at.saturating_sub(MAX_WORD), None);
        }
        self.charge(at - to + 1);
        for (place, byte) in self.text[..at].iter().enumerate().skip(to) {
            if ends_word(*byte) {
                scheme = None;
            } else if *byte == b':' && self.text[place..].begins_with(b"://") {
                scheme = Some(place);
            }
        }
        self.scheme.set((at, scheme));
        scheme
    }

    /// Where the word begins that ends at `at`, at most so many bytes in front: up to white space or what a quote or
    /// bracket of a text would be. Asked from left to right, it reads once.
    pub fn login_before(&self, at: usize, most: usize) -> usize {
        let (start, to) = self.login.get();
        let least = at.saturating_sub(most);
        let from = if (least..=at).contains(&to) { to } else { least };
        let stops = |b: &u8| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`<>\\") }.has(b);
        self.charge(at - from + 1);
        let known = if from == to { start.max(least) } else { least };
        let start = self.text[from..at].iter().rposition(stops).map_or(known, |place| from + place + 1);
        self.login.set((start, at));
        start
    }

    /// The last byte in front of `at` that does not belong to a list of names. Asked from left to right, it reads once.
    pub fn list_before(&self, at: usize) -> Option<usize> {
        let (mut to, mut last) = self.list.get();
        if at < to || at - to > MAX_LIST {
            (to, last) = (at.saturating_sub(MAX_LIST), None);
        }
        self.charge(at - to + 1);
        let belongs = |b: &u8| b.is_ascii_alphanumeric() || const { &ByteSet::of(b"_, `\"[]\n\t.") }.has(b);
        last = self.text[to..at].iter().rposition(|b| !belongs(b)).map(|place| to + place).or(last);
        self.list.set((at, last));
        last
    }

    /// The commands that stand in front of `at` on its line. Asked from left to right, it reads once.
    pub fn commands_before(&self, at: usize) -> Commands {
        let mut commands = self.commands.get();
        self.charge(commands.read_to(self.text, at, MAX_BACK) + 1);
        self.commands.set(commands);
        commands
    }

    /// The same in raw JSON, where escapes make a line longer.
    pub fn raw_commands_before(&self, at: usize) -> Commands {
        let mut commands = self.commands.get();
        commands.read_to(self.text, at, 2 * MAX_BACK);
        self.commands.set(commands);
        commands
    }

    /// Whether it is worth reading on behind the command or call seen at `at`: not where they follow one another on and on.
    pub fn is_worth_a_line(&self, at: usize) -> bool {
        let (last, count) = self.close_commands.get();
        let count = if at.abs_diff(last) < CLOSE { count + 1 } else { 0 };
        self.close_commands.set((at, count));
        count < MOST_CLOSE
    }

    /// What a name announces.
    pub fn classify(&self, name: &[u8]) -> Option<names::Class> {
        self.classes.of(name)
    }

    /// Whether the text has a bracket, without which there is no mask in it.
    pub fn has_brackets(&self) -> bool {
        self.ask_once(&self.brackets, |text| memchr::memchr(b'[', text).is_some())
    }

    /// Notes that there is no `@` in the text.
    pub fn has_no_at(&self) {
        self.annotated.set(Some(false));
    }

    /// Whether the text has annotations that give values to fields.
    pub fn has_annotations(&self) -> bool {
        self.ask_once(&self.annotated, |text| {
            memchr::memchr_iter(b'@', text).any(|at| text[at..].begins_with(b"@Value("))
        })
    }

    /// An answer about the whole text, which is read for it the first time.
    fn ask_once(&self, known: &Cell<Option<bool>>, ask: impl FnOnce(&[u8]) -> bool) -> bool {
        if let Some(known) = known.get() {
            return known;
        }
        self.charge(self.text.len());
        let answer = ask(self.text);
        known.set(Some(answer));
        answer
    }

    /// Where the run of a class ends that holds `at`. A run is measured once, however often it is asked for.
    pub fn run_end(&self, class: shape::Class, at: usize) -> usize {
        let known = &self.runs[class.number()];
        let (start, end) = known.get();
        let (start, end) = (start as usize, end as usize);
        if start <= at && at < end {
            self.charge(1);
            return end;
        }
        // What is known behind the place need not be read again.
        let stop = if at < start && start < end { start } else { self.text.len() };
        let mut to = self.end_of(Mark::numbered(class.number()), at, stop.saturating_sub(at));
        if to == start && start < end {
            to = end;
        }
        self.charge(to.min(start.max(at)) - at + 1);
        known.set((place(at), place(to)));
        to
    }
}

/// A place as it is remembered; texts beyond 4 GiB, which no source lets in, are read without being remembered.
#[inline]
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// What may still be spent on one event, and which rules were right in it.
#[derive(Default)]
pub struct Work {
    pub found: Vec<u16>,
    left: usize,
    /// Kept from one text to the next, so that a finding costs no allocation of its own.
    hits: Vec<Vec<Hit>>,
    buffers: Vec<Vec<u8>>,
    readers: Vec<Reader<'static>>,
    pub spans: Vec<Span>,
    pub values: Vec<Found>,
    /// Where the names stand whose values were found in the text at hand, and where each value ends.
    pub named: Vec<(usize, usize)>,
    /// The masks that are put into the text at hand, and those of the round before, once there was one.
    pub masked: Masked,
    pub known: Option<Masked>,
    /// Bytes of decoded texts that are held at the same time, one within another, and how many may be.
    decoded: usize,
    may_decode: usize,
    /// Bytes in which what the text at hand repeats may still be searched.
    pub may_repeat: usize,
    /// Whether the event at hand has several texts, and the secrets of one that others may repeat.
    pub remembers: bool,
    pub repeated: Vec<Repeated>,
    /// Whether the text at hand may say more once the secrets in it are masked.
    pub look_again: bool,
}

/// Bytes that may be looked at or decoded for each byte of an event, and what even a short one may cost. The rules
/// are linear, so that only patterns of the user's own and mistakes of ours come near.
const EFFORT: usize = 192;
const LEAST: usize = 1 << 20;

/// How many decoded texts as long as the text at hand are held at the same time, at most: JSON within JSON could be deep.
const DECODED: usize = 4;

/// How often each byte of a text may be looked at for what the text repeats, its nested texts among them.
const REPEATS: usize = 16;

/// The most buffers that are kept, and the largest.
const MAX_BUFFERS: usize = 8;
const MAX_BUFFER: usize = 64 << 10;

/// The effort for an event is spent.
pub struct Unfinished;

impl Work {
    /// For an event or text of this length.
    pub fn on(len: usize) -> Work {
        let mut work = Work { left: EFFORT * len + LEAST, ..Work::default() };
        work.begin_text(len);
        work
    }

    /// For the next event, whose length is not known yet.
    pub fn begin(&mut self) {
        self.found.clear();
        self.repeated.clear();
        self.remembers = false;
        self.left = LEAST;
    }

    /// What may be spent on so many bytes.
    pub fn effort_for(bytes: usize) -> usize {
        LEAST + EFFORT * bytes
    }

    /// Goes on with an event of which some texts were looked at.
    pub fn resume(&mut self, left: usize, remembers: bool, repeated: &mut Vec<Repeated>) {
        (self.left, self.remembers) = (left, remembers);
        std::mem::swap(&mut self.repeated, repeated);
    }

    /// Leaves an event to go on with later; tells what may still be spent on it.
    pub fn pause(&mut self, repeated: &mut Vec<Repeated>) -> usize {
        std::mem::swap(&mut self.repeated, repeated);
        self.left
    }

    /// How many entries the longest of the lists has room for that are kept.
    pub fn longest_list(&self) -> usize {
        let found = self.found.capacity().max(self.spans.capacity()).max(self.values.capacity());
        found.max(self.named.capacity()).max(self.masked.longest_list())
    }

    /// Whether so many more bytes may be decoded while what holds them is.
    pub fn may_decode(&self, bytes: usize) -> bool {
        self.decoded + bytes <= self.may_decode
    }

    /// Holds a decoded text of so many bytes.
    pub fn hold(&mut self, bytes: usize) {
        self.decoded += bytes;
    }

    /// The decoded text is no longer held.
    pub fn let_go(&mut self, bytes: usize) {
        self.decoded -= bytes;
    }

    /// For the next text of the event.
    pub fn begin_text(&mut self, len: usize) {
        self.may_repeat = REPEATS * len;
        (self.decoded, self.may_decode) = (0, DECODED * len + LEAST);
        self.named.clear();
        self.masked.clear();
        self.known = None;
        self.look_again = false;
    }

    /// An empty list for the hits in a text; it is given back behind the search.
    pub fn take_hits(&mut self) -> Vec<Hit> {
        self.hits.pop().unwrap_or_default()
    }

    pub fn give_back(&mut self, mut hits: Vec<Hit>) {
        hits.clear();
        if hits.capacity() <= MAX_BUFFER {
            self.hits.push(hits);
        }
    }

    /// A reader of a text; what it has learnt is given back behind the search.
    pub fn reader<'a>(&mut self, text: &'a [u8]) -> Reader<'a> {
        let reader = self.readers.pop().unwrap_or_else(|| Reader { is_marked: true, ..Reader::new(&[]) });
        reader.turn_to(text)
    }

    pub fn give_back_reader(&mut self, reader: Reader<'_>) {
        self.readers.push(Reader { text: &[], known: reader.known, is_marked: true });
    }

    /// An empty buffer for a decoded or redacted text.
    #[inline]
    pub fn take_buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Keeps a buffer for the next text, unless it is large or enough are kept.
    #[inline]
    pub fn give_back_buffer(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < MAX_BUFFERS && (1..=MAX_BUFFER).contains(&buffer.capacity()) {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// The event has so many more bytes to look at.
    pub fn allow(&mut self, bytes: usize) {
        self.left += EFFORT * bytes;
    }

    pub fn spend(&mut self, bytes: usize) -> Result<(), Unfinished> {
        self.left = self.left.checked_sub(bytes).ok_or(Unfinished)?;
        Ok(())
    }

    /// How many bytes were looked at for an event of this length.
    #[cfg(test)]
    pub fn spent(&self, len: usize) -> usize {
        EFFORT * len + LEAST - self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::redaction::shape::Class;

    #[test]
    fn a_run_is_measured_once_however_often_it_is_asked_for() {
        let text = [b'a'; 10_000];
        let reader = Reader::new(&text);
        let class = Class::named(b'w');
        for at in 0..text.len() {
            assert_eq!(reader.run_end(class, at), text.len());
        }
        assert!(reader.spent() <= 4 * text.len(), "{}", reader.spent());
        let backwards = Reader::new(&text);
        for at in (0..text.len()).rev() {
            assert_eq!(backwards.run_end(class, at), text.len());
        }
        assert!(backwards.spent() <= 4 * text.len(), "{}", backwards.spent());
    }
}
