//! Whether compression is worthwhile now: with `codec: auto`, only what stays in the journal or would slow the disk.
//!
//! Packing costs more than anything else on the way to a disk, and pays where bytes stay: in a backlog, in the history of
//! a slow stream. While every cursor reads from memory and the disk keeps up, a packed record is read by nobody. So
//! windows of some milliseconds are measured, and each decides for the next. Whether the disk would keep up with
//! everything as it is shows only while it gets that, and for longer than one sync may hang: after it did not, it is tried
//! again, each time later. A disk that is busy is not slow for that: it may take more than packing could save it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Codec, Options};

/// How long is measured before it is decided anew.
const WINDOW: Duration = Duration::from_millis(50);
/// While lines are packed, so many of them within a window are enough to decide: they came fast.
const ENOUGH: u64 = 2 << 20;
/// Streams of fewer bytes a second are packed always: it costs them nothing, and their history lasts longer.
const SLOW_STREAM: u128 = 4 << 20;
/// Syncs may take this part of the time, in percent, before the disk counts as slow.
const DISK_IS_BUSY: u128 = 85;
/// A disk that takes so many bytes of lines a second keeps up, however busy it is.
const FAST_DISK: u128 = 128 << 20;
/// A cursor may leave this part of the journal's room behind before what it leaves is packed: reading it from the disk costs
/// less as it is, and the room is what packing is for.
const LAG_SHARE: u64 = 16;
/// A disk is tried for so long before it is called slow: where others use it too, it stands still now and then.
const TRIAL: Duration = Duration::from_millis(500);
/// How long a slow disk is left alone, at first and at most: one slow sync does not make a slow disk.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// The choice for what is appended next, and what it follows from.
pub struct Packing {
    codec: Codec,
    /// Cursors that lag by more bytes of lines no longer read from memory.
    near: u64,
    is_auto: bool,
    is_on: AtomicBool,
    /// Nanoseconds that syncs have taken.
    syncing: AtomicU64,
    window: Mutex<Window>,
}

#[derive(Clone, Copy)]
struct Window {
    since: Instant,
    /// Bytes of lines that were appended.
    lines: u64,
    trial: Trial,
    /// The disk was too slow: it is not tried before.
    retry_at: Instant,
    pause: Duration,
}

/// How long the disk has had everything as it is, and what had been written and synced by then.
#[derive(Clone, Copy)]
struct Trial {
    since: Instant,
    syncing: u64,
    lines: u64,
}

/// How the journal stands when a window ends.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Bytes of lines that wait for the slowest cursor.
    pub lag: u64,
    /// Bytes that can still be appended, of how many.
    pub capacity: u64,
    pub limit: u64,
}

impl Packing {
    pub fn new(options: &Options, now: Instant) -> Packing {
        Packing {
            codec: options.codec,
            near: options.tier_bytes as u64,
            is_auto: options.is_auto,
            is_on: AtomicBool::new(true),
            syncing: AtomicU64::new(0),
            window: Mutex::new(Window {
                since: now,
                lines: 0,
                trial: Trial { since: now, syncing: 0, lines: 0 },
                retry_at: now,
                pause: FIRST_PAUSE,
            }),
        }
    }

    /// What the next record is packed with.
    pub fn codec(&self) -> Codec {
        if self.is_on.load(Ordering::Relaxed) { self.codec } else { Codec::None }
    }

    /// Decides instead of a window.
    #[cfg(test)]
    pub fn set(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    pub fn synced(&self, took: Duration) {
        self.syncing.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Enters the lines of a group that was written, and decides anew where a window has ended.
    pub fn wrote(&self, lines: usize, now: Instant, standing: impl FnOnce() -> Standing) {
        if !self.is_auto {
            return;
        }
        let mut window = self.window.lock().expect("no panic while it is held");
        window.lines += lines as u64;
        let elapsed = now.saturating_duration_since(window.since);
        let is_on = self.is_on.load(Ordering::Relaxed);
        if elapsed < WINDOW && (!is_on || window.lines < ENOUGH) {
            return;
        }
        let rate = rate(window.lines, elapsed);
        window.trial.lines += window.lines;
        let tried = now.saturating_duration_since(window.trial.since);
        let syncing = self.syncing.load(Ordering::Relaxed);
        if is_on || tried >= TRIAL {
            if !is_on {
                window.judge(tried, syncing, now);
            }
            window.trial = Trial { since: now, syncing, lines: 0 };
        }
        let standing = standing();
        let is_behind = standing.lag > self.near.max(standing.limit / LAG_SHARE);
        let stays = rate < SLOW_STREAM || is_behind || standing.capacity < standing.limit / 2;
        self.is_on.store(stays || now < window.retry_at, Ordering::Relaxed);
        *window = Window { since: now, lines: 0, ..*window };
    }
}

impl Window {
    /// Whether the disk kept up while it was tried; else it is left alone.
    fn judge(&mut self, tried: Duration, syncing: u64, now: Instant) {
        let is_busy = u128::from(syncing - self.trial.syncing) * 100 / tried.as_nanos().max(1) > DISK_IS_BUSY;
        if is_busy && rate(self.trial.lines, tried) < FAST_DISK {
            self.retry_at = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        } else {
            self.pause = (self.pause / 2).max(FIRST_PAUSE);
        }
    }
}

/// Bytes a second.
fn rate(bytes: u64, time: Duration) -> u128 {
    u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Standing = Standing { lag: 0, capacity: 900 << 20, limit: 1 << 30 };
    const MIB: usize = 1 << 20;

    fn auto() -> (Packing, Instant) {
        let now = Instant::now();
        (Packing::new(&Options { is_auto: true, ..Options::new("/j") }, now), now)
    }

    /// The codec after a window of a tenth of a second in which so much was appended.
    fn after(lines: usize, standing: Standing) -> Codec {
        let (packing, now) = auto();
        packing.wrote(lines, now + Duration::from_millis(100), || standing);
        packing.codec()
    }

    #[test]
    fn what_everybody_keeps_up_with_goes_to_the_disk_as_it_is() {
        assert_eq!(after(20 * MIB, FREE), Codec::None);
    }

    #[test]
    fn what_stays_is_packed() {
        assert_eq!(after(20 * MIB, Standing { lag: 65 << 20, ..FREE }), Codec::Lz4, "a cursor lags");
        assert_eq!(after(20 * MIB, Standing { capacity: 400 << 20, ..FREE }), Codec::Lz4, "half is full");
        assert_eq!(after(MIB / 8, FREE), Codec::Lz4, "a stream whose history lasts");
    }

    #[test]
    fn a_disk_that_is_too_slow_gets_less_to_write_and_is_tried_again_later_each_time() {
        let (packing, start) = auto();
        let mut tried = Vec::new();
        let mut was = Codec::Lz4;
        for nth in 1..=2000 {
            // The disk is busy all the time with whole lines, and half of it with packed ones.
            let share = if packing.codec() == Codec::None { 100 } else { 50 };
            packing.synced(Duration::from_millis(share));
            packing.wrote(5 * MIB, start + Duration::from_millis(100 * nth), || FREE);
            if packing.codec() == Codec::None && was != Codec::None {
                tried.push(nth / 10);
            }
            was = packing.codec();
        }
        assert_eq!(tried, [0, 0, 1, 3, 5, 10, 18, 35, 67, 132, 196]);
    }

    #[test]
    fn a_disk_that_stands_still_for_a_moment_is_not_slow() {
        let (packing, start) = auto();
        for nth in 1..=100 {
            // Of each second it takes a hundred milliseconds for nothing.
            packing.synced(Duration::from_millis(100));
            let mib = if nth % 10 == 0 { 0 } else { 20 };
            packing.wrote(mib * MIB + 600_000, start + Duration::from_millis(100 * nth), || FREE);
            assert_eq!(packing.codec(), Codec::None, "{nth}");
        }
    }

    #[test]
    fn a_fast_disk_that_is_busy_all_the_time_keeps_up() {
        let (packing, start) = auto();
        for nth in 1..100 {
            packing.synced(Duration::from_millis(100));
            packing.wrote(20 * MIB, start + Duration::from_millis(100 * nth), || FREE);
            assert_eq!(packing.codec(), Codec::None);
        }
    }

    #[test]
    fn a_cursor_that_is_a_little_behind_reads_what_was_not_packed() {
        assert_eq!(after(20 * MIB, Standing { lag: 64 << 20, ..FREE }), Codec::None);
        let small = Standing { limit: 64 << 20, capacity: 50 << 20, lag: 5 << 20 };
        assert_eq!(after(20 * MIB, small), Codec::None, "it is in memory");
    }

    #[test]
    fn a_window_decides_when_it_ends_and_the_next_begins_empty() {
        let (packing, start) = auto();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(packing.codec(), Codec::Lz4, "nothing was measured yet");
        packing.wrote(MIB, at(40), || FREE);
        assert_eq!(packing.codec(), Codec::Lz4, "the window is open");
        packing.wrote(MIB / 2, at(60), || FREE);
        assert_eq!(packing.codec(), Codec::None);
        packing.wrote(10, at(200), || FREE);
        assert_eq!(packing.codec(), Codec::Lz4, "the stream became slow");
    }

    #[test]
    fn a_burst_is_packed_no_longer_than_it_takes_to_see_that_it_is_one() {
        let (packing, start) = auto();
        let at = |millis| start + Duration::from_millis(millis);
        packing.wrote(MIB, at(5000), || FREE);
        assert_eq!(packing.codec(), Codec::Lz4, "a mebibyte in five seconds");
        packing.wrote(MIB, at(5001), || FREE);
        assert_eq!(packing.codec(), Codec::Lz4);
        packing.wrote(MIB, at(5002), || FREE);
        assert_eq!(packing.codec(), Codec::None);
        packing.synced(Duration::from_millis(1));
        packing.wrote(4 * MIB, at(5003), || FREE);
        packing.wrote(4 * MIB, at(5051), || FREE);
        assert_eq!(packing.codec(), Codec::None, "one sync that was under way says nothing about the disk");
        packing.wrote(4 * MIB, at(5060), || Standing { lag: 65 << 20, ..FREE });
        assert_eq!(packing.codec(), Codec::Lz4, "a cursor lags");
        packing.wrote(4 * MIB, at(5061), || Standing { lag: 65 << 20, ..FREE });
        assert_eq!(packing.codec(), Codec::Lz4, "still");
    }

    #[test]
    fn a_codec_that_is_named_is_always_used() {
        let now = Instant::now();
        let packing = Packing::new(&Options { codec: Codec::Zstd, ..Options::new("/j") }, now);
        packing.wrote(20 * MIB, now + WINDOW, || FREE);
        assert_eq!(packing.codec(), Codec::Zstd);
    }
}
