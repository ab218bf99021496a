//! Finds secrets in events and text, replaces them, and tells which rule found how many.
//!
//! One pass over the raw bytes of a batch finds the few places where something may be (`filter`); only the fields
//! with such a place are decoded and searched (`text`), and only a field with a secret is written again (`json`).

mod assign;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod batch;
mod buckets;
mod filter;
mod finders;
mod json;
mod keys;
mod own;
mod reader;
mod report;
mod rules;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod verify;
mod views;

pub use own::BadPattern;
pub use report::{MAX_RULE_NAME, Report, is_rule_name};

use buckets::best_window;
use filter::{Filter, MAX_WINDOWS, Window};
use own::Own;
use reader::Work;
use rules::{FINDERS, TOKENS};
use shape::{Set, Shape};

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
}

impl Group {
    pub const ALL: &[(&str, Group)] = &[
        ("secrets", Group::Secrets),
        ("credentials", Group::Credentials),
        ("personal", Group::Personal),
        ("financial", Group::Financial),
        ("keys", Group::Keys),
    ];
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
    duties: Vec<Vec<Duty>>,
    tokens: Vec<Token>,
    own: Vec<Own>,
    /// Names of all rules, by number: [`FINDERS`], [`TOKENS`], then the user's own.
    names: Vec<String>,
    enabled: Vec<bool>,
    first_own: u16,
    /// Some pattern may match anywhere, so that the filter can not spare a look.
    look_everywhere: bool,
    fields: Option<Vec<Vec<String>>>,
    action: Action,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Duty {
    Token(u16),
    Name,
    Bearer,
    PrivateKey,
    Disguise,
    Own,
}

struct Token {
    rule: u16,
    /// Index into [`TOKENS`].
    number: u16,
    shape: Shape,
    lead: Option<(Set, usize)>,
    /// How far behind the token's beginning (or its lead) the window stands.
    offset: usize,
    /// JSON may escape a slash, so raw text says nothing.
    has_slash: bool,
}

/// Parts of names that announce a secret.
const NAME_PARTS: &[&str] = &[
    "passw",
    "passphr",
    "pwd",
    "secret",
    "token",
    "[_ -.abcdefghijklmnopqrstuvwxyz]key",
    "authori",
    "cookie",
    "credential",
];

impl Engine {
    pub fn new(settings: &Settings) -> Result<Engine, BadPattern> {
        let has = |group: Group| settings.groups.contains(&group);
        let mut builder = Builder::default();
        let mut names: Vec<String> = FINDERS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut enabled: Vec<bool> = FINDERS.iter().map(|(_, group)| has(*group)).collect();
        let mut tokens = Vec::new();
        for (number, rule) in TOKENS.iter().enumerate() {
            for notation in rule.shapes {
                let shape = Shape::parse(notation);
                let sets = shape.fixed();
                let (offset, window) = best_window(&sets).expect("a built-in rule has a word");
                if has(Group::Secrets) {
                    builder.add(window, Duty::Token(tokens.len() as u16));
                }
                tokens.push(Token {
                    rule: names.len() as u16,
                    number: number as u16,
                    lead: shape.lead(),
                    shape,
                    offset,
                    has_slash: notation.contains('/'),
                });
            }
            names.push(rule.name.to_owned());
            enabled.push(has(Group::Secrets));
        }
        if has(Group::Credentials) || has(Group::Keys) {
            NAME_PARTS.iter().for_each(|part| builder.word(part, Duty::Name));
            builder.word("bearer", Duty::Bearer);
        }
        if has(Group::Secrets) {
            builder.word("-BEGIN ", Duty::PrivateKey);
        }
        disguises().into_iter().chain(escapes().concat()).for_each(|window| builder.add(window, Duty::Disguise));
        let first_own = names.len() as u16;
        let (mut own, mut look_everywhere) = (Vec::new(), false);
        for rule in &settings.own {
            let compiled = Own::compile(rule)?;
            if own.len() == MAX_OWN || names[usize::from(first_own)..].contains(&rule.name) {
                let message = if own.len() == MAX_OWN { "one pattern too many" } else { "the name is taken" };
                return Err(BadPattern { name: rule.name.clone(), offset: 0, message: message.to_owned() });
            }
            look_everywhere |= !builder.add_words(&compiled.words);
            own.push(compiled);
            names.push(rule.name.clone());
            enabled.push(true);
        }
        Ok(Engine {
            filter: Filter::new(&builder.windows, &escapes()),
            duties: builder.duties,
            tokens,
            own,
            names,
            enabled,
            first_own,
            look_everywhere,
            fields: settings.fields.clone(),
            action: settings.action.clone(),
        })
    }

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

    fn action(&self, rule: u16) -> &Action {
        match rule.checked_sub(self.first_own) {
            Some(own) => &self.own[usize::from(own)].action,
            None => &self.action,
        }
    }
}

/// Windows and what they call for; equal windows are one.
#[derive(Default)]
struct Builder {
    windows: Vec<Window>,
    duties: Vec<Vec<Duty>>,
}

impl Builder {
    fn add(&mut self, window: Window, duty: Duty) {
        match self.windows.iter().position(|known| *known == window) {
            Some(at) if self.duties[at].contains(&duty) => {}
            Some(at) => self.duties[at].push(duty),
            None => {
                self.windows.push(window);
                self.duties.push(vec![duty]);
            }
        }
    }

    /// Adds a word in any case, in the notation of shapes.
    fn word(&mut self, notation: &str, duty: Duty) {
        let any_case = |set: Set| set.iter().fold(Set::default(), |all, byte| all.or(Set::any_case(byte)));
        let sets: Vec<Set> = Shape::parse(notation).fixed().into_iter().map(any_case).collect();
        // A name is looked at around the window, other words from their beginning.
        let window = match duty {
            Duty::Name => best_window(&sets).expect("a word is long enough").1,
            _ => std::array::from_fn(|place| sets[place]),
        };
        self.add(window, duty);
    }

    /// Whether there was room for all words, and any.
    fn add_words(&mut self, words: &[Vec<Set>]) -> bool {
        if words.is_empty() || self.windows.len() + words.len() > MAX_WINDOWS {
            return false;
        }
        for word in words {
            let Some((_, window)) = best_window(word) else { return false };
            self.add(window, Duty::Own);
        }
        true
    }
}

/// Escapes of ASCII, of what has no width, and of letters in other shapes; by the kind of their first digits, so
/// that text full of other escapes (`\u06..`) passes by.
fn escapes() -> [Vec<Window>; 2] {
    let window = |notation: &&str| {
        let sets = Shape::parse(notation).fixed();
        std::array::from_fn(|place| sets.get(place).copied().unwrap_or(Set::of(0..=255)))
    };
    let of = |notations: &[&str]| notations.iter().map(window).collect();
    [of(&["u00[1234567aA]", "u20[026]"]), of(&["u[fF][eE][fF]", "u[fF][fF][012345]", "u[dD]835"])]
}

/// What text in disguise can not do without.
fn disguises() -> Vec<Window> {
    let any = Set::of(0..=255);
    let hex = Set::of(*b"0123456789abcdefABCDEF");
    let utf8 = |first: u8, second: u8, third: Set| [Set::of([first]), Set::of([second]), third, any, any];
    vec![
        [Set::of([b'%']), Set::of(b'3'..=b'7'), hex, any, any],
        [Set::of([b'&']), Set::of([b'#']), Set::of(*b"xX0123456789"), any, any],
        [Set::of([0x1B]), Set::of([b'[']), Set::of(0x20..0x7F), any, any],
        utf8(0xE2, 0x80, Set::of((0x8B..=0x8F).chain(0xAA..=0xAE))),
        utf8(0xE2, 0x81, Set::of(0xA0..=0xA4)),
        utf8(0xEF, 0xBB, Set::of([0xBF])),
        utf8(0xEF, 0xBC, Set::of((0x90..=0x99).chain(0xA0..=0xBA))),
        utf8(0xEF, 0xBD, Set::of(0x81..=0x9A)),
        [Set::of([0xC2]), Set::of([0xAD]), any, any, any],
        utf8(0xF0, 0x9D, Set::of(0x90..=0x9F)),
    ]
}
