//! The collector's answers, by the codes that Splunk documents.

use serde_json::Value;

use crate::component::Failure;
use crate::net::client::Answer;
use crate::toolkit::reply;

/// What an answer says. Members of an unexpected kind count as absent; those that are not known are no matter.
#[derive(Debug, Default)]
pub struct HecAnswer {
    code: Option<u64>,
    text: Option<String>,
    invalid_event_number: Option<usize>,
    pub ack_id: Option<u64>,
    /// Whether the body is JSON at all.
    is_json: bool,
}

impl HecAnswer {
    pub fn read(answer: &Answer) -> HecAnswer {
        let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { return HecAnswer::default() };
        let number = |name: &str| match &body[name] {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        };
        HecAnswer {
            code: number("code"),
            text: body["text"].as_str().map(str::to_owned),
            invalid_event_number: number("invalid-event-number").and_then(|number| number.try_into().ok()),
            ack_id: number("ackId"),
            is_json: body.is_object(),
        }
    }

    /// `Ok` only if the collector itself says that it took the events: a status alone may come from any web server.
    pub fn classify(&self, answer: &Answer) -> Result<(), Failure> {
        let Some(code) = self.code else { return self.without_code(answer) };
        let text = self.text.as_deref().map(reply::shown).unwrap_or_default();
        let said = || format!("{}: {text} (code {code})", answer.status);
        match code {
            0 | 17 if answer.status.is_success() => Ok(()),
            // The token is disabled, absent, of another scheme or unknown; the index is not the token's; the channel is
            // absent or wrong; acknowledgements are off.
            1..=4 | 7 | 10 | 11 | 14 | 16 | 21 | 22 => Err(Failure::Configuration { answer: said() }),
            // No data, no JSON, an event that is absent or blank, fields that are no fields.
            5 | 6 | 12 | 13 | 15 => Err(Failure::Poison { answer: said() }),
            // An error inside, a full queue, a shutdown.
            8 | 9 | 18..=20 | 23 => Err(Failure::Transient { answer: said(), after: answer.retry_after() }),
            _ if answer.status.is_success() => Err(Failure::Configuration { answer: said() }),
            _ => reply::classify(answer),
        }
    }

    /// Proxies and other collectors refuse without a code; nobody takes events without one.
    fn without_code(&self, answer: &Answer) -> Result<(), Failure> {
        reply::classify(answer)?;
        let said = reply::said(answer);
        let is_broken_json = !self.is_json && answer.body.trim_ascii_start().starts_with(b"{");
        Err(match is_broken_json || answer.body.is_empty() {
            true => Failure::transient(format!("unreadable answer, so nothing counts as delivered: {said}")),
            false => Failure::configuration(format!("not an event collector (no code in the answer): {said}")),
        })
    }

    /// Which event the code is about, where it is about one.
    pub fn invalid_event(&self) -> Option<usize> {
        self.invalid_event_number.filter(|_| matches!(self.code, Some(6 | 7 | 12 | 13 | 15)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};

    use super::*;

    fn classified(status: u16, body: &'static str) -> (Result<(), Failure>, Option<usize>) {
        let status = StatusCode::from_u16(status).expect("a status");
        let answer =
            Answer { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()), is_whole: true };
        let read = HecAnswer::read(&answer);
        (read.classify(&answer), read.invalid_event())
    }

    #[test]
    fn each_code_has_its_class() {
        assert_eq!(classified(200, r#"{"text":"Success","code":0}"#).0, Ok(()));
        assert_eq!(classified(200, r#"{"text":"HEC is healthy","code":17}"#).0, Ok(()));
        for (status, body) in [(403, 1), (401, 2), (401, 3), (403, 4), (400, 7), (400, 10), (400, 11), (400, 14)] {
            let body: &'static str = format!(r#"{{"text":"no","code":{body}}}"#).leak();
            assert!(matches!(classified(status, body).0, Err(Failure::Configuration { .. })), "{body}");
        }
        for code in [5, 6, 12, 13, 15] {
            let body: &'static str = format!(r#"{{"text":"no","code":{code},"invalid-event-number":3}}"#).leak();
            let (outcome, number) = classified(400, body);
            assert!(matches!(outcome, Err(Failure::Poison { .. })), "{body}");
            assert_eq!(number, (code != 5).then_some(3));
        }
        for (status, code) in [(500, 8), (503, 9), (503, 18), (503, 23), (429, 26)] {
            let body: &'static str = format!(r#"{{"text":"no","code":{code}}}"#).leak();
            assert!(matches!(classified(status, body).0, Err(Failure::Transient { .. })), "{body}");
        }
        assert!(matches!(classified(502, "<html>").0, Err(Failure::Transient { .. })));
    }

    #[test]
    fn a_success_without_its_code_is_none() {
        for body in ["ok", "<html>welcome</html>", "{}", "[]", r#"{"text":"Success"}"#, r#"{"code":99}"#, "null"] {
            for status in [200, 201, 202, 204] {
                assert!(matches!(classified(status, body).0, Err(Failure::Configuration { .. })), "{status} {body}");
            }
        }
        for body in ["", r#"{"text":"Success","co"#] {
            assert!(matches!(classified(200, body).0, Err(Failure::Transient { .. })), "{body}");
        }
        assert!(matches!(classified(200, r#"{"code":8}"#).0, Err(Failure::Transient { .. })));
    }

    #[test]
    fn what_is_odd_in_an_answer_costs_nothing_else_of_it() {
        let (outcome, number) =
            classified(400, r#"{"text":["a"],"code":6,"invalid-event-number":"3","ackId":null,"extra":{"a":[1]}}"#);
        assert!(matches!(outcome, Err(Failure::Poison { .. })));
        assert_eq!(number, Some(3));
        assert_eq!(classified(200, r#"{"code":0,"text":null,"ackId":{},"warnings":[1]}"#).0, Ok(()));
    }
}
