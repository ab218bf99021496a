//! The built-in rules: their names, groups and numbers.

mod tokens;

pub use tokens::TOKENS;

use super::Group;

/// A kind of token. `shapes` are in the notation of `shape.rs`; `check` has the last word.
pub struct Rule {
    pub name: &'static str,
    pub shapes: &'static [&'static str],
    pub check: fn(&[u8]) -> bool,
}

const fn rule(name: &'static str, shapes: &'static [&'static str]) -> Rule {
    Rule { name, shapes, check: |_| true }
}

const fn mixed(name: &'static str, shapes: &'static [&'static str]) -> Rule {
    Rule { name, shapes, check: is_mixed }
}

/// Rules that are code, not shapes, in the order of their numbers; the tokens of [`TOKENS`] follow.
pub const FINDERS: &[(&str, Group)] = &[
    ("email", Group::Personal),
    ("card", Group::Financial),
    ("iban", Group::Financial),
    ("private_key", Group::Secrets),
    ("connection_string", Group::Credentials),
    ("credential", Group::Credentials),
    ("authorization", Group::Credentials),
    ("secret_field", Group::Keys),
    ("unfinished", Group::Keys),
    ("prefixed_key", Group::Secrets),
    ("maxmind_key", Group::Secrets),
    ("discord_token", Group::Secrets),
    ("asana_token", Group::Secrets),
    ("airtable_token", Group::Secrets),
    ("facebook_app_token", Group::Secrets),
];

pub const EMAIL: u16 = 0;
pub const CARD: u16 = 1;
pub const IBAN: u16 = 2;
pub const PRIVATE_KEY: u16 = 3;
pub const CONNECTION: u16 = 4;
pub const CREDENTIAL: u16 = 5;
pub const AUTHORIZATION: u16 = 6;
pub const SECRET_FIELD: u16 = 7;
pub const UNFINISHED: u16 = 8;
pub const PREFIXED: u16 = 9;
pub const MAXMIND: u16 = 10;
pub const DISCORD: u16 = 11;
pub const ASANA: u16 = 12;
pub const AIRTABLE: u16 = 13;
pub const FACEBOOK_APP: u16 = 14;

/// Random text of some length has digits and capital letters; an identifier has not.
fn is_mixed(text: &[u8]) -> bool {
    let random = &text[3.min(text.len())..];
    random.iter().any(u8::is_ascii_digit) && random.iter().any(u8::is_ascii_uppercase)
}
