//! Secrets at places that one command or statement gives them: `curl -su user:x`, `schtasks /rp x`, `ACL SETUSER bob >x`.
//!
//! Each has a line in [`COMMANDS`]: what the filter looks for, what else must stand nearby, and where the secret is.

use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;

use super::assign::{Found, Role, may_be_secret};
use super::lines::{Line, MAX_BEFORE, MAX_BEHIND};
use super::names::Class;
use super::random::is_random;
use super::reader::Reader;
use super::rules::CREDENTIAL;

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
    command(" <<< ", "<<< ", |line| line.here_string()),
    command("th-token", "gh auth", |line| line.piped()),
    command("ile=-", "|", |line| line.piped()),
    command("dev/stdin", "kubectl", |line| line.piped()),
    command("| kinit", "|", |line| line.piped()),
    command("| smbpasswd", "|", |line| line.piped().map(|said| line.first_line(said))),
    command("| cryptsetup", "|", |line| line.piped()),
    command("| docker secret", "create ", |line| line.piped()),
    command("ssl passwd ", "openssl passwd ", |line| line.word(2)),
    command("ne obscure ", "rclone obscure ", |line| line.word(2)),
    command("open -u ", "lftp ", |line| line.word(1).and_then(|login| line.behind(login, b','))),
    command("to_passwd ", " -b ", |line| line.word(3)),
    command("snmp", " -c ", |line| line.option(b"-c").filter(|word| !line.is_known_community(word))),
    command("alias set ", "mc alias ", |line| line.word(5)),
    command("drush upwd ", "drush upwd ", |line| line.word(3)),
    command("bw login ", "bw login ", |line| line.word(3)),
    command("ic-password ", " -w ", |line| line.option(b"-w")),
    command("et-password ", " -w ", |line| line.option(b"-w")),
    perhaps("ice install ", "cloudflared ", |line| line.word(2)),
    command("kv put ", "consul ", |line| line.put_at_name()),
    command("ctl put ", "etcdctl ", |line| line.put_at_name()),
    command("ncftp", " -p ", |line| line.option(b"-p")),
    command("ftp> user ", "ftp> user ", |line| line.word(3)),
    command("| passwd", "|", |line| line.piped().map(|said| line.first_line(said))),
    command("reg add ", " /d ", |line| line.registered()),
    command("reg_sz /d ", "/v ", |line| line.is_registered_before().then(|| line.word(2)).flatten()),
    command("enrowset", ";'", |line| line.third_field()),
    command(" on >", "user ", |line| line.marked(b'>')),
    command("]:587 ", ":", |line| line.word(1).and_then(|login| line.behind(login, b':'))),
    command("send ", "xpect", |line| line.sent()),
    command("endline(", "xpect", |line| line.sent()),
    command("munity ", "snmp-server", |line| line.word(1).filter(|word| !line.is_known_community(word))),
    command("ocommunity ", "ocommunity ", |line| line.word(1).filter(|word| line.before == b"r" && !line.is_known_community(word))),
    command("wcommunity ", "wcommunity ", |line| line.word(1).filter(|word| line.before == b"r" && !line.is_known_community(word))),
    command("eateuser ", "createUser ", |line| line.option(b"SHA").or_else(|| line.option(b"MD5"))),
    command("akmp key ", "isakmp key ", |line| line.behind_key()),
    command("s-server ", " key ", |line| line.behind_key()),
    command("auth-pass ", "sentinel ", |line| line.word(2)),
    perhaps("user-pass", "user-pass", |line| line.second_line_below()),
    command("oEcho: true", "Default: ", |line| line.default_nearby()),
    command("\"AUTH", "] ", |line| line.watched()),
    command(" LOGIN ", " LOGIN ", |line| line.follows_tag().then(|| line.last_of(3)).flatten()),
    perhaps(",dc=", "dc=", |line| line.behind_directory()),
    command("ats auth ", ":", |line| line.word(2).and_then(|login| line.behind(login, b':'))),
    command("ar.login=", "sonar", |line| line.up_to_end(9)),
    command("ogin attempt ", " [", |line| line.attempted()),
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
            "cryptsetup luksOpen /dev/sdb1 data <<< \"hunter2\"",
            "echo 'hunter2' | kinit bob",
            "printf 'hunter2' | docker secret create db_password -",
            "openssl passwd -6 hunter2",
            "rclone obscure 'hunter2'",
            "lftp -e 'open -u bob,hunter2 files; ls'",
            "mosquitto_passwd -b /etc/passwd bob hunter2",
            "snmpwalk -v2c -c hunter2 10.0.0.1",
            "mc alias set lake https://minio:9000 minio hunter2",
            "security add-generic-password -a bob -w hunter2",
            "consul kv put app/db/password hunter2",
            "HKLM\\Software\\X /v Password /t REG_SZ /d \"hunter2\" /f",
            "rocommunity hunter2",
            "createUser bob SHA \"hunter2\" AES",
            "radius-server host 10.0.0.2 key 0 hunter2",
            "sentinel auth-pass mymaster hunter2",
            "auth-user-pass\nbob\nhunter2",
            "Default: hunter2\nNoEcho: true",
            "1683021072.1 [0 10.0.0.1:5] \"AUTH\" \"bob\" \"hunter2\"",
            "C: A1 LOGIN bob hunter2",
            "Connection(server, 'cn=admin,dc=example', 'hunter2')",
            "login attempt [root/hunter2] failed [2 of 3]",
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
            "snmpwalk -v2c -c public 10.0.0.1",
            "consul kv put app/db/host hunter2",
            "sudo tee /etc/motd <<< 'hunter2'",
            "search('dc=example,dc=org', '(uid=bob)')",
            "auth-user-pass /etc/openvpn/auth.txt\nproto udp\nremote7",
            "user LOGIN bob hunter2",
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
