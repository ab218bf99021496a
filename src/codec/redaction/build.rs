//! Builds an engine: the windows the filter searches for, and the rules each one triggers.

use super::assign::CALL_WINDOWS;
use super::batch::Passes;
use super::buckets::best_window;
use super::commands::COMMANDS;
use super::filter::{Filter, MAX_WINDOWS, Window};
use super::names::{FOREIGN, PARTS};
use super::own::{BadPattern, Own};
use super::rules::{FINDERS, TOKENS};
use super::shape::{Set, Shape};
use super::tokens::{Runs, Token};
use super::{Calls, Duty, Engine, Group, MAX_OWN, Settings, optional};

impl Engine {
    pub fn new(settings: &Settings) -> Result<Engine, BadPattern> {
        let has = |group: Group| settings.groups.contains(&group);
        let mut builder = Builder::default();
        let mut names: Vec<String> = FINDERS.iter().map(|rule| rule.name.to_owned()).collect();
        let mut enabled: Vec<bool> = FINDERS.iter().map(|rule| has(rule.group)).collect();
        let (mut tokens, mut runs) = (Vec::new(), Runs::default());
        for (number, rule) in TOKENS.iter().enumerate() {
            for notation in rule.shapes {
                let shape = Shape::parse(notation);
                let (offset, window) = best_window(&shape.fixed()).expect("a built-in rule has a word");
                let token = tokens.len() as u16;
                if has(Group::Secrets) && !runs.add(token, &shape) {
                    builder.add(window, Duty::Token(token));
                }
                tokens.push(Token::new(names.len() as u16, number as u16, shape, offset));
            }
            names.push(rule.name.to_owned());
            enabled.push(has(Group::Secrets));
        }
        if has(Group::Credentials) || has(Group::Keys) {
            builder.names();
        }
        if has(Group::Secrets) {
            builder.add(window_of("BEGIN"), Duty::PrivateKey);
            builder.add(window_of("te-Li"), Duty::Putty);
        }
        let optional = optional::rules(&settings.groups);
        if has(Group::Financial) || !optional.is_empty() {
            digits().into_iter().for_each(|window| builder.add(window, Duty::Digits));
        }
        debug_assert!(builder.windows.len() < MAX_WINDOWS - 16, "{} windows", builder.windows.len());
        disguises().into_iter().chain(escapes()).for_each(|window| builder.add(window, Duty::Disguise));
        let first_own = names.len() as u16;
        let (mut own, mut look_everywhere) = (Vec::new(), !optional.is_empty());
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
        let place = |name: &String| names.iter().filter(|other| *other < name).count() as u16;
        let masks = names.iter().map(|name| format!("[{name}]").into_bytes()).collect();
        let order = names.iter().map(place).collect();
        let (mut duties, mut calls) = (Vec::new(), Vec::new());
        for of_window in builder.duties {
            calls.push(Calls {
                duties: duties.len() as u16..(duties.len() + of_window.len()) as u16,
                names: of_window.iter().any(|duty| !matches!(duty, Duty::Token(_) | Duty::Own | Duty::Disguise)),
                only_name: of_window == [Duty::Name],
            });
            duties.extend(of_window);
        }
        Ok(Engine {
            filter: Filter::new(builder.windows),
            duties,
            calls,
            tokens,
            runs,
            own,
            optional,
            names,
            masks,
            order,
            enabled,
            first_own,
            look_everywhere,
            fields: settings.fields.clone(),
            action: settings.action.clone(),
            passes: Passes::default(),
        })
    }
}

/// Windows and what they call for; equal windows are one.
#[derive(Default)]
struct Builder {
    windows: Vec<Window>,
    duties: Vec<Vec<Duty>>,
}

/// How long the escape of a letter is, as `u06af` with its backslash.
const ESCAPE: usize = 6;

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
            Duty::Name if sets.len() > 5 => best_window(&sets).expect("a word is long enough").1,
            _ => std::array::from_fn(|place| sets.get(place).copied().unwrap_or(Set::of(0..=255))),
        };
        self.add(window, duty);
    }

    /// Names that announce a secret, and what else credentials stand behind.
    fn names(&mut self) {
        PARTS.iter().for_each(|part| self.word(part, Duty::Name));
        keys().into_iter().for_each(|key| self.add(key, Duty::Name));
        for word in ["[?&(]key=", "[?&]code=", "[{,][\"']key", "[{,]\\\"ke"] {
            self.word(word, Duty::Name);
        }
        self.word("keys:", Duty::Name);
        self.word("bearer", Duty::Bearer);
        self.word("basic", Duty::Basic);
        [
            "creds", "ogin:", "ogin ", " p: ", "log in", "get in", "ign in ", "vpn: ", "wifi:", "ssh: ", "dmin:",
            "min /", " use ", "gangsd", "fiants", "denci", "denzi", "ggege",
        ]
        .iter()
        .for_each(|word| self.word(word, Duty::Login));
        ports().into_iter().for_each(|port| self.add(port, Duty::Port));
        CALL_WINDOWS.iter().for_each(|window| self.word(window, Duty::Call));
        self.add(window_of("[ \"']-[upawPUAktX][^-]"), Duty::Flag);
        COMMANDS.iter().enumerate().for_each(|(number, one)| self.word(one.word, Duty::Command(number as u8)));
        self.word("ount.key.", Duty::AccountKey);
        [
            "pass:", "--use", "y-use", "htpas", "sqlpl", "net u", "lt lo", "o-sec", " -S ", " /p:", "/user", "add_u",
            "chpas", "-stdi",
        ]
        .iter()
        .for_each(|word| self.word(word, Duty::Flag));
        for (number, word) in FOREIGN.iter().enumerate() {
            let sets: Vec<Set> = word.bytes().map(|byte| Set::of([byte])).collect();
            let (offset, window) = best_window(&sets).expect("a word is long enough");
            self.add(window, Duty::Foreign(number as u16, offset as u8));
            // A word within another leads to both.
            if !FOREIGN.iter().any(|other| other != word && word.contains(other)) {
                self.escaped_word(word, number as u16);
            }
        }
    }

    /// In JSON a word is looked for by the escape of its rarest letter.
    fn escaped_word(&mut self, word: &str, number: u16) {
        let foreign = word.chars().enumerate().filter(|(_, c)| !c.is_ascii());
        let rank = |c: char| COMMON.chars().position(|common| common == c).map_or(0, |place| 1 + place);
        let (nth, rare) = foreign.min_by_key(|(_, c)| rank(*c)).expect("a word in another script");
        let before: usize = word.chars().take(nth).map(|c| if c.is_ascii() { 1 } else { ESCAPE }).sum();
        let digits = format!("{:04x}", rare as u32);
        let mut window = [Set::of([b'u']); 5];
        for (set, digit) in window[1..].iter_mut().zip(digits.bytes()) {
            *set = Set::any_case(digit);
        }
        self.add(window, Duty::EscapedForeign(number, before as u8 + 1));
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

/// Escapes of ASCII, of what has no width, and of letters in other shapes.
fn escapes() -> [Window; 5] {
    ["u00[1234567aA]", "u20[026]", "u[fF][eE][fF]", "u[fF][fF][012345]", "u[dD]835"].map(window_of)
}

/// What text in disguise can not do without.
fn disguises() -> Vec<Window> {
    let any = Set::of(0..=255);
    let hex = Set::of(*b"0123456789abcdefABCDEF");
    let utf8 = |first: u8, second: u8, third: Set| [Set::of([first]), Set::of([second]), third, any, any];
    vec![
        [Set::of([b'%']), Set::of(b'2'..=b'7'), hex, any, any],
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

/// Letters of other scripts that are frequent, the rarest first. The last one is the joiner of Persian.
const COMMON: &str = "ژذپةگعزكکسبدهتلموریيانзпльраиео\u{200c}";

/// The ports of PostgreSQL, its poolers and its clouds in a line of passwords: a window of any four digits would fit
/// every number.
fn ports() -> Vec<Window> {
    [":543[0-9]", ":6432", ":6543", ":2506", ":2625", ":[*]:"].iter().map(|port| window_of(port)).collect()
}

/// The window of a notation of up to five bytes.
fn window_of(notation: &str) -> Window {
    let sets = Shape::parse(notation).fixed();
    std::array::from_fn(|place| sets.get(place).copied().unwrap_or(Set::of(0..=255)))
}

/// Words that end with `key`, `Key` or `KEY`: what goes on in letters of the same case is another word, but for `keys`.
fn keys() -> [Window; 2] {
    let before = Set::of((0..=255).filter(|b: &u8| b.is_ascii_alphabetic() || b"_ .-\n".contains(b)));
    let behind =
        |is_letter: fn(&u8) -> bool| Set::of((0..=255).filter(|b| !is_letter(b) || b.eq_ignore_ascii_case(&b's')));
    let one = |byte: u8| Set::of([byte]);
    [
        [before, Set::any_case(b'k'), one(b'e'), one(b'y'), behind(u8::is_ascii_lowercase)],
        [before, one(b'K'), one(b'E'), one(b'Y'), behind(u8::is_ascii_uppercase)],
    ]
}

/// Three digits of Arabic and Persian in a row, as they are and escaped.
fn digits() -> Vec<Window> {
    let digit = Set::of(0xB0..=0xB9);
    let arabic = Set::of(0xA0..=0xA9);
    let one = |byte: u8| Set::of([byte]);
    vec![
        [one(0xDB), digit, one(0xDB), digit, one(0xDB)],
        [one(0xD9), arabic, one(0xD9), arabic, one(0xD9)],
        window_of("u06[fF]{d1}"),
        window_of("u066{d1}"),
    ]
}
