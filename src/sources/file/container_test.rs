//! Tests of container logs: links, 16 KiB chunks, rotation and restarts; each line exactly once.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::container::{Containers, Message, Runtime};
use super::discover::Patterns;
use super::folders::Folders;
use super::shape::Grouping;
use super::tail::Settings;
use super::tail_test::Rig;
use crate::toolkit::fake::Folder;

fn container(settings: &mut Settings) {
    let containers = Containers { runtime: Runtime::Any, message: Message::Text };
    settings.reader.shape.grouping = Some(Grouping::Containers(containers));
}

/// A line of the program as the runtime keeps it: chunks of 16 bytes, stderr's lines woven in between.
fn cri(n: u32, error: Option<u32>) -> String {
    let text = format!("line {n:06} {}", "x".repeat(n as usize % 60));
    let time = format!("2026-01-01T00:00:00.{n:06}Z");
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(16).collect();
    let mut out = String::new();
    for (nth, chunk) in chunks.iter().enumerate() {
        let tag = if nth + 1 == chunks.len() { 'F' } else { 'P' };
        out.push_str(&format!("{time} stdout {tag} {}\n", String::from_utf8_lossy(chunk)));
        if let Some(error) = error.filter(|_| nth == 0) {
            out.push_str(&format!("{time} stderr F error {error:06}\n"));
        }
    }
    out
}

/// The first twelve characters of every message, sorted.
fn messages(rig: &Rig) -> Vec<String> {
    let message = |text: &String| {
        let event: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
        let message = event["message"].as_str().expect("a message").to_owned();
        if let Some(rest) = message.strip_prefix("line ") {
            let n: usize = rest[..6].parse().expect("a number");
            assert_eq!(message, format!("line {n:06} {}", "x".repeat(n % 60)), "it is whole");
        }
        message[..12.min(message.len())].trim_end().to_owned()
    };
    let mut all: Vec<String> = rig.texts().iter().map(message).collect();
    all.sort();
    all
}

#[test]
fn lines_of_containers_come_once_and_whole_through_links_rotation_and_restarts() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("containers")).unwrap();
    std::fs::create_dir_all(folder.path("pods/ns_pod_uid/app")).unwrap();
    let live = "pods/ns_pod_uid/app/0.log";
    folder.write(live, "");
    symlink(folder.path(live), folder.path("containers/pod_ns_app-id.log")).unwrap();
    let mut rig = Rig::with(folder, &["containers/*.log"], container);
    let linked = |rig: &mut Rig| {
        let include = [rig.folder.path("containers/*.log").display().to_string()];
        let links: Vec<PathBuf> = vec![rig.folder.path("pods")];
        rig.change_settings(|s| {
            s.patterns = Patterns::new(&include, &[], Some(links.clone()), Folders::ByPath).unwrap()
        });
    };
    linked(&mut rig);
    rig.later(1);
    let mut n = 0;
    for round in 0..12 {
        for _ in 0..20 {
            // The runtime writes chunk by chunk, and somebody may look in between.
            let text = cri(n, (n % 3 == 0).then_some(n));
            let (first, rest) = text.split_at(text.find('\n').unwrap() + 1);
            rig.folder.append(live, first);
            if n % 7 == 0 {
                rig.later(1);
            }
            rig.folder.append(live, rest);
            n += 1;
        }
        if round % 3 == 1 {
            rig.restart();
            linked(&mut rig);
        }
        if round % 2 == 1 {
            // As the kubelet does it, also while nobody looks.
            rig.folder.rename(live, &format!("{live}.2026010{round}"));
            std::thread::sleep(std::time::Duration::from_millis(5));
            rig.folder.write(live, "");
        }
        if round % 4 == 0 {
            rig.later(1);
        }
    }
    (0..4).for_each(|_| rig.later(11));
    let mut expected: Vec<String> = (0..n).map(|n| format!("line {n:06}")).collect();
    expected.extend((0..n).filter(|n| n % 3 == 0).map(|n| format!("error {n:06}")));
    expected.sort();
    assert_eq!(messages(&rig), expected);
}
