//! What redaction finds and what it leaves, measured on a corpus of its own.

use std::collections::BTreeMap;

use weir::codec::redaction::Engine;

use crate::support::corpus::audit::AUDIT;
use crate::support::corpus::backends::{BACKENDS, PEACEFUL};
use crate::support::corpus::calm::CALM;
use crate::support::corpus::cells::CELLS;
use crate::support::corpus::contexts::CONTEXTS;
use crate::support::corpus::daily::{DAILY, QUIET};
use crate::support::corpus::dialects::{CLEAN, DIALECTS};
use crate::support::corpus::field::FIELD;
use crate::support::corpus::formats::FORMATS;
use crate::support::corpus::languages::LANGUAGES;
use crate::support::corpus::lines::LINES;
use crate::support::corpus::neutral::NEUTRAL;
use crate::support::corpus::notebooks::{HARMLESS, NOTEBOOKS};
use crate::support::corpus::operations::{OPERATIONS, ORDINARY};
use crate::support::corpus::services::SERVICES;
use crate::support::corpus::shells::SHELLS;
use crate::support::corpus::stacks::STACKS;
use crate::support::corpus::still::STILL;
use crate::support::corpus::tools::{ALIKE, TOOLS};
use crate::support::corpus::workplace::{UNEVENTFUL, WORKPLACE};
use crate::support::corpus::{
    ALNUM, ESCAPES, Escape, HUMAN, KEY_NAMES, LETTERS, OTHER_HUMAN, OTHER_KEY_NAMES, OTHER_PASSWORD_NAMES,
    PASSWORD_NAMES, Random, clean, password_value, planted, random_value, read_back, redact, vendors, written,
};

/// What became of the planted secrets of one kind.
#[derive(Default, Clone)]
struct Tally {
    all: usize,
    gone: usize,
    exact: usize,
    missed: Vec<String>,
}

fn engine() -> &'static Engine {
    static ENGINE: std::sync::LazyLock<Engine> = std::sync::LazyLock::new(Engine::builtin);
    &ENGINE
}

/// Plants values at all places of a kind of text, and counts what is gone.
fn plant(places: &[&str], names: &[&str], mut value: impl FnMut(&mut Random) -> String, escape: Escape) -> Tally {
    let (mut tally, mut random) = (Tally::default(), Random::new(places.len() as u64));
    for place in places {
        for name in names {
            let value = value(&mut random);
            let (text, range) = planted(place, name, &value);
            let clean = read_back(&redact(engine(), &written(&text, escape), escape != Escape::None), escape);
            tally.all += 1;
            if clean.contains(value.as_str()) || leaves_part(&clean, &value) {
                tally.missed.push(format!("{text}   =>   {clean}"));
                continue;
            }
            tally.gone += 1;
            let (before, after) = (&text[..range.start], &text[range.end..]);
            // A value that stands twice is gone twice.
            let exact = before.contains(&value) || clean.starts_with(before) && clean.ends_with(after);
            tally.exact += usize::from(exact);
            if !exact {
                tally.missed.push(format!("inexact: {text}   =>   {clean}"));
            }
        }
    }
    tally
}

/// Whether a telling part of the value is left.
fn leaves_part(clean: &str, value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() >= 12 && bytes.windows(8).any(|part| clean.as_bytes().windows(8).any(|left| left == part))
}

fn show(kind: &str, what: &str, tally: &Tally) {
    let share = |count: usize| 100.0 * count as f64 / tally.all.max(1) as f64;
    println!(
        "{kind:>22} {what:>10} {:6} planted {:5.1} % gone {:5.1} % exactly",
        tally.all,
        share(tally.gone),
        share(tally.exact)
    );
    if std::env::var("WEIR_SHOW").is_ok_and(|wanted| kind.contains(&wanted) || wanted == "all") {
        let each = std::env::var("WEIR_EACH").ok().and_then(|each| each.parse().ok()).unwrap_or(1);
        tally.missed.iter().step_by(each).take(80).for_each(|missed| println!("      {}", missed.replace('\n', "␤")));
    }
}

fn add(sum: &mut Tally, tally: &Tally) {
    (sum.all, sum.gone, sum.exact) = (sum.all + tally.all, sum.gone + tally.gone, sum.exact + tally.exact);
}

#[test]
fn secrets_that_a_name_announces_are_found_where_they_stand() {
    let (mut random_sum, mut human_sum) = (Tally::default(), Tally::default());
    for (kind, places) in CONTEXTS {
        let keys = plant(places, KEY_NAMES, random_value, Escape::None);
        let passwords = plant(places, PASSWORD_NAMES, password_value, Escape::None);
        let human = plant(places, PASSWORD_NAMES, |random| (*random.pick(HUMAN)).to_owned(), Escape::None);
        show(kind, "keys", &keys);
        show(kind, "passwords", &passwords);
        show(kind, "human", &human);
        let (gone, all) = (keys.gone + passwords.gone, keys.all + passwords.all);
        assert!(gone * 100 >= all * 90, "{kind}: of {all} secrets only {gone} are gone");
        add(&mut random_sum, &keys);
        add(&mut random_sum, &passwords);
        add(&mut human_sum, &human);
    }
    show("all", "random", &random_sum);
    show("all", "human", &human_sum);
    assert!(random_sum.gone * 100 >= random_sum.all * 98, "random values are left");
    assert!(human_sum.gone * 100 >= human_sum.all * 95, "passwords are left");
}

/// The bounds of the second corpus, whose texts and values the rules were not written against.
#[test]
fn secrets_are_found_in_texts_that_no_rule_was_written_for() {
    hold(AUDIT, 88, 97);
}

/// Places that say by themselves what stands there: arguments, lines, commands, sentences, tables.
#[test]
fn secrets_are_found_where_the_place_alone_tells() {
    hold(FIELD, 84, 95);
}

/// Tools, drivers and frameworks have places of their own for secrets.
#[test]
fn secrets_are_found_where_tools_and_frameworks_take_them() {
    hold(TOOLS, 80, 92);
}

/// Dialects, other languages, the clouds' commands and prose of the world.
#[test]
fn secrets_are_found_in_dialects_and_other_languages() {
    hold(DIALECTS, 70, 85);
}

/// What operations leave in logs and cells.
#[test]
fn secrets_are_found_in_what_operations_leave() {
    hold(OPERATIONS, 85, 93);
}

/// What notebooks hold and print.
#[test]
fn secrets_are_found_in_what_notebooks_hold_and_print() {
    hold(NOTEBOOKS, 85, 94);
}

/// What people have at work: statements, settings, flags, tracebacks, results, sentences.
#[test]
fn secrets_are_found_in_what_people_have_at_work() {
    hold(WORKPLACE, 85, 94);
}

/// What a day of work leaves, from cells and shells to chats.
#[test]
fn secrets_are_found_in_what_a_day_of_work_leaves() {
    hold(DAILY, 85, 95);
}

/// What back ends, pipelines, devices and the people around them leave.
#[test]
fn secrets_are_found_in_what_back_ends_and_devices_leave() {
    hold(BACKENDS, 80, 92);
}

/// What students, data scientists, frameworks and deployments have in cells, settings and addresses.
#[test]
fn secrets_are_found_in_cells_and_settings_of_frameworks() {
    hold(STACKS, 93, 98);
}

/// Command lines, SQL, XML, HTTP as it is logged, tracebacks, and sentences in many languages.
#[test]
fn secrets_are_found_in_lines_that_servers_and_people_write() {
    hold(LINES, 92, 97);
}

/// Constructs of thirty languages that name a secret.
#[test]
fn secrets_are_found_in_the_constructs_of_thirty_languages() {
    hold(LANGUAGES, 90, 97);
}

/// Settings in every format, command lines, HTTP, SQL, logs, tables and prose.
#[test]
fn secrets_are_found_in_every_format_and_on_every_command_line() {
    hold(FORMATS, 90, 97);
}

/// What people do in notebooks with databases, clouds, brokers, mail and web clients.
#[test]
fn secrets_are_found_in_cells_that_connect_to_services() {
    hold(CELLS, 90, 95);
}

/// Shells, files of settings and pipelines.
#[test]
fn secrets_are_found_in_shells_and_pipelines() {
    hold(SHELLS, 94, 97);
}

/// What databases, servers and services write, and what people say in chats and tickets.
#[test]
fn secrets_are_found_in_what_services_write_and_chats_say() {
    hold(SERVICES, 90, 94);
}

/// A password of letters alone is told from a word by its place.
#[test]
fn passwords_of_letters_alone_are_found_by_their_place() {
    for (name, corpus, of_all) in [
        ("daily", DAILY, 80),
        ("backends", BACKENDS, 82),
        ("workplace", WORKPLACE, 85),
        ("stacks", STACKS, 88),
        ("lines", LINES, 85),
        ("languages", LANGUAGES, 85),
        ("formats", FORMATS, 85),
        ("cells", CELLS, 72),
        ("shells", SHELLS, 82),
        ("services", SERVICES, 76),
    ] {
        let (mut sum, mut wide) = (Tally::default(), Vec::<&str>::new());
        for (kind, places) in corpus {
            let letters = |random: &mut Random| (*random.pick(LETTERS)).to_owned();
            let tally = plant(places, OTHER_PASSWORD_NAMES, letters, Escape::None);
            show(kind, "letters", &tally);
            wide.extend((tally.exact * 100 < tally.gone * 98).then_some(kind));
            add(&mut sum, &tally);
        }
        show(name, "letters", &sum);
        assert!(wide.is_empty(), "more than the values is gone: {wide:?}");
        assert!(sum.gone * 100 >= sum.all * of_all, "{name}: of {} passwords only {} are gone", sum.all, sum.gone);
    }
}

/// What looks like such a place and holds no secret is left as it is, in every notation.
#[test]
fn lines_that_only_look_like_places_of_secrets_stay() {
    let mut changed = Vec::new();
    let lists = [ALIKE, CLEAN, ORDINARY, HARMLESS, UNEVENTFUL, QUIET, PEACEFUL, CALM, STILL, NEUTRAL];
    for line in lists.into_iter().flatten() {
        let (text, _) = planted(line, "", "");
        for escape in ESCAPES {
            let written = written(&text, *escape);
            let clean = redact(engine(), &written, *escape != Escape::None);
            if clean != written {
                changed.push(format!("{written}   =>   {clean}"));
            }
        }
    }
    assert!(
        changed.is_empty(),
        "{} of {} lines lose something:\n{}",
        changed.len(),
        lists.iter().map(|list| list.len()).sum::<usize>(),
        changed.join("\n")
    );
}

/// At least so many of a hundred secrets are gone, of each kind of text and of all.
fn hold(corpus: &[(&str, &[&str])], of_each: usize, of_all: usize) {
    let (mut sum, mut faults) = (Tally::default(), Vec::<String>::new());
    for (kind, places) in corpus {
        let keys = plant(places, OTHER_KEY_NAMES, random_value, Escape::None);
        let passwords = plant(places, OTHER_PASSWORD_NAMES, password_value, Escape::None);
        let human = plant(places, OTHER_PASSWORD_NAMES, |random| (*random.pick(OTHER_HUMAN)).to_owned(), Escape::None);
        let mut of_kind = Tally::default();
        for (what, tally) in [("keys", &keys), ("passwords", &passwords), ("human", &human)] {
            show(kind, what, tally);
            add(&mut of_kind, tally);
        }
        if of_kind.gone * 100 < of_kind.all * of_each {
            faults.push(format!("{kind}: of {} only {} are gone", of_kind.all, of_kind.gone));
        }
        if of_kind.exact * 100 < of_kind.gone * 99 {
            faults.push(format!("{kind}: more than the values is gone"));
        }
        add(&mut sum, &of_kind);
    }
    show("all", "all", &sum);
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(sum.gone * 100 >= sum.all * of_all, "of {} secrets only {} are gone", sum.all, sum.gone);
}

#[test]
fn the_notation_of_a_text_changes_nothing() {
    let mut random = Random::new(3);
    let mut different = Vec::new();
    let places = CONTEXTS
        .iter()
        .chain(AUDIT)
        .chain(FIELD)
        .chain(TOOLS)
        .chain(DIALECTS)
        .chain(OPERATIONS)
        .chain(NOTEBOOKS)
        .chain(WORKPLACE)
        .chain(DAILY)
        .chain(BACKENDS)
        .chain(STACKS)
        .chain(LINES)
        .chain(LANGUAGES)
        .chain(FORMATS)
        .chain(CELLS)
        .chain(SHELLS)
        .chain(SERVICES)
        .flat_map(|(_, places)| places.iter());
    for (nth, place) in places.enumerate() {
        let (name, value) = match nth % 2 {
            0 => (PASSWORD_NAMES[nth % PASSWORD_NAMES.len()], password_value(&mut random)),
            _ => (KEY_NAMES[nth % KEY_NAMES.len()], random_value(&mut random)),
        };
        let (text, _) = planted(place, name, &value);
        for escape in ESCAPES {
            let plain = if *escape == Escape::Ascii { format!("é\u{a0}{text}") } else { text.clone() };
            let expected = redact(engine(), &plain, false);
            let line = written(&text, *escape);
            let clean = redact(engine(), &line, *escape != Escape::None);
            if read_back(&clean, *escape) != expected {
                different.push(format!("{escape:?}: {expected}\n    {}", read_back(&clean, *escape)));
            }
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn tokens_are_found_by_their_form() {
    let (mut random, mut gone, mut part) = (Random::new(7), 0, 0);
    for form in vendors::VENDORS {
        let (mut found, mut partly) = (true, false);
        for _ in 0..4 {
            let token = vendors::made(form, &mut random);
            let clean = redact(engine(), &token, false);
            let secret = token.strip_prefix("https://").unwrap_or(&token);
            found &= !clean.contains(&token) && !leaves_part(&clean, &secret[secret.len() / 2..]);
            partly |= clean != token && leaves_part(&clean, &secret[secret.len() / 2..]);
            if !found && std::env::var_os("WEIR_SHOW").is_some() {
                println!("      {form}: {token} => {clean}");
                break;
            }
        }
        gone += usize::from(found);
        part += usize::from(partly);
    }
    println!("{} vendor formats, bare: {gone} gone, {part} in part", vendors::VENDORS.len());
    assert!(gone * 100 >= vendors::VENDORS.len() * 95);
}

/// A form is seen within a URL, whose encoding puts digits right in front of it.
#[test]
fn tokens_are_found_in_what_a_url_encodes() {
    let mut random = Random::new(7);
    for (before, after) in [("%22", "%22"), ("x%20", "%20y"), ("a%3D", "%26b%3D1"), ("%7B%22k%22%3A%22", "%22%7D")] {
        let mut missed = Vec::new();
        for form in vendors::VENDORS {
            let token = vendors::made(form, &mut random);
            let clean = redact(engine(), &format!("GET https://x.example/?q={before}{token}{after}&z=1"), false);
            if clean.contains(&token) {
                missed.push(token);
            }
        }
        let found = vendors::VENDORS.len() - missed.len();
        assert!(found * 100 >= vendors::VENDORS.len() * 97, "behind {before} only {found} are gone: {missed:#?}");
    }
}

/// A text of one line that stands percent-encoded in the query of a URL.
fn within_url(text: &str) -> String {
    let encoded = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    format!("GET https://x.example/?q={}&z=1", text.bytes().map(encoded).collect::<String>())
}

/// What is found in a plain text is found where a URL encodes it.
#[test]
fn the_encoding_of_a_url_hides_nothing() {
    let (mut random, mut found, mut missed) = (Random::new(23), 0, Vec::new());
    let places = CONTEXTS.iter().chain(AUDIT).chain(DIALECTS).flat_map(|(_, places)| places.iter());
    for (nth, place) in places.filter(|place| !place.contains('␤')).enumerate() {
        let (name, value) = (KEY_NAMES[nth % KEY_NAMES.len()], random.text(ALNUM, 24));
        let (text, _) = planted(place, name, &value);
        if redact(engine(), &text, false).contains(&value) {
            continue;
        }
        found += 1;
        let line = within_url(&text);
        let event = serde_json::json!({ "m": line }).to_string();
        if redact(engine(), &line, false).contains(&value) || redact(engine(), &event, true).contains(&value) {
            missed.push(line);
        }
    }
    println!("{found} values found in plain texts, {} of them not where a URL encodes the text", missed.len());
    assert!(missed.len() * 100 <= found * 4, "of {found} values these are left: {missed:#?}");
}

/// What installed code, documents and settings hold that is no secret stays. Addresses of their authors are addresses,
/// and keys that vendors publish are keys, so these are shown and not counted.
#[test]
fn clean_text_stays() {
    let per_kind = std::env::var("WEIR_CLEAN").ok().and_then(|count| count.parse().ok()).unwrap_or(120);
    let show = std::env::var("WEIR_SHOW").unwrap_or_default();
    let (mut events, mut lines, mut wrong) = (0, 0, 0);
    let mut rules: BTreeMap<String, usize> = BTreeMap::new();
    for (kind, file, text) in clean::events(per_kind) {
        (events, lines) = (events + 1, lines + text.lines().count());
        for found in engine().explain(text.as_bytes()) {
            *rules.entry(found.rule.clone()).or_default() += 1;
            let counted = ["credential", "authorization", "connection_string", "card", "iban", "prefixed_key"];
            wrong += usize::from(counted.contains(&found.rule.as_str()));
            if show == kind || show == "all" {
                let before = text[..found.start].lines().next_back().unwrap_or_default();
                println!("  {file}: {}: {before}«{}»", found.rule, short(&text[found.start..found.end]));
            }
        }
    }
    let per = 10_000.0 * wrong as f64 / lines.max(1) as f64;
    println!("{lines} lines in {events} clean events, {per:.2} per 10,000 lines taken, by rule {rules:?}");
    assert!(wrong * 10_000 <= 5 * lines + 10_000, "{per:.2} of 10,000 lines lose what is no secret: {rules:?}");
}

/// Arrays, frames and identifiers of 13 to 19 digits, of which many pass a card's check.
#[test]
fn numbers_are_not_taken_for_cards() {
    let mut random = Random::new(17);
    let (mut lines, mut wrong) = (0, Vec::new());
    for _ in 0..10_000 {
        let number = |random: &mut Random| {
            let len = 13 + random.below(7);
            let head = ["4", "51", "37", "6011", "6037", "35", ""][random.below(7)];
            format!("{head}{}", random.text("0123456789", len - head.len()))
        };
        let (a, b, c) = (number(&mut random), number(&mut random), number(&mut random));
        let four = |random: &mut Random| random.text("123456789", 4);
        let groups: Vec<String> = (0..4 + random.below(5)).map(|_| four(&mut random)).collect();
        let line = match random.below(12) {
            0 => format!("array([{a}, {b}, {c}])"),
            1 => format!("[{}]", groups.join(" ")),
            2 => format!("{}   {a}   {b}\n{}   {c}   {a}", groups[0], groups[1]),
            3 => format!("id={a} request_id={b}"),
            4 => format!("{a},{b},{c}"),
            5 => format!("x = {a}"),
            6 => format!("{}\n{}", groups.join("  "), groups.join("  ")),
            7 => format!("{{\"user_id\": {a}, \"order\": \"{b}\"}}"),
            8 => format!("2024-01-01 00:00:00 {a} INFO trace={b}"),
            9 => format!("0.{a} 1.{b} -0.{c}"),
            10 => format!("{}\t{}\t{a}", groups[0], groups[1]),
            _ => format!("snowflake {a} seq {b}"),
        };
        lines += line.lines().count();
        let found = engine().explain(line.as_bytes()).into_iter().filter(|found| found.rule == "card");
        wrong.extend(found.map(|found| format!("{line}: {}", &line[found.start..found.end])));
    }
    assert!(wrong.is_empty(), "{} of {lines} lines: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
}

fn short(line: &str) -> String {
    line.trim().chars().take(150).collect()
}
