//! Cookie sessions of the page, signed with a key in the data folder so that they survive a restart.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{COOKIE as COOKIE_HEADER, HeaderMap};

use super::access::Credentials;
use super::key_file;
use super::login::{COOKIE, SESSION};
use crate::net::auth::{Proof, now};

/// Where the key is kept, below the data folder.
const KEY_FILE: &str = "session.key";
const KEY_BYTES: usize = 32;
/// Sessions that were ended before their time; of more, the ones that end soonest are forgotten.
const MAX_ENDED: usize = 10_000;
/// The longest value of a cookie: browsers drop cookies of more than 4096 bytes, with their names.
const MAX_COOKIE: usize = 4000;

pub struct Sessions {
    key: [u8; KEY_BYTES],
    /// Ids of sessions that were logged out, and when they would have expired.
    ended: Mutex<HashMap<String, i64>>,
}

impl Sessions {
    /// With the key in the data folder, made if there is none; with one of its own where nothing is kept.
    pub fn open(data_dir: &Path, keep: bool) -> Result<Sessions, String> {
        let path = data_dir.join(KEY_FILE);
        let known = if keep { key_file::read(&path)? } else { None };
        let key = match known.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok()) {
            Some(key) => key,
            None => {
                let mut key = [0; KEY_BYTES];
                getrandom::fill(&mut key).expect("the operating system has random bytes");
                if keep {
                    key_file::write(&path, &key)?;
                }
                key
            }
        };
        Ok(Sessions { key, ended: Mutex::default() })
    }

    /// A keyed hash of something that only this agent may have written. `purpose` keeps the uses apart.
    pub fn mac(&self, purpose: &str, text: &[u8]) -> [u8; 16] {
        let mut mac = [0; 16];
        mac.copy_from_slice(&self.keyed_hash(purpose, text)[..16]);
        mac
    }

    /// The key of the fingerprints in cookies.
    pub fn proof_key(&self) -> [u8; 32] {
        self.keyed_hash("proofs", b"")
    }

    fn keyed_hash(&self, purpose: &str, text: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(purpose.len() as u64).to_le_bytes());
        hasher.update(purpose.as_bytes());
        hasher.update(text);
        *hasher.finalize().as_bytes()
    }

    /// The value of a cookie for who showed this, and when it ends. It says how they came in, not what they may: that is
    /// looked up at each request. `None` if it would be too long for a browser.
    pub fn begin(&self, shown: &Credentials) -> Option<(String, i64)> {
        let longest = now() + SESSION.as_secs() as i64;
        let ends = shown.expires.map_or(longest, |expires| expires.min(longest));
        let mut id = [0; 12];
        getrandom::fill(&mut id).expect("the operating system has random bytes");
        let body = serde_json::json!([shown.proof, ends, URL_SAFE_NO_PAD.encode(id)]).to_string();
        let mac = self.mac("session", body.as_bytes());
        let cookie = format!("{}.{}", URL_SAFE_NO_PAD.encode(body), URL_SAFE_NO_PAD.encode(mac));
        (cookie.len() <= MAX_COOKIE).then_some((cookie, ends))
    }

    /// The open session of a request.
    pub fn of(&self, headers: &HeaderMap) -> Option<Credentials> {
        let cookies = headers.get_all(COOKIE_HEADER).iter().filter_map(|header| header.to_str().ok());
        let pairs = cookies.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let value = pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value).next_back()?;
        let (body, mac) = value.split_once('.')?;
        let (body, mac) = (URL_SAFE_NO_PAD.decode(body).ok()?, URL_SAFE_NO_PAD.decode(mac).ok()?);
        let expected = self.mac("session", &body);
        if aws_lc_rs::constant_time::verify_slices_are_equal(&expected, &mac).is_err() {
            return None;
        }
        let (proof, ends, id): (Proof, i64, String) = serde_json::from_slice(&body).ok()?;
        let is_open = ends > now() && !self.is_ended(&id);
        is_open.then_some(Credentials { proof, session: Some(id), expires: Some(ends) })
    }

    /// Whether the session with this id was logged out.
    pub fn is_ended(&self, id: &str) -> bool {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// Ends the session of a request, if it has one.
    pub fn end(&self, headers: &HeaderMap) {
        let Some(Credentials { session: Some(id), expires: Some(ends), .. }) = self.of(headers) else { return };
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        ended.retain(|_, ends| *ends > now);
        if ended.len() >= MAX_ENDED
            && let Some(soonest) = ended.iter().min_by_key(|(_, ends)| **ends).map(|(id, _)| id.clone())
        {
            ended.remove(&soonest);
        }
        ended.insert(id, ends);
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE_HEADER, HeaderValue::from_str(&format!("a=b; {COOKIE}={cookie}")).unwrap());
        headers
    }

    #[test]
    fn a_session_is_known_until_it_ends_and_nobody_else_can_make_one() {
        let sessions = Sessions::open(Path::new("/nowhere"), false).unwrap();
        let proof: Proof = serde_json::from_str(
            r#"{"jwt":{"key":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15],"algorithm":"HS256","claims":{"sub":"سارا"}}}"#,
        )
        .unwrap();
        let shown = |expires| Credentials { proof: proof.clone(), session: None, expires };
        let (cookie, _) = sessions.begin(&shown(None)).unwrap();
        assert_eq!(sessions.of(&headers(&cookie)).map(|session| session.proof), Some(proof.clone()));
        let forged = format!("{}x", cookie);
        assert!(sessions.of(&headers(&forged)).is_none());
        let (old, _) = sessions.begin(&shown(Some(1))).unwrap();
        assert!(sessions.of(&headers(&old)).is_none(), "what it was opened with has ended");
        let other = Sessions::open(Path::new("/nowhere"), false).unwrap();
        assert!(other.of(&headers(&cookie)).is_none(), "another agent's key");
        assert!(other.proof_key() != sessions.proof_key());
        sessions.end(&headers(&cookie));
        assert!(sessions.of(&headers(&cookie)).is_none());
    }

    #[test]
    fn what_a_browser_would_drop_is_no_cookie() {
        let sessions = Sessions::open(Path::new("/nowhere"), false).unwrap();
        let begin = |len: usize| {
            let claims = serde_json::json!({ "sub": "a".repeat(len) });
            let key: Vec<u8> = (0..16).collect();
            let proof = serde_json::json!({ "jwt": { "key": key, "algorithm": "HS256", "claims": claims } });
            let proof = serde_json::from_value(proof).unwrap();
            sessions.begin(&Credentials { proof, session: None, expires: None })
        };
        assert!(begin(2000).is_some());
        assert!(begin(4000).is_none());
    }
}
