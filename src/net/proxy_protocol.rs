//! The PROXY protocol, versions 1 and 2: the client address that a trusted proxy sends first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// What a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIRST_WORD: &[u8] = b"PROXY ";
/// The longest line of version 1, its end included.
const LONGEST_LINE: usize = 107;
/// Bytes behind the fixed part of version 2: addresses, and what else a proxy may say.
const MOST_BYTES: usize = 4096;
/// How long a proxy may take to send its header.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads the header and nothing more. `None` where the proxy speaks for itself, as for its health checks.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<IpAddr>, String> {
    match tokio::time::timeout(PATIENCE, read_header(stream)).await {
        Ok(read) => read,
        Err(_) => Err("no PROXY protocol header in time".into()),
    }
}

async fn read_header<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<IpAddr>, String> {
    // Every header of either version is longer than this.
    let mut begin = [0; SIGNATURE.len()];
    stream.read_exact(&mut begin).await.map_err(|_| missing())?;
    if begin == *SIGNATURE {
        return read_binary(stream).await;
    }
    if !begin.starts_with(FIRST_WORD) {
        return Err(missing());
    }
    let mut line = begin.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_LINE {
            return Err("unterminated PROXY protocol header".into());
        }
        line.push(stream.read_u8().await.map_err(|_| missing())?);
    }
    let line = std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| missing())?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let source = words.next().and_then(|word| word.parse::<IpAddr>().ok());
    let is_whole = words.count() == 3;
    match (family, source) {
        ("TCP4", Some(ip @ IpAddr::V4(_))) | ("TCP6", Some(ip @ IpAddr::V6(_))) if is_whole => {
            Ok(Some(ip.to_canonical()))
        }
        _ => Err("invalid PROXY protocol header".into()),
    }
}

async fn read_binary<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<IpAddr>, String> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await.map_err(|_| missing())?;
    let [version_and_command, family, high, low] = fixed;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if version_and_command >> 4 != 2 || len > MOST_BYTES {
        return Err("invalid PROXY protocol header".into());
    }
    let mut rest = vec![0; len];
    stream.read_exact(&mut rest).await.map_err(|_| missing())?;
    let is_local = match version_and_command & 0x0F {
        0 => true,
        1 => false,
        _ => return Err("unknown command in the PROXY protocol header".into()),
    };
    let ip: Option<IpAddr> = match family >> 4 {
        _ if is_local => None,
        1 => rest.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into()),
        2 => rest.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).into()),
        // Unix sockets, or nothing that is known.
        _ => return Ok(None),
    };
    if ip.is_none() && !is_local {
        return Err("the PROXY protocol header is too short".into());
    }
    Ok(ip.map(|ip| ip.to_canonical()))
}

fn missing() -> String {
    "the connection does not start with a PROXY protocol header".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn given(bytes: &[u8]) -> (Result<Option<IpAddr>, String>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut stream = bytes;
            let said = read(&mut stream).await;
            (said, stream.to_vec())
        })
    }

    fn binary(command: u8, family: u8, addresses: &[u8], more: &[u8]) -> Vec<u8> {
        let len = ((addresses.len() + more.len()) as u16).to_be_bytes();
        [SIGNATURE.as_slice(), &[0x20 | command, family], &len, addresses, more].concat()
    }

    #[test]
    fn both_versions_say_who_connects_and_leave_the_rest_of_the_stream() {
        let v4 = [&[192, 0, 2, 7, 10, 0, 0, 1][..], &[0x1F, 0x90, 0, 80]].concat();
        let v6 = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5][..], &[0; 16], &[0, 1, 0, 2]].concat();
        for (header, ip) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".to_vec(), Some("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::5 ::1 1 2\r\n".to_vec(), Some("2001:db8::5")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (binary(1, 0x11, &v4, b"\x03\0\x04abcd"), Some("192.0.2.7")),
            (binary(1, 0x21, &v6, b""), Some("2001:db8::5")),
            (binary(0, 0x00, b"", b""), None),
        ] {
            let (said, left) = given(&[&header[..], b"GET /"].concat());
            assert_eq!((said, left), (Ok(ip.map(|ip| ip.parse().unwrap())), b"GET /".to_vec()), "{header:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        let short = binary(1, 0x11, &[1, 2], b"");
        for bytes in [
            &b"POST / HTTP/1.1\r\n\r\n"[..],
            b"",
            b"PROXY TCP4 here there 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            &endless,
            &short,
            &SIGNATURE[..],
        ] {
            assert!(given(bytes).0.is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3) {
            let head: &[u8] = [&b""[..], b"PROXY ", SIGNATURE][kind as usize];
            drop(given(&[head, &bytes].concat()));
        }
    }
}
