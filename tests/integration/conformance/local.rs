//! Sinks without a server: files, the console, and those that keep nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::{ROUND, Target, Trouble, hold};
use crate::support::{Folder, eventually};
use weir::query::request::{Filter, PageRequest, Row, Sort};
use weir::visibility::Visibility;

struct Files {
    folder: Folder,
}

#[derive(Clone, Debug)]
enum FileKind {
    /// A folder stands where the file was.
    InTheWay,
    MovedAway,
    /// One event of a round wants to leave the folder.
    Strays,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }
}

impl Target for Files {
    type Kind = FileKind;

    fn keys(&self) -> String {
        let path = self.path("out");
        format!("type: file\npath: '{}/{{{{ who | all }}}}.ndjson'\nrotate: {{ size: 2 KiB }}", path.display())
    }

    fn troubles(&self) -> Vec<Trouble<FileKind>> {
        let all = [FileKind::InTheWay, FileKind::MovedAway, FileKind::Strays];
        let trouble = |kind: FileKind| Trouble { name: format!("{kind:?}"), kind, is_state: false };
        (0..3).flat_map(|_| all.clone()).map(trouble).collect()
    }

    fn begin(&self, kind: &FileKind) {
        let unique = || format!("aside-{}", fs::read_dir(&self.folder.0).expect("a folder").count());
        let file = self.path("out").join("all.ndjson");
        match kind {
            FileKind::Strays => {}
            FileKind::MovedAway | FileKind::InTheWay => {
                let aside = self.path(&unique());
                fs::create_dir(&aside).expect("a folder");
                // It is not there if nothing was written since something was in its way.
                let _ = fs::rename(&file, aside.join("all.ndjson"));
                if let FileKind::InTheWay = kind {
                    fs::create_dir(&file).expect("a folder");
                }
            }
        }
    }

    fn heal(&self) {
        let _ = fs::remove_dir(self.path("out").join("all.ndjson"));
    }

    fn stored(&self) -> BTreeMap<u64, usize> {
        let (mut stored, mut folders) = (BTreeMap::new(), vec![self.folder.0.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                for line in fs::read_to_string(path).expect("text").lines() {
                    let event: serde_json::Value = serde_json::from_str(line).expect("a line is whole");
                    *stored.entry(event["n"].as_u64().expect("a number")).or_default() += 1;
                }
            }
        }
        stored
    }

    fn repeats(&self) -> bool {
        false
    }

    fn event(&self, n: u64, during: Option<&FileKind>) -> String {
        match during {
            Some(FileKind::Strays) if n % ROUND == 7 => format!("{{\"n\":{n},\"who\":\"../../x\"}}\n"),
            _ => format!("{{\"n\":{n}}}\n"),
        }
    }
}

#[test]
pub fn lines_in_files_are_there_once_whatever_is_in_their_place() {
    hold(&Files { folder: Folder::new() });
}

struct Console {
    read: Arc<Mutex<Vec<u8>>>,
    /// Read from while `read` is locked.
    pipe: Mutex<Option<std::io::PipeReader>>,
    stalls: Arc<AtomicBool>,
}

impl Target for Console {
    type Kind = ();

    fn keys(&self) -> String {
        "type: console\ntimeout: 300ms".into()
    }

    fn troubles(&self) -> Vec<Trouble<()>> {
        (0..7).map(|_| Trouble { name: "the reader stalls".into(), kind: (), is_state: true }).collect()
    }

    fn begin(&self, (): &()) {
        self.stalls.store(true, Ordering::SeqCst);
    }

    fn heal(&self) {
        self.stalls.store(false, Ordering::SeqCst);
    }

    fn stored(&self) -> BTreeMap<u64, usize> {
        // What is in the pipe is at the reader.
        let stalls = self.stalls.swap(false, Ordering::SeqCst);
        eventually("the pipe is empty", || {
            let _read = self.read.lock().expect("no panic");
            let pipe = self.pipe.lock().expect("no panic");
            rustix::io::ioctl_fionread(pipe.as_ref().expect("it was opened")).expect("it is a pipe") == 0
        });
        self.stalls.store(stalls, Ordering::SeqCst);
        let mut stored = BTreeMap::new();
        let text = String::from_utf8(self.read.lock().expect("no panic").clone()).expect("text");
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n') && *line != "\n") {
            let event: serde_json::Value = serde_json::from_str(line).expect("a line is whole");
            *stored.entry(event["n"].as_u64().expect("a number")).or_default() += 1;
        }
        stored
    }

    fn repeats(&self) -> bool {
        true
    }

    /// More than a pipe holds.
    fn event(&self, n: u64, _: Option<&()>) -> String {
        format!("{{\"n\":{n},\"text\":\"{}\"}}\n", "x".repeat(20_000))
    }

    fn stdout(&self) -> Option<Stdio> {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        // What a killed process has left is no line, and nobody can end it.
        let mut read = self.read.lock().expect("no panic");
        let whole = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        read.truncate(whole);
        drop(read);
        *self.pipe.lock().expect("no panic") = Some(reader.try_clone().expect("a descriptor"));
        let (read, stalls) = (self.read.clone(), self.stalls.clone());
        std::thread::spawn(move || {
            let mut block = vec![0; 4096];
            loop {
                if stalls.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                // Something is there, or the writer is gone.
                let _ = rustix::event::poll(&mut [PollFd::new(&reader, PollFlags::IN)], None);
                let mut read = read.lock().expect("no panic");
                let Ok(len @ 1..) = reader.read(&mut block) else { return };
                read.extend_from_slice(&block[..len]);
            }
        });
        Some(writer.into())
    }
}

#[test]
pub fn lines_on_the_console_are_whole_whatever_its_reader_does() {
    hold(&Console { read: Arc::default(), pipe: Mutex::default(), stalls: Arc::default() });
}

/// A sink that keeps nothing has whatever it was given.
struct Nothing(String);

impl Target for Nothing {
    type Kind = ();

    fn keys(&self) -> String {
        format!("type: {}", self.0)
    }

    fn troubles(&self) -> Vec<Trouble<()>> {
        (0..6).map(|_| Trouble { name: "none".into(), kind: (), is_state: true }).collect()
    }

    fn begin(&self, (): &()) {}

    fn heal(&self) {}

    fn stored(&self) -> BTreeMap<u64, usize> {
        (0..1000).map(|n| (n, 1)).collect()
    }

    fn repeats(&self) -> bool {
        false
    }
}

#[test]
pub fn nothing_is_kept_and_nothing_fails() {
    hold(&Nothing("blackhole".into()));
}

#[test]
pub fn a_stream_holds_nothing() {
    hold(&Nothing("sse".into()));
}

/// While an agent has the store open nobody else can look into it, so that it is counted at the end.
#[test]
pub fn events_in_the_store_are_there_once_over_kills() {
    let folder = Folder::new();
    let dir = folder.path("store");
    hold(&Nothing(format!("store\npath: {}", dir.display())));
    let (store, _) = weir::store::Store::open(&weir::store::Options::new(dir)).expect("a store");
    let request = PageRequest {
        filter: Filter::default(),
        sort: Sort::Seq,
        is_descending: false,
        after: None,
        offset: 0,
        limit: 1000,
        deadline: std::time::Instant::now() + crate::support::PATIENCE,
        may_be_partial: false,
    };
    let page = store.snapshot().page(&request, &Visibility::All { own: "root".into(), preview: 100 }).expect("a page");
    let number = |row: &Row| {
        serde_json::from_slice::<serde_json::Value>(&row.line).expect("an event")["n"].as_u64().expect("a number")
    };
    let mut numbers: Vec<u64> = page.rows.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..7 * ROUND).collect::<Vec<u64>>());
}
