//! Owners of files: their names, and each one's share of the agent.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use crate::event::{Capture, Stamp};

/// Users whose names are kept.
const MOST_KEPT: usize = 10_000;

#[derive(Default)]
pub struct Owners {
    stamps: HashMap<u32, Arc<Stamp>>,
    allowances: HashMap<u32, Allowance>,
}

/// What may still be taken from an owner's files now.
struct Allowance {
    bytes: f64,
    as_of: Instant,
    is_said: bool,
}

impl Owners {
    /// The stamp of a file's owner, with what the source says of all its files.
    pub fn stamp(&mut self, user: u32, capture: Option<Capture>) -> Arc<Stamp> {
        if self.stamps.len() >= MOST_KEPT {
            self.stamps.clear();
        }
        self.stamps.entry(user).or_insert_with(|| Arc::new(Stamp { capture, ..Stamp::user(name(user)) })).clone()
    }

    /// Whether more may be taken from this owner's files, of whom `rate` bytes are taken in a second. Says once when an
    /// owner has to wait.
    pub fn may_take(&mut self, user: u32, rate: u64, now: Instant) -> bool {
        if self.allowances.len() >= MOST_KEPT {
            self.allowances.clear();
        }
        let rate = rate as f64;
        let full = Allowance { bytes: rate, as_of: now, is_said: false };
        let allowance = self.allowances.entry(user).or_insert(full);
        let gained = now.saturating_duration_since(allowance.as_of).as_secs_f64() * rate;
        (allowance.bytes, allowance.as_of) = (rate.min(allowance.bytes + gained), now);
        if allowance.bytes >= rate {
            allowance.is_said = false;
        }
        let may = allowance.bytes > 0.0;
        if !may && !std::mem::replace(&mut allowance.is_said, true) {
            warn!(user = %name(user), "this user's files grow faster than `max_owner_bytes`; the rest waits");
        }
        may
    }

    /// Counts what was taken.
    pub fn take(&mut self, user: u32, bytes: u64) {
        if let Some(allowance) = self.allowances.get_mut(&user) {
            allowance.bytes -= bytes as f64;
        }
    }
}

/// The name in the system's own list, else what the system's other directories (LDAP, SSSD) say, else the number.
fn name(user: u32) -> String {
    let local = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&local, user).or_else(|| ask(user)).unwrap_or_else(|| user.to_string())
}

fn ask(user: u32) -> Option<String> {
    let answer = Command::new("getent").args(["passwd", &user.to_string()]).stdin(Stdio::null()).output().ok()?;
    find(&String::from_utf8_lossy(&answer.stdout), user)
}

fn find(passwd: &str, user: u32) -> Option<String> {
    let user = user.to_string();
    passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)? == user).then(|| name.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_named_and_an_unknown_one_numbered() {
        assert_eq!(find("root:x:0:0:root:/root:/bin/sh\nali:x:1000:1000::/home/ali:", 1000), Some("ali".into()));
        assert_eq!(*Owners::default().stamp(0, None), Stamp::user("root"));
        assert_eq!(*Owners::default().stamp(3_999_999_999, None), Stamp::user("3999999999"));
    }
}
