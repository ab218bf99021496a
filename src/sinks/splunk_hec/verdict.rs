//! What the collector's answers mean, by the codes that Splunk documents.

use serde::Deserialize;

use crate::component::{Failure, reply};
use crate::net::client::Answer;

/// What stands in an answer.
#[derive(Debug, Default, Deserialize)]
pub struct Verdict {
    code: Option<u64>,
    text: Option<String>,
    #[serde(rename = "invalid-event-number")]
    invalid_event_number: Option<usize>,
    #[serde(rename = "ackId")]
    pub ack_id: Option<u64>,
}

impl Verdict {
    /// Proxies and other collectors answer without a code; their status counts then.
    pub fn read(answer: &Answer) -> Verdict {
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    pub fn judge(&self, answer: &Answer) -> Result<(), Failure> {
        let Some(code) = self.code else { return reply::judge(answer) };
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
            _ => reply::judge(answer),
        }
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

    fn judged(status: u16, body: &'static str) -> (Result<(), Failure>, Option<usize>) {
        let status = StatusCode::from_u16(status).expect("a status");
        let answer = Answer { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) };
        let verdict = Verdict::read(&answer);
        (verdict.judge(&answer), verdict.invalid_event())
    }

    #[test]
    fn each_code_has_its_class() {
        assert_eq!(judged(200, r#"{"text":"Success","code":0}"#).0, Ok(()));
        assert_eq!(judged(200, r#"{"text":"HEC is healthy","code":17}"#).0, Ok(()));
        for (status, body) in [(403, 1), (401, 2), (401, 3), (403, 4), (400, 7), (400, 10), (400, 11), (400, 14)] {
            let body: &'static str = format!(r#"{{"text":"no","code":{body}}}"#).leak();
            assert!(matches!(judged(status, body).0, Err(Failure::Configuration { .. })), "{body}");
        }
        for code in [5, 6, 12, 13, 15] {
            let body: &'static str = format!(r#"{{"text":"no","code":{code},"invalid-event-number":3}}"#).leak();
            let (verdict, number) = judged(400, body);
            assert!(matches!(verdict, Err(Failure::Poison { .. })), "{body}");
            assert_eq!(number, (code != 5).then_some(3));
        }
        for (status, code) in [(500, 8), (503, 9), (503, 18), (503, 23), (429, 26)] {
            let body: &'static str = format!(r#"{{"text":"no","code":{code}}}"#).leak();
            assert!(matches!(judged(status, body).0, Err(Failure::Transient { .. })), "{body}");
        }
        assert!(matches!(judged(502, "<html>").0, Err(Failure::Transient { .. })));
        assert_eq!(judged(200, "ok").0, Ok(()));
    }
}
