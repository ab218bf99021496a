//! Tests of the sink against crashes at any moment, and against paths that try to leave the root.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::component::RecordSlice;
use crate::event::{Lines, Origins, Seed};
use crate::journal::{Record, StreamId};
use crate::toolkit::fake::sink_context;
use crate::units::Timestamp;

/// A folder that is removed again.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let name = format!("weir-file-{}", crate::event::Id(u128::from_be_bytes(Seed::random().0)));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn config(&self, below: &str, more: serde_json::Value) -> Config {
        let mut config = json!({"path": format!("{}/out/{below}", self.0.display())});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(config).unwrap()
    }

    fn context(&self, position: u64, memory: Option<Bytes>) -> SinkContext {
        let data_dir = self.0.join("data");
        let memory = memory.map(|memory| (position, memory));
        SinkContext { data_dir, memory, position, ..sink_context() }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.0.join("out").join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.out(name)).unwrap_or_default()
    }

    /// Every line of every file below the root, in order within a file.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        collect(&self.0.join("out"), &mut lines);
        lines
    }
}

fn collect(folder: &Path, lines: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, lines);
        } else if path.extension().is_some_and(|extension| extension == "gz") {
            let mut text = String::new();
            let mut packed = flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap());
            std::io::Read::read_to_string(&mut packed, &mut text).unwrap();
            lines.extend(text.split_inclusive('\n').map(str::to_owned));
        } else {
            lines.extend(std::fs::read_to_string(path).unwrap().split_inclusive('\n').map(str::to_owned));
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A write batch of these lines, numbered from `first`.
fn batch(first: u64, lines: &[String]) -> WriteBatch {
    let (mut bytes, mut ends) = (String::new(), Vec::new());
    for line in lines {
        bytes.push_str(line);
        bytes.push('\n');
        ends.push(bytes.len() as u32);
    }
    let origins = Origins::of(Seed([1; 16]), first..first + lines.len() as u64);
    let record = Record {
        stream: StreamId(0),
        first_seq: first,
        stream_first: 0,
        received_at: Timestamp(1_700_000_000_000_000),
        lines: Lines { bytes: bytes.into(), ends, origins },
    };
    WriteBatch { slices: vec![RecordSlice { record: Arc::new(record), events: 0..lines.len() }] }
}

fn numbered(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!(r#"{{"n":{n},"user_id":"u{}"}}"#, n % 3)).collect()
}

async fn write(sink: &File, batch: &WriteBatch) -> Result<Written, Failure> {
    let payload = Sink::encode(sink, batch)?;
    Sink::write(sink, batch, &payload).await
}

async fn put(sink: &File, range: std::ops::Range<u64>) {
    write(sink, &batch(range.start, &numbered(range))).await.map(drop).unwrap();
}

fn text(range: std::ops::Range<u64>) -> String {
    numbered(range).iter().map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn after_a_crash_a_file_is_cut_back_to_what_the_memory_covers_and_each_event_is_there_once() {
    let folder = Folder::new();
    let config = folder.config("a.ndjson", json!({}));
    let sink = File::open(&config, &folder.context(100, None)).await.unwrap();
    put(&sink, 100..103).await;
    let saved = Sink::memory(&sink);
    put(&sink, 103..105).await;
    drop(sink);
    let mut torn = std::fs::read(folder.out("a.ndjson")).unwrap();
    torn.extend_from_slice(b"{\"n\":105,\"us");
    std::fs::write(folder.out("a.ndjson"), torn).unwrap();
    let sink = File::open(&config, &folder.context(103, saved)).await.unwrap();
    assert_eq!(folder.read("a.ndjson"), text(100..103));
    put(&sink, 103..106).await;
    assert_eq!(folder.read("a.ndjson"), text(100..106));
}

#[tokio::test]
async fn before_the_first_memory_is_saved_a_crash_costs_nothing_and_older_content_stays() {
    let folder = Folder::new();
    std::fs::create_dir(folder.0.join("out")).unwrap();
    std::fs::write(folder.out("a.ndjson"), "older\n").unwrap();
    let config = folder.config("a.ndjson", json!({}));
    let sink = File::open(&config, &folder.context(100, None)).await.unwrap();
    put(&sink, 100..103).await;
    drop(sink);
    let sink = File::open(&config, &folder.context(100, None)).await.unwrap();
    assert_eq!(folder.read("a.ndjson"), "older\n");
    put(&sink, 100..103).await;
    drop(sink);
    // A journal made anew goes on elsewhere and sends nothing again: nothing is truncated.
    let sink = File::open(&config, &folder.context(5000, None)).await.unwrap();
    put(&sink, 5000..5001).await;
    assert_eq!(folder.read("a.ndjson"), format!("older\n{}{}", text(100..103), text(5000..5001)));
}

#[tokio::test]
async fn a_rotation_before_a_crash_is_neither_lost_nor_doubled() {
    let folder = Folder::new();
    let config = folder.config("a.ndjson", json!({"rotate": {"size": "100 B"}}));
    let sink = File::open(&config, &folder.context(100, None)).await.unwrap();
    put(&sink, 100..102).await;
    let saved = Sink::memory(&sink);
    for n in 102..110 {
        put(&sink, n..n + 1).await;
    }
    drop(sink);
    let sink = File::open(&config, &folder.context(102, saved)).await.unwrap();
    put(&sink, 102..112).await;
    let mut lines = folder.lines();
    lines.sort();
    assert_eq!(lines.concat(), text(100..112));
    assert!(std::fs::read_dir(folder.0.join("out")).unwrap().count() > 2);
}

#[tokio::test]
async fn after_a_crash_a_file_with_the_inode_of_one_put_aside_is_not_taken_for_it() {
    let folder = Folder::new();
    let config = folder.config("a.ndjson", json!({"rotate": {"size": "50 B"}}));
    let sink = File::open(&config, &folder.context(100, None)).await.unwrap();
    put(&sink, 100..101).await;
    let saved = Sink::memory(&sink);
    let out = rustix::fs::open(folder.0.join("out"), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    for n in 101..140 {
        put(&sink, n..n + 1).await;
        // What was put aside gives its inode back to the next file.
        finished::tidy(&out, "a.ndjson", None, Compression::Gzip).unwrap();
    }
    drop(sink);
    let sink = File::open(&config, &folder.context(101, saved)).await.unwrap();
    put(&sink, 101..140).await;
    finished::tidy(&out, "a.ndjson", None, Compression::Gzip).unwrap();
    let mut lines = folder.lines();
    lines.sort();
    assert_eq!(lines.concat(), text(100..140));
}

#[test]
fn an_archive_is_never_overwritten() {
    let folder = Folder::new();
    let open = rustix::fs::open(&folder.0, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let plain = folder.0.join(finished::name("a.log", Timestamp(1_700_000_000_000_000)));
    std::fs::write(&plain, "one\n").unwrap();
    finished::tidy(&open, "a.log", None, Compression::Gzip).unwrap();
    // The same again, as after a crash between the two steps; then another file of this name.
    std::fs::write(&plain, "one\n").unwrap();
    finished::tidy(&open, "a.log", None, Compression::Gzip).unwrap();
    assert!(!plain.exists());
    std::fs::write(&plain, "two\n").unwrap();
    assert!(finished::tidy(&open, "a.log", None, Compression::Gzip).is_err());
    let mut lines = Vec::new();
    collect(&folder.0, &mut lines);
    lines.sort();
    assert_eq!(lines, ["one\n", "two\n"]);
}

#[tokio::test]
async fn a_write_may_span_any_number_of_files() {
    for more in [json!({}), json!({"rotate": {"size": "200 B"}})] {
        let folder = Folder::new();
        let config = folder.config("{{ user }}.log", more);
        let sink = File::open(&config, &folder.context(0, None)).await.unwrap();
        for round in 0..4 {
            let count = [65, 300, 64, 3000][round as usize];
            let lines: Vec<String> = (0..count).map(|n| format!(r#"{{"user":"u{n}","round":{round}}}"#)).collect();
            write(&sink, &batch(round * 10_000, &lines)).await.map(drop).unwrap();
        }
        assert_eq!(folder.lines().len(), 3429);
        let memory: serde_json::Value = serde_json::from_slice(&Sink::memory(&sink).unwrap()).unwrap();
        assert_eq!(memory["files"].as_object().unwrap().len(), 1024);
    }
}

#[tokio::test]
async fn what_is_in_the_place_of_a_file_is_the_events_fault_only_if_they_name_the_place() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.out("u0.log")).unwrap();
    for (below, is_events) in [("{{ user_id }}.log", true), ("u0.log", false)] {
        let sink = File::open(&folder.config(below, json!({})), &folder.context(0, None)).await.unwrap();
        let failure = write(&sink, &batch(0, &numbered(0..1))).await.unwrap_err();
        assert_eq!(matches!(failure, Failure::Poison { .. }), is_events, "{failure:?}");
        assert_eq!(matches!(failure, Failure::Configuration { .. }), !is_events, "{failure:?}");
    }
}

#[tokio::test]
async fn a_file_that_somebody_has_moved_away_is_begun_anew() {
    let folder = Folder::new();
    let config = folder.config("a.ndjson", json!({}));
    let sink = File::open(&config, &folder.context(100, None)).await.unwrap();
    put(&sink, 100..101).await;
    std::fs::rename(folder.out("a.ndjson"), folder.out("a.ndjson.1")).unwrap();
    put(&sink, 101..102).await;
    assert_eq!((folder.read("a.ndjson.1"), folder.read("a.ndjson")), (text(100..101), text(101..102)));
}

#[tokio::test]
async fn events_go_to_the_file_their_fields_name_and_none_leaves_the_root() {
    let folder = Folder::new();
    let config = folder.config("{{ user_id | nobody }}/%Y.ndjson", json!({}));
    let sink = File::open(&config, &folder.context(0, None)).await.unwrap();
    let lines: Vec<String> = ["ali", "zed", "../../x", "a/b", "ali", ".", "", "a\\u0000b", "a\\u2215b"]
        .iter()
        .map(|user| format!(r#"{{"user_id":"{user}"}}"#))
        .chain([r#"{"n":1,"timestamp":"2020-01-01T00:00:00Z"}"#.to_owned()])
        .collect();
    let Err(Failure::Some(failures, _)) = write(&sink, &batch(0, &lines)).await else { panic!("some must fail") };
    assert_eq!(failures.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2, 3, 5, 6, 7, 8]);
    assert!(failures.iter().all(|(_, failure)| failure.answer().starts_with("confinement_failed")));
    assert!(folder.lines().is_empty(), "nothing is written before the poison is put aside");
    let good: Vec<String> = [0, 1, 4, 9].iter().map(|at| lines[*at].clone()).collect();
    write(&sink, &batch(0, &good)).await.map(drop).unwrap();
    assert_eq!(folder.read("ali/2023.ndjson").lines().count(), 2);
    assert_eq!(folder.read("nobody/2020.ndjson").lines().count(), 1);
}

#[tokio::test]
async fn a_link_below_the_root_is_not_followed() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.0.join("out")).unwrap();
    std::os::unix::fs::symlink("/tmp", folder.out("u0")).unwrap();
    std::os::unix::fs::symlink("/tmp/weir-should-not-be", folder.out("u1.log")).unwrap();
    for (below, user) in [("{{ user_id }}/x.log", 0), ("{{ user_id }}.log", 1)] {
        let sink = File::open(&folder.config(below, json!({})), &folder.context(0, None)).await.unwrap();
        let failure = write(&sink, &batch(user, &numbered(user..user + 1))).await.unwrap_err();
        assert!(matches!(&failure, Failure::Poison { answer } if answer.contains("confinement_failed")), "{failure:?}");
    }
    assert!(!Path::new("/tmp/weir-should-not-be").exists() && !Path::new("/tmp/x.log").exists());
}

#[tokio::test]
async fn two_sinks_do_not_share_a_file() {
    let folder = Folder::new();
    let config = folder.config("a.ndjson", json!({}));
    let first = File::open(&config, &folder.context(0, None)).await.unwrap();
    put(&first, 0..1).await;
    let other = SinkContext { name: "other".into(), ..folder.context(0, None) };
    let second = File::open(&config, &other).await.unwrap();
    let failure = write(&second, &batch(0, &numbered(0..1))).await.unwrap_err();
    assert!(failure.answer().contains("another process or sink"), "{failure:?}");
    assert!(File::open(&config, &folder.context(0, None)).await.is_err(), "the notes have one owner too");
}

#[tokio::test]
async fn csv_has_one_header_a_file() {
    let folder = Folder::new();
    let config = folder.config("a.csv", json!({"encoding": {"format": "csv", "columns": ["n"]}}));
    let sink = File::open(&config, &folder.context(0, None)).await.unwrap();
    put(&sink, 0..2).await;
    put(&sink, 2..3).await;
    assert_eq!(folder.read("a.csv"), "n\n0\n1\n2\n");
}

#[test]
fn files_put_aside_are_compressed_whole_and_only_so_many_are_kept() {
    let folder = Folder::new();
    let open = rustix::fs::open(&folder.0, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    for (n, compression) in [(0, Compression::None), (1, Compression::Gzip), (2, Compression::Zstd)] {
        for at in 0..4 {
            let name = finished::name("a.log", Timestamp(1_700_000_000_000_000 + n * 10 + at));
            std::fs::write(folder.0.join(&name), "line\n".repeat(100)).unwrap();
        }
        std::fs::write(folder.0.join("a-other.log"), "mine").unwrap();
        finished::tidy(&open, "a.log", Some(3), compression).unwrap();
        let names: Vec<String> = std::fs::read_dir(&folder.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "a-other.log")
            .collect();
        assert_eq!(names.len(), 3);
        for name in names {
            let bytes = std::fs::read(folder.0.join(&name)).unwrap();
            let plain = match compression {
                Compression::None => bytes,
                Compression::Gzip => {
                    let mut plain = Vec::new();
                    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut plain).unwrap();
                    plain
                }
                Compression::Zstd => zstd::decode_all(&bytes[..]).unwrap(),
            };
            assert_eq!(plain.len(), 500, "{name}");
        }
    }
    assert_eq!(std::fs::read(folder.0.join("a-other.log")).unwrap(), b"mine");
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64),
    /// The cursor and the memory reach the disk.
    Save,
    /// The process dies; some bytes of the next write may have reached files.
    Crash {
        torn: usize,
    },
    /// The sink is opened afresh within the process, memory and all.
    Reopen,
    /// The notes have become long.
    NextRun,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1u64..6).prop_map(Step::Write),
        2 => Just(Step::Save),
        2 => (0usize..40).prop_map(|torn| Step::Crash { torn }),
        1 => Just(Step::Reopen),
        1 => Just(Step::NextRun),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whenever_it_crashes_each_event_is_in_one_file_once(
        steps in prop::collection::vec(step(), 1..30),
        rotates: bool,
        by_user: bool,
    ) {
        let folder = Folder::new();
        let more = if rotates { json!({"rotate": {"size": "150 B"}}) } else { json!({}) };
        let config = folder.config(if by_user { "{{ user_id }}.log" } else { "a.log" }, more);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut saved, mut next): ((u64, Option<Bytes>), u64) = ((100, None), 100);
            let mut sink = Some(File::open(&config, &folder.context(100, None)).await.unwrap());
            let mut is_saved_since_run = true;
            for step in steps.into_iter().chain([Step::Crash { torn: 7 }]) {
                match step {
                    Step::Write(count) => {
                        put(sink.as_ref().unwrap(), next..next + count).await;
                        next += count;
                    }
                    Step::Save => {
                        saved = (next, sink.as_ref().and_then(Sink::memory));
                        is_saved_since_run = true;
                    }
                    Step::Crash { torn } => {
                        drop(sink.take());
                        for entry in std::fs::read_dir(folder.0.join("out")).unwrap() {
                            let path = entry.unwrap().path();
                            let is_live = !path.file_name().unwrap().to_str().unwrap().contains('-');
                            if is_live && torn > 0 {
                                let mut text = std::fs::read(&path).unwrap();
                                text.extend(std::iter::repeat_n(b'x', torn));
                                std::fs::write(&path, text).unwrap();
                            }
                        }
                        sink = Some(File::open(&config, &folder.context(saved.0, saved.1.clone())).await.unwrap());
                        let again = saved.0..next;
                        if !again.is_empty() {
                            put(sink.as_ref().unwrap(), again).await;
                        }
                    }
                    // Only what was saved since the run before began may be forgotten.
                    Step::NextRun if is_saved_since_run => {
                        let mut writer = sink.as_ref().unwrap().writer.as_ref().unwrap().lock().unwrap();
                        let files = writer.files.clone();
                        writer.notes.next_run(next, &files).unwrap();
                        is_saved_since_run = false;
                    }
                    Step::NextRun => {}
                    Step::Reopen => {
                        let memory = sink.as_ref().and_then(Sink::memory);
                        drop(sink.take());
                        sink = Some(File::open(&config, &folder.context(next, memory)).await.unwrap());
                    }
                }
            }
            let mut found: BTreeMap<String, usize> = BTreeMap::new();
            for line in folder.lines() {
                *found.entry(line).or_default() += 1;
            }
            let expected: BTreeMap<String, usize> =
                numbered(100..next).into_iter().map(|line| (format!("{line}\n"), 1)).collect();
            prop_assert_eq!(found, expected);
            Ok(())
        })?;
    }
}
