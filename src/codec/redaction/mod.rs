//! Finds secrets in events and text, replaces them, and counts them by rule.
//!
//! One pass over the raw bytes of a batch finds the few places where something may be (`filter`); only the fields
//! with such a place are decoded and searched (`search`), and only a field with a secret is written again. Plain texts
//! of many events go through these stages together (`texts`), what is nested one by one (`json`).

mod assign;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod batch;
mod buckets;
mod build;
mod byte_set;
mod cards;
mod commands;
mod connection;
mod context;
mod disguises;
mod email;
mod escapes;
mod explain;
mod filter;
mod flags;
mod json;
mod kinds;
mod lines;
mod literals;
mod marks;
mod names;
mod near;
mod optional;
mod own;
mod pem;
mod places;
mod plausible;
mod random;
mod reader;
mod repeats;
mod replace;
mod report;
mod rules;
mod search;
mod shape;
#[cfg(test)]
mod tests;
mod texts;
mod tokens;
mod values;
mod verify;
mod views;

pub use explain::Finding;
pub use own::BadPattern;
pub use report::{MAX_RULE_NAME, Report, is_rule_name};
pub use rules::{RuleText, rule_texts};

use std::ops::Range;

use batch::Passes;
use filter::Filter;
use optional::Optional;
use own::Own;
use reader::Work;
use tokens::{Runs, Token};

/// Rules that are switched together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Tokens and keys that their form gives away.
    Secrets,
    /// Values given to secret-looking names in text, connection strings, headers.
    Credentials,
    /// E-mail addresses.
    Personal,
    /// Cards and IBANs.
    Financial,
    /// Members with secret-looking names.
    Keys,
    /// Phone numbers.
    Phone,
    /// National ids that have a check digit or a form.
    NationalId,
    /// Addresses of the Internet.
    IpAddress,
}

impl Group {
    /// Those that apply where none is named.
    pub const ALL: &[(&str, Group)] = &[
        ("secrets", Group::Secrets),
        ("credentials", Group::Credentials),
        ("personal", Group::Personal),
        ("financial", Group::Financial),
        ("keys", Group::Keys),
    ];
    /// Those that apply only where they are named: logs are full of what resembles them.
    pub const OPTIONAL: &[(&str, Group)] =
        &[("phone", Group::Phone), ("national_id", Group::NationalId), ("ip_address", Group::IpAddress)];

    /// All groups by name.
    pub fn named() -> impl Iterator<Item = (&'static str, Group)> {
        Group::ALL.iter().chain(Group::OPTIONAL).copied()
    }
}

/// What happens to a secret.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Action {
    /// `[rule]`
    #[default]
    Mask,
    /// Nothing is left; a member with a secret-looking name goes altogether.
    Remove,
    /// `[rule:1a2b3c4d]`: the same for the same secret and key.
    Hash([u8; 32]),
    /// `[rule *1234]`: at most four characters, and only of secrets with at least twelve.
    KeepLast(usize),
}

/// A pattern of the user's own, in the syntax of the `regex` crate.
#[derive(Clone, Debug)]
pub struct OwnRule {
    pub name: String,
    pub pattern: String,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub groups: Vec<Group>,
    pub own: Vec<OwnRule>,
    /// Paths of the fields to look at; all without.
    pub fields: Option<Vec<Vec<String>>>,
    /// What happens to what the built-in rules find.
    pub action: Action,
}

impl Default for Settings {
    fn default() -> Settings {
        let groups = Group::ALL.iter().map(|(_, group)| *group).collect();
        Settings { groups, own: Vec::new(), fields: None, action: Action::Mask }
    }
}

/// The most patterns of the user's own.
pub const MAX_OWN: usize = 100;

/// All rules, ready to search.
pub struct Engine {
    filter: Filter,
    /// What each window of the filter calls for.
    duties: Vec<Duty>,
    calls: Vec<Calls>,
    tokens: Vec<Token>,
    /// The tokens that stand in long runs of letters and digits.
    runs: Runs,
    own: Vec<Own>,
    optional: Vec<Optional>,
    /// Names of all rules, by number: the finders, the tokens, then the user's own.
    names: Vec<String>,
    /// What stands in the place of what each has found.
    masks: Vec<Vec<u8>>,
    /// The place of each among all names in order.
    order: Vec<u16>,
    enabled: Vec<bool>,
    first_own: u16,
    /// Some pattern may match anywhere, so that the filter can not spare a look.
    look_everywhere: bool,
    fields: Option<Vec<Vec<String>>>,
    action: Action,
    passes: Passes,
}

/// Which of the duties a window calls for.
struct Calls {
    duties: Range<u16>,
    /// A look at names, or at what is looked at in their way.
    names: bool,
    /// A look at a name and nothing else.
    only_name: bool,
}

/// What a window of the filter calls for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Duty {
    Token(u16),
    /// A name that announces a secret.
    Name,
    /// The same in another script, by its number in the list and how far behind its beginning the window stands.
    Foreign(u16, u8),
    /// The same, escaped as in JSON.
    EscapedForeign(u16, u8),
    /// Options of commands: ` -p`, ` -u`.
    Flag,
    /// The place of a secret in a command, by its number in the list.
    Command(u8),
    /// The key of an account in Azure's storage.
    AccountKey,
    /// A user and a password in a sentence.
    Login,
    /// A port between colons, as in `.pgpass`.
    Port,
    /// A call that is given a secret.
    Call,
    Bearer,
    Basic,
    PrivateKey,
    Putty,
    /// Digits of Arabic and Persian.
    Digits,
    Disguise,
    Own,
}

impl Engine {
    /// All built-in rules, masking.
    pub fn builtin() -> Engine {
        Engine::new(&Settings::default()).expect("the built-in rules hold")
    }

    /// Redacts text that is no event: raw lines, broken JSON, anything.
    pub fn redact_text(&self, text: &[u8]) -> (Vec<u8>, Report) {
        let (mut report, mut work) = (Report::default(), Work::on(text.len()));
        let cleaned = self.clean(text, &mut work);
        work.found.iter().for_each(|rule| report.add(&self.names[usize::from(*rule)], 1));
        (cleaned.unwrap_or_else(|| text.to_vec()), report)
    }

    fn duties(&self, window: u16) -> &[Duty] {
        let Calls { duties, .. } = &self.calls[usize::from(window)];
        &self.duties[usize::from(duties.start)..usize::from(duties.end)]
    }

    fn action(&self, rule: u16) -> &Action {
        match rule.checked_sub(self.first_own) {
            Some(own) => &self.own[usize::from(own)].action,
            None => &self.action,
        }
    }
}
