//! What an HTTP status means for a sink: one table for all sinks that speak HTTP.

use crate::component::Failure;
use crate::net::client::{Answer, Error};

/// Characters of a server's answer that are shown.
const SHOWN: usize = 300;

/// What a whole request came to by its status; `Ok` says that the body may be read.
///
/// A target that is overloaded or broken (408, 425, 429, 5xx), or still at work on the same request (409), is tried
/// again, after the time that it asked for. A request that is too large, or that it cannot make sense of (400, 413, 414,
/// 422, 431), holds poison, which bisecting finds. Who does not know us (401, 407), has moved (redirects) or does not let
/// such requests in (402, 405, 501) waits for somebody to act. All else (403, 404, 406, …) does so too, or somebody in
/// between, such as a firewall, refuses one event.
pub fn classify(answer: &Answer) -> Result<(), Failure> {
    let status = answer.status;
    if status.is_success() {
        return Ok(());
    }
    let said = said(answer);
    Err(match status.as_u16() {
        501 | 505 => Failure::Configuration { answer: said },
        408 | 409 | 425 | 429 | 500..=599 => Failure::Transient { answer: said, after: answer.retry_after() },
        400 | 413 | 414 | 422 | 431 => Failure::Poison { answer: said },
        100..=399 | 401 | 402 | 405 | 407 => Failure::Configuration { answer: said },
        _ => Failure::Ambiguous { answer: said },
    })
}

/// Status and the beginning of the body in one line.
pub fn said(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    match shown(&text) {
        text if text.is_empty() => answer.status.to_string(),
        text => format!("{}: {text}", answer.status),
    }
}

/// The beginning of a server's answer, in one line that cannot forge another.
pub fn shown(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match &error {
            Error::Unreachable(_) | Error::Lost(_) => Failure::transient(error.to_string()),
            Error::Untrusted(_) => Failure::configuration(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode, header};

    use super::*;

    fn classified(status: u16, body: &'static str) -> Result<(), Failure> {
        let status = StatusCode::from_u16(status).expect("a status");
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("3"));
        classify(&Answer { status, headers, body: Bytes::from_static(body.as_bytes()), is_whole: true })
    }

    #[test]
    fn each_status_has_its_class() {
        assert_eq!(classified(202, ""), Ok(()));
        for status in [408, 409, 425, 429, 500, 502, 503, 504, 507] {
            let Err(Failure::Transient { after, .. }) = classified(status, "") else { panic!("{status}") };
            assert_eq!(after, Some(std::time::Duration::from_secs(3)));
        }
        for status in [400, 413, 414, 422, 431] {
            assert!(matches!(classified(status, ""), Err(Failure::Poison { .. })), "{status}");
        }
        for status in [301, 401, 402, 405, 407, 501] {
            assert!(matches!(classified(status, ""), Err(Failure::Configuration { .. })), "{status}");
        }
        for status in [403, 404, 406, 410, 415, 451, 499] {
            assert!(matches!(classified(status, ""), Err(Failure::Ambiguous { .. })), "{status}");
        }
    }

    #[test]
    fn an_answer_is_shown_in_one_short_line() {
        let failure = classified(503, "<html>\r\n\u{1b}[2Jbusy\n</html>").expect_err("no success");
        assert_eq!(failure.answer(), "503 Service Unavailable: <html> [2Jbusy </html>");
        assert_eq!(shown(&"a".repeat(400)).chars().count(), SHOWN + 1);
    }
}
