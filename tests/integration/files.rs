//! The `file` source against the real binary: rotation while the journal is full, and packed generations that are damaged.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::{Agent, Folder, eventually, free_port, lines_of, request};

fn append(path: &Path, text: &str) {
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("the log can be written");
}

fn gzip(text: &str) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(text.as_bytes()).and_then(|()| out.finish()).expect("memory does not fail")
}

/// Text that no codec makes much smaller.
fn noise(word: &mut u64, bytes: usize) -> String {
    let next = |_| {
        *word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("{:08x}", *word >> 32)
    };
    (0..bytes / 8).map(next).collect()
}

/// Whether a file is among those that the agent has open.
fn holds_open(agent: &Agent, path: &Path) -> bool {
    let inode = fs::metadata(path).expect("the file is there").ino();
    let open = fs::read_dir(format!("/proc/{}/fd", agent.pid())).expect("the agent runs");
    open.flatten().any(|entry| fs::metadata(entry.path()).is_ok_and(|file| file.is_file() && file.ino() == inode))
}

#[test]
fn files_that_are_rotated_while_the_journal_is_full_are_read_later_or_counted() {
    let (folder, ingest) = (Folder::new(), free_port());
    let logs = folder.path("logs");
    fs::create_dir_all(&logs).expect("a folder");
    let yaml = |sink: &str| {
        format!(
            "journal: {{ max_bytes: 4 MiB, keep: {{ bytes: 64 KiB }} }}\nlimits: {{ event: 1 MiB }}\n\
             sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\n  \
             app: {{ type: file, include: ['{}/app.log'], poll: 20ms }}\n\
             sinks:\n  {sink}\n",
            logs.display()
        )
    };
    let blocked = yaml(&format!("out: {{ type: http, inputs: [web, app], uri: 'http://127.0.0.1:{}/' }}", free_port()));
    let agent = Agent::start(&folder, &blocked);
    let mut word = 7;
    let full = || {
        let body = format!("{{\"t\":\"{}\"}}", noise(&mut word, 64_000));
        request(ingest, "POST", "/", &[], body.as_bytes()).expect("an answer").status == 429
    };
    assert!((0..200).any({
        let mut full = full;
        move |_| full()
    }));
    // Of 20 rotations the last three generations stay, as a rotation leaves them.
    let mut written = 0;
    for generation in 0..20 {
        let lines: String =
            (0..200).map(|n| format!("{{\"n\":{},\"pad\":\"{}\"}}\n", generation * 200 + n, "x".repeat(900))).collect();
        append(&logs.join("app.log"), &lines);
        written += lines.len() as u64;
        eventually("it is seen, and held open", || holds_open(&agent, &logs.join("app.log")));
        for old in [2, 1] {
            let _ = fs::rename(logs.join(format!("app.log.{old}")), logs.join(format!("app.log.{}", old + 1)));
        }
        fs::rename(logs.join("app.log"), logs.join("app.log.1")).expect("a rename");
    }
    agent.configure(&folder, &yaml("out: { type: blackhole, inputs: [web, app] }"));
    agent.signal("-HUP");
    let accounted = || {
        let lost = agent.metric("weir_bytes_lost_total", "app");
        (agent.metric("weir_bytes_received_total", "app") + lost, lost)
    };
    eventually("what was written is read or said to be lost", || accounted().0 >= written);
    assert_eq!(accounted(), (written, 0), "every generation was seen, so all of them are held open: {}", agent.log());
    eventually("all of it has entered", || agent.metric("weir_events_entered_total", "app") == 4000);
    agent.assert_books();
}

#[test]
fn a_damaged_generation_is_read_up_to_the_damage_and_the_rest_is_said_with_its_place() {
    let folder = Folder::new();
    let logs = folder.path("logs");
    fs::create_dir_all(&logs).expect("a folder");
    let yaml = format!(
        "sources:\n  app: {{ type: file, include: ['{}/app.log'], poll: 20ms, partial_timeout: 300ms }}\n\
         sinks:\n  file: {{ type: file, inputs: [app], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        logs.display(),
        folder.path("out").display()
    );
    let agent = Agent::start(&folder, &yaml);
    assert!(
        agent
            .metrics()
            .iter()
            .any(|(name, value)| name.starts_with("weir_errors_total") && name.contains("damaged") && *value == 0.0)
    );
    let mut word = 7;
    let text: String = (0..2000).map(|n| format!("{{\"n\":{n},\"t\":\"{}\"}}\n", noise(&mut word, 40))).collect();
    let packed = gzip(&text);
    fs::write(logs.join("app.log.1.gz"), &packed[..packed.len() / 2]).expect("a file");
    fs::write(logs.join("app.log.2.gz"), "no gzip\n").expect("a file");
    fs::write(logs.join("app.log.3.xz"), b"\xFD7zXZ\0\n\n\n").expect("a file");
    let said = |text: &str| agent.log().lines().filter(|line| line.contains(text)).count();
    eventually("the damage is said", || said("the compressed file is damaged") == 1);
    eventually("what is no gzip, and xz, are said", || said("file skipped: ") == 2);
    let log = agent.log();
    let line = log.lines().find(|line| line.contains("is damaged")).expect("it is there");
    assert!(line.contains("app.log.1.gz") && line.contains(&format!("\"offset\":{}", packed.len() / 2)), "{line}");
    let out = || lines_of(&folder.path("out"), "out.ndjson");
    eventually("what is before the damage is delivered", || out().len() > 900);
    let all: Vec<&str> = text.lines().collect();
    let came = out();
    assert_eq!(came, all[..came.len()], "whole lines, each once");
    assert_eq!(agent.metric("weir_files_skipped_total", "app"), 2);
    assert_eq!(agent.metric("weir_errors_total", "app"), 1);
    agent.assert_books();
}
