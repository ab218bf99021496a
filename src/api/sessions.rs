//! Cookie sessions of the page, signed with a key in the data folder so that they survive a restart.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{COOKIE as COOKIE_HEADER, HeaderMap};

use super::key_file;
use super::login::{COOKIE, SESSION};
use crate::net::{Principal, Role};
use crate::units::Timestamp;

/// Where the key is kept, below the data folder.
const KEY_FILE: &str = "session.key";
const KEY_BYTES: usize = 32;
/// Sessions that were ended before their time; of more, the ones that end soonest are forgotten.
const MAX_ENDED: usize = 10_000;

pub struct Sessions {
    key: [u8; KEY_BYTES],
    /// Ids of sessions that were logged out, and when they would have expired.
    ended: Mutex<HashMap<String, i64>>,
}

/// A session that is open.
pub struct Session {
    pub who: Principal,
    /// Seconds since 1970.
    pub ends: i64,
    id: String,
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
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(purpose.len() as u64).to_le_bytes());
        hasher.update(purpose.as_bytes());
        hasher.update(text);
        let mut mac = [0; 16];
        mac.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        mac
    }

    /// The value of a cookie for somebody, and when it ends. `expires` is the end of what they showed.
    pub fn begin(&self, who: &Principal, expires: Option<i64>) -> (String, i64) {
        let longest = now() + SESSION.as_secs() as i64;
        let ends = expires.map_or(longest, |expires| expires.min(longest));
        let mut id = [0; 12];
        getrandom::fill(&mut id).expect("the operating system has random bytes");
        let body = serde_json::json!([who.name, who.role.as_str(), ends, URL_SAFE_NO_PAD.encode(id)]).to_string();
        let mac = self.mac("session", body.as_bytes());
        (format!("{}.{}", URL_SAFE_NO_PAD.encode(body), URL_SAFE_NO_PAD.encode(mac)), ends)
    }

    /// The open session of a request.
    pub fn of(&self, headers: &HeaderMap) -> Option<Session> {
        let cookies = headers.get_all(COOKIE_HEADER).iter().filter_map(|header| header.to_str().ok());
        let pairs = cookies.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let value = pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value).next_back()?;
        let (body, mac) = value.split_once('.')?;
        let (body, mac) = (URL_SAFE_NO_PAD.decode(body).ok()?, URL_SAFE_NO_PAD.decode(mac).ok()?);
        let expected = self.mac("session", &body);
        if aws_lc_rs::constant_time::verify_slices_are_equal(&expected, &mac).is_err() {
            return None;
        }
        let (name, role, ends, id): (String, String, i64, String) = serde_json::from_slice(&body).ok()?;
        let is_ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id);
        let who = Principal::new(name, Role::parse(&role)?)?;
        (ends > now() && !is_ended).then_some(Session { who, ends, id })
    }

    /// Ends the session of a request, if it has one.
    pub fn end(&self, headers: &HeaderMap) {
        let Some(session) = self.of(headers) else { return };
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        ended.retain(|_, ends| *ends > now);
        if ended.len() >= MAX_ENDED
            && let Some(soonest) = ended.iter().min_by_key(|(_, ends)| **ends).map(|(id, _)| id.clone())
        {
            ended.remove(&soonest);
        }
        ended.insert(session.id, session.ends);
    }
}

fn now() -> i64 {
    Timestamp::now().0.div_euclid(1_000_000)
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
        let who = Principal::new("سارا", Role::Admin).unwrap();
        let (cookie, _) = sessions.begin(&who, None);
        assert_eq!(sessions.of(&headers(&cookie)).map(|session| session.who), Some(who.clone()));
        let forged = format!("{}x", cookie);
        assert!(sessions.of(&headers(&forged)).is_none());
        let (old, _) = sessions.begin(&who, Some(1));
        assert!(sessions.of(&headers(&old)).is_none(), "what it was opened with has ended");
        let other = Sessions::open(Path::new("/nowhere"), false).unwrap();
        assert!(other.of(&headers(&cookie)).is_none(), "another agent's key");
        sessions.end(&headers(&cookie));
        assert!(sessions.of(&headers(&cookie)).is_none());
    }
}
