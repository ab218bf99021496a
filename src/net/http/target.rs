//! Characters in an address that people and scripts write as they stand, and that hyper does not take: `q=a:>5`.

use tokio::io::ReadBuf;

/// Encodes them in the request line that begins behind `before`, where it came whole and there is room for it. What is
/// left as it is, is answered 400.
pub fn encode(buf: &mut ReadBuf<'_>, before: usize) {
    let read = &buf.filled()[before..];
    let line = &read[..memchr::memchr(b'\n', read).unwrap_or(0)];
    let count = memchr::memchr3_iter(b'"', b'<', b'>', line).count();
    if count == 0 || buf.remaining() < 2 * count {
        return;
    }
    let mut encoded = Vec::with_capacity(read.len() + 2 * count);
    for byte in line {
        match byte {
            b'"' => encoded.extend_from_slice(b"%22"),
            b'<' => encoded.extend_from_slice(b"%3C"),
            b'>' => encoded.extend_from_slice(b"%3E"),
            other => encoded.push(*other),
        }
    }
    encoded.extend_from_slice(&read[line.len()..]);
    buf.set_filled(before);
    buf.put_slice(&encoded);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str, room: usize) -> String {
        let mut room = vec![0; 3 + text.len() + room];
        let mut buf = ReadBuf::new(&mut room);
        buf.put_slice(b"...");
        buf.put_slice(text.as_bytes());
        encode(&mut buf, 3);
        String::from_utf8(buf.filled()[3..].to_vec()).expect("text")
    }

    #[test]
    fn what_a_person_writes_into_an_address_is_encoded_and_nothing_behind_it() {
        let head = "GET /api/logs?q=duration_ms:>5%20AND%20code:\"import HTTP/1.1\r\nReferer: <a>\r\n\r\n\"<>";
        let expected = "GET /api/logs?q=duration_ms:%3E5%20AND%20code:%22import HTTP/1.1\r\nReferer: <a>\r\n\r\n\"<>";
        assert_eq!(encoded(head, 100), expected);
        assert_eq!(encoded(head, 4), expected);
        assert_eq!(encoded(head, 3), head, "there is no room");
        assert_eq!(encoded("GET /?q=a:>5", 100), "GET /?q=a:>5", "the line has not ended");
    }
}
