//! What a start refuses for the sake of safety, what it prints once, and what it leaves to nobody else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::ask::validate;
use crate::support::collector::{Collector, reply};
use crate::support::{Agent, Folder, eventually, free_port, post, request};

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
    let pid = agent.child.id().to_string();
    // By one process, as `timeout` does it: two processes may be further apart than a second signal.
    let done = Command::new("kill").args(["-TERM", &pid, &pid]).status().expect("kill runs");
    assert!(done.success());
    let log = folder.path("stderr.log");
    assert!(agent.stop().success(), "{}", fs::read_to_string(log).unwrap_or_default());
}

#[test]
fn a_second_signal_ends_at_once() {
    let folder = Folder::new();
    let ingest = free_port();
    let yaml = format!(
        "journal: {{ mode: memory }}\nlimits: {{ shutdown_timeout: 60s }}\n\
         sources: {{ web: {{ type: http, address: '127.0.0.1:{ingest}', wait: none }} }}\n\
         sinks: {{ down: {{ type: http, inputs: [web], uri: 'http://127.0.0.1:1/' }} }}\n"
    );
    let mut agent = Agent::start(&folder, &yaml);
    assert_eq!(request(ingest, "POST", "/", &[], b"{\"n\":1}").expect("it answers").status, 202);
    agent.signal("-TERM");
    eventually("it stops", || agent.log().contains("\"message\":\"stopping\""));
    // The agent says so before it listens for the second, and misses one that comes before.
    eventually("it ends", || {
        agent.signal("-INT");
        agent.child.try_wait().expect("it can be waited for").is_some()
    });
    assert_eq!(agent.child.wait().expect("it ends").code(), Some(1));
    assert!(agent.log().contains("stopped immediately by a second signal"), "{}", agent.log());
}

#[test]
fn a_journal_in_memory_leaves_no_events_behind_on_the_disk() {
    let (folder, ingest) = (Folder::new(), free_port());
    let with = |mode: &str, port: u16| {
        format!(
            "journal: {{ mode: {mode} }}\nsources: {{ web: {{ type: http, address: '127.0.0.1:{ingest}' }} }}\n\
             sinks: {{ out: {{ type: http, inputs: [web], uri: 'http://127.0.0.1:{port}/', batch: {{ age: 20ms }} }} }}\n"
        )
    };
    let agent = Agent::start(&folder, &with("disk", 1));
    for n in 0..7 {
        post(ingest, &format!("{{\"n\":{n}}}"));
    }
    assert!(agent.stop().success());
    let mut refused = Agent::spawn(&folder, &with("memory", 1), &[]);
    assert_eq!(refused.child.wait().expect("it ends").code(), Some(1));
    assert!(refused.log().contains("undelivered events (7 for `out`)"), "{}", refused.log());
    // They are all there still, and once they are delivered the change is none.
    let there = Collector::start(|_| reply(200, ""));
    let agent = Agent::start(&folder, &with("disk", there.port));
    eventually("they are delivered", || agent.metric("weir_events_delivered_total", "out") == 7);
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &with("memory", there.port));
    post(ingest, "{\"n\":7}");
    assert!(agent.stop().success());
}

#[test]
fn no_error_of_a_configuration_shows_a_secret_that_stands_in_its_line() {
    let folder = Folder::new();
    let web = "sources: { web: { type: http, address: '127.0.0.1:1' } }\n";
    for yaml in [
        "api: { auth: { basic: { al: { password: SEKRET, password: SEKRET2 } } } }\n",
        "api: { auth: { basic: { al: { password: SEKRET, passwort: SEKRET2, adress: 1 } } } }\n",
        "api: { auth: { jwt: { secret: SEKRET }, jwt: { secret: SEKRET } } }\n",
        "sinks: { q: { type: http, inputs: [web], uri: 'http://u:SEKRET@h:80/db' } }\n",
        "sinks: { q: { type: http, inputs: [web], uri: 'http://u:SEKRET@h:80/db', x: 1 } }\n",
        "sinks: { e: { type: elasticsearch, inputs: [web], endpoints: 'http://u:SEKRET@h:9200' } }\n",
        "sinks: { e: { type: elasticsearch, inputs: [web], endpoints: ['http://u:SEKRET@h:9200', 7] } }\n",
        "sinks: { p: { type: postgres, inputs: [web], url: 'postgres://u:SEKRET@h/db', table: 'a b c', tabel: x } }\n",
        "sinks: { p: { type: postgres, inputs: [web], url: 'mysql://u:SEKRET@h/db' } }\n",
        "sinks: { s: { type: splunk_hec, inputs: [web], endpoint: 'ftp://u:SEKRET@h', token: SEKRET, token: SEKRET } }\n",
        "sinks: { k: { type: kafka, inputs: [web], topic: t, sasl: { password: SEKRET }\n",
        "sinks: { k: { type: webhook, inputs: [web], token: SEKRET, headers: [SEKRET } }\n",
    ] {
        folder.write("weir.yaml", &format!("{web}{yaml}"));
        let (holds, said) = validate(&folder);
        assert!(!holds, "{yaml}");
        assert!(said.contains("error: ") && !said.contains("SEKRET"), "{yaml}\n{said}");
    }
}

#[test]
fn errors_of_every_kind_come_in_one_run() {
    let folder = Folder::new();
    folder.write(
        "weir.yaml",
        "limits: { require_redact: true }\n\
         sources:\n  web: { type: http, address: '127.0.0.1:18001', foo: 1 }\n  w2: { type: http, address: '127.0.0.1:18001' }\n\
         sinks: { s: { type: blackhole, inputs: [web] } }\n",
    );
    let (_, said) = validate(&folder);
    for expected in ["unknown key `foo`", "is already used by the source `web`", "unredacted path: web -> s"] {
        assert!(said.contains(expected), "no `{expected}` in\n{said}");
    }
}

#[test]
fn events_of_the_agent_that_nothing_takes_are_a_warning() {
    let folder = Folder::new();
    for (inputs, warns) in [("[web]", true), ("[web, api]", false), ("['*']", true)] {
        let yaml = yaml().replace("[web]", inputs);
        folder.write("weir.yaml", &yaml);
        let (holds, said) = validate(&folder);
        assert!(holds, "{said}");
        assert_eq!(said.contains("no component takes `api`"), warns, "{inputs}: {said}");
    }
}

#[test]
fn a_configuration_may_come_through_a_pipe_and_is_not_read_twice() {
    let folder = Folder::new();
    let (api, data) = (free_port(), folder.path("data"));
    let text = format!("data_dir: {}\napi: {{ address: '127.0.0.1:{api}' }}\n{}", data.display(), yaml());
    let pipe = folder.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let (writer, path) = (text.clone(), pipe.clone());
    std::thread::spawn(move || fs::write(path, writer).expect("somebody reads it"));
    let stderr = folder.path("stderr.log");
    let child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "-c"])
        .arg(&pipe)
        .stderr(fs::File::create(&stderr).expect("a log"))
        .spawn()
        .expect("the agent starts");
    let agent = Agent { child, api, data_dir: data, stderr }.until_ready();
    assert!(agent.metrics().keys().any(|name| name.contains("\"web\"")), "{}", agent.log());
    // What cannot be read again changes nothing.
    agent.signal("-HUP");
    eventually("it is refused", || agent.log().contains("the reload was refused"));
    assert!(agent.log().contains("is no file: it was read when the agent started"), "{}", agent.log());
    assert!(agent.metrics().keys().any(|name| name.contains("\"web\"")));
}

#[test]
fn two_sinks_do_not_write_to_one_file() {
    let folder = Folder::new();
    let with = |second: &str| {
        format!(
            "{}  one: {{ type: file, inputs: [web, api], path: '{out}/x.ndjson' }}\n  two: {{ type: {second}, inputs: [web] }}\n",
            yaml().replace("sinks: { out: { type: blackhole, inputs: [web] } }", "sinks:"),
            out = folder.path("out").display()
        )
    };
    let out = folder.path("out").display().to_string();
    folder.write("weir.yaml", &with(&format!("file, path: '{out}/x.ndjson'")));
    let (holds, said) = validate(&folder);
    assert!(!holds && said.contains("the sink `one` writes to this path as well"), "{said}");
    folder.write("weir.yaml", &with(&format!("file, path: '{out}/y.ndjson'")));
    let (holds, said) = validate(&folder);
    assert!(holds, "{said}");
}

#[test]
fn free_memory_goes_back_to_the_system_also_while_nobody_allocates() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &yaml());
    let threads = fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("the threads can be listed");
    let names: Vec<String> = threads
        .map(|thread| fs::read_to_string(thread.expect("a thread").path().join("comm")).unwrap_or_default())
        .collect();
    assert!(names.iter().any(|name| name.trim() == "jemalloc_bg_thd"), "{names:?}");
}
