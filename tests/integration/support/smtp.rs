//! A mail server of a few lines: it takes what a test lets it take, and answers with whatever code the test says.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// A command that is answered otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Greeting,
    Ehlo,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// The end of a mail.
    End,
}

type Judge = Box<dyn Fn(&str) -> bool + Send>;

#[derive(Default)]
pub struct State {
    /// What is answered instead, to all or to the mails that the judge names.
    pub instead: Option<(Command, &'static str)>,
    pub refuses: Option<(Judge, &'static str)>,
    /// A recipient that does not exist.
    pub unknown: Option<&'static str>,
    /// Texts of the mails that were taken.
    pub taken: Vec<String>,
    pub mails_tried: u64,
}

/// A server; ends with the test.
#[derive(Clone)]
pub struct MailServer {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl MailServer {
    pub fn start() -> MailServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let server = MailServer { port, state: Arc::default() };
        let serving = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                // A client that is gone ends its connection and nothing else.
                thread::spawn(move || drop(serving.serve(stream)));
            }
        });
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// What is said to a command.
    fn answer(&self, command: Command, usual: &'static str) -> &'static str {
        self.state().instead.filter(|(which, _)| *which == command).map_or(usual, |(_, answer)| answer)
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?);
        let say = |text: &str| (&stream).write_all(format!("{text}\r\n").as_bytes());
        say(self.answer(Command::Greeting, "220 mail ready"))?;
        loop {
            let Some(line) = next(&mut lines)? else { return Ok(()) };
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match &*verb {
                "EHLO" | "HELO" => say(self.answer(Command::Ehlo, "250-mail\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN"))?,
                "AUTH" => say(self.answer(Command::Auth, "235 welcome"))?,
                "MAIL" => {
                    self.state().mails_tried += 1;
                    say(self.answer(Command::Mail, "250 fine"))?;
                }
                "RCPT" if self.state().unknown.is_some_and(|unknown| line.contains(unknown)) => {
                    say("550 no such user")?
                }
                "RCPT" => say(self.answer(Command::Rcpt, "250 fine"))?,
                "DATA" => {
                    let answer = self.answer(Command::Data, "354 go on");
                    say(answer)?;
                    if answer.starts_with("354") {
                        let Some(mail) = read_mail(&mut lines)? else { return Ok(()) };
                        say(self.take(mail))?;
                    }
                }
                "QUIT" => return say("221 bye"),
                _ => say("250 fine")?,
            }
        }
    }

    fn take(&self, mail: String) -> &'static str {
        let mut state = self.state();
        if let Some((_, answer)) = state.instead.filter(|(which, _)| *which == Command::End) {
            return answer;
        }
        if let Some((judge, answer)) = &state.refuses
            && judge(&mail)
        {
            return answer;
        }
        state.taken.push(mail);
        "250 taken"
    }
}

fn next(lines: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let read = lines.read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim_end().to_owned()))
}

/// A mail up to its end; nothing if the connection ends before.
fn read_mail(lines: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut mail = String::new();
    loop {
        match next(lines)? {
            None => return Ok(None),
            Some(line) if line == "." => return Ok(Some(mail)),
            Some(line) => {
                mail.push_str(&line);
                mail.push('\n');
            }
        }
    }
}
