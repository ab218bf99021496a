//! Gives hyper's own answers to unreadable heads the problem document that every other error has.

use hyper::StatusCode;
use hyper::header::CONTENT_LENGTH;

use super::reply::Problem;

/// How each of hyper's own answers begins: a status line and the headers of an empty body.
const OWN: [(&[u8], StatusCode, &str); 3] = [
    (b"HTTP/1.1 400 ", StatusCode::BAD_REQUEST, "not an HTTP/1.1 request"),
    (b"HTTP/1.1 414 ", StatusCode::URI_TOO_LONG, "the request URI is too long"),
    (
        b"HTTP/1.1 431 ",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "the request has too many headers, or they are too long",
    ),
];
const TOO_LONG: &str = "the announced Content-Length is beyond any limit";
const EMPTY: &str = "\r\ncontent-length: 0\r\n";

/// Whether a head announces a body whose length no 64 bits can hold, which hyper takes for no length at all. A line
/// that comes in two reads is not seen: its request is answered 400 like any other that hyper cannot read.
pub fn announces_too_much(head: &[u8]) -> bool {
    let mut rest = head;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = rest[..end].trim_ascii();
        rest = &rest[end + 1..];
        match line.split_at_checked(CONTENT_LENGTH.as_str().len()) {
            _ if line.is_empty() => return false,
            Some((name, value)) if name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str().as_bytes()) => {
                return value.strip_prefix(b":").is_some_and(|value| exceeds(value.trim_ascii()));
            }
            _ => {}
        }
    }
    false
}

fn exceeds(length: &[u8]) -> bool {
    let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    is_number && str::from_utf8(length).is_ok_and(|digits| digits.parse::<u64>().is_err())
}

/// The answer to write in place of these bytes, if they are a whole answer of hyper's own: our handlers give none of
/// these statuses without a body. `is_too_long` tells a length that 64 bits cannot hold from other things that are
/// wrong with a head.
pub fn explained(written: &[u8], is_too_long: bool) -> Option<Vec<u8>> {
    let (_, status, detail) = OWN.iter().find(|(beginning, ..)| written.starts_with(beginning))?;
    let head = str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
    if head.contains("\r\n\r\n") {
        return None;
    }
    let head = format!("{head}\r\n");
    let (before, behind) = head.split_once(EMPTY)?;
    let (status, detail, before) = match *status {
        StatusCode::BAD_REQUEST if is_too_long => {
            let headers = before.find("\r\n").map_or("", |at| &before[at..]);
            (StatusCode::PAYLOAD_TOO_LARGE, TOO_LONG, format!("HTTP/1.1 413 Payload Too Large{headers}"))
        }
        status => (status, *detail, before.to_owned()),
    };
    let document = Problem::new(status, detail).document();
    let length = document.len();
    let mut answer =
        format!("{before}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n{behind}\r\n")
            .into_bytes();
    answer.extend_from_slice(&document);
    Some(answer)
}
