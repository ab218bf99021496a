//! What hyper answers by itself to a head that it cannot read, with the problem document that every other answer has.

use hyper::StatusCode;

use super::reply::Problem;

/// How each of hyper's own answers begins: a status line and the headers of an empty body.
const OWN: [(&[u8], StatusCode, &str); 3] = [
    (b"HTTP/1.1 400 ", StatusCode::BAD_REQUEST, "this is no request of HTTP/1.1"),
    (b"HTTP/1.1 414 ", StatusCode::URI_TOO_LONG, "the address of the request is too long"),
    (
        b"HTTP/1.1 431 ",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "the head of the request has too many headers, or is too long",
    ),
];
const EMPTY: &str = "\r\ncontent-length: 0\r\n";

/// The answer to write in place of these bytes, if they are a whole answer of hyper's own: our handlers give none of
/// these statuses without a body.
pub fn explained(written: &[u8]) -> Option<Vec<u8>> {
    let (_, status, detail) = OWN.iter().find(|(beginning, ..)| written.starts_with(beginning))?;
    let head = str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
    if head.contains("\r\n\r\n") {
        return None;
    }
    let head = format!("{head}\r\n");
    let (before, behind) = head.split_once(EMPTY)?;
    let document = Problem::new(*status, *detail).document();
    let length = document.len();
    let mut answer =
        format!("{before}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n{behind}\r\n")
            .into_bytes();
    answer.extend_from_slice(&document);
    Some(answer)
}
