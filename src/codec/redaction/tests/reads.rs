//! Counts the pages that a search reads: they are taken away between hits, so that no read escapes the count.
//!
//! The effort that rules charge is what they say of themselves. Here the text lies in pages that cannot be read; the
//! first read of each is a fault, which counts it and gives the page back. Every few hits all pages are taken away
//! again. A rule that reads a long line anew at each hit touches all pages of the line each time.

#![allow(unsafe_code, reason = "only the processor sees every read")]

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::*;

const PAGE: usize = 4096;
/// Hits after which the pages are taken away again: each time costs a system call, and a fault for each page read.
const HITS_A_LOOK: usize = 8;
/// Pages of the shorter and of the longer text.
const SHORT: usize = 2;
const LONG: usize = 4 * SHORT;

static START: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);
static TOUCHED: AtomicUsize = AtomicUsize::new(0);
/// One text at a time is watched.
static ONE: Mutex<()> = Mutex::new(());

thread_local! {
    /// Hits on this thread since the pages were taken away; nothing where no text is watched.
    static HITS: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Called by the engine at each hit.
pub fn next_hit() {
    let Some(hits) = HITS.get() else { return };
    HITS.set(Some((hits + 1) % HITS_A_LOOK));
    if hits == 0 {
        let (start, end) = (START.load(SeqCst), END.load(SeqCst));
        protect(start..end, libc::PROT_NONE);
    }
}

fn protect(range: Range<usize>, protection: libc::c_int) {
    // SAFETY: the range is the mapping of the text that is watched, which lives as long as `START` names it.
    let answer = unsafe { libc::mprotect(range.start as *mut libc::c_void, range.len(), protection) };
    assert_eq!(answer, 0, "the pages of the text change their protection");
}

/// Gives a page back that was read; a fault anywhere else is left to whoever handled faults before.
extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands over the description of a fault; only calls that signal handlers may make follow.
    unsafe {
        let at = (*info).si_addr() as usize;
        if (START.load(SeqCst)..END.load(SeqCst)).contains(&at) {
            TOUCHED.fetch_add(1, SeqCst);
            let page = (at & !(PAGE - 1)) as *mut libc::c_void;
            if libc::mprotect(page, PAGE, libc::PROT_READ) == 0 {
                return;
            }
        }
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
    }
}

fn handle_faults() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a zeroed action is a valid one, and the handler is as `SA_SIGINFO` wants it.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()), 0);
        }
    });
}

/// A text in pages of its own.
struct Watched {
    start: usize,
    len: usize,
    text_len: usize,
    _one: MutexGuard<'static, ()>,
}

impl Watched {
    fn new(text: &[u8]) -> Watched {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        handle_faults();
        let len = text.len().next_multiple_of(PAGE);
        let (read_write, private) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, which is written before anything else knows of it.
        let start = unsafe {
            let start = libc::mmap(std::ptr::null_mut(), len, read_write, private, -1, 0);
            assert_ne!(start, libc::MAP_FAILED, "there is memory for a text");
            std::ptr::copy_nonoverlapping(text.as_ptr(), start.cast(), text.len());
            start as usize
        };
        Watched { start, len, text_len: text.len(), _one: one }
    }

    /// The pages that `read` touches, counted anew behind every few hits.
    fn touched(&self, read: impl FnOnce(&[u8])) -> usize {
        TOUCHED.store(0, SeqCst);
        START.store(self.start, SeqCst);
        END.store(self.start + self.len, SeqCst);
        HITS.set(Some(0));
        // SAFETY: the mapping holds so many bytes; reading a page that was taken away gives it back.
        read(unsafe { std::slice::from_raw_parts(self.start as *const u8, self.text_len) });
        HITS.set(None);
        protect(self.start..self.start + self.len, libc::PROT_READ);
        END.store(0, SeqCst);
        TOUCHED.load(SeqCst)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        HITS.set(None);
        END.store(0, SeqCst);
        // SAFETY: nothing refers to the mapping any more.
        unsafe { libc::munmap(self.start as *mut libc::c_void, self.len) };
    }
}

/// Pages touched by the search of a text, or by what is looked at before an event is decoded. Half of the text is what
/// stands behind all the rest, if something does.
fn pages((piece, tail): (&str, &str), len: usize, as_event: bool) -> usize {
    let text = match tail.len() {
        0 => piece.repeat(len / piece.len()),
        one => piece.repeat(len / 2 / piece.len()) + &tail.repeat(len / 2 / one),
    };
    if !as_event {
        return Watched::new(text.as_bytes()).touched(|text| {
            // One search: what it makes of the text lies in other memory.
            let _ = engine().find(text, &mut Work::on(text.len()), &mut Vec::new());
        });
    }
    let line = serde_json::json!({ "code": text }).to_string();
    Watched::new(line.as_bytes()).touched(|line| {
        let (mut hits, reader) = (Vec::new(), reader::Reader::new(line));
        engine().filter.scan(line, &mut hits);
        for hit in hits {
            next_hit();
            engine().is_plausible(&reader, hit);
        }
    })
}

/// What is repeated: all that was slow once, all parts alone, and of the joined ones as many as the time allows.
fn pieces() -> Vec<String> {
    let mut pieces = super::hostile::parts::pieces(0, 0);
    let joined = super::hostile::parts::pieces(400, 400);
    let more = joined[pieces.len()..].iter().step_by(16);
    pieces.extend(more.cloned());
    pieces
}

#[test]
fn every_read_is_seen_and_the_pages_read_grow_with_the_length_of_a_text() {
    // The count sees a rescan.
    let text = "a".repeat(LONG * PAGE);
    let seen = Watched::new(text.as_bytes()).touched(|text| {
        for at in (0..text.len()).step_by(PAGE) {
            (0..HITS_A_LOOK).for_each(|_| next_hit());
            assert!(!text[..at].contains(&b'#'));
        }
    });
    assert!(seen > LONG * (LONG - 2) / 2, "of a text read anew at each page only {seen} pages were counted");
    let mut grown = Vec::new();
    let pieces = pieces();
    let tailed = super::hostile::parts::TAILS.iter().copied();
    for piece in pieces.iter().map(|piece| (piece.as_str(), "")).chain(tailed) {
        for as_event in [false, true] {
            let (short, long) = (pages(piece, SHORT * PAGE, as_event), pages(piece, LONG * PAGE, as_event));
            // Four times the text takes four times the pages, and a little more: a window at the end of a short text is cut.
            // A line that is read anew at each hit takes twelve times.
            if long > 7 * short + 4 * LONG {
                grown.push(format!("{piece:?}, as an event: {as_event}: {short} pages, {long} of four times the text"));
            }
        }
    }
    assert!(grown.is_empty(), "{} texts are read again and again:\n{}", grown.len(), grown.join("\n"));
}
