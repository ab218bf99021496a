//! What redaction finds and what it leaves, measured on a corpus of its own.

use std::collections::BTreeMap;

use weir::codec::redaction::Engine;

use crate::support::corpus::contexts::CONTEXTS;
use crate::support::corpus::{
    ESCAPES, Escape, HUMAN, KEY_NAMES, PASSWORD_NAMES, Random, clean, password_value, planted, random_value, read_back,
    redact, vendors, written,
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
            let exact = clean.starts_with(before) && clean.ends_with(after);
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

#[test]
fn the_notation_of_a_text_changes_nothing() {
    let mut random = Random::new(3);
    let mut different = Vec::new();
    let places = CONTEXTS.iter().flat_map(|(_, places)| places.iter());
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

#[test]
fn clean_text_stays() {
    let per_kind = std::env::var("WEIR_CLEAN").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let show = std::env::var("WEIR_SHOW").unwrap_or_default();
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut rules: BTreeMap<String, usize> = BTreeMap::new();
    for (kind, file, text) in clean::events(per_kind) {
        let line = serde_json::json!({ "code": text }).to_string();
        let cleaned = redact(engine(), &line, true);
        let count = kinds.entry(kind).or_default();
        count.0 += 1;
        if cleaned == line {
            continue;
        }
        count.1 += 1;
        let value: serde_json::Value = serde_json::from_str(&cleaned).expect("JSON");
        for entry in value["redactions"].as_array().into_iter().flatten() {
            *rules.entry(entry["rule"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        if show == kind || show == "all" {
            let after = value["code"].as_str().unwrap_or_default();
            let lines = text.lines().zip(after.lines()).filter(|(before, after)| before != after);
            let names = file.rsplit('/').next().unwrap_or_default();
            lines.take(3).for_each(|(before, after)| println!("  {names}: {} => {}", short(before), short(after)));
        }
    }
    let (all, changed) = kinds.values().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    for (kind, (all, changed)) in &kinds {
        println!("{kind:>12} {all:6} events {changed:5} changed");
    }
    println!(
        "{all} clean events, {:.1} per 10,000 changed, by rule {rules:?}",
        10_000.0 * changed as f64 / all.max(1) as f64
    );
}

fn short(line: &str) -> String {
    line.trim().chars().take(150).collect()
}
