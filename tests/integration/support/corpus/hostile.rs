//! What an attacker may repeat: words that rules look for, openers, quotes and separators, alone and joined.

use super::random::Random;

/// The parts that hostile text is made of.
#[rustfmt::skip]
pub const PARTS: &[&str] = &[
    "password", "token", "api_key", "secret", "authorization", "cookie", "bearer", "identified", "identified by ",
    "pin", "key", "auth", "values", "default", "value", "name", "user", "or", "curl -u", "mysql -p", "رمز", "رمز عبور",
    "密码", "mot de passe", "signature", "response=", "BEGIN PRIVATE KEY", "MIIE", "Private-Lines: 8", "http://",
    "://a:b@", "@", "a@b.co", "=", ":", ":=", "==", "->", "=>", ",", ";", "(", ")", "[", "]", "{", "}", "<", ">",
    "</", "<![CDATA[", "\"", "'", "`", "\\\"", "\\", "\"\"\"", "“", "\n", " ", "  ", "\n  ", "\n- ", "|", "&", "?",
    "%41", "%22", "%", "&#65;", "\\u0041", "\\n", "\u{200b}", "\u{1b}[0m", "$", "${", "{{", "-", "--", "-p ", "#",
    "/", "//", "4111 ", "4111-", "4111", "1", "a", "A", "x.", "eyJ", "eyJhbGci.", "ghp_", "sk-", "AKIA", "xoxb-",
    "hooks.slack.com/services/T", "sig=", "Zm9vIGJhciBiYXo", "Zm9vIGJhciBiYXogcXV4IHF1dXggY29yZ2U=", "DE89",
    "DE89 3704 ", "+", "*", "!", "!!str ", "&a ", "is ", ".get(", "[email]", "%5B", "۱۲۳", "token value: ",
    "(password) values (", "pass:", "chpasswd", "curl ", "AUTH ", "send \"", "expect ", "(echo ", " | ", "log in ", "<<< ",
    "--value ", "put-parameter ", "SecureString ", "change_password ", "lambda: ", "keys:", "VALUES (?, ?)", "password?", "it's ",
    "setx ", "Github(", "Bot(", "Client(", "«", "است", "lautet ", "\\u001b[0m", "\\\\u001b[0m", "creds: a / ", "SET PASSWORD FOR 'a' = ",
    "account.key.", " <<< ", "| kinit", "auth-user-pass\n", "NoEcho: true", "Default: ", "\"AUTH", "] \"AUTH\" ", "A1 LOGIN ", ",dc=", "cn=",
    "| password |\n", "|| password ||\n", "password........", "password (", "password to go on:\n", "params={\"key", "\"username\",\"key\":",
    "(key='", "binding parameter [1] as [", "Parameters: ", "PARAMETERS: [", "password=? ", "(password) values (?)", "{\"value\": ", "{code",
    "#password\", ", "[name=password]').type(", "_field.send_keys(", "host= password=", ".toCharArray()", "A1A1A1A1A1A1A1A1A1A1A1A1", "aaaaaaaaaaaaaaaaaaaaaaaa.",
];

/// Texts that were slow once.
#[rustfmt::skip]
pub const KNOWN: &[&str] = &[
    "name: token value: ", "cookie,", "cookie=>", "cookie=a;", "cookie,=;", "token,", "(pin,", "auth ", "pin=", "token|",
    "mysql -p%41", "mysql -p", "password=x", "password=x\n", "keykey", "(password) values ('x','(password) values (1'),",
    "(password,token) values (1),", "user, password = ", "x -> password ", "\"secret\",", "{\"password\":[",
    "{\"a\":\"\\n", "password,x\n", "print('password:',", "password == strcmp(password, '", "Authorization: Bearer ", "Authorization: a=b, ", "http://a:b@c/ ", "token = f(", "password: |\n",
    "parolă:MD_here,", "סיסמה:Charset:else,", "\n'`token(", "\n\"credentials(", " ('passcode'", "s\\pass:", "*:", "@:", "<password ", "\n- keys:",
    "4111 1111 1111 1111(  ", "my-password:%41,", "password=?,", "password?\n",
    "my-password:%252541,", "\n  auth:", "my_password = x\n", "name:pin: ", "\\u001b[0m\npass:", "%2541\\pin=",
    "the password is still ",
    "log in as root with password ", "user bob, pass ", "2026-03-01 08:00:00 token=x9K2mQ7w&a=1 ",
];

/// Names, and a run behind all of them that each of them must not read anew.
#[rustfmt::skip]
pub const TAILS: &[(&str, &str)] = &[
    ("password=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "."), ("pin: ", " "), ("pin: | ", " "),
    ("password=x ", " "), ("<password ", " "), ("secret_file << ", " "), ("token(", "'"), ("رمز: ", "a"), ("a@", "/"),
    ("password='", "\\"), ("Authorization: x ", " "), ("cookie: a=b; ", " "), ("curl -u a:b ", "x"), ("password,", "\n"),
];

/// Every part alone, the texts that were slow once, and of all pairs and triples as many as asked for.
pub fn pieces(pairs: usize, triples: usize) -> Vec<String> {
    let mut random = Random::new(11);
    let mut pieces: Vec<String> = PARTS.iter().chain(KNOWN).map(|part| (*part).to_owned()).collect();
    let mut joined = |count: usize, parts: usize| {
        for _ in 0..count {
            pieces.push((0..parts).map(|_| *random.pick(PARTS)).collect());
        }
    };
    joined(pairs, 2);
    joined(triples, 3);
    pieces
}
