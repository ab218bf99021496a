//! Complete responses: with an `ETag`, and compressed if the client accepts it.

use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};
use hyper::{Response, StatusCode};

use crate::net::http::Body;

/// A smaller body is not worth compressing.
const MIN_COMPRESSED: usize = 1024;

/// What a route answers.
pub enum Answer {
    Whole {
        status: StatusCode,
        content_type: &'static str,
        body: Vec<u8>,
        /// Seconds for which it may be shown again.
        max_age: Option<u64>,
    },
    /// A response that was made by the route itself, such as a stream.
    Response(Response<Body>),
}

pub const JSON: &str = "application/json";

impl Answer {
    pub fn json(body: Vec<u8>) -> Answer {
        Answer::Whole { status: StatusCode::OK, content_type: JSON, body, max_age: None }
    }

    pub fn value(value: &impl serde::Serialize) -> Answer {
        Answer::json(serde_json::to_vec(value).expect("answers are plain data"))
    }

    pub fn with_type(content_type: &'static str, body: impl Into<Vec<u8>>) -> Answer {
        Answer::Whole { status: StatusCode::OK, content_type, body: body.into(), max_age: None }
    }

    pub fn with_status(mut self, new: StatusCode) -> Answer {
        if let Answer::Whole { status, .. } = &mut self {
            *status = new;
        }
        self
    }

    pub fn cached(mut self, seconds: u64) -> Answer {
        if let Answer::Whole { max_age, .. } = &mut self {
            *max_age = Some(seconds);
        }
        self
    }

    /// The response, as the request wants it.
    pub fn respond(self, request: &HeaderMap) -> Response<Body> {
        let (status, content_type, body, max_age) = match self {
            Answer::Response(response) => return response,
            Answer::Whole { status, content_type, body, max_age } => (status, content_type, body, max_age),
        };
        let tag = tag_of(&body);
        let mut known = request.get_all(IF_NONE_MATCH).iter();
        if status == StatusCode::OK && known.any(|known| matches_tag(known, &tag)) {
            let mut response = Response::new(Body::from(Vec::new()));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            finish(response.headers_mut(), &tag, max_age);
            return response;
        }
        let (body, encoding) = compress(body, request.get(ACCEPT_ENCODING));
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        finish(headers, &tag, max_age);
        response
    }
}

fn finish(headers: &mut HeaderMap, tag: &str, max_age: Option<u64>) {
    headers.insert(ETAG, HeaderValue::from_str(tag).expect("a tag is plain text"));
    headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    let cache = match max_age {
        Some(seconds) => format!("private, max-age={seconds}"),
        None => "private, no-cache".to_owned(),
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_str(&cache).expect("plain text"));
}

/// Weak, since the same answer may be compressed or not.
fn tag_of(body: &[u8]) -> String {
    format!("W/\"{}\"", &blake3::hash(body).to_hex()[..24])
}

/// Weak or strong, a tag is compared as if it were weak.
fn matches_tag(known: &HeaderValue, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    known.to_str().is_ok_and(|known| known.trim() == "*" || known.split(',').any(|one| opaque(one) == opaque(tag)))
}

/// Whether a client takes bodies in this encoding.
pub fn takes(accepted: Option<&HeaderValue>, name: &str) -> bool {
    let accepted = accepted.and_then(|accepted| accepted.to_str().ok()).unwrap_or("");
    accepted.split(',').any(|one| {
        let (coding, weight) = one.split_once(';').unwrap_or((one, ""));
        coding.trim().eq_ignore_ascii_case(name) && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// zstd where the client takes it, else gzip, else as it is.
fn compress(body: Vec<u8>, accepted: Option<&HeaderValue>) -> (Vec<u8>, Option<&'static str>) {
    if body.len() < MIN_COMPRESSED {
        return (body, None);
    }
    if takes(accepted, "zstd")
        && let Ok(packed) = zstd::bulk::compress(&body, 3)
    {
        return (packed, Some("zstd"));
    }
    if takes(accepted, "gzip") {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        if encoder.write_all(&body).is_ok()
            && let Ok(packed) = encoder.finish()
        {
            return (packed, Some("gzip"));
        }
    }
    (body, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(hyper::header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn an_answer_that_the_client_has_is_not_sent_again() {
        let first = Answer::json(b"{}".to_vec()).respond(&HeaderMap::new());
        let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
        let strong = tag.strip_prefix("W/").unwrap().to_owned();
        // RFC 9110, 13.1.2: tags are compared weakly.
        for known in [tag.clone(), strong.clone(), format!("\"x\", {tag}"), format!("{strong} , W/\"x\"")] {
            let mut again = HeaderMap::new();
            again.insert(IF_NONE_MATCH, HeaderValue::from_str(&known).unwrap());
            assert_eq!(Answer::json(b"{}".to_vec()).respond(&again).status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(Answer::json(b"[]".to_vec()).respond(&again).status(), StatusCode::OK, "{known}");
        }
        // The list may be in several header lines.
        let mut again = HeaderMap::new();
        again.append(IF_NONE_MATCH, HeaderValue::from_static("\"x\""));
        again.append(IF_NONE_MATCH, HeaderValue::from_str(&tag).unwrap());
        assert_eq!(Answer::json(b"{}".to_vec()).respond(&again).status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn long_answers_are_compressed_as_the_client_takes_them() {
        let encoding = |accepted: &'static str| {
            let response = Answer::json(vec![b' '; 5000]).respond(&headers(&[(ACCEPT_ENCODING, accepted)]));
            response.headers().get(CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(encoding("gzip, zstd").as_deref(), Some("zstd"));
        assert_eq!(encoding("gzip;q=0.5, br").as_deref(), Some("gzip"));
        assert_eq!(encoding("gzip;q=0"), None);
        assert_eq!(encoding("identity"), None);
    }
}
