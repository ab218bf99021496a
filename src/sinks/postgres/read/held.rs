//! What a JSON value or a text holds, as SQL: its elements, a text, a number, a time. None of it fails on any value.

/// Lists within lists are looked into this deep.
const ELEMENTS: &str = "lax $[*][*][*][*][*][*][*][*]";
/// What `query::number` reads, which is no greater than a double.
const NUMBER: &str = "^[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?0*([0-9]{1,2}|[12][0-9]{2}|30[0-7]))?$";
/// A day that the calendar has. A value that Postgres cannot read as a time would end the whole question.
const DAY: &str = "((?!0000)[0-9]{4}-(((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01]))|((0[469]|11)-(0[1-9]|[12][0-9]|30))|\
                   (02-(0[1-9]|1[0-9]|2[0-8])))|(([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29))";
/// Postgres has no year 0.
const YEAR_0: &str = "^0000-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])($|[Tt ])";
const MINUTE: &str = "[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]";
const SECOND: &str = ":([0-5][0-9]|60)([.,][0-9]+)?";
const OFFSET: &str = "([Zz]|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)";

/// That a JSON value, or some element of a list, is as `holds` says of one value that is no list.
pub fn some_element(json: &str, holds: impl Fn(&str) -> String) -> String {
    format!(
        "CASE jsonb_typeof({json}) WHEN 'array' THEN EXISTS (SELECT FROM jsonb_path_query({json}, '{ELEMENTS}') e(v) \
         WHERE {}) ELSE {} END",
        holds("e.v"),
        holds(json)
    )
}

/// The text of a JSON value of one of these types; NULL for others.
pub fn text_of(json: &str, types: &[&str]) -> String {
    let of = types.iter().map(|kind| match *kind {
        "null" => " WHEN 'null' THEN 'null'".to_owned(),
        kind => format!(" WHEN '{kind}' THEN {json} #>> '{{}}'"),
    });
    format!("CASE jsonb_typeof({json}){} END", of.collect::<String>())
}

/// The number that a text is; NULL if it is none.
pub fn number_in(text: &str) -> String {
    format!("CASE WHEN {text} ~ '{NUMBER}' THEN ({text})::numeric END")
}

/// The time that a text is, or the first of the day or minute that it names; NULL if it is none.
pub fn time_in(text: &str) -> String {
    format!(
        "CASE WHEN {text} !~ '^[0-9]{{4}}-' THEN NULL WHEN {text} ~ '{YEAR_0}' THEN '-infinity'::timestamptz \
         WHEN {text} ~ '^{DAY}{MINUTE}{SECOND}{OFFSET}$' THEN replace({text}, ',', '.')::timestamptz \
         WHEN {text} ~ '^{DAY}{MINUTE}{SECOND}$' THEN (replace({text}, ',', '.') || 'Z')::timestamptz \
         WHEN {text} ~ '^{DAY}{MINUTE}$' THEN ({text} || ':00Z')::timestamptz \
         WHEN {text} ~ '^{DAY}$' THEN ({text} || 'T00:00:00Z')::timestamptz END"
    )
}
