//! Values of a column that has few different ones: each once, by its code.

use super::value::{UUID_BYTES, is_json, write_uuid};
use crate::query::FieldTest;
use crate::varint::take_bytes;

/// Values of a dictionary column; the code of a row is one more than the place of its value.
pub struct Dictionary {
    bytes: Vec<u8>,
    spans: Vec<(u32, u32)>,
}

impl Dictionary {
    pub fn read(bytes: Vec<u8>) -> Option<Dictionary> {
        let (mut rest, mut spans) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let value = take_bytes(&mut rest).filter(|value| is_json(value))?;
            let start = (value.as_ptr() as usize - bytes.as_ptr() as usize) as u32;
            spans.push((start, start + value.len() as u32));
        }
        Some(Dictionary { bytes, spans })
    }

    /// One whose values are all UUIDs.
    pub fn of_uuids(bits: &[u8]) -> Option<Dictionary> {
        let (uuids, []) = bits.as_chunks::<16>() else { return None };
        let (mut bytes, mut spans) = (Vec::with_capacity(uuids.len() * (UUID_BYTES + 3)), Vec::new());
        for bits in uuids {
            bytes.push((UUID_BYTES + 2) as u8);
            let start = bytes.len() as u32;
            write_uuid(u128::from_le_bytes(*bits), &mut bytes);
            spans.push((start, bytes.len() as u32));
        }
        Some(Dictionary { bytes, spans })
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The JSON of all values, with bytes between them.
    pub fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// The JSON of the value with this code.
    pub fn get(&self, code: i64) -> Option<&[u8]> {
        let (from, to) = *self.spans.get(usize::try_from(code).ok()?.checked_sub(1)?)?;
        Some(&self.bytes[from as usize..to as usize])
    }

    /// Of each value whether a test accepts it. Those that may be are found by a look at all together.
    pub fn accepted(&self, test: &FieldTest) -> Vec<bool> {
        let value = |nth: usize| &self.bytes[self.spans[nth].0 as usize..self.spans[nth].1 as usize];
        let Some(places) = test.places_within(&self.bytes) else {
            return (0..self.len()).map(|nth| test.accepts_json(value(nth))).collect();
        };
        let mut accepted = vec![false; self.len()];
        for place in places {
            // Behind the last value that ends before it: a place between two is one of neither.
            let nth = self.spans.partition_point(|(_, end)| *end as usize <= place);
            if nth < self.len() && !accepted[nth] {
                accepted[nth] = test.accepts_json(value(nth));
            }
        }
        accepted
    }

    pub fn weight(&self) -> usize {
        self.bytes.len() + self.spans.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::query::Query;
    use crate::varint::put_bytes;

    proptest! {
        #[test]
        fn values_that_are_found_together_are_those_that_are_found_one_by_one(
            values in proptest::collection::vec(r#"[abAB12 "\\é]{0,6}"#, 1..30), needle in "[ab12é]{1,3}", begins: bool, ends: bool,
        ) {
            let mut bytes = Vec::new();
            let json = values.iter().map(|value| serde_json::json!(value).to_string());
            let others = ["12", "true", "null", r#"["ab",1]"#, r#"{"a":"b"}"#, r#""\u0061b""#].map(str::to_owned);
            json.chain(others.into_iter().take(if begins { 5 } else { 6 })).for_each(|json| put_bytes(&mut bytes, json.as_bytes()));
            let dictionary = Dictionary::read(bytes).expect("a dictionary");
            let pattern = format!("{}{needle}{}", if begins { "" } else { "*" }, if ends { "" } else { "*" });
            for query in [format!("x:{pattern}"), format!("code:{needle}")] {
                let query = Query::parse(&query).expect("a query");
                let test = FieldTest::new(query.expr().tests()[0]).expect("of a field");
                let one_by_one = (1..=dictionary.len() as i64).map(|code| test.accepts_json(dictionary.get(code).unwrap()));
                prop_assert_eq!(dictionary.accepted(&test), one_by_one.collect::<Vec<_>>(), "{}", query.text());
            }
        }
    }
}
