//! A full disk: intake is told to come later, nothing that was acknowledged is lost, and the agent goes on by itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Agent, Folder, eventually, free_port, lines_of, request};

/// A small file system of its own. Mounting needs root, as the tests' machines have it.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(path: &Path, size: &str) -> Small {
        fs::create_dir_all(path).expect("a folder can be made");
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path).status();
        assert!(done.expect("mount runs").success(), "this test needs to mount a tmpfs: run it as root");
        Small(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_answers_later_and_loses_nothing() {
    let folder = Folder::new();
    let small = Small::mount(&folder.path("data"), "8m");
    let out = Small::mount(&folder.path("out"), "1m");
    let port = free_port();
    let yaml = format!(
        "journal: {{ max_bytes: 64 MiB, keep: {{ bytes: 1 MiB }} }}\n\
         sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         sinks:\n  file: {{ type: file, inputs: [web], path: '{}/events.ndjson', retry: {{ max: 1s }}, batch: {{ age: 50ms }} }}\n",
        out.0.display()
    );
    let agent = Agent::start(&folder, &yaml);
    let (mut acknowledged, mut told_later, mut next) = (BTreeSet::new(), 0, 0_u64);
    // The target takes 1 MiB, the journal 8 MiB less its reserves: far more is sent than fits.
    while told_later < 20 && next < 40_000 {
        let body: String = (next..next + 20).map(|n| format!("{{\"n\":{n},\"x\":\"{}\"}}\n", noise(n))).collect();
        let answer = request(port, "POST", "/", &[], body.as_bytes()).expect("the agent answers");
        match answer.status {
            200 => acknowledged.extend(next..next + 20),
            429 | 503 => {
                assert!(answer.head.to_lowercase().contains("retry-after"), "{}", answer.head);
                told_later += 1;
            }
            other => panic!("{other}: {}", answer.text()),
        }
        next += 20;
    }
    assert!(told_later >= 20, "the disk never filled: {} acknowledged", acknowledged.len());
    assert!(acknowledged.len() > 1000, "{}", acknowledged.len());
    agent.assert_books();
    // MemoryPermit at the target: the backlog drains, and intake opens again without a restart.
    let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&out.0).status().expect("mount runs");
    assert!(grown.success());
    eventually("everything is delivered", || agent.metric("weir_events_waiting", "file") == 0);
    eventually("intake is open again", || {
        request(port, "POST", "/", &[], b"{\"n\":1000000}").is_ok_and(|answer| answer.status == 200)
    });
    eventually("the last one too", || agent.metric("weir_events_waiting", "file") == 0);
    agent.assert_books();
    assert!(agent.stop().success());
    let mut seen = Vec::new();
    for line in lines_of(&out.0, "events.ndjson") {
        let event: serde_json::Value = serde_json::from_str(&line).expect("no line is torn");
        seen.push(event["n"].as_u64().expect("the number sent"));
    }
    let distinct: BTreeSet<u64> = seen.iter().copied().collect();
    assert_eq!(distinct.len(), seen.len(), "an event came twice");
    let missing: Vec<_> = acknowledged.difference(&distinct).collect();
    assert!(missing.is_empty(), "{} acknowledged events are missing", missing.len());
    drop((small, out));
}

/// Text that does not compress much.
fn noise(n: u64) -> String {
    let mut state = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let digit = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from_digit((state % 36) as u32, 36).expect("below 36")
    };
    (0..400).map(digit).collect()
}
