//! Tests of JSON decoding: items of a document, refusals, and hostile input in linear time.

use super::super::tests::{decode, document, lines, texts};
use super::*;

fn refused(text: &str) -> Vec<(u64, String)> {
    document(&Json, text.as_bytes()).1
}

#[test]
fn ndjson_is_not_copied() {
    let chunk = Bytes::from_static(b"{\"a\":1}\n{\"b\": [1,\t2]}\n");
    for frames in [Frames::Lines, Frames::Document] {
        let provenance = decode(&Json, b"", Frames::Lines, Ordinals::Count(0), true).batch.provenance;
        let limits = Limits { event_bytes: 100, values: 10 };
        let decoded = Json.decode(chunk.clone(), &frames, Ordinals::Offset(40), provenance, &limits, true);
        let lines = decoded.batch.render();
        assert_eq!(lines.bytes.as_ptr(), chunk.as_ptr());
        assert_eq!(lines.bytes, chunk);
        assert_eq!((decoded.batch.ordinal(0), decoded.batch.ordinal(1)), (40, 48));
    }
}

#[test]
fn a_line_holds_objects_or_arrays_of_them_and_nothing_else() {
    let text = b"{\"a\":1}\r\n\n[{\"b\":2}]\n5\n{\"c\":3} {\"d\":4}{}\n{\"g\":6}x\n{\"e\":\n  {\"f\":5}  \n{\"x\":\"\xff\"}\nnull";
    let (events, refused) = lines(&Json, text);
    let mended = "{\"x\":\"\u{fffd}\",\"encoding_error\":true}";
    assert_eq!(events, [r#"{"a":1}"#, r#"{"b":2}"#, r#"{"c":3}"#, r#"{"d":4}"#, "{}", r#"{"f":5}"#, mended]);
    let expected = [
        (2, NO_OBJECT),
        (6, "more text after the value at byte 7"),
        (7, "an object or array is not closed at byte 5"),
        (10, NO_OBJECT),
    ];
    assert_eq!(refused, expected.map(|(index, reason)| (index, reason.to_owned())));
}

#[test]
fn lines_are_read_as_a_document_of_them_is() {
    let text = b"[{\"c\":1},{\"d\":2}]\n{\"x\":1} {bad} {\"y\":2}\n{\"z\":1}\n[]\n[{\"a\":1},7]{\"b\":1}\n[{\"a\":2},{\"b\"}] {\"c\":3}\n\
        {\"a\":3}[{\"b\":4}]\n[{\"a\":5}";
    let (events, refused) = lines(&Json, text);
    assert_eq!((&events, &refused), (&document(&Json, text).0, &document(&Json, text).1));
    let expected = ["c", "d", "x", "z", "a", "b", "c", "a", "b"];
    assert_eq!(events.iter().map(|event| &event[2..3]).collect::<Vec<_>>(), expected);
    assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 6, 8, 12]);
}

#[test]
fn a_document_is_an_object_an_array_or_values_apart() {
    let cases: [(&str, &[&str]); 8] = [
        ("{\n  \"a\": {\r\n    \"b\": \"x\\n\" }\n}\n", &["{   \"a\": {      \"b\": \"x\\n\" } }"]),
        ("[{\"a\":1},\n {\"b\":2}]", &[r#"{"a":1}"#, r#"{"b":2}"#]),
        ("{\"a\":1} {\"b\":2}\t{\"c\":3}\n{\"d\":4}", &[r#"{"a":1}"#, r#"{"b":2}"#, r#"{"c":3}"#, r#"{"d":4}"#]),
        ("[]\n[ ] {\"a\":1} [{\"b\":2}]", &[r#"{"a":1}"#, r#"{"b":2}"#]),
        ("\u{feff}{\"a\":1}", &[r#"{"a":1}"#]),
        ("{\"a\":1}\r\n{\"b\":2}\r\n", &[r#"{"a":1}"#, r#"{"b":2}"#]),
        ("{\"a\":1} {\n\"b\":2} {\"c\":3}", &[r#"{"a":1}"#, r#"{ "b":2}"#, r#"{"c":3}"#]),
        (" \n\t", &[]),
    ];
    for (text, expected) in cases {
        let (events, refused) = document(&Json, text.as_bytes());
        assert_eq!(events, expected, "{text}");
        assert!(refused.is_empty(), "{text}: {refused:?}");
    }
}

#[test]
fn a_broken_value_is_refused_up_to_the_end_of_its_line() {
    let text = "{\"a\":1}\n{\"b\":oops} {\"c\":2}\n{\"d\":3}\n\"x\" 7 {\"e\":4}\n{\"f\":5},\n{\"g\":\n{\"h\":6}\n";
    let (events, refused) = document(&Json, text.as_bytes());
    assert_eq!(events, [r#"{"a":1}"#, r#"{"d":3}"#, r#"{"e":4}"#, r#"{"h":6}"#]);
    let expected = [
        (1, "expected a value at byte 5"),
        (3, NO_OBJECT),
        (4, NO_OBJECT),
        (6, "more text after the value at byte 7"),
        (7, "an object or array is not closed at byte 13"),
    ];
    let last = refused.last().expect("five are refused").clone();
    assert_eq!(refused[..4], expected[..4].iter().map(|(n, reason)| (*n, reason.to_string())).collect::<Vec<_>>());
    assert_eq!(last.0, 7);
    assert!(last.1.starts_with("an object or array is not closed"), "{}", last.1);
}

#[test]
fn a_broken_array_is_refused_whole() {
    let text = "{\"a\":1}\n[{\"b\":2},\n{\"c\":},\n{\"d\":4}]\n{\"e\":5}\n[{\"f\":6},\n{\"g\":7}\n";
    let decoded = decode(&Json, text.as_bytes(), Frames::Document, Ordinals::Count(0), true);
    assert_eq!(texts(&decoded.batch), [r#"{"a":1}"#, r#"{"e":5}"#]);
    assert_eq!(decoded.refused.len(), 2);
    assert_eq!(decoded.refused[0].text, "[{\"b\":2},\n{\"c\":},\n{\"d\":4}]");
    assert_eq!((decoded.refused[0].index, decoded.refused[0].offset), (1, 8));
    assert_eq!(decoded.refused[0].reason, "expected a value at byte 15");
    assert_eq!((decoded.refused[1].index, decoded.items), (3, 4));
    assert_eq!((decoded.batch.ordinal(0), decoded.batch.ordinal(1)), (0, 2));
    assert_eq!(refused("[{\"a\":1} {\"b\":2}]")[0].0, 0);
    assert_eq!(refused("[{\"a\":1},]").len(), 1);
    assert_eq!(refused("[{\"a\":1}]x").len(), 2);
}

#[test]
fn elements_that_are_no_objects_are_refused_by_index() {
    let (events, refused) = document(&Json, b"[{\"a\":1}, 5, [{\"b\":2}], {\"c\":3}]");
    assert_eq!(events, [r#"{"a":1}"#, r#"{"c":3}"#]);
    assert_eq!(refused, [(1, NO_OBJECT.to_owned()), (2, NO_OBJECT.to_owned())]);
}

#[test]
fn sizes_and_counts_have_their_bounds() {
    let provenance = decode(&Json, b"", Frames::Lines, Ordinals::Count(0), true).batch.provenance;
    let limits = Limits { event_bytes: 12, values: 3 };
    let run = |text: &str, frames| {
        let chunk = Bytes::copy_from_slice(text.as_bytes());
        Json.decode(chunk, &frames, Ordinals::Count(0), provenance.clone(), &limits, true)
    };
    let text = "{\"a\":\"12345\"}\n{\"a\":\"1234\"}\n";
    for frames in [Frames::Lines, Frames::Document] {
        let decoded = run(text, frames);
        assert_eq!(texts(&decoded.batch), [r#"{"a":"1234"}"#]);
        assert_eq!(decoded.refused[0].reason, "larger than 12 bytes");
    }
    assert_eq!(run("{} {} {}", Frames::Document).batch.len(), 3);
    for text in ["{} {} {} {}", "[{},{},{},{}]", "[1,2,3]\n{}", "[{},{}]\nx\ny"] {
        let decoded = run(text, Frames::Document);
        assert_eq!((decoded.batch.len(), decoded.items), (0, 1), "{text}");
        assert_eq!(decoded.refused[0].reason, "more than 3 values in one request");
        assert_eq!(decoded.refused[0].text, text);
    }
    assert_eq!(run("{}\n{}\n{}\n{}\n", Frames::Lines).batch.len(), 4);
}

#[test]
fn only_the_start_of_an_origin_loses_its_byte_order_mark() {
    let text = "\u{feff}{\"a\":1}\n\u{feff}{\"b\":2}\n".as_bytes();
    let (events, refused) = lines(&Json, text);
    assert_eq!((events.len(), refused.len()), (1, 1));
    assert_eq!(decode(&Json, text, Frames::Lines, Ordinals::Offset(9), true).batch.len(), 0);
}

#[test]
fn a_frame_may_hold_line_breaks_and_none_come_out() {
    let text = b"{\"a\":\n1}{\n}";
    let decoded = decode(&Json, text, Frames::At(vec![0..8, 8..11]), Ordinals::Given(vec![70, 90]), true);
    assert_eq!(texts(&decoded.batch), ["{\"a\": 1}", "{ }"]);
    assert_eq!((decoded.batch.ordinal(0), decoded.batch.ordinal(1)), (70, 90));
}

/// Each of these took a minute or more before its kind of work was bounded; the size is what holds them to it.
#[test]
fn hostile_documents_cost_no_more_than_their_size() {
    const SIZE: usize = 4 << 20;
    let large = format!("{{\"a\":\"{}\"}}\n", "x".repeat(1 << 19));
    let cases = [
        "{\"a\":[\n".repeat(SIZE / 7),
        "[".repeat(SIZE),
        "[\n".repeat(SIZE / 2),
        "{}".repeat(SIZE / 2),
        "{} ".repeat(SIZE / 3),
        "\"".repeat(SIZE),
        "\"\n".repeat(SIZE / 2),
        "[[],".repeat(SIZE / 4),
        "{\"a\":1,\n\"b\":2,\n".repeat(SIZE / 16),
        format!("{{\"a\":[{}", "1,\n".repeat(SIZE / 3)),
        format!("{}{}", large, "\"b\":2,\n".repeat(SIZE / 7)),
        format!("{}{}", large, "{\"b\"\n".repeat(SIZE / 5)),
        " ".repeat(SIZE),
    ];
    let provenance = decode(&Json, b"", Frames::Lines, Ordinals::Count(0), true).batch.provenance;
    for text in cases {
        let limits = Limits { event_bytes: 1 << 20, values: SIZE };
        let chunk = Bytes::from(text);
        let decoded = Json.decode(chunk, &Frames::Document, Ordinals::Count(0), provenance.clone(), &limits, true);
        assert_eq!(decoded.items, decoded.batch.len() as u64 + decoded.refused.len() as u64);
    }
}

#[test]
fn text_that_is_not_utf_8_is_mended_and_says_so_in_lines_frames_and_documents() {
    let text = b"{\"a\":1}\n{\"b\":\"x\xffy\xe2\x82\"}\n\n{\"c\":\xff}\n{\"d\":\"\\u00e9\"}";
    for split in [true, false] {
        let decoded = decode(&Json, text, Frames::Lines, Ordinals::Offset(100), split);
        let events = ["{\"a\":1}", "{\"b\":\"x\u{fffd}y\u{fffd}\",\"encoding_error\":true}", "{\"d\":\"\\u00e9\"}"];
        assert_eq!(texts(&decoded.batch), events);
        let ordinals: Vec<u64> = (0..3).map(|event| decoded.batch.ordinal(event)).collect();
        assert_eq!(ordinals, [100, 108, 131], "ids follow from where the line was");
        assert_eq!(decoded.refused.len(), 1);
        assert_eq!((decoded.refused[0].offset, &decoded.refused[0].text[..]), (23, &b"{\"c\":\xff}"[..]));
        let document = decode(&Json, text, Frames::Document, Ordinals::Count(0), split);
        assert_eq!(texts(&document.batch), events);
        let frames = Frames::At(vec![0..7, 8..21, 23..30]);
        let framed = decode(&Json, text, frames, Ordinals::Given(vec![5, 6, 7]), split);
        assert_eq!((texts(&framed.batch).len(), framed.batch.ordinal(1), framed.refused.len()), (2, 6, 1));
    }
    let (events, refused) = document(&Json, b"[{\"a\":\"\xff\"},{\"b\":2}]");
    assert_eq!(events, ["{\"a\":\"\u{fffd}\",\"encoding_error\":true}", "{\"b\":2}"]);
    assert!(refused.is_empty());
}
