//! What a start refuses for the sake of safety, what it prints once, and what it leaves to nobody else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::ask::validate;
use crate::support::{Agent, Folder, free_port, request};

fn yaml() -> String {
    format!(
        "sources: {{ web: {{ type: http, address: '127.0.0.1:{}' }} }}\nsinks: {{ out: {{ type: blackhole, inputs: [web] }} }}\n",
        free_port()
    )
}

fn set_mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the mode can be set");
}

/// Starts an agent that must end at once, and returns what it has said.
fn refused(folder: &Folder) -> String {
    let mut agent = Agent::spawn(folder, &yaml(), &[]);
    let status = agent.child.wait().expect("the agent can be waited for");
    assert_eq!(status.code(), Some(1), "{}", agent.log());
    agent.log()
}

#[test]
fn a_data_folder_that_others_may_write_is_refused_with_the_command_that_mends_it() {
    for mode in [0o777, 0o770, 0o702, 0o1777] {
        let folder = Folder::new();
        let data = folder.path("data");
        fs::create_dir(&data).expect("the folder can be made");
        set_mode(&data, mode);
        let said = refused(&folder);
        assert!(said.contains("chmod go-w"), "{mode:o}: {said}");
        assert_eq!(fs::read_dir(&data).expect("the folder is there").count(), 0, "{mode:o}: nothing was put there");
        set_mode(&data, 0o755);
        assert!(Agent::start(&folder, &yaml()).stop().success(), "others may look");
    }
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_command_that_mends_it() {
    let folder = Folder::new();
    assert!(Agent::start(&folder, &yaml()).stop().success());
    for key in ["api.secret", "session.key"] {
        let path = folder.path("data").join(key);
        set_mode(&path, 0o644);
        let said = refused(&folder);
        assert!(said.contains(&format!("chmod 600 {}", path.display())), "{said}");
        set_mode(&path, 0o600);
    }
    // What a full disk has left is no key.
    for key in ["api.secret", "session.key"] {
        fs::write(folder.path("data").join(key), "").expect("it can be written");
    }
    assert!(Agent::start(&folder, &yaml()).stop().success());
}

#[test]
fn an_event_cannot_choose_among_all_folders_of_the_machine() {
    let folder = Folder::new();
    for (path, holds) in [
        ("/{{ user_id }}.log", false),
        ("//{{ user_id }}/a.log", false),
        ("/a-{{ user_id }}.log", false),
        ("{{ user_id }}.log", false),
        ("/tmp/weir-of-a-test/{{ user_id }}.log", true),
    ] {
        let yaml = yaml().replace("type: blackhole,", &format!("type: file, path: '{path}',"));
        folder.write("weir.yaml", &yaml);
        let (ok, said) = validate(&folder);
        assert_eq!(ok, holds, "{path}: {said}");
        assert_eq!(said.contains("an event could choose the folder"), !holds, "{path}: {said}");
    }
}

#[test]
fn the_memory_of_the_process_is_not_written_to_disk_unless_asked() {
    for (more, limit) in [("", "0"), ("limits: { core_dumps: true }\n", "unlimited")] {
        let folder = Folder::new();
        let agent = Agent::start(&folder, &format!("{more}{}", yaml()));
        let limits = fs::read_to_string(format!("/proc/{}/limits", agent.child.id())).expect("the limits can be read");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("there is a line");
        let words: Vec<&str> = core.split_whitespace().collect();
        // What may be had at all is what the test itself was given.
        let wanted = if limit == "0" { "0" } else { words[5] };
        assert_eq!(words[4], wanted, "{core}");
    }
}

#[test]
fn the_login_link_is_printed_by_the_first_start_and_later_by_the_token_command() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &yaml());
    let link = |text: &str| text.split_whitespace().find(|word| word.contains("/?token=")).map(str::to_owned);
    let first = link(&agent.log()).expect("the first start prints a link");
    assert!(first.starts_with(&format!("http://127.0.0.1:{}/?token=", agent.api)), "{first}");
    let (_, token) = first.split_once("token=").expect("a token");
    let answer = request(agent.api, "GET", "/api/me", &[("Authorization", &format!("Bearer {token}"))], b"");
    assert_eq!(answer.expect("an answer").json()["role"], "admin");
    assert!(agent.stop().success());
    fs::remove_file(folder.path("stderr.log")).expect("the log was written");
    let agent = Agent::start(&folder, &yaml());
    assert_eq!(link(&agent.log()), None, "who has a link already gets no other");
    let weir = |more: &[&str]| {
        let data = agent.data_dir.display().to_string();
        let arguments = [&["token", "--data-dir", &data][..], more].concat();
        Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().expect("weir token runs")
    };
    let out = weir(&["--user", "sara", "--link"]);
    let printed = String::from_utf8(out.stdout).expect("text");
    assert!(printed.starts_with(&format!("http://127.0.0.1:{}/?token=", agent.api)), "{printed}");
    let nobody = weir(&["--user", ""]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("is not a valid user name"));
    set_mode(&agent.data_dir.join("api.secret"), 0o640);
    let exposed = weir(&["--user", "sara"]);
    assert_eq!(exposed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&exposed.stderr).contains("is readable by others"));
}

#[test]
fn two_signals_at_once_are_one() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &yaml());
    agent.signal("-TERM");
    agent.signal("-TERM");
    let log = folder.path("stderr.log");
    assert!(agent.stop().success(), "{}", fs::read_to_string(log).unwrap_or_default());
}
