//! The built-in rules: their names, groups and numbers.

mod tokens;

pub use tokens::TOKENS;

use super::Group;
use super::shape::example;

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

/// A rule that is code, with an example on which it fires and one on which it does not.
pub struct FinderRule {
    pub name: &'static str,
    pub group: Group,
    pub fires: &'static str,
    pub stays: &'static str,
}

const fn finder(name: &'static str, group: Group, fires: &'static str, stays: &'static str) -> FinderRule {
    FinderRule { name, group, fires, stays }
}

/// What fires `unfinished`, in words: it would be too long to show.
pub const UNFINISHED_TEXT: &str = "a value that a rule cannot finish";

/// Rules that are code, not shapes, in the order of their numbers; the tokens of [`TOKENS`] follow.
#[rustfmt::skip]
pub const FINDERS: &[FinderRule] = &[
    finder("email", Group::Personal, "mail alice@example.com", "X@beta.reshape(-1)"),
    finder("card", Group::Financial, "card 4111 1111 1111 1111", "[4111 1111 1111 1111]"),
    finder("iban", Group::Financial, "DE89 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130 01"),
    finder("private_key", Group::Secrets, "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----", "# -----BEGIN PRIVATE KEY-----\nimport os\n# -----END PRIVATE KEY-----"),
    finder("connection_string", Group::Credentials, "postgres://app:s3cret@db/x", "postgres://app:{password}@db/x"),
    finder("credential", Group::Credentials, "password = 'hunter2'", "password = pw"),
    finder("authorization", Group::Credentials, "Authorization: Bearer abcdef0123456789", "headers['Authorization'] = auth"),
    finder("secret_field", Group::Keys, "{\"password\":\"hunter2\"}", "{\"password\":null}"),
    finder("unfinished", Group::Keys, UNFINISHED_TEXT, "any other value"),
    finder("prefixed_key", Group::Secrets, "acme_pat_9fK2mQ7xW4vB8nZ3cL6tR1", "cache_key_next_page_of_results_of_users"),
    finder("maxmind_key", Group::Secrets, "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", "A1b2C3_D4e5F6g7H8i9J0k1L2m3N4o5P6q7R_mm"),
    finder("discord_token", Group::Secrets, "MTA5ODc2NTQzMjEwOTg3NjU0Mw.GaBcDe.x9K2mQ7wR4vB8nZ3cL6tR1pS5dF0g", "MTA5ODc2NTQzMjEwOTg3NjU0Mw.GaBcDe.short"),
    finder("asana_token", Group::Secrets, "1/1234567890123456:0123456789abcdef0123456789abcdef", "1/1234:0123456789abcdef0123456789abcdef"),
    finder("airtable_token", Group::Secrets, "patA1b2C3d4E5f6G7.0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "pathA1b2.0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
    finder("facebook_app_token", Group::Secrets, "123456789012345|aB3dE6gH9jK2mN5pQ8sT1vW4yZ7", "12345|aB3dE6gH9jK2mN5pQ8sT1vW4yZ7"),
    finder("phone", Group::Phone, "+98 912 345 6789", "1735689600"),
    finder("national_id", Group::NationalId, "0084575948", "0084575949"),
    finder("ip_address", Group::IpAddress, "203.0.113.7", "127.0.0.1"),
    finder("nats_seed", Group::Secrets, "SUAENYNPMKUNYFUM5F3MTARWPW3HWJASOYVUGPFN6DO7LAM3VQRWZ2IWPA", "SUAENYNPMKUNYFUM5F3MTARWPW3HWJASOYVUGPFN6DO7LAM3VQRWZ2IWQA"),
];

/// What the reference says of a rule.
pub struct RuleText {
    pub name: &'static str,
    pub group: &'static str,
    /// An example on which it fires, and one on which it does not.
    pub fires: String,
    pub stays: String,
}

/// All built-in rules with their examples; the tests hold them against the engine.
pub fn rule_texts() -> Vec<RuleText> {
    let group = |of: Group| Group::named().find(|(_, group)| *group == of).map_or("", |(name, _)| name);
    let finders = FINDERS.iter().map(|rule| RuleText {
        name: rule.name,
        group: group(rule.group),
        fires: rule.fires.to_owned(),
        stays: rule.stays.to_owned(),
    });
    let tokens = TOKENS.iter().map(|rule| {
        let mut made = (1..100).map(|seed| example(rule.shapes[0], seed));
        let fires = made.find(|text| (rule.check)(text.as_bytes())).unwrap_or_default();
        let stays = fires[..(fires.len() / 2).min(12)].to_owned();
        RuleText { name: rule.name, group: group(Group::Secrets), fires, stays }
    });
    finders.chain(tokens).collect()
}

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
pub const PHONE: u16 = 15;
pub const NATIONAL_ID: u16 = 16;
pub const IP_ADDRESS: u16 = 17;
pub const NATS_SEED: u16 = 18;

/// Random text of some length has digits and capital letters; an identifier has not.
fn is_mixed(text: &[u8]) -> bool {
    let random = &text[3.min(text.len())..];
    random.iter().any(u8::is_ascii_digit) && random.iter().any(u8::is_ascii_uppercase)
}
