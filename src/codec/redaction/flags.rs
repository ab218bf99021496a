//! Passwords in command arguments: `mysql -pX`, `curl -u user:X`, `sshpass -p X`, `docker login -p X`.

use super::byte_set::ByteSet;
use super::escapes::{is_after_escape, leading_slashes};
use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;

use super::assign::{Found, Role, may_be_secret};
use super::names::Class;
use super::random::is_random;
use super::reader::Reader;
use super::rules::CREDENTIAL;

/// How far back the command is searched on its line.
pub const MAX_BACK: usize = 200;

/// Commands, the option, and what stands behind it.
const COMMANDS: &[(&str, &[u8], Form)] = &[
    ("curl", b"uU", Form::UserPassword),
    ("http", b"a", Form::UserPassword),
    ("wget", b"u", Form::UserPassword),
    ("mysql", b"p", Form::Glued),
    ("mariadb", b"p", Form::Glued),
    ("7z", b"p", Form::Glued),
    ("rar", b"p", Form::Glued),
    ("unrar", b"p", Form::Glued),
    ("ldappasswd", b"s", Form::Word),
    ("sshpass", b"p", Form::Either),
    ("login", b"p", Form::Word),
    ("psexec", b"p", Form::Word),
    ("redis-cli", b"a", Form::Word),
    ("ldap", b"w", Form::Word),
    ("zip", b"P", Form::Word),
    ("mongo", b"p", Form::Word),
    ("twine", b"p", Form::Word),
    ("snmp", b"AX", Form::Word),
    ("smb", b"Uu", Form::UserPercent),
    ("rpcclient", b"U", Form::UserPercent),
    ("sqlcmd", b"P", Form::Either),
    ("bcp", b"P", Form::Either),
    ("cypher-shell", b"p", Form::Word),
    ("neo4j", b"p", Form::Word),
    ("ipmitool", b"P", Form::Word),
    ("az ", b"p", Form::Word),
    ("rabbitmq", b"p", Form::Word),
    ("kinit", b"p", Form::Word),
    ("mosquitto", b"P", Form::Word),
    ("couchbase", b"p", Form::Word),
    ("influx", b"p", Form::Word),
    ("clickhouse", b"p", Form::Word),
    ("unzip", b"P", Form::Word),
    ("rdesktop", b"p", Form::Word),
    ("hydra", b"p", Form::Word),
    ("useradd", b"p", Form::Word),
    ("cqlsh", b"p", Form::Word),
    ("crackmapexec", b"p", Form::Word),
    ("netexec", b"p", Form::Word),
    ("nxc", b"p", Form::Word),
    ("evil-winrm", b"p", Form::Word),
    ("doctl", b"t", Form::Word),
    ("openssl", b"k", Form::Word),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `-u user:password`
    UserPassword,
    /// `-U user%password`
    UserPercent,
    /// `-ppassword`
    Glued,
    /// `-p password`
    Word,
    Either,
}

/// The commands by their first letters, one bit each.
static BY_HEAD: [u64; 256] = {
    let (mut heads, mut number) = ([0; 256], 0);
    while number < COMMANDS.len() {
        heads[COMMANDS[number].0.as_bytes()[0] as usize] |= 1 << number;
        number += 1;
    }
    heads
};

/// Which of the [`COMMANDS`] stand on a line in front of a place.
#[derive(Clone, Copy, Default)]
pub struct Commands {
    at: usize,
    /// One bit for each command.
    seen: u64,
}

impl Commands {
    /// Reads on to a place, and says how many bytes that took.
    pub fn read_to(&mut self, text: &[u8], to: usize, most: usize) -> usize {
        if to < self.at || to - self.at > most {
            *self = Commands { at: to.saturating_sub(most), seen: 0 };
        }
        let from = self.at;
        while self.at < to {
            let byte = text[self.at];
            let goes_on = byte == b'\n' && self.at > 0 && text[self.at - 1] == b'\\';
            if byte == b'\n' && !goes_on || byte == b'|' {
                self.seen = 0;
            } else if BY_HEAD[usize::from(byte)] != 0 && begins_word(text, self.at) {
                let mut numbers = BY_HEAD[usize::from(byte)];
                while numbers != 0 {
                    let number = numbers.trailing_zeros() as usize;
                    self.seen |= u64::from(text[self.at..].starts_with(COMMANDS[number].0.as_bytes())) << number;
                    numbers &= numbers - 1;
                }
            }
            self.at += 1;
        }
        self.at - from
    }
}

fn begins_word(text: &[u8], at: usize) -> bool {
    at == 0 || !text[at - 1].is_ascii_alphanumeric() || is_after_escape(text, at)
}

/// Whether raw JSON may hold a command to which the option at `at` belongs.
pub fn is_plausible(reader: &Reader<'_>, at: usize) -> bool {
    let option = |byte: &u8| COMMANDS.iter().any(|(_, options, _)| options.contains(byte));
    let short = reader.text.get(at + 1) == Some(&b'-') && reader.text.get(at + 2).is_some_and(option);
    !short || reader.raw_commands_before(at).seen != 0
}

/// Finds the password behind the option that begins at `at`.
pub fn values(reader: &Reader<'_>, at: usize, found: &mut Vec<Found>) {
    let text = reader.text;
    reader.charge(16);
    if text[at..].begins_with(b"pass:") {
        found.extend(openssl(text, at));
        return;
    }
    if let Some(range) = positional(text, at) {
        let variable = text[range.start..].begins_with(b"$") && !is_random(&text[range.clone()]);
        if !variable && may_be_secret(Class::Password, &text[range.clone()], Role::Setting) {
            found.push(Found { range, rule: CREDENTIAL, why: "the argument of a command" });
        }
        return;
    }
    let Some(option) = text.get(at + 2) else { return };
    let line = reader.commands_before(at);
    let named = |number: usize| line.seen >> number & 1 == 1;
    let mut commands = COMMANDS.iter().enumerate();
    let Some((_, (_, _, form))) = commands.find(|(number, (_, options, _))| options.contains(option) && named(*number))
    else {
        return;
    };
    let glued = text.get(at + 3).is_some_and(|b| !b.is_ascii_whitespace() && !b"\"',".contains(b));
    // In a list of arguments quotes and a comma stand between.
    let gap = text[at + 3..]
        .iter()
        .take(6)
        .take_while(|b| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"',\\") }.has(b))
        .count();
    let start = match form {
        Form::Glued if !(glued || gap > 0 && b"\"'".contains(&text[at + 2 + gap])) => return,
        Form::Word if glued => return,
        _ => at + 3 + gap,
    };
    let quote = start.checked_sub(1).map(|before| text[before]).filter(|b| b"\"'".contains(b));
    let len = text[start..].iter().take(512).take_while(|b| match quote {
        Some(quote) => **b != quote && **b != b'\n',
        None => !b.is_ascii_whitespace() && !const { &ByteSet::of(b"\"'`\\;|)") }.has(b),
    });
    let mut end = start + len.count();
    // The backslash of a quote that is escaped belongs to the quote.
    while quote.is_some() && end > start && text[end - 1] == b'\\' && text[..start].closes_with(b"\\\"") {
        end -= 1;
    }
    let start = match form {
        Form::UserPassword => {
            let colon = memchr::memchr(b':', &text[start..end]).map_or(end - start, |colon| colon + 1);
            let password = quoted_part(text, start + colon..end);
            // `-u "key:"`: the user is a key, and there is no password.
            match password.is_empty() && colon > 1 && is_random(&text[start..end - 1]) {
                true => {
                    end -= 1;
                    start
                }
                false => {
                    end = password.end;
                    password.start
                }
            }
        }
        Form::UserPercent => start + memchr::memchr(b'%', &text[start..end]).map_or(end - start, |sign| sign + 1),
        _ => start,
    };
    let value = &text[start..end];
    let path = matches!(value.first(), Some(b'/' | b'-' | b'$')) && !is_random(value)
        || *form == Form::Glued && value.iter().all(|b| b.is_ascii_digit() || *b == b':') && value.contains(&b':');
    // What a quote ends is no expression, whatever signs it has.
    let role = if quote.is_some() { Role::Assigned } else { Role::Setting };
    if !path && value.len() > 2 && may_be_secret(Class::Password, value, role) {
        found.push(Found { range: start..end, rule: CREDENTIAL, why: "the option of a command" });
    }
}

/// What stands in quotes of its own, as in `bob:'x'`.
fn quoted_part(text: &[u8], password: Range<usize>) -> Range<usize> {
    match text.get(password.end) {
        Some(quote @ (b'"' | b'\'')) if password.is_empty() && matches!(text[password.start - 1], b':' | b'/') => {
            let start = password.end + 1;
            let reach = &text[start..text.len().min(start + MAX_BACK)];
            start..start + memchr::memchr2(*quote, b'\n', reach).unwrap_or(0)
        }
        _ => password,
    }
}

/// `-passin pass:x`
fn openssl(text: &[u8], at: usize) -> Option<Found> {
    let back = &text[at.saturating_sub(12)..at];
    let option = [&b"-pass "[..], b"-passin ", b"-passout ", b"-k "].iter().any(|option| back.ends_with(option));
    if !option {
        return None;
    }
    let start = at + 5;
    let len = text[start..]
        .iter()
        .take(256)
        .take_while(|b| !b.is_ascii_whitespace() && !const { &ByteSet::of(b"\"'`\\") }.has(b))
        .count();
    let taken = may_be_secret(Class::Password, &text[start..start + len], Role::Setting);
    taken.then(|| Found { range: start..start + len, rule: CREDENTIAL, why: "the option of a command" })
}

/// The password among the arguments of commands that have no option for it.
fn positional(text: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = &text[at..];
    let line = &rest[..memchr::memchr(b'\n', &rest[..rest.len().min(MAX_BACK)]).unwrap_or(rest.len().min(MAX_BACK))];
    let starts = |word: &[u8]| line.len() >= word.len() && line[..word.len()].eq_ignore_ascii_case(word);
    // The n-th word behind the command, without options.
    let word = |nth: usize| {
        let mut words =
            line.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty() && !word.begins_with(b"-"));
        let word = words.nth(nth)?;
        let place = word.as_ptr() as usize - line.as_ptr() as usize;
        let quotes = usize::from(b"\"'".contains(&word[0]) && word.len() > 2 && word.last() == word.first());
        let inside = &word[quotes..word.len() - quotes];
        let len = inside.iter().position(|b| const { &ByteSet::of(b"\"'`\\") }.has(b)).unwrap_or(inside.len());
        Some(at + place + quotes..at + place + quotes + len)
    };
    let batch = memchr::memmem::find(line, b"-nb").map(|_| 2).or(memchr::memmem::find(line, b"-b").map(|_| 3));
    if let Some(nth) = batch.filter(|_| starts(b"htpasswd ")) {
        return word(nth).or_else(|| word(2));
    }
    if starts(b"sqlplus ") {
        let login = word(1)?;
        let slash = memchr::memchr(b'/', &text[login.clone()])?;
        if login.start + slash + 1 == login.end {
            return Some(quoted_part(text, login.end..login.end));
        }
        let end = memchr::memrchr(b'@', &text[login.clone()]).filter(|end| *end > slash).unwrap_or(login.len());
        return (slash > 0).then_some(login.start + slash + 1..login.start + end);
    }
    if starts(b"net user ") {
        return word(3).filter(|range| text[range.start] != b'/');
    }
    if starts(b"net use ") {
        // Without a letter for the drive the share comes first.
        let share = word(2).is_some_and(|range| text[range.start] == b'\\');
        return word(if share { 3 } else { 4 }).filter(|range| text[range.start] != b'/');
    }
    if starts(b"lt login ") && text[..at].closes_with(b"vau") {
        return word(2).filter(|range| is_random(&text[range.clone()]));
    }
    if starts(b"o-securestring ") {
        return word(1);
    }
    if starts(b" /p:") {
        let before = &text[at.saturating_sub(MAX_BACK)..at];
        let end = line[1..].iter().position(u8::is_ascii_whitespace).map_or(line.len(), |len| len + 1);
        return memchr::memmem::find(before, b"/u:").map(|_| at + 4..at + end);
    }
    if starts(b"/user:") {
        let before = &text[at.saturating_sub(80)..at];
        return memchr::memmem::find(before, b"net ").and_then(|_| word(1));
    }
    if starts(b"add_user ") {
        return word(2);
    }
    if starts(b"--user ") || starts(b"--user=") || starts(b"y-user ") || starts(b"y-user=") {
        let before = &text[at.saturating_sub(MAX_BACK)..at];
        memchr::memmem::find(before, b"curl").or_else(|| memchr::memmem::find(before, b"http"))?;
        let login = if line.get(6) == Some(&b'=') {
            at + 7..at + line.iter().position(|b| b.is_ascii_whitespace()).unwrap_or(line.len())
        } else {
            // Of `--proxy-user` the end was seen, which is a word itself.
            word(usize::from(starts(b"y-user ")))?
        };
        let colon = memchr::memchr(b':', &text[login.clone()])?;
        return Some(quoted_part(text, login.start + colon + 1..login.end));
    }
    let sudo = starts(b" -s ") && text[..at].closes_with(b"sudo");
    if starts(b"chpasswd") || starts(b"-stdin") || sudo {
        // `echo 'user:x' | chpasswd`, `echo x | docker login --password-stdin`
        let before = &text[at.saturating_sub(MAX_BACK)..at];
        let start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        let echo = memchr::memmem::rfind(&before[start..], b"echo ")? + start + 5;
        let pipe = echo + memchr::memchr(b'|', &before[echo..])?;
        let said = before[echo..pipe].trim_ascii();
        let said = said.strip_prefix(b"-n ").unwrap_or(said);
        let place = said.as_ptr() as usize - text.as_ptr() as usize;
        let slashes = leading_slashes(said, 7);
        let quoted =
            said.len() > 2 * slashes + 2 && b"\"'".contains(&said[slashes]) && said.last() == said.get(slashes);
        let quotes = if quoted { slashes + 1 } else { 0 };
        let said = place + quotes..place + said.len() - quotes;
        let colon = if starts(b"chpasswd") { memchr::memchr(b':', &text[said.clone()])? + 1 } else { 0 };
        return Some(said.start + colon..said.end);
    }
    None
}
