//! Passwords of letters alone in sentences: told from what is said of a password by the word, by what leads to it, and by
//! what follows it.

use std::ops::Range;

use super::Finder;
use super::operator::{Operator, Sign};
use super::secret::Role;
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::Class;
use crate::codec::redaction::values::is_mixed;

/// The shortest and the longest word that is taken for a password.
const SHORTEST: usize = 5;
const LONGEST: usize = 24;
/// How far in front of a name the user is looked for.
const MAX_BEFORE: usize = 64;

/// Words that sentences say of a password, or what one needs it for, in order.
#[rustfmt::skip]
const SAID_OF: &[&str] = &[
    "abgelaufen", "about", "above", "absent", "access", "actually", "after", "again", "almost", "alphanumeric",
    "already", "although", "always", "anders", "another", "anyone", "anything", "anyway", "apply", "argument",
    "arguments", "attempt", "attempts", "authenticate", "authentication", "authorization", "available", "avoid",
    "backend", "based", "because", "before", "being", "bekannt", "below", "better", "between", "blank", "boolean",
    "breach", "broken", "brute", "built", "bytes", "caducado", "callback", "certainly", "change", "changes",
    "character", "characters", "check", "checks", "chosen", "class", "clear", "cleartext", "client", "column",
    "complete", "completely", "complex", "complexity", "comply", "confidential", "confirm", "connect", "consistent",
    "constant", "continue", "correct", "correcta", "correcte", "correctes", "correctly", "correta", "corretta",
    "cracker", "create", "credentials", "critical", "crypt", "current", "currently", "database", "debil", "debole",
    "decrypt", "default", "definitely", "delete", "dialog", "diferente", "different", "difficult", "digits",
    "disable", "distinta", "diversa", "drawn", "during", "dynamic", "either", "email", "empty", "enable", "encoded",
    "encrypt", "encryption", "enough", "ensure", "entirely", "entry", "equal", "equivalent", "erforderlich",
    "errata", "everyone", "everything", "evident", "exactly", "example", "expiry", "faible", "fails", "failure",
    "failures", "falsch", "falsche", "false", "fausse", "feature", "field", "fields", "files", "following",
    "forgotten", "format", "forms", "forte", "found", "fresh", "frozen", "fuerte", "fuertes", "fully", "function",
    "geheim", "generator", "generators", "gesetzt", "gespeichert", "giusta", "given", "gleich", "global", "grant",
    "hashes", "hashing", "hidden", "hints", "history", "identical", "identifiable", "identique", "identisch",
    "ignored", "igual", "important", "impossible", "incomplete", "inconsistent", "incorrect", "incorrecta",
    "incorrecte", "incorrects", "incorreta", "indeed", "input", "insecure", "insufficient", "integer", "invalid",
    "invalide", "irrelevant", "keychain", "keyring", "known", "korrekt", "larger", "latest", "leaks", "length",
    "lengths", "lenient", "letters", "likely", "lists", "literally", "local", "localhost", "login", "logins",
    "longer", "manager", "mandatory", "match", "maybe", "merely", "method", "missing", "module", "modules", "mostly",
    "nearly", "necesaria", "necesario", "necessaria", "necessary", "neither", "never", "nothing", "notwendig",
    "nulla", "nullable", "number", "numbers", "numeric", "obbligatoria", "object", "obligatoire", "obligatoria",
    "obligatorio", "obrigatoria", "obsolete", "obvious", "often", "option", "optional", "options", "others", "oubli",
    "outdated", "output", "parameter", "parameters", "partly", "passcode", "passphrase", "password", "passwords",
    "paths", "perdu", "perhaps", "permanent", "pflicht", "phone", "plain", "plainly", "plaintext", "policies",
    "policy", "possible", "possibly", "present", "prevent", "private", "probably", "proceed", "prompt", "prompts",
    "protect", "protection", "prove", "public", "quite", "random", "rarely", "rather", "ready", "really", "recent",
    "recover", "recovery", "regain", "relevant", "remove", "requerida", "requerido", "requis", "requise", "reset",
    "resets", "restore", "richtig", "right", "rotation", "roughly", "rules", "saved", "sbagliata", "scaduta",
    "schwach", "screen", "secret", "secreta", "secreto", "secrets", "secure", "segreta", "segura", "sensitive",
    "server", "short", "shorter", "shown", "sicher", "sicura", "similar", "simple", "simply", "since", "smaller",
    "someone", "something", "sometimes", "stable", "stale", "stark", "static", "still", "stolen", "storage", "store",
    "stored", "strength", "strict", "string", "strings", "strong", "stronger", "subject", "support", "symbols",
    "system", "table", "taken", "temporary", "theirs", "there", "though", "thrown", "token", "tokens", "trivial",
    "twice", "uguale", "unable", "unavailable", "undefined", "under", "unequal", "unique", "unknown", "unless",
    "unlikely", "unlock", "unsafe", "unset", "unsicher", "until", "unused", "update", "username", "users", "usually",
    "valid", "valida", "valide", "value", "values", "vaults", "vazia", "vergessen", "verify", "verloren", "visible",
    "vuota", "weaker", "whatever", "where", "while", "words", "works", "worse", "written", "wrong", "yours",
    "zwingend",
];

/// How words end that say what something is, or what was done with it.
const ENDINGS: &[&[u8]] = &[
    b"ed", b"ing", b"able", b"ible", b"less", b"ful", b"ous", b"ive", b"ory", b"ary", b"tion", b"ment", b"ly", b"ent",
    b"ant",
];

/// What a sentence goes on with behind a password that it has said.
#[rustfmt::skip]
const GOING_ON: &[&[u8]] = &[
    b"(", b":", b"-", b"<", b"|", b"if ", b"for ", b"on ", b"and ", b"but ", b"in ", b"at ", b"now", b"btw", b"please", b"again", b"yesterday",
    b"today", b"tonight", b"until ", b"since ", b"back ", b"fails", b"failed", b"works", b"neither", b"as ", b"so ", b"und ", b"aber ", b"et ",
    b"mais ", b"y ", b"pero ", b"e ", b"mas ", b"ma ", b"bitte", b"pour ", b"para ", b"per ",
];

/// Verbs that say what a password is.
#[rustfmt::skip]
const SAYING: &[&str] = &[" is", " was", " are", " ist", " lautet", " war", " est", " es", " é", " è", " era", " jest", " to", "'s", "’s"];

/// Words between such a verb and the password.
#[rustfmt::skip]
const ADVERBS: &[&str] = &[
    "still ", "now ", "just ", "currently ", "simply ", "always ", "probably ", "literally ", "set to ", "again ", "jetzt ", "noch ",
    "weiterhin ", "immer ", "toujours ", "maintenant ", "ahora ", "siempre ", "agora ", "adesso ", "ancora ",
];

/// Who changed a password says what it is now.
const CHANGED: &[&[u8]] = &[b"changed ", b"Changed ", b"reset ", b"rotated ", b"updated ", b"switched ", b"set "];

/// How somebody is told to use a password, or what was done with it.
const TELLING: &[&[u8]] =
    &[b" with ", b" using ", b" tried ", b"use ", b"Use ", b"using the ", b"with the ", b"use the ", b"Use the "];

/// What stands in front of a name whose value a sentence quotes.
const QUOTING: &[&[u8]] = &[b"with ", b"using ", b"use ", b"try ", b"tried ", b"nvalid ", b"rong ", b"bad ", b"weak "];
/// What stands between a user and the name of the password.
#[rustfmt::skip]
const JOINING: &[&[u8]] = &[
    b" and the ", b" and ", b", the ", b", ", b" with the ", b" with ", b" / ", b" using ", b" und ", b" und dem ", b" mit dem ", b" et le ", b" y la ",
];

/// What stands in front of a user.
#[rustfmt::skip]
const INTRODUCING: &[&str] = &[
    "user ", "User ", "username ", "Username ", "login ", "Login ", "account ", "user: ", "username: ", "login: ", "User: ", "Username: ",
    "Login: ", " in as ", " in with ", "Benutzer ", "utilisateur ", "usuario ", "логин ", "пользователь ", "用户 ", "用户名 ", "کاربر ", "کاربری ",
    "kullanıcı ", "kullanıcı adı ", "użytkownik ", "gebruiker ", "utente ", "المستخدم ",
];

/// Users whom nobody needs to introduce.
const KNOWN_USERS: &[&[u8]] = &[b"admin", b"administrator", b"root", b"guest", b"demo", b"test", b"postgres", b"sa"];

/// Whether a word may be a password where a sentence says one: letters alone, perhaps with a cry at the end, and nothing that is
/// said of passwords.
pub(super) fn is_chosen(value: &[u8]) -> bool {
    let cries = value.iter().rev().take(3).take_while(|b| **b == b'!').count();
    let word = &value[..value.len() - cries];
    if !(SHORTEST..=LONGEST).contains(&word.len()) || !word.iter().all(u8::is_ascii_alphabetic) {
        return false;
    }
    let lower = word.to_ascii_lowercase();
    let said = ENDINGS.iter().any(|ending| lower.ends_with(ending)) && !lower.ends_with(b"fly");
    !said && SAID_OF.binary_search_by(|known| known.as_bytes().cmp(&lower)).is_err()
}

/// Whether a sentence ends behind a word, or goes on as it does behind a password.
pub(super) fn ends_saying(rest: &[u8]) -> bool {
    let ends = |rest: &[u8]| {
        rest.first().is_none_or(|b| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`)*\\<") }.has(b))
    };
    match rest {
        [b'.' | b',' | b';' | b'!', rest @ ..] => ends(rest),
        [b' ', rest @ ..] => {
            rest.first().is_some_and(|b| *b >= 0xE2) || GOING_ON.iter().any(|word| rest.starts_with(word))
        }
        _ => ends(rest),
    }
}

/// Where the adverbs end that stand in front of a password: `is still x`, `is set to x`.
pub(super) fn past_adverbs(text: &[u8], mut at: usize) -> usize {
    for _ in 0..2 {
        let word = super::blanks(text, at);
        match ADVERBS.iter().find(|adverb| text[word..].starts_with(adverb.as_bytes())) {
            Some(adverb) => at = word + adverb.len() - 1,
            None => break,
        }
    }
    at
}

impl Finder<'_, '_> {
    /// `log in as bob with the password "x"`: a word between quotes that a sentence tells somebody.
    pub(super) fn is_quoted_to_somebody(&self, value: &[u8], operator: &Operator) -> bool {
        let before = &self.text[..self.name.range.start];
        let told = || QUOTING.iter().any(|word| before.ends_with(word));
        operator.sign == Sign::Space
            && self.name.class.is_password()
            && self.name.quotes.is_none()
            && (told() || self.is_behind_login())
            && is_chosen(value)
    }

    /// Whether a word of letters is what a sentence says the password is.
    pub(super) fn is_told(&self, range: &Range<usize>, operator: &Operator, role: Role) -> bool {
        let value = &self.text[range.clone()];
        let told = || self.is_behind_login() || range.start == self.name.end + 1 && self.is_told_to_use();
        matches!(role, Role::Mention | Role::Word)
            && (operator.mentions || operator.sign == Sign::Space)
            && self.name.class.is_password()
            && (is_chosen(value) || value.len() >= SHORTEST && is_mixed(value))
            && ends_saying(&self.text[range.end..])
            && (operator.mentions && self.is_said(range) || told())
    }

    /// `log in with password x`
    fn is_told_to_use(&self) -> bool {
        let before = &self.text[..self.name.range.start];
        let many = matches!(self.text[..self.name.range.end].last(), Some(b's' | b'S'));
        self.name.class == Class::Password && !many && TELLING.iter().any(|word| before.ends_with(word))
    }

    /// Whether a verb or a colon stands between the name and what it is.
    fn is_said(&self, range: &Range<usize>) -> bool {
        let mut between = &self.text[self.name.end..range.start];
        while let Some(adverb) = ADVERBS.iter().find(|adverb| between.ends_with(adverb.as_bytes())) {
            between = &between[..between.len() - adverb.len()];
        }
        let between = between.trim_ascii_end();
        let between = between.strip_suffix(b" **").unwrap_or(between);
        if between.closes_with(b" to") {
            let before = &self.text[self.name.range.start.saturating_sub(MAX_BEFORE)..self.name.range.start];
            let sentence = &before[memchr::memrchr2(b'\n', b'.', before).map_or(0, |at| at + 1)..];
            return CHANGED.iter().any(|verb| memchr::memmem::find(sentence, verb).is_some());
        }
        between.closes_with(b":") || SAYING.iter().any(|verb| between.ends_with(verb.as_bytes()))
    }

    /// Whether a user stands in front of the name: `log in as bob with password x`, `user bob, pass x`, `bob@host, password x`.
    pub(super) fn is_behind_login(&self) -> bool {
        let start = self.name.range.start;
        let before = &self.text[start.saturating_sub(MAX_BEFORE)..start];
        // `логин eva пароль x`
        let blank: &[u8] = b" ";
        let joint = JOINING.iter().find(|joint| before.ends_with(joint)).copied();
        let Some(joint) = joint.or(self.name.is_foreign.then_some(blank)).filter(|joint| before.ends_with(joint))
        else {
            return false;
        };
        let marked = |b: &u8| matches!(b, b'`' | b'\'' | b'"' | b'*');
        let mut user = &before[..before.len() - joint.len()];
        let close = user.iter().rev().take(2).take_while(|b| marked(b)).count();
        user = &user[..user.len() - close];
        let len = user.iter().rev().take(40).take_while(|b| b.is_ascii_alphanumeric() || b"_.@+-".contains(b)).count();
        let (before, user) = user.split_at(user.len() - len);
        let before = &before[..before.len() - before.iter().rev().take(close).take_while(|b| marked(b)).count()];
        let introduced = INTRODUCING.iter().any(|word| before.ends_with(word.as_bytes()));
        let at = memchr::memchr(b'@', user).is_some_and(|at| at > 0 && at + 1 < user.len());
        !user.is_empty() && (introduced || at || KNOWN_USERS.contains(&user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_order() {
        assert!(SAID_OF.is_sorted());
    }
}
