//! The line of a command: its words, its options, and the places where commands and statements put a secret.

use std::ops::Range;

use super::byte_set::ByteSet;
use super::escapes::leading_slashes;
use super::literals::Literals as _;
use super::names::{Class, classify};

/// How far a line is read in front of what the filter has seen, and behind it.
pub const MAX_BEFORE: usize = 200;
pub const MAX_BEHIND: usize = 300;

/// The line of a command.
pub struct Line<'a> {
    pub text: &'a [u8],
    pub at: usize,
    /// How far back the text may be read.
    pub from: usize,
    /// The line in front of what the filter has seen, and from there on.
    pub before: &'a [u8],
    pub rest: &'a [u8],
}

/// Commands that read a secret from what they are given.
#[rustfmt::skip]
const READING: &[&[u8]] = &[
    b"kinit ", b"sudo -S", b"cryptsetup ", b"passwd ", b"keepassxc-cli ", b"pass insert ", b"secret-tool ", b"docker login ", b"htpasswd ",
    b"gh auth ", b"gh secret ", b"env add ", b"openconnect ", b"--with-token", b"read -s", b"secrets create ", b"versions add ",
];
/// What a word may be quoted with, or end with.
const QUOTES: &ByteSet = &ByteSet::of(b"\"'`\\");

impl Line<'_> {
    /// Whether nothing stands in front of it but a prompt, or a quote.
    pub fn begins(&self) -> bool {
        self.before.iter().all(|b| b" \t>$#".contains(b)) || self.before.last().is_some_and(|b| b"\"'".contains(b))
    }

    /// Whether a command stands in front of it.
    pub fn follows(&self, command: &[u8]) -> bool {
        memchr::memmem::find(self.before, command).is_some()
    }

    /// `AUTH x`, `AUTH user x`
    pub fn authenticates(&self, stands: bool) -> Option<Range<usize>> {
        // Where a quote opens in front of it, what the quote closes is all that is said: `"AUTH PLAIN " + response`.
        let quote = self.before.last().filter(|b| b"\"'".contains(b));
        let len = quote.and_then(|quote| memchr::memchr(*quote, self.rest)).unwrap_or(self.rest.len());
        let said = Line { rest: &self.rest[..len], ..*self };
        let word = (stands && self.rest.begins_with(b"AUTH ")).then(|| said.last_of(2)).flatten()?;
        // Behind a mask stands no password: the mask is where it stood.
        (!self.text[self.at..word.start].contains(&b'[')).then_some(word)
    }

    /// The words from here on, with their quotes: where each begins and ends.
    pub fn words(&self) -> impl Iterator<Item = Range<usize>> + '_ {
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
    pub fn unquoted(&self, word: Range<usize>) -> Range<usize> {
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
    pub fn word(&self, nth: usize) -> Option<Range<usize>> {
        let mut words = self.words().filter(|word| !self.text[word.clone()].begins_with(b"-"));
        words.nth(nth).map(|word| self.unquoted(word))
    }

    /// The last of at most so many words behind the first, where the line ends with it.
    pub fn last_of(&self, most: usize) -> Option<Range<usize>> {
        let words: Vec<Range<usize>> = self.words().skip(1).take(most + 1).collect();
        (words.len() <= most).then(|| words.last().map(|word| self.unquoted(word.clone()))).flatten()
    }

    /// What stands behind the first such sign within a word.
    pub fn behind(&self, word: Range<usize>, sign: u8) -> Option<Range<usize>> {
        let place = memchr::memchr(sign, &self.text[word.clone()])?;
        (place > 0).then_some(word.start + place + 1..word.end)
    }

    /// A word up to the last such sign, or all of it.
    pub fn before_last(&self, word: Range<usize>, sign: u8) -> Range<usize> {
        let len = memchr::memrchr(sign, &self.text[word.clone()]).unwrap_or(word.len());
        word.start..word.start + len
    }

    /// What follows the first group of short options that ends with one of these letters: `-su bob:x`.
    pub fn short_option(&self, command: &str, letters: &[u8]) -> Option<Range<usize>> {
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
    pub fn option(&self, option: &[u8]) -> Option<Range<usize>> {
        let mut words = self.words();
        words.find(|word| &self.text[word.clone()] == option)?;
        words.next().map(|word| self.unquoted(word))
    }

    /// What a program writes once it has read a question: `read_until(b"Password: ")` and `write(b"x\n")`.
    pub fn answered(&self) -> Option<Range<usize>> {
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
    pub fn cookie(&self) -> Option<Range<usize>> {
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
    pub fn is_known_community(&self, word: &Range<usize>) -> bool {
        matches!(&self.text[word.clone()], b"public" | b"private")
    }

    /// `login attempt [root/x] failed`, `login attempt [b'root'/b'x'] succeeded`
    pub fn attempted(&self) -> Option<Range<usize>> {
        let outcome = |end: &[u8]| memchr::memmem::find(self.rest, end);
        let close = outcome(b"] failed").or_else(|| outcome(b"] succeeded"));
        let inside = &self.rest[..close.or_else(|| memchr::memchr(b']', self.rest))?];
        let slash = memchr::memchr(b'/', inside)?;
        let value = self.at + slash + 1..self.at + inside.len();
        let bytes = self.text[value.clone()].strip_prefix(b"b'").and_then(|bytes| bytes.strip_suffix(b"'"));
        Some(bytes.map_or(value.clone(), |_| value.start + 2..value.end - 1))
    }

    /// The word that begins with a sign, without it.
    pub fn marked(&self, sign: u8) -> Option<Range<usize>> {
        let word = self.words().find(|word| self.text[word.start] == sign)?;
        Some(self.unquoted(word.start + 1..word.end))
    }

    /// `secret set … --value x`
    pub fn secret_value(&self) -> Option<Range<usize>> {
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
    pub fn up_to_end(&self, from: usize) -> Option<Range<usize>> {
        let rest = self.rest.get(from..)?;
        let len = rest.iter().position(|b| b.is_ascii_whitespace() || QUOTES.has(b)).unwrap_or(rest.len());
        Some(self.at + from..self.at + from + len)
    }

    /// `kinit bob <<< 'x'`
    pub fn here_string(&self) -> Option<Range<usize>> {
        // With the blank that ends the command where nothing else stands between.
        let before = &self.text[self.at - self.before.len()..=self.at];
        let reads = READING.iter().any(|command| memchr::memmem::find(before, command).is_some());
        reads.then(|| self.word(1)).flatten()
    }

    /// `consul kv put app/db/password x`: the last part of the place is a name.
    pub fn put_at_name(&self) -> Option<Range<usize>> {
        let place = &self.text[self.word(2)?];
        let name = place.rsplit(|b| *b == b'/').next().unwrap_or_default();
        classify(name).filter(|class| class.is_password())?;
        self.word(3)
    }

    /// `radius-server host x key y`, `crypto isakmp key 0 y`: what stands behind the word, and behind the number of its form.
    pub fn behind_key(&self) -> Option<Range<usize>> {
        let mut words = self.words();
        words.find(|word| &self.text[word.clone()] == b"key")?;
        let first = words.next()?;
        let form = matches!(&self.text[first.clone()], [b'0' | b'6' | b'7']);
        (if form { words.next() } else { Some(first) }).map(|word| self.unquoted(word))
    }

    /// The line behind the next, alone: `auth-user-pass`, the user and the password of OpenVPN.
    pub fn second_line_below(&self) -> Option<Range<usize>> {
        if !self.rest[9..].iter().all(|b| *b == b'>' || b.is_ascii_whitespace()) {
            return None;
        }
        let reach = &self.text[self.at..self.text.len().min(self.at + MAX_BEHIND)];
        let mut starts = memchr::memchr_iter(b'\n', reach).map(|end| end + 1);
        let (user, password) = (starts.next()?, starts.next()?);
        let line = self.whole_line(self.at + password, self.at + reach.len())?;
        let named = reach[user..password].trim_ascii().iter().all(|b| b.is_ascii_graphic());
        (named && !line.contains(&b' ')).then_some(self.at + password..self.at + password + line.len())
    }

    /// The line from a place on, if it ends before what may be read does.
    fn whole_line(&self, at: usize, reach: usize) -> Option<&[u8]> {
        let line = &self.text[at..reach];
        let end = memchr::memchr(b'\n', line).or_else(|| (reach == self.text.len()).then_some(line.len()))?;
        Some(line[..end].trim_ascii_end())
    }

    /// `Default: x` beside `NoEcho: true` in a template of CloudFormation.
    pub fn default_nearby(&self) -> Option<Range<usize>> {
        let reach = &self.text[self.from..self.text.len().min(self.at + MAX_BEHIND / 2)];
        let here = self.at - self.from;
        let places = memchr::memmem::find_iter(reach, b"Default: ");
        let start = places.min_by_key(|place| place.abs_diff(here))? + 9;
        let line = self.whole_line(self.from + start, self.from + reach.len())?;
        Some(self.unquoted(self.from + start..self.from + start + line.len()))
    }

    /// `1683021072.1 [0 10.0.0.1:5] "AUTH" "default" "x"`, as Redis says what it is told.
    pub fn watched(&self) -> Option<Range<usize>> {
        let slashes = leading_slashes(self.before.strip_suffix(b"] ").map_or(b"", |_| &self.rest[5..]), 7);
        (self.before.closes_with(b"] ") && self.rest[5 + slashes..].begins_with(b"\""))
            .then(|| self.last_of(2))
            .flatten()
    }

    /// Whether the tag of a command of IMAP stands in front: `A1 LOGIN bob x`.
    pub fn follows_tag(&self) -> bool {
        let tag = self.before.rsplit(|b| *b == b' ').next().unwrap_or_default();
        let letters = tag.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let digits = &tag[letters..];
        let number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        self.rest.begins_with(b" LOGIN ") && letters < 5 && number && tag.len() < 9
    }

    /// `bind("cn=admin,dc=example,dc=org", "x")`: the literal behind the name in a directory.
    pub fn behind_directory(&self) -> Option<Range<usize>> {
        let of_name = |b: &u8| b.is_ascii_alphanumeric() || b"=,.-_".contains(b);
        let len = self.rest.iter().take_while(|b| of_name(b)).count();
        let begins = |word: &[u8]| self.before.len() > 3 && memchr::memmem::find(self.before, word).is_some();
        if !(begins(b"cn=") || begins(b"CN=") || begins(b"uid=")) {
            return None;
        }
        let slashes = leading_slashes(&self.rest[len..], 7);
        let quote = *self.rest.get(len + slashes).filter(|b| b"\"'".contains(b))?;
        let behind = self.rest[len + slashes + 1..].strip_prefix(b", ")?;
        let opens = behind.get(leading_slashes(behind, 7)) == Some(&quote);
        let word = Line { at: self.at + self.rest.len() - behind.len(), rest: behind, ..*self };
        let first = opens.then(|| word.words().next()).flatten()?;
        Some(word.unquoted(first))
    }

    /// `/v DefaultPassword /t REG_SZ`, which ends here.
    pub fn is_registered_before(&self) -> bool {
        let before = self.before.strip_suffix(b"/t ").unwrap_or_default().trim_ascii_end();
        let name = before.rsplit(|b| *b == b' ').next().unwrap_or_default();
        before[..before.len() - name.len()].closes_with(b"/v ") && classify(name).is_some_and(is_told_to_system)
    }

    /// What `echo` or `printf` gives to the command: `echo x | gh auth login --with-token`.
    pub fn piped(&self) -> Option<Range<usize>> {
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

    /// Of `x\nx`, as a command is told a new password twice, all; of other lines the first.
    pub fn first_line(&self, said: Range<usize>) -> Range<usize> {
        let lines = without_line_end(&self.text[said.clone()]);
        let len = memchr::memmem::find(lines, b"\\n").unwrap_or(lines.len());
        let twice = lines.get(len + 2..).is_some_and(|second| second == &lines[..len]);
        said.start..said.start + if twice { lines.len() } else { len }
    }

    /// `reg add HKLM\x /v DefaultPassword /d x`
    pub fn registered(&self) -> Option<Range<usize>> {
        let mut words = self.words();
        words.find(|word| self.text[word.clone()].eq_ignore_ascii_case(b"/v"))?;
        let name = words.next()?;
        classify(&self.text[name]).filter(|class| is_told_to_system(*class))?;
        words.find(|word| self.text[word.clone()].eq_ignore_ascii_case(b"/d"))?;
        words.next().map(|word| self.unquoted(word))
    }

    /// `OPENROWSET('SQLNCLI', 'host';'user';'x', …)`
    pub fn third_field(&self) -> Option<Range<usize>> {
        let mut fields = memchr::memmem::find_iter(self.rest, b"';'").map(|at| at + 3);
        let start = fields.nth(1)?;
        let len = memchr::memchr(b'\'', &self.rest[start..])?;
        Some(self.at + start..self.at + start + len)
    }

    /// `"x" | ConvertTo-SecureString`
    pub fn quoted_before_pipe(&self) -> Option<Range<usize>> {
        let before = self.before.strip_suffix(b"ConvertT")?.trim_ascii_end().strip_suffix(b"|")?.trim_ascii_end();
        let quote = *before.last().filter(|b| b"\"'".contains(b))?;
        let inside = before[..before.len() - 1].strip_suffix(b"\\").unwrap_or(&before[..before.len() - 1]);
        let open = memchr::memrchr(quote, inside)?;
        let start = self.at - self.before.len();
        Some(start + open + 1..start + inside.len())
    }

    /// What a script sends when it is asked for a password: `expect "assword:"` and `send "x\r"`.
    pub fn sent(&self) -> Option<Range<usize>> {
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

/// Whether a setting of a system that has a name of this class holds a secret.
fn is_told_to_system(class: Class) -> bool {
    class.is_password() || matches!(class, Class::Secret | Class::Key | Class::Token)
}

/// A text without the keys that end a line, escaped once or more.
fn without_line_end(mut value: &[u8]) -> &[u8] {
    while let Some(shorter) = [&b"\\r"[..], b"\\n", b"\\"].iter().find_map(|end| value.strip_suffix(*end)) {
        value = shorter;
    }
    value
}
