//! From events to people: `detect` finds, `alert` tells, over a Slack-style hook and over a real mail server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::collector::{Collector, Papers, reply};
use crate::support::{Agent, Folder, eventually, free_port, post, python, request, smtp};

const LOGIN_FAILED: &str = r#"{"event_type":"login_failed","ip_address":"10.1.2.3","user_id":"<!here> @all"}"#;

#[test]
fn three_failed_logins_from_one_address_are_one_message_and_one_when_it_is_over() {
    let folder = Folder::new();
    let port = free_port();
    let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
    let hook = {
        let heard = heard.clone();
        Collector::start(move |request| {
            heard.lock().unwrap().push(serde_json::from_str(&request.body).expect("a message is JSON"));
            reply(200, "ok")
        })
    };
    let agent = Agent::start(
        &folder,
        &format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             transforms:\n  found:\n    type: detect\n    inputs: [web]\n    rules:\n      \
             - {{ name: failed_logins, where: 'event_type:login_failed', by: ip_address, count: 3, window: 8s, severity: critical }}\n\
             sinks:\n  chat: {{ type: alert, inputs: [found], slack: {{ url: 'http://127.0.0.1:{}/hook' }}, batch: {{ age: 50ms }} }}\n",
            hook.port
        ),
    );
    post(port, LOGIN_FAILED);
    post(port, r#"{"event_type":"login_failed","ip_address":"10.9.9.9"}"#);
    post(port, LOGIN_FAILED);
    assert!(heard.lock().unwrap().is_empty());
    post(port, LOGIN_FAILED);
    post(port, LOGIN_FAILED);
    let texts = || heard.lock().unwrap().iter().map(|m| m["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    eventually("it is over, and said", || texts().len() == 2);
    let texts = texts();
    assert!(texts[0].starts_with("[CRITICAL] failed_logins: 1 alert\n"), "{texts:?}");
    assert!(texts[0].contains("3 events within 8s for ip_address=10.1.2.3"), "{texts:?}");
    assert!(texts[1].starts_with("[RESOLVED] failed_logins\n"), "{texts:?}");
    agent.assert_books();
    assert!(agent.stop().success());
}

#[test]
fn one_recipient_who_is_refused_keeps_the_others_from_nothing() {
    let (folder, port, server) = (Folder::new(), free_port(), smtp::MailServer::start());
    server.state().unknown = Some("left@example.org");
    let agent = Agent::start(
        &folder,
        &format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             sinks:\n  mail: {{ type: alert, inputs: [web], batch: {{ age: 20ms }}, email: {{ server: '127.0.0.1:{}', security: none, \
             from: weir@example.org, to: [ali@example.org, left@example.org, sara@example.org] }} }}\n",
            server.port
        ),
    );
    for n in 1..=2 {
        post(port, &format!(r#"{{"event_type":"alert","description":"no {n}"}}"#));
        eventually("both others have it, in one mail", || server.state().taken.len() == n);
    }
    assert!(agent.log().contains("left@example.org: ") && agent.log().contains("550"), "{}", agent.log());
    agent.assert_books();
}

#[test]
fn a_mail_that_is_refused_for_what_it_says_is_a_dead_letter_and_no_other_waits() {
    let (folder, port, server) = (Folder::new(), free_port(), smtp::MailServer::start());
    server.state().unknown = Some("left@example.org");
    server.state().refuses = Some((Box::new(|mail| mail.contains("spam")), "554 we do not like this"));
    let plan = |to: &str| {
        format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             sinks:\n  mail: {{ type: alert, inputs: [web], batch: {{ age: 20ms }}, retry: {{ initial: 100ms, max: 200ms }}, email: {{ \
             server: '127.0.0.1:{}', security: none, from: weir@example.org, to: [{to}] }} }}\n",
            server.port
        )
    };
    let agent = Agent::start(&folder, &plan("ali@example.org"));
    let ends = |dead: u64| {
        eventually("it ends", || agent.metric("weir_events_dead_lettered_total", "mail") == dead);
        eventually("nothing waits", || agent.metric("weir_events_waiting", "mail") == 0);
    };
    // Alone there is nothing to compare it with: the server may refuse every mail.
    post(port, r#"{"event_type":"alert","description":"this is spam"}"#);
    eventually("it is said", || agent.health("mail").state == "held");
    assert!(agent.health("mail").last_error.contains("do not like this"), "{}", agent.health("mail").last_error);
    assert_eq!(agent.metric("weir_events_dead_lettered_total", "mail"), 0);
    post(port, r#"{"event_type":"alert","description":"this is none"}"#);
    eventually("it is there", || server.state().taken.len() == 1);
    ends(1);
    reload(&agent, &folder, &plan("ali@example.org, left@example.org"));
    // One message of several alerts: only what is refused is lost to it.
    post(
        port,
        r#"[{"event_type":"alert","description":"no 1"},{"event_type":"alert","description":"more spam"},{"event_type":"alert","description":"no 2"}]"#,
    );
    ends(2);
    let has = |text: &str| server.state().taken.iter().any(|mail| mail.contains(text));
    assert!(has("no 1") && has("no 2"));
    // A code that is about the mail needs nothing to compare with.
    server.state().refuses = Some((Box::new(|mail| mail.contains("long")), "552 5.3.4 too big for us"));
    post(port, r#"{"event_type":"alert","description":"a long one"}"#);
    ends(3);
    let taken = server.state().taken.len();
    // Whom nobody knows is no matter of the mail.
    reload(&agent, &folder, &plan("left@example.org"));
    post(port, r#"{"event_type":"alert","description":"fine"}"#);
    eventually("the sink is held", || agent.health("mail").state == "held");
    assert!(agent.health("mail").last_error.contains("550"), "{}", agent.health("mail").last_error);
    reload(&agent, &folder, &plan("ali@example.org"));
    eventually("it is there", || server.state().taken.len() == taken + 1);
    agent.assert_books();
}

#[test]
fn a_server_that_refuses_every_mail_makes_no_dead_letter() {
    let (folder, port, server) = (Folder::new(), free_port(), smtp::MailServer::start());
    let agent = Agent::start(
        &folder,
        &format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             sinks:\n  mail: {{ type: alert, inputs: [web], limit: 1000/s, group_by: metadata.n, batch: {{ age: 20ms }}, \
             retry: {{ initial: 50ms, max: 100ms }}, email: {{ server: '127.0.0.1:{}', security: none, from: weir@example.org, \
             to: [ali@example.org] }} }}\n",
            server.port
        ),
    );
    for answer in ["550 this account may send no more today", "554 5.7.1 refused by policy"] {
        let taken = server.state().taken.len();
        server.state().instead = Some((smtp::Command::End, answer));
        for n in 0..20 {
            post(port, &format!(r#"{{"event_type":"alert","description":"no {n}","metadata":{{"n":{n}}}}}"#));
        }
        eventually("it is held", || agent.health("mail").state == "held");
        let tried = server.state().mails_tried;
        eventually("it is tried again", || server.state().mails_tried > tried + 10);
        assert_eq!(agent.metric("weir_events_dead_lettered_total", "mail"), 0, "{answer}");
        assert_eq!(agent.metric("weir_events_waiting", "mail"), 20, "{answer}");
        server.state().instead = None;
        eventually("all are sent", || agent.metric("weir_events_waiting", "mail") == 0);
        assert!(server.state().taken.len() > taken);
        assert_eq!(agent.metric("weir_events_dead_lettered_total", "mail"), 0, "{answer}");
    }
    agent.assert_books();
}

fn reload(agent: &Agent, folder: &Folder, plan: &str) {
    agent.configure(folder, plan);
    let token = format!("Bearer {}", agent.token());
    let answer = request(agent.api, "POST", "/api/reload", &[("Authorization", &token)], b"").expect("it answers");
    assert_eq!(answer.json()["applied"], true, "{}", answer.text());
}

/// aiosmtpd, with STARTTLS and a login; ends with the test.
struct MailServer {
    child: Child,
    mails: Arc<Mutex<Vec<Value>>>,
}

impl MailServer {
    fn start(folder: &Folder, port: u16, papers: &Papers) -> MailServer {
        let (certificate, key) = (papers.path("server.pem"), papers.path("server.key"));
        let answer = folder.path("answer");
        let port = port.to_string();
        let arguments = [port.as_str(), certificate.to_str().unwrap(), key.to_str().unwrap(), answer.to_str().unwrap()];
        let mut command = python::program(folder, "smtp_server.py", &arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the mail server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let first = lines.next().expect("it says that it listens").expect("text");
        assert!(first.contains("listens"), "{first}");
        let mails: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = mails.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                seen.lock().unwrap().push(serde_json::from_str(&line).expect("a line is JSON"));
            }
        });
        MailServer { child, mails }
    }

    fn count(&self) -> usize {
        self.mails.lock().unwrap().len()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn alerts_come_by_mail_over_tls_with_a_login_and_wait_while_the_server_is_away() {
    let folder = Folder::new();
    let (port, mail) = (free_port(), free_port());
    let papers = Papers::new();
    let plan = |password: &str| {
        format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             sinks:\n  mail:\n    type: alert\n    inputs: [web]\n    batch: {{ age: 50ms }}\n    retry: {{ initial: 100ms, max: 300ms }}\n    \
             tls: {{ ca: '{}', server_name: localhost }}\n    email:\n      server: 'localhost:{mail}'\n      from: 'Weir <weir@example.org>'\n      \
             to: [ops@example.org, sara@example.org]\n      username: weir\n      password: {password}\n      subject: '[lab]'\n",
            papers.path("server.pem").display()
        )
    };
    let server = MailServer::start(&folder, mail, &papers);
    let agent = Agent::start(&folder, &plan("s3cr3t-mail-password"));
    let alert = |n: u64| {
        format!(
            r#"{{"event_type":"alert","status":"error","description":"هشدار {n}\r\n.\r\nQUIT","metadata":{{"rule":"ورود\r\nBcc: evil@example.com"}}}}"#
        )
    };
    post(port, &alert(1));
    eventually(&format!("the mail is there: {}", agent.log()), || server.count() == 1);
    {
        let mails = server.mails.lock().unwrap();
        assert_eq!(mails[0]["recipients"], serde_json::json!(["ops@example.org", "sara@example.org"]));
        assert_eq!((&mails[0]["encrypted"], &mails[0]["sender"]), (&true.into(), &"weir@example.org".into()));
        let data = mails[0]["data"].as_str().unwrap();
        let head = data.split("\r\n\r\n").next().unwrap();
        assert!(head.lines().all(|line| !line.to_lowercase().starts_with("bcc:")), "{head}");
        assert!(head.contains("Subject: [lab] "), "{head}");
    }
    // A recipient that is refused for a while, and then a server that is away.
    folder.write("answer", "451 later");
    post(port, &alert(2));
    eventually("it is tried again", || agent.metric("weir_retries_total", "mail") > 1);
    folder.write("answer", "");
    eventually("the second is there", || server.count() == 2);
    drop(server);
    post(port, &alert(3));
    eventually("it waits", || agent.metric("weir_events_waiting", "mail") == 1);
    let server = MailServer::start(&folder, mail, &papers);
    eventually("the third is there", || server.count() == 1);
    agent.assert_books();
    // A password that is wrong holds the sink, and is said without itself.
    reload(&agent, &folder, &plan("another-password"));
    post(port, &alert(4));
    eventually(&format!("it is held: {}", agent.log()), || {
        agent.metrics().iter().any(|(key, value)| {
            key.starts_with("weir_component_state")
                && key.contains("\"mail\"")
                && key.contains("\"held\"")
                && *value == 1.0
        })
    });
    assert!(!agent.log().contains("another-password"));
    reload(&agent, &folder, &plan("s3cr3t-mail-password"));
    eventually("the fourth is there", || server.count() == 2);
    assert!(agent.stop().success());
}
