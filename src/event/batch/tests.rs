//! Tests of a batch against a plain list of fields: untouched fields keep their bytes and order.

use proptest::prelude::*;

use super::*;
use crate::event::escape::{self, unescape};
use crate::event::scan::tests::object_text;

fn provenance() -> Arc<Provenance> {
    let (source, received_at) = ("test".into(), Timestamp(0));
    Arc::new(Provenance { source, seed: Seed([3; 16]), received_at, peer: None, stamp: None })
}

fn batch_of(events: &[impl AsRef<str>]) -> Batch {
    let mut text = String::new();
    let mut ranges = Vec::new();
    for event in events {
        ranges.push(text.len()..text.len() + event.as_ref().len());
        text.push_str(event.as_ref());
        text.push('\n');
    }
    let mut batch = Batch::new(Bytes::from(text), provenance());
    let (mut scanner, mut scratch) = (Scanner::new(), Vec::new());
    for (nth, range) in ranges.into_iter().enumerate() {
        batch.push_split(range, nth as u64, &mut scanner, &mut scratch).expect("valid");
    }
    batch
}

/// A field as the model keeps it: the name as it is written (or will be), and its value's text.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Entry {
    fn name(&self) -> String {
        unescape(&self.key).into_owned()
    }
}

/// Members in order; of those with one name only the last.
fn model(text: &[u8]) -> Vec<Entry> {
    let all = Raw(text).members().map(|(key, value)| Entry { key: key.to_vec(), value: value.0.to_vec() });
    let mut kept: Vec<Entry> = Vec::new();
    for entry in all {
        kept.retain(|other| other.name() != entry.name());
        kept.push(entry);
    }
    kept
}

#[derive(Clone, Debug)]
enum Edit {
    Str(String, String),
    Json(String, String),
    Nth(usize, String),
    Remove(String),
    Rename(usize, String),
    Keep(u64),
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = prop_oneof!["(id|status|a|b|x y|\"|\\\\)", "\\PC{0,3}"];
    let value = prop_oneof![Just("null"), Just("-0"), Just("1e400"), Just("[1, 2]"), Just(r#"{"a": "é\n"}"#)];
    let (json, json_too) = (value.clone().prop_map(str::to_owned), value.prop_map(str::to_owned));
    prop_oneof![
        (name.clone(), any::<String>()).prop_map(|(name, text)| Edit::Str(name, text)),
        (name.clone(), json).prop_map(|(name, json)| Edit::Json(name, json)),
        (0..9usize, json_too).prop_map(|(nth, json)| Edit::Nth(nth, json)),
        name.clone().prop_map(Edit::Remove),
        (0..9usize, name).prop_map(|(nth, name)| Edit::Rename(nth, name)),
        any::<u64>().prop_map(Edit::Keep),
    ]
}

fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    escape::push_string(&mut out, text);
    out
}

fn inside(text: &str) -> Vec<u8> {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_vec()
}

fn put(model: &mut Vec<Entry>, name: &str, value: Vec<u8>) {
    match model.iter_mut().find(|entry| entry.name() == name) {
        Some(entry) => entry.value = value,
        None => model.push(Entry { key: inside(name), value }),
    }
}

fn apply(batch: &mut Batch, event: usize, model: &mut Vec<Entry>, edit: &Edit) {
    match edit {
        Edit::Str(name, text) => {
            let id = batch.name_id(name);
            batch.set_str(event, id, text);
            put(model, name, quoted(text));
        }
        Edit::Json(name, json) => {
            let id = batch.name_id(name);
            batch.set_json(event, id, json.as_bytes());
            put(model, name, json.clone().into_bytes());
        }
        Edit::Nth(nth, json) if *nth < model.len() => {
            batch.set_nth(event, *nth, json.as_bytes());
            model[*nth].value = json.clone().into_bytes();
        }
        Edit::Remove(name) => {
            let id = batch.name_id(name);
            let had = model.iter().position(|entry| entry.name() == *name).map(|at| model.remove(at)).is_some();
            assert_eq!(batch.remove(event, id), had);
        }
        Edit::Rename(nth, name) if *nth < model.len() && model.iter().all(|entry| entry.name() != *name) => {
            let id = batch.name_id(name);
            batch.rename_nth(event, *nth, id);
            model[*nth].key = inside(name);
        }
        Edit::Keep(mask) => {
            batch.keep_fields(event, |nth| nth > 8 || mask >> nth & 1 == 1);
            let mut nth = 0;
            model.retain(|_| {
                nth += 1;
                nth > 9 || mask >> (nth - 1) & 1 == 1
            });
        }
        _ => {}
    }
}

fn check(batch: &Batch, event: usize, model: &[Entry]) -> Result<(), TestCaseError> {
    let mut line = Vec::new();
    batch.render_event(event, &mut line);
    prop_assert_eq!(Scanner::plain().validate(&line), Ok(()));
    let entry = |(key, value): (&[u8], Raw)| Entry { key: key.to_vec(), value: value.0.to_vec() };
    let rendered: Vec<_> = Raw(&line).members().map(entry).collect();
    prop_assert_eq!(&rendered[..], model);
    prop_assert_eq!(batch.field_count(event), model.len());
    for (nth, entry) in model.iter().enumerate() {
        let name = batch.find_name(&entry.name()).expect("the batch has the name");
        prop_assert_eq!(batch.get(event, name).map(|value| value.0), Some(&entry.value[..]));
        let (nth_name, nth_value) = batch.nth(event, nth);
        prop_assert_eq!((batch.name(nth_name), nth_value.0), (&entry.name()[..], &entry.value[..]));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_no_transform_touched_comes_out_as_it_went_in(
        texts in prop::collection::vec(object_text(), 1..6),
        edits in prop::collection::vec((any::<prop::sample::Index>(), edit()), 0..24),
    ) {
        let valid = |text: &String| Scanner::plain().validate(text.as_bytes()).is_ok();
        let one_line = |text: String| text.replace('\n', " ").trim().to_owned();
        let mut texts: Vec<_> = texts.into_iter().filter(valid).map(one_line).collect();
        texts.push(r#"{"a": 1, "b":[2] ,"c":3}"#.to_owned());
        let mut batch = batch_of(&texts);
        let mut models: Vec<_> = texts.iter().map(|text| model(text.as_bytes())).collect();
        for (event, model) in models.iter().enumerate() {
            check(&batch, event, model)?;
        }
        for (place, edit) in &edits {
            let event = place.index(texts.len());
            apply(&mut batch, event, &mut models[event], edit);
        }
        for (event, model) in models.iter().enumerate() {
            check(&batch, event, model)?;
        }
        let lines = batch.render();
        let mut expected = Vec::new();
        for event in 0..texts.len() {
            batch.render_event(event, &mut expected);
            expected.push(b'\n');
            prop_assert_eq!(lines.ends[event] as usize, expected.len());
        }
        prop_assert_eq!(&lines.bytes[..], &expected[..]);
    }

    #[test]
    fn text_is_escaped_and_comes_back(text in any::<String>(), tail in "[a-z\"\\\\\u{0}-\u{1f}é]{0,24}") {
        let text = text + &tail;
        let mut out = Vec::new();
        escape::push_string(&mut out, &text);
        prop_assert_eq!(Scanner::plain().validate(&out), Ok(()));
        let decoded = Raw(&out).as_str().map(|text| text.into_owned());
        prop_assert_eq!(decoded, Some(text.clone()));
        prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("a string"), text);
    }
}

#[test]
fn untouched_events_keep_every_byte() {
    let texts = [
        r#"{ "big" : 123456789012345678901234567890, "n":1.0e+0 , "n2":-0.000, "\u0061\/":"\u00e9\/é" }"#,
        r#"{"z":1,"a":{"z":[ 1 , {"k":"v"} ],"a":null},"🦀":"\ud83e\udd80"}"#,
    ];
    let batch = batch_of(&texts);
    let lines = batch.render();
    assert_eq!((lines.line(0), lines.line(1)), (texts[0].as_bytes(), texts[1].as_bytes()));
    assert_eq!(lines.bytes.as_ptr(), batch.input.as_ptr());
}

#[test]
fn fields_set_in_several_passes_stay_in_order() {
    let mut batch = batch_of(&[r#"{"a":1, "b":2}"#, r#"{"a":3}"#, "{}"]);
    for pass in 0..12 {
        let name = batch.name_id(&format!("p{pass}"));
        for event in 0..3 {
            batch.set_json(event, name, pass.to_string().as_bytes());
        }
    }
    let passes: Vec<_> = (0..12).map(|pass| format!("\"p{pass}\":{pass}")).collect();
    let passes = passes.join(",");
    let lines = batch.render();
    let rendered: Vec<_> = (0..3).map(|n| std::str::from_utf8(lines.line(n)).expect("UTF-8")).collect();
    let expected = [format!("{{\"a\":1, \"b\":2,{passes}}}"), format!("{{\"a\":3,{passes}}}"), format!("{{{passes}}}")];
    assert_eq!(rendered, expected);
}

#[test]
fn of_members_with_one_name_the_last_stands_however_it_is_spelt() {
    let twice = r#"{"a":1,"b":2,"a":3}"#;
    let batch = batch_of(&[r#"{"a":1,"b":2,"\u0061":3}"#, r#"{"a":1,"b":2,"c":3}"#, twice, twice, twice]);
    let lines = batch.render();
    let once = "{\"b\":2,\"a\":3}\n".repeat(3);
    assert_eq!(lines.bytes, format!("{{\"b\":2,\"\\u0061\":3}}\n{{\"a\":1,\"b\":2,\"c\":3}}\n{once}"));
}

#[test]
fn many_members_and_many_names_stay_linear() {
    let wide = |from: usize, count: usize| {
        let members: Vec<_> = (from..from + count).map(|n| format!("\"name_{n}\":{n}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let repeated = format!("{{{}}}", vec!["\"a\":1"; 10_000].join(","));
    let events: Vec<_> = (0..10).map(|n| wide(n * 10_000, 10_000)).chain([repeated]).collect();
    let batch = batch_of(&events);
    assert_eq!((batch.field_count(9), batch.field_count(10)), (10_000, 1));
    assert_eq!(batch.name(batch.nth(9, 9_999).0), "name_99999");
    assert_eq!(batch.render().line(9), events[9].as_bytes());
    // The table holds the fields and little else.
    assert!(batch.pinned_bytes() < 12 << 20, "{}", batch.pinned_bytes());
}
