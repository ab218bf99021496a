//! Secrets at places that one command or statement gives them: `curl -su user:x`, `schtasks /rp x`, `ACL SETUSER bob >x`.
//!
//! Each has a line in [`COMMANDS`]: what the filter looks for, what else must stand nearby, and where the secret is.

use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;

use super::assign::{Found, Role, may_be_secret};
use super::byte_set::ByteSet;
use super::escapes::leading_slashes;
use super::names::{Class, classify};
use super::random::is_random;
use super::reader::Reader;
use super::rules::CREDENTIAL;

/// How far a line is read in front of what the filter has seen, and behind it.
const MAX_BEFORE: usize = 200;
const MAX_BEHIND: usize = 300;

/// A place that a command gives a secret.
pub struct Command {
    /// What the line has, in any case; the filter looks for its first five bytes.
    pub word: &'static str,
    /// What must stand within the reach of its line besides.
    cue: &'static str,
    find: fn(&Line<'_>) -> Option<Range<usize>>,
    role: Role,
}

const fn command(word: &'static str, cue: &'static str, find: fn(&Line<'_>) -> Option<Range<usize>>) -> Command {
    Command { word, cue, find, role: Role::Setting }
}

/// Where a secret must have digits or signs to be one.
const fn perhaps(word: &'static str, cue: &'static str, find: fn(&Line<'_>) -> Option<Range<usize>>) -> Command {
    Command { word, cue, find, role: Role::Mention }
}

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("curl ", " -", |line| line.short_option("curl ", b"uU").and_then(|login| line.behind(login, b':'))),
    perhaps("curl ", "=", |line| line.cookie()),
    command("/rp ", "schtasks", |line| line.word(1)),
    command("lftp ", ",", |line| line.short_option("lftp ", b"u").and_then(|login| line.behind(login, b','))),
    command("(echo ", "-file=<(", |line| line.before.closes_with(b"-file=<").then(|| line.word(1)).flatten()),
    command("pdp ", "/", |line| line.word(1).and_then(|login| line.behind(line.before_last(login, b'@'), b'/'))),
    command("SETUSER ", ">", |line| line.marked(b'>')),
    command("AUTH ", "redis-cli", |line| line.authenticates(line.follows(b"redis-cli"))),
    perhaps("AUTH ", "AUTH", |line| line.authenticates(line.begins())),
    command("attach ", " KEY ", |line| line.option(b"KEY")),
    command("ssh-keygen ", " -N ", |line| line.option(b"-N")),
    perhaps("go login ", "cargo login ", |line| line.word(2)),
    perhaps("wandb login ", "wandb login ", |line| line.word(2)),
    perhaps("kaggle config set ", " key ", |line| line.option(b"-v")),
    perhaps("gem push ", " --key ", |line| line.option(b"--key")),
    command("proxyauth=", "=", |line| line.word(0).and_then(|login| line.behind(login, b':'))),
    command("set-agent-token ", "consul ", |line| line.word(2)),
    perhaps("unseal key ", ": ", |line| line.begins().then(|| line.last_of(3)).flatten()),
    command("ntil(", "assword", |line| line.answered()),
    command("unseal ", "operator", |line| line.word(1).filter(|word| is_random(&line.text[word.clone()]))),
    command("wpa_passphrase ", "wpa_passphrase ", |line| line.word(2)),
    command("-basic.", "poetry config", |line| line.word(1)),
    command("-token.", "poetry config", |line| line.word(0)),
    command("-cred", "creds", |line| line.word(0).and_then(|login| line.behind(login, b':'))),
    command("-auth ", "-auth ", |line| line.word(0).and_then(|login| line.behind(login, b':'))),
    command("-value", "ecret", |line| line.secret_value()),
    command("-value", "SecureString", |line| line.secret_value()),
    command("nge_password ", "rabbitmq", |line| line.word(2)),
    command("-mask::", "add-mask::", |line| line.up_to_end(7)),
    command("o-securestring", "|", |line| line.quoted_before_pipe()),
    command("kinit ", "<<<", |line| line.here_string()),
    command(" -S ", "<<<", |line| line.before.closes_with(b"sudo").then(|| line.here_string()).flatten()),
    command("th-token", "gh auth", |line| line.piped()),
    command("ile=-", "|", |line| line.piped()),
    command("dev/stdin", "kubectl", |line| line.piped()),
    command("ncftp", " -p ", |line| line.option(b"-p")),
    command("ftp> user ", "ftp> user ", |line| line.word(3)),
    command("| passwd", "echo ", |line| line.piped().map(|said| line.first_line(said))),
    command("reg add ", " /d ", |line| line.registered()),
    command("enrowset", ";'", |line| line.third_field()),
    command(" on >", "user ", |line| line.marked(b'>')),
    command("]:587 ", ":", |line| line.word(1).and_then(|login| line.behind(login, b':'))),
    command("send ", "xpect", |line| line.sent()),
    command("endline(", "xpect", |line| line.sent()),
    command("munity ", "snmp-server", |line| line.word(1).filter(|word| !line.is_known_community(word))),
    command("ats auth ", ":", |line| line.word(2).and_then(|login| line.behind(login, b':'))),
    command("ar.login=", "sonar", |line| line.up_to_end(9)),
    command("ogin attempt ", " [", |line| line.attempted()),
    command("env add ", "<<<", |line| line.here_string()),
    command("secret set ", "gh secret", |line| line.piped()),
    command("--user root:", "etcdctl", |line| line.up_to_end(12)),
];

/// Whether raw JSON may hold the place: whether the cue stands near what the filter has seen.
pub fn is_plausible(raw: &[u8], at: usize, number: usize) -> bool {
    if !is_there(raw, at, number) {
        return false;
    }
    let cue = COMMANDS[number].cue.as_bytes();
    // Escapes may make the line longer.
    let near = &raw[at.saturating_sub(2 * MAX_BEFORE)..raw.len().min(at + 2 * MAX_BEHIND)];
    memchr::memmem::find(near, cue).is_some()
}

/// Whether the whole word stands where the filter has seen its beginning.
fn is_there(text: &[u8], at: usize, number: usize) -> bool {
    let word = COMMANDS[number].word.as_bytes();
    text.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word))
}

/// Finds the secret of the command seen at `at`.
pub fn values(reader: &Reader<'_>, at: usize, number: usize, found: &mut Vec<Found>) {
    let text = reader.text;
    if !is_there(text, at, number) || !reader.is_worth_a_line(at) {
        return;
    }
    reader.charge(MAX_BEFORE);
    let command = &COMMANDS[number];
    let from = at.saturating_sub(MAX_BEFORE);
    let start = memchr::memrchr(b'\n', &text[from..at]).map_or(from, |end| from + end + 1);
    let reach = text.len().min(at + MAX_BEHIND);
    let cue = command.cue.as_bytes();
    if memchr::memmem::find(&text[from..reach], cue).is_none() {
        return;
    }
    let end = memchr::memchr(b'\n', &text[at..reach]).map_or(reach, |len| at + len);
    let line = Line { text, at, from, before: &text[start..at], rest: &text[at..end] };
    let Some(range) = (command.find)(&line) else { return };
    let value = &text[range.clone()];
    let is_option = matches!(value.first(), None | Some(b'-' | b'$' | b'/' | b'@')) && !is_random(value);
    // What a quote ends is no expression, whatever signs it has.
    let is_quoted = text.get(range.end).is_some_and(|b| b"\"'".contains(b));
    let role = if is_quoted && command.role == Role::Setting { Role::Assigned } else { command.role };
    if !is_option && value.len() > 2 && may_be_secret(Class::Password, value, role) {
        found.push(Found { range, rule: CREDENTIAL, why: "the place of a secret in a command" });
    }
}

/// The line of a command.
struct Line<'a> {
    text: &'a [u8],
    at: usize,
    /// How far back the text may be read.
    from: usize,
    /// The line in front of what the filter has seen, and from there on.
    before: &'a [u8],
    rest: &'a [u8],
}

/// What a word may be quoted with, or end with.
const QUOTES: &ByteSet = &ByteSet::of(b"\"'`\\");

impl Line<'_> {
    /// Whether nothing stands in front of it but a prompt, or a quote.
    fn begins(&self) -> bool {
        self.before.iter().all(|b| b" \t>$#".contains(b)) || self.before.last().is_some_and(|b| b"\"'".contains(b))
    }

    /// Whether a command stands in front of it.
    fn follows(&self, command: &[u8]) -> bool {
        memchr::memmem::find(self.before, command).is_some()
    }

    /// `AUTH x`, `AUTH user x`
    fn authenticates(&self, stands: bool) -> Option<Range<usize>> {
        // Where a quote opens in front of it, what the quote closes is all that is said: `"AUTH PLAIN " + response`.
        let quote = self.before.last().filter(|b| b"\"'".contains(b));
        let len = quote.and_then(|quote| memchr::memchr(*quote, self.rest)).unwrap_or(self.rest.len());
        let said = Line { rest: &self.rest[..len], ..*self };
        let word = (stands && self.rest.begins_with(b"AUTH ")).then(|| said.last_of(2)).flatten()?;
        // Behind a mask stands no password: the mask is where it stood.
        (!self.text[self.at..word.start].contains(&b'[')).then_some(word)
    }

    /// The words from here on, with their quotes: where each begins and ends.
    fn words(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            at += self.rest[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
            let start = at;
            let mut quote = None;
            while let Some(byte) = self.rest.get(at) {
                match (quote, byte) {
                    (None, byte) if byte.is_ascii_whitespace() => break,
                    (None, b'"' | b'\'') => quote = Some(*byte),
                    (Some(open), byte) if open == *byte => quote = None,
                    _ => {}
                }
                at += 1;
            }
            (at > start).then_some(self.at + start..self.at + at)
        })
    }

    /// What a word says, without its quotes and what closes something around it.
    fn unquoted(&self, word: Range<usize>) -> Range<usize> {
        let bytes = &self.text[word.clone()];
        let open = bytes.iter().take_while(|b| QUOTES.has(b)).count();
        let quoted = open > 0 && bytes[open..].iter().any(|b| QUOTES.has(b));
        let ends = |b: &u8| QUOTES.has(b) || !quoted && *b == b';';
        let len = bytes[open..].iter().position(ends).unwrap_or(bytes.len() - open);
        let inside = &bytes[open..open + len];
        let len =
            if quoted || inside.contains(&b'(') { len } else { inside.iter().position(|b| *b == b')').unwrap_or(len) };
        word.start + open..word.start + open + len
    }

    /// The n-th word from here on that is no option.
    fn word(&self, nth: usize) -> Option<Range<usize>> {
        let mut words = self.words().filter(|word| !self.text[word.clone()].begins_with(b"-"));
        words.nth(nth).map(|word| self.unquoted(word))
    }

    /// The last of at most so many words behind the first, where the line ends with it.
    fn last_of(&self, most: usize) -> Option<Range<usize>> {
        let words: Vec<Range<usize>> = self.words().skip(1).take(most + 1).collect();
        (words.len() <= most).then(|| words.last().map(|word| self.unquoted(word.clone()))).flatten()
    }

    /// What stands behind the first such sign within a word.
    fn behind(&self, word: Range<usize>, sign: u8) -> Option<Range<usize>> {
        let place = memchr::memchr(sign, &self.text[word.clone()])?;
        (place > 0).then_some(word.start + place + 1..word.end)
    }

    /// A word up to the last such sign, or all of it.
    fn before_last(&self, word: Range<usize>, sign: u8) -> Range<usize> {
        let len = memchr::memrchr(sign, &self.text[word.clone()]).unwrap_or(word.len());
        word.start..word.start + len
    }

    /// What follows the first group of short options that ends with one of these letters: `-su bob:x`.
    fn short_option(&self, command: &str, letters: &[u8]) -> Option<Range<usize>> {
        if !self.rest.starts_with(command.as_bytes()) {
            return None;
        }
        let mut words = self.words();
        let group = |word: &Range<usize>| {
            let option = &self.text[word.clone()];
            let letters = option.last().is_some_and(|last| letters.contains(last));
            letters && option.len() > 1 && option[0] == b'-' && option[1..].iter().all(u8::is_ascii_alphabetic)
        };
        words.find(group)?;
        words.next().map(|word| self.unquoted(word))
    }

    /// The word behind an option.
    fn option(&self, option: &[u8]) -> Option<Range<usize>> {
        let mut words = self.words();
        words.find(|word| &self.text[word.clone()] == option)?;
        words.next().map(|word| self.unquoted(word))
    }

    /// What a program writes once it has read a question: `read_until(b"Password: ")` and `write(b"x\n")`.
    fn answered(&self) -> Option<Range<usize>> {
        let close = memchr::memchr(b')', self.rest)?;
        let prompt = &self.rest[..close];
        [&b"assword"[..], b"assphrase"].iter().find(|word| memchr::memmem::find(prompt, word).is_some())?;
        let behind = self.at + close;
        let reach = &self.text[behind..self.text.len().min(behind + MAX_BEHIND / 2)];
        let calls = [&b"write("[..], b"send(", b"sendall(", b"sendline("];
        let behind_call = |call: &&[u8]| memchr::memmem::find(reach, call).map(|at| at + call.len());
        let open = calls.iter().filter_map(behind_call).min()?;
        let open = open + usize::from(reach.get(open) == Some(&b'b'));
        let slashes = leading_slashes(&reach[open..], 7);
        let quote = *reach.get(open + slashes).filter(|b| b"\"'".contains(b))?;
        let start = open + slashes + 1;
        let len = memchr::memchr(quote, &reach[start..])?;
        let value = without_line_end(&reach[start..start + len]);
        Some(behind + start..behind + start + value.len())
    }

    /// The value of the first cookie that `curl` is given.
    fn cookie(&self) -> Option<Range<usize>> {
        let cookie = self.short_option("curl ", b"b").or_else(|| {
            let mut words = self.words();
            words.find(|word| &self.text[word.clone()] == b"--cookie")?;
            words.next().map(|word| self.unquoted(word))
        })?;
        let value = self.behind(cookie, b'=')?;
        let len = self.text[value.clone()].iter().position(|b| *b == b';').unwrap_or(value.len());
        Some(value.start..value.start + len)
    }

    /// Whether it is what every device has that nobody has set up.
    fn is_known_community(&self, word: &Range<usize>) -> bool {
        matches!(&self.text[word.clone()], b"public" | b"private")
    }

    /// `login attempt [root/x] failed`
    fn attempted(&self) -> Option<Range<usize>> {
        let inside = &self.rest[..memchr::memrchr(b']', self.rest)?];
        let slash = memchr::memchr(b'/', inside)?;
        Some(self.at + slash + 1..self.at + inside.len())
    }

    /// The word that begins with a sign, without it.
    fn marked(&self, sign: u8) -> Option<Range<usize>> {
        let word = self.words().find(|word| self.text[word.start] == sign)?;
        Some(self.unquoted(word.start + 1..word.end))
    }

    /// `secret set … --value x`
    fn secret_value(&self) -> Option<Range<usize>> {
        let sets = [&b"secret set"[..], b"create secret", b"secrets set", b"create-secret", b"put-secret"];
        let parameter =
            || self.follows(b"put-parameter") && memchr::memmem::find(self.before, b"SecureString").is_some();
        if !sets.iter().any(|words| self.follows(words)) && !parameter() {
            return None;
        }
        if let Some(equals) = self.rest.strip_prefix(b"-value=") {
            let len = equals.iter().position(u8::is_ascii_whitespace).unwrap_or(equals.len());
            return Some(self.unquoted(self.at + 7..self.at + 7 + len));
        }
        self.word(0)
    }

    /// What stands from so many bytes on, up to a blank or quote.
    fn up_to_end(&self, from: usize) -> Option<Range<usize>> {
        let rest = self.rest.get(from..)?;
        let len = rest.iter().position(|b| b.is_ascii_whitespace() || QUOTES.has(b)).unwrap_or(rest.len());
        Some(self.at + from..self.at + from + len)
    }

    /// `<<< 'x'`
    fn here_string(&self) -> Option<Range<usize>> {
        let mut words = self.words();
        words.find(|word| &self.text[word.clone()] == b"<<<")?;
        words.next().map(|word| self.unquoted(word))
    }

    /// What `echo` or `printf` gives to the command: `echo x | gh auth login --with-token`.
    fn piped(&self) -> Option<Range<usize>> {
        let pipe = if self.rest.begins_with(b"|") { self.before.len() } else { memchr::memrchr(b'|', self.before)? };
        let said = [&b"echo "[..], b"printf "]
            .iter()
            .find_map(|word| memchr::memmem::rfind(&self.before[..pipe], word).map(|at| at + word.len()))?;
        let start = self.at - self.before.len();
        let echo = Line { at: start + said, rest: &self.before[said..pipe], ..*self };
        let mut words = echo.words().filter(|word| !self.text[word.clone()].begins_with(b"-"));
        let format = |word: &Range<usize>| self.text[word.clone()].contains(&b'%');
        let word = words.find(|word| !format(word))?;
        words.next().is_none().then(|| self.unquoted(word))
    }

    /// Of `x\nx`, as a command is told a new password twice, the first.
    fn first_line(&self, said: Range<usize>) -> Range<usize> {
        let len = memchr::memmem::find(&self.text[said.clone()], b"\\n").unwrap_or(said.len());
        said.start..said.start + len
    }

    /// `reg add HKLM\x /v DefaultPassword /d x`
    fn registered(&self) -> Option<Range<usize>> {
        let mut words = self.words();
        words.find(|word| self.text[word.clone()].eq_ignore_ascii_case(b"/v"))?;
        let name = words.next()?;
        classify(&self.text[name]).filter(|class| class.is_password())?;
        words.find(|word| self.text[word.clone()].eq_ignore_ascii_case(b"/d"))?;
        words.next().map(|word| self.unquoted(word))
    }

    /// `OPENROWSET('SQLNCLI', 'host';'user';'x', …)`
    fn third_field(&self) -> Option<Range<usize>> {
        let mut fields = memchr::memmem::find_iter(self.rest, b"';'").map(|at| at + 3);
        let start = fields.nth(1)?;
        let len = memchr::memchr(b'\'', &self.rest[start..])?;
        Some(self.at + start..self.at + start + len)
    }

    /// `"x" | ConvertTo-SecureString`
    fn quoted_before_pipe(&self) -> Option<Range<usize>> {
        let before = self.before.strip_suffix(b"ConvertT")?.trim_ascii_end().strip_suffix(b"|")?.trim_ascii_end();
        let quote = *before.last().filter(|b| b"\"'".contains(b))?;
        let inside = before[..before.len() - 1].strip_suffix(b"\\").unwrap_or(&before[..before.len() - 1]);
        let open = memchr::memrchr(quote, inside)?;
        let start = self.at - self.before.len();
        Some(start + open + 1..start + inside.len())
    }

    /// What a script sends when it is asked for a password: `expect "assword:"` and `send "x\r"`.
    fn sent(&self) -> Option<Range<usize>> {
        let asked = &self.text[self.from..self.at];
        let prompt = &asked[memchr::memmem::rfind(asked, b"xpect")?..];
        [&b"assword"[..], b"assphrase", b"asscode"].iter().find(|word| memchr::memmem::find(prompt, word).is_some())?;
        let open = self.rest.iter().take(16).position(|b| b"\"'".contains(b))?;
        let between = self.rest[..open].strip_suffix(b"\\").unwrap_or(&self.rest[..open]);
        let is_call = between.closes_with(b"(") || between.closes_with(b"(b");
        if !(is_call || between.closes_with(b" ")) {
            return None;
        }
        let quote = self.rest[open];
        let inside = &self.rest[open + 1..];
        let len = inside.iter().position(|b| *b == quote)?;
        let value = without_line_end(&inside[..len]);
        let start = self.at + open + 1;
        Some(start..start + value.len())
    }
}

/// A text without the keys that end a line, escaped once or more.
fn without_line_end(mut value: &[u8]) -> &[u8] {
    while let Some(shorter) = [&b"\\r"[..], b"\\n", b"\\"].iter().find_map(|end| value.strip_suffix(*end)) {
        value = shorter;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Vec<&str> {
        let (lower, reader) = (text.to_ascii_lowercase(), Reader::new(text.as_bytes()));
        let mut found = Vec::new();
        for (number, command) in COMMANDS.iter().enumerate() {
            let word = command.word.to_ascii_lowercase();
            lower.match_indices(word.as_str()).for_each(|(at, _)| values(&reader, at, number, &mut found));
        }
        found.iter().map(|found| &text[found.range.clone()]).collect()
    }

    #[test]
    fn each_command_gives_its_secret() {
        for text in [
            "curl -sSLu bob:hunter2 https://x.example",
            "curl -su \"bob:hunter2\" https://x.example",
            "aws ssm put-parameter --name n --type SecureString --value 'hunter2'",
            "rabbitmqctl change_password bob hunter2",
            "curl -b 'session=hunter2; a=b' https://x.example",
            "curl --cookie \"sid=hunter2\" https://x.example",
            "schtasks /create /ru bob /rp hunter2 /tn x",
            "lftp -u 'bob,hunter2' ftp.example",
            "rsync --password-file=<(echo hunter2) x y",
            "impdp bob/hunter2 directory=d",
            "ACL SETUSER bob on >hunter2 ~*",
            "ATTACH DATABASE 'e.db' AS e KEY 'hunter2';",
            "redis-cli AUTH hunter2",
            "AUTH default hunter2",
            "cargo login kQ7wErTyUi0pAs",
            "wpa_passphrase home hunter2",
            "ssh-keygen -t rsa -N 'hunter2' -f key",
            "poetry config http-basic.x bob hunter2",
            "skopeo copy --src-creds bob:hunter2 a b",
            "az keyvault secret set --name n --value hunter2",
            "echo \"::add-mask::hunter2\"",
            "kinit bob <<< 'hunter2'",
            "echo hunter2 | gh auth login --with-token",
            "printf '%s' 'hunter2' | gcloud secrets versions add x --data-file=-",
            "expect \"assword:\"\nsend \"hunter2\\r\"",
            "child.expect('Password:')\nchild.sendline('hunter2')",
        ] {
            let expected = if text.contains("cargo") { "kQ7wErTyUi0pAs" } else { "hunter2" };
            assert_eq!(taken(text), [expected], "{text}");
        }
    }

    #[test]
    fn commands_without_a_secret_give_none() {
        for text in [
            "curl -su \"$USER:$PASS\" https://x.example",
            "curl -sb cookies.txt https://x.example",
            "AUTH TLS",
            "ATTACH DATABASE 'e.db' AS e KEY ?",
            "client.docmd(\"AUTH PLAIN \" + response)",
            "aws ssm put-parameter --name n --type String --value 'hunter2'",
            "cargo login --registry mine",
            "echo $TOKEN | gh auth login --with-token",
            "expect \"(yes/no)?\"\nsend \"yes\\r\"",
            "expect \"Password:\"\nsend \"$password\\r\"",
            "child.sendline('ls -la')",
            "az keyvault secret show --value x",
        ] {
            assert_eq!(taken(text), [""; 0], "{text}");
        }
    }
}
