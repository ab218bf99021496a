//! The `alert` sink before a mail server that answers with each code, to each command, and goes away.

use std::collections::BTreeMap;
use std::time::Duration;

use super::alert::{event, numbers_in};
use super::answers::Which;
use super::{Target, Trouble, hold};
use crate::support::proxy::{Fault, Proxy};
use crate::support::smtp::{Command, MailServer};

struct Mails {
    server: MailServer,
    proxy: Proxy,
}

#[derive(Clone, Debug)]
enum Kind {
    Wire(Fault),
    Answer(Command, &'static str),
    /// These mails of each round are refused so when they are complete.
    Refuses(Which, &'static str),
}

const PASSWORD: &str = "s3cr3t-of-the-mail";

impl Target for Mails {
    type Kind = Kind;

    fn keys(&self) -> String {
        format!(
            "type: alert\nemail:\n  server: '127.0.0.1:{}'\n  security: none\n  from: weir@example.org\n  \
             to: [ops@example.org]\n  username: weir\n  password: {PASSWORD}\n\
             group_by: poison\nlimit: 9000/s\nbatch: {{ age: 20ms, events: 5 }}",
            self.proxy.port
        )
    }

    fn troubles(&self) -> Vec<Trouble<Kind>> {
        let mut troubles = Vec::new();
        let mut add = |kind: Kind, is_state: bool| troubles.push(Trouble { name: format!("{kind:?}"), kind, is_state });
        for fault in Fault::all(Duration::from_millis(60)) {
            add(Kind::Wire(fault), true);
        }
        add(Kind::Answer(Command::Greeting, "421 too busy"), true);
        add(Kind::Answer(Command::Greeting, "554 not for you"), true);
        add(Kind::Answer(Command::Greeting, "SSH-2.0-OpenSSH_9.6"), true);
        add(Kind::Answer(Command::Ehlo, "500 what"), true);
        add(Kind::Answer(Command::Auth, "535 wrong password"), true);
        add(Kind::Answer(Command::Auth, "454 later"), true);
        add(Kind::Answer(Command::Mail, "550 no such sender"), true);
        add(Kind::Answer(Command::Rcpt, "451 grey-listed"), true);
        add(Kind::Answer(Command::Rcpt, "550 no such user"), true);
        add(Kind::Answer(Command::Data, "503 not now"), true);
        for answer in ["4xx", "421 closing", "451 error", "452 full", "550 no", "552 too much", "554 5.7.1 spam"] {
            add(Kind::Answer(Command::End, answer), true);
        }
        for answer in ["451 not this", "550 not this", "554 spam"] {
            for which in [Which::First, Which::Middle, Which::Last, Which::MostOf] {
                add(Kind::Refuses(which, answer), answer.starts_with('4'));
            }
        }
        troubles
    }

    fn begin(&self, kind: &Kind) {
        match kind {
            Kind::Wire(fault) => self.proxy.set(*fault),
            Kind::Answer(command, answer) => self.server.state().instead = Some((*command, answer)),
            Kind::Refuses(which, answer) => {
                let which = *which;
                let judge = move |mail: &str| numbers_in(mail).iter().any(|n| which.refuses(*n));
                self.server.state().refuses = Some((Box::new(judge), answer));
            }
        }
    }

    fn heal(&self) {
        self.proxy.set(Fault::None);
        let mut state = self.server.state();
        (state.instead, state.refuses) = (None, None);
    }

    fn stored(&self) -> BTreeMap<u64, usize> {
        let mut stored = BTreeMap::new();
        let state = self.server.state();
        state.taken.iter().flat_map(|mail| numbers_in(mail)).for_each(|n| *stored.entry(n).or_default() += 1);
        stored
    }

    fn repeats(&self) -> bool {
        true
    }

    fn requests(&self) -> u64 {
        self.server.state().mails_tried
    }

    fn event(&self, n: u64, _: Option<&Kind>) -> String {
        event(n)
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.into()]
    }
}

#[test]
pub fn mails_are_taken_whatever_a_server_answers() {
    let server = MailServer::start();
    let proxy = Proxy::before(&format!("127.0.0.1:{}", server.port));
    hold(&Mails { server, proxy });
}
